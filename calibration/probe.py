"""Trying other graphs in place of a plan's own: how far outputs diverge, what accuracy is lost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.base import Backend, Graph, ModelReader, Value
from xdecoder_rt.calibration.observe import COMMON_WORDS
from xdecoder_rt.calibration.sets import CalibrationSet
from xdecoder_rt.datasets.items import PanopticItem
from xdecoder_rt.engine import Engine
from xdecoder_rt.evaluation.divergence import relative_rms
from xdecoder_rt.evaluation.evaluate import evaluate
from xdecoder_rt.evaluation.panoptic_quality import PanopticQuality
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import Floats
from xdecoder_rt.words.encoder import unit

_CAPTIONS = 8


class SubstitutingBackend:
    """Another backend, with other graphs in place of some of a plan's members.

    Args:
        inner: what runs them.
        graphs: serialized graphs by member.
        loaded: compiled graphs of members that are not replaced, shared between such backends.
    """

    def __init__(
        self,
        inner: Backend,
        graphs: Mapping[str, bytes],
        loaded: dict[str, Graph] | None = None,
    ) -> None:
        self._inner = inner
        self._graphs = graphs
        self._loaded = {} if loaded is None else loaded
        self.name, self.version, self.device = inner.name, inner.version, inner.device

    def load(self, name: str, model: ModelReader, is_steady: bool = False) -> Graph:
        """Compile the member's substitute, or the member."""
        if name in self._graphs:
            return self._inner.load(name, lambda: self._graphs[name], is_steady)
        if name not in self._loaded:
            self._loaded[name] = self._inner.load(name, model, is_steady)
        return self._loaded[name]

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """Return a value as the inner backend does."""
        return self._inner.to_numpy(value)

    def to_numpy_all(self, values: Mapping[str, Value]) -> dict[str, np.ndarray[Any, Any]]:
        """Return every output of a graph as the inner backend gives it."""
        return self._inner.to_numpy_all(values)

    def close(self) -> None:
        """Release nothing: the inner backend outlives this one."""


class Divergence:
    """How far the outputs of other graphs are from the plan's own, on a few images.

    Args:
        plan: in fp32.
        images: what to look at.
        backend: what runs the graphs.
    """

    def __init__(self, plan: Path, images: Sequence[npt.NDArray[np.uint8]], backend: Backend):
        self._plan = plan
        self._images = images
        self._backend = backend
        self._loaded: dict[str, Graph] = {}
        self._reference = self._outputs({})

    def __call__(self, graphs: Mapping[str, bytes]) -> float:
        """Return the largest relative RMS error of classes, masks, words, tokens and regions."""
        outputs = self._outputs(graphs)
        return max(
            float(np.mean([relative_rms(a, b) for a, b in zip(actual, expected, strict=True)]))
            for actual, expected in zip(outputs, self._reference, strict=True)
            if expected
        )

    def _outputs(self, graphs: Mapping[str, bytes]) -> list[list[Floats]]:
        backend = SubstitutingBackend(self._backend, graphs, self._loaded)
        runtime = Runtime(self._plan, backend, None, None, None)
        classes, masks, tokens, regions = [], [], [], []
        try:
            for image in self._images:
                state = runtime.encode(image)
                rows = runtime.rows.latents(state)
                classes.append(unit(rows.class_embedding))
                if rows.region_scores is not None:
                    regions.append(rows.region_scores)
                masks.append(runtime.masks(state, rows.mask_embedding))
                if runtime.manifest.graphs.token is not None:
                    tokens.append(runtime.token_logits(rows.caption_embedding[:_CAPTIONS]))
            words = [runtime.text.texts(list(COMMON_WORDS))]
        finally:
            runtime.close()
        return [classes, masks, words, tokens, regions]


@dataclass(frozen=True)
class _Subset:
    """Some items of a labelled folder."""

    vocabulary: tuple[str, ...]
    stuff: frozenset[str]
    items: Sequence[PanopticItem]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy and latency of a set of graphs.

    Attributes:
        score: PQ from 0 to 100 where there are labels, else the percentage of pixels that have the
            fp32 plan's label.
        latency_ms: median of a frame, vocabulary known.
        counts: of each image, where there are labels.
    """

    score: float
    latency_ms: float
    counts: tuple[PanopticQuality, ...] = ()


class AccuracyProbe:
    """Measures graphs on some images of a calibration set.

    Args:
        plan: in fp32.
        images: the set; without labels, agreement with the fp32 plan is what counts.
        numbers: which of its images.
        threads: of one call.

    Attributes:
        metric: its name, for people.
    """

    def __init__(
        self, plan: Path, images: CalibrationSet, numbers: Sequence[int], threads: int | None
    ) -> None:
        self._plan = plan
        self._images = images
        self._numbers = list(numbers)
        self._threads = threads
        self.metric = "PQ" if images.labels else "pixels labelled as in fp32, %"
        self._fp32_labels: list[npt.NDArray[np.int32]] | None = None

    def measure(self, graphs: Mapping[str, bytes], backend: Backend) -> Accuracy:
        """Return the accuracy of graphs on a backend; the first call must be the fp32 plan's."""
        substitute = SubstitutingBackend(backend, graphs)
        # A folder of its own: cached texts go by the plan's text graph, which may be another here.
        with (
            tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as texts,
            Engine(
                self._plan, backend=substitute, threads=self._threads, cache_dir=texts
            ) as engine,
        ):
            if self._images.labels:
                labels = self._images.labels
                items = [labels.items[number] for number in self._numbers]
                subset = _Subset(labels.vocabulary, labels.stuff, items)
                counts: list[PanopticQuality] = []
                report = evaluate(
                    engine,
                    subset,
                    tasks=["segment"],
                    progress=False,
                    when_segmented=counts.append,
                )
                assert report.panoptic is not None and report.time_ms is not None  # it was asked
                return Accuracy(report.panoptic.pq, report.time_ms.p50, tuple(counts))
            return self._agreement(engine)

    def _agreement(self, engine: Engine) -> Accuracy:
        words = list(COMMON_WORDS)
        engine.warm(words)
        maps, times = [], []
        for image in self._images.read(self._numbers):
            start = time.perf_counter()
            result = engine.segment(image, words)
            times.append(1e3 * (time.perf_counter() - start))
            labels = np.full(result.segmentation.max() + 1, -1, np.int32)
            for segment in result.segments_info:
                labels[segment["id"]] = segment["label_id"]
            maps.append(labels[result.segmentation])
        if self._fp32_labels is None:
            self._fp32_labels = maps
        agreement = [
            float((actual == expected).mean())
            for actual, expected in zip(maps, self._fp32_labels, strict=True)
        ]
        return Accuracy(100 * float(np.mean(agreement)), float(np.median(times)))
