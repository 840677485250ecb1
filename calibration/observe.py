"""Statistics of activations, gathered while the tasks run: one pass serves every estimator.

An engine runs the fp32 plan over the calibration set, on a backend that watches what enters each
convolution and matrix product. So every graph is seen with the inputs that it will have: words,
phrases, captions and questions of the set where it has labels, common ones where it has none.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.backends.base import Array, Graph, Value
from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend
from xdecoder_rt.calibration.ranges import Histogram
from xdecoder_rt.calibration.sets import CalibrationSet
from xdecoder_rt.datasets.items import PanopticItem
from xdecoder_rt.engine import Engine
from xdecoder_rt.image import RgbImage
from xdecoder_rt.plan.file import Plan

WEIGHTED = ("Conv", "Gemm", "MatMul")
COMMON_WORDS = (
    "person", "chair", "table", "floor", "wall", "cup", "bottle", "box", "book", "door", "window",
    "robot arm", "bowl", "plate", "car", "tree", "road", "sky", "grass", "building", "dog", "cat",
)  # fmt: skip
COMMON_PHRASES = ("the largest thing on the left", "the red box next to the bottle")
COMMON_QUESTION = "what is on the table?"
_PHRASES = 2
_CAPTION_TOKENS = 6
# Tasks other than segmentation are asked of every so many images: their rows are few and alike.
_SPARSE = 4
_VERSION = 1

Histograms = dict[str, dict[str, Histogram]]
"""Of each graph member, of each tensor."""
ImageProgress = Callable[[int, int], None]
"""Called with the number of images done, and of all."""


class ObservingBackend:
    """ONNX Runtime, with an eye on what enters the layers with weights and the matrix products.

    Attributes:
        histograms: what was seen.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._inner = OnnxRuntimeBackend(threads)
        self.name, self.device, self.version = "onnxruntime", "cpu", self._inner.version
        self.histograms: Histograms = {}

    def load(self, name: str, model: memoryview, is_steady: bool = False) -> Graph:
        """Compile a graph with its watched tensors as further outputs."""
        watched = onnx.load_from_string(bytes(model))
        histograms = self.histograms.setdefault(name, {})
        for tensor in watched_tensors(watched):
            histograms.setdefault(tensor, Histogram())
        outputs = [value.name for value in watched.graph.output]
        # What the graph gives or takes anyway needs no further output.
        ports = {*outputs, *(value.name for value in watched.graph.input)}
        watched.graph.output.extend(
            helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)
            for tensor in histograms
            if tensor not in ports
        )
        serialized = memoryview(watched.SerializeToString())
        return _ObservedGraph(self._inner.load(name, serialized, is_steady), outputs, histograms)

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """Return a value as an array on the host."""
        return self._inner.to_numpy(value)

    def to_numpy_all(self, values: Mapping[str, Value]) -> dict[str, np.ndarray[Any, Any]]:
        """Return every output of a graph as the inner backend gives it."""
        return self._inner.to_numpy_all(values)

    def close(self) -> None:
        """Release nothing: the backend holds nothing."""


class _ObservedGraph:
    def __init__(
        self, graph: Graph, outputs: Sequence[str], histograms: dict[str, Histogram]
    ) -> None:
        self._graph = graph
        self._outputs = outputs
        self._histograms = histograms
        self.inputs = graph.inputs

    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        outputs = self._graph(feeds)
        for name, histogram in self._histograms.items():
            value = outputs[name] if name in outputs else feeds[name]
            histogram.add(value if isinstance(value, np.ndarray) else value.numpy())
        return {name: outputs[name] for name in self._outputs}


def watched_tensors(model: onnx.ModelProto) -> list[str]:
    """Return the tensors that enter convolutions and matrix products and are no constants."""
    stored = {value.name for value in model.graph.initializer}
    names: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            names.update((name, None) for name in node.input[:2] if name not in stored)
    return list(names)


def observe(
    plan: Path,
    images: CalibrationSet,
    count: int,
    *,
    threads: int | None = None,
    cache_dir: Path | None = None,
    progress: ImageProgress = lambda done, of: None,
) -> Histograms:
    """Run every task of an fp32 portable plan over a calibration set.

    Args:
        plan: the plan.
        images: the set.
        count: images to run, at most.
        threads: of one call.
        cache_dir: where statistics are kept, by the digests of plan and set; None for nowhere.
        progress: told after each image.

    Returns:
        Histograms of what enters each layer. A graph that no task ran is absent.

    Raises:
        ImageError: an image cannot be read.
    """
    file = (
        None
        if cache_dir is None
        else cache_dir / f"calibration_{_cache_key(plan, images, count)}.npz"
    )
    if file is not None and (kept := _kept_histograms(file)) is not None:
        return kept
    backend = ObservingBackend(threads)
    numbers = images.chosen(count)
    # Without cached texts, so that the text graph runs and is seen.
    with (
        tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as texts,
        Engine(plan, backend=backend, threads=threads, cache_dir=texts) as engine,
    ):
        for done, (number, image) in enumerate(zip(numbers, images.read(numbers), strict=True)):
            item = images.labels.items[number] if images.labels else None
            words = images.labels.vocabulary if images.labels else COMMON_WORDS
            exercise(engine, image, words, item, everything=done % _SPARSE == 0)
            progress(done + 1, len(numbers))
    observed = {
        member: histograms
        for member, histograms in backend.histograms.items()
        if any(histogram.limit for histogram in histograms.values())
    }
    if file is not None:
        _save_histograms(file, observed)
    return observed


def exercise(
    engine: Engine,
    image: RgbImage,
    words: Sequence[str] = COMMON_WORDS,
    item: PanopticItem | None = None,
    *,
    everything: bool = True,
) -> None:
    """Segment an image, and where asked do all else that the plan can.

    Args:
        engine: with the plan.
        image: RGB.
        words: the vocabulary.
        item: where phrases and questions come from, if it has any; common ones else.
        everything: refer, caption and answer too.
    """
    tasks = engine.manifest.tasks
    state = engine.decode(image)
    if "segment" in tasks:
        engine.segment(state, list(words))
    if not everything:
        return
    if "refer" in tasks:
        phrases = [phrase.text for phrase in item.phrases] if item else []
        engine.refer(state, (phrases or list(COMMON_PHRASES))[:_PHRASES])
    if "caption" in tasks:
        engine.caption(state, beams=1, max_tokens=_CAPTION_TOKENS)
    if "answer" in tasks:
        questions = [question.text for question in item.questions] if item else []
        engine.answer(state, (questions or [COMMON_QUESTION])[0], ["yes", "no", "table"])


def _cache_key(plan: Path, images: CalibrationSet, count: int) -> str:
    digest = hashlib.sha256(f"{_VERSION} {count} {images.digest}".encode())
    with Plan.open(plan) as opened:
        for name, member in sorted(opened.manifest.members.items()):
            digest.update(f"{name} {member.sha256}".encode())
    return digest.hexdigest()[:32]


def _save_histograms(path: Path, histograms: Histograms) -> None:
    arrays: dict[str, Any] = {}
    for member, tensors in histograms.items():
        for tensor, histogram in tensors.items():
            arrays[f"{member}/{tensor}/counts"] = histogram.counts
            arrays[f"{member}/{tensor}/facts"] = np.array(
                [histogram.limit, histogram.low, histogram.high]
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as file:
        np.savez_compressed(file, **arrays)


def _kept_histograms(file: Path) -> Histograms | None:
    """Return what an earlier run kept; None, and no file any more, where it cannot be read."""
    if not file.is_file():
        return None
    try:
        return _load_histograms(file)
    except MemoryError:
        raise
    except Exception:  # of half a file, NumPy and zipfile raise almost anything
        file.unlink(missing_ok=True)
        return None


def _load_histograms(path: Path) -> Histograms:
    histograms: Histograms = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            member, _, tensor_part = key.partition("/")
            tensor, _, part = tensor_part.rpartition("/")
            if part == "counts":
                limit, low, high = arrays[f"{member}/{tensor}/facts"].tolist()
                histogram = Histogram(arrays[key], limit, low, high)
                histograms.setdefault(member, {})[tensor] = histogram
    return histograms
