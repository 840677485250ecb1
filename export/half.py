"""fp16 and bf16 graphs: everything converted that can be, what strays found and kept in fp32."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from xdecoder_rt.backends.base import Array, Graph, ModelReader, Value
from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend
from xdecoder_rt.calibration.observe import exercise
from xdecoder_rt.calibration.sensitivity import Trial, largest_within
from xdecoder_rt.engine import Engine
from xdecoder_rt.evaluation.divergence import cosine
from xdecoder_rt.export.conversion import (
    LEAST_COSINE,
    Converted,
    complain_of_cosines,
)
from xdecoder_rt.export.options import ConvertOptions
from xdecoder_rt.export.precision import candidates, emulated, to_typed
from xdecoder_rt.export.progress import StepProgress
from xdecoder_rt.image import RgbImage
from xdecoder_rt.plan.manifest import Manifest

_BLOCK = 16  # operators that are tried together
_CALLS = 12  # of each graph, that outputs are compared on

RecordedCall = tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]
"""What a graph was given, and what it gave."""


def half_graphs(
    fp32: Path,
    manifest: Manifest,
    members: Mapping[str, bytes],
    options: ConvertOptions,
    images: Sequence[RgbImage],
    progress: StepProgress,
) -> Converted:
    """Convert every graph of a plan to typed fp16 or bf16.

    Outputs are compared on what the tasks really feed the graphs, in an emulation that rounds as
    the typed graph does; ONNX Runtime has few kernels of these types.

    Args:
        fp32: the plan.
        manifest: its manifest.
        members: its members.
        options: the precision.
        images: what to run the tasks on.
        progress: told of each graph.
    """
    calls = record(fp32, images, options.threads)
    graphs: dict[str, bytes] = {}
    fp32_nodes: dict[str, list[str]] = {}
    cosines: dict[str, float] = {}
    complaints: list[str] = []
    for member in manifest.graphs.members():
        model = onnx.load_from_string(members[member])
        progress(f"Converting {member} to {options.precision}")
        # A size that no image was given to goes by the search of its sibling: names may differ.
        keep, member_cosines = search(model, options.precision, calls.get(member, []))
        graphs[member] = to_typed(model, options.precision, keep).SerializeToString(
            deterministic=True
        )
        if keep:
            fp32_nodes[member] = sorted(keep)
        if member_cosines:
            cosines[member] = min(member_cosines.values())
            complain_of_cosines(
                {f"{member}: {k}": v for k, v in member_cosines.items()}, complaints
            )
    return Converted(
        graphs,
        {"profile": options.profile, "kept_in_fp32": fp32_nodes},
        {"least_cosine_against_fp32": cosines},
        complaints,
    )


def search(
    model: onnx.ModelProto, precision: str, calls: Sequence[RecordedCall]
) -> tuple[set[str], dict[str, float]]:
    """Find the nodes that must stay in fp32 for every output's cosine to reach 0.999.

    Args:
        model: in fp32.
        precision: fp16 or bf16.
        calls: what to compare on.

    Returns:
        Their names, and the cosine of each output with them kept.
    """
    names = candidates(model)
    blocks = [tuple(names[i : i + _BLOCK]) for i in range(0, len(names), _BLOCK)]
    if not calls:
        return set(), {}

    def compared(lowered: Sequence[tuple[str, ...]]) -> dict[str, float]:
        low = {name for block in lowered for name in block}
        return output_cosines(emulated(model, precision, set(names) - low), calls)

    def measure(lowered: Sequence[tuple[str, ...]]) -> Trial:
        worst = min(compared(lowered).values())
        return Trial(len(lowered), 1 - (worst if np.isfinite(worst) else -1.0))

    result = largest_within(
        blocks, lambda block: measure([block]).drop, measure, budget=1 - LEAST_COSINE
    )
    return {name for block in result.kept for name in block}, compared(result.lowered)


def output_cosines(model: onnx.ModelProto, calls: Sequence[RecordedCall]) -> dict[str, float]:
    """Return the cosine of each output with the recorded one, over all calls together."""
    session = ort.InferenceSession(
        model.SerializeToString(), _quiet_options(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    actual: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in names}
    for feeds, _ in calls:
        for name, value in zip(names, session.run(names, feeds), strict=True):
            actual[name].append(value.ravel())
    return {
        name: cosine(
            np.concatenate(values),
            np.concatenate([recorded[name].ravel() for _, recorded in calls]),
        )
        for name, values in actual.items()
    }


def record(
    plan: Path, images: Sequence[RgbImage], threads: int | None
) -> dict[str, list[RecordedCall]]:
    """Run every task on images and record inputs and outputs of each graph: a few calls each."""
    backend = _RecordingBackend(threads)
    with (
        tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as texts,
        Engine(plan, backend=backend, threads=threads, cache_dir=texts) as engine,
    ):
        for image in images:
            exercise(engine, image)
    return backend.calls


class _RecordingBackend:
    def __init__(self, threads: int | None) -> None:
        self._inner = OnnxRuntimeBackend(threads)
        self.name, self.device, self.version = "onnxruntime", "cpu", self._inner.version
        self.calls: dict[str, list[RecordedCall]] = {}

    def load(self, name: str, model: ModelReader, is_steady: bool = False) -> Graph:
        return _RecordingGraph(
            self._inner.load(name, model, is_steady), self.calls.setdefault(name, [])
        )

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        return self._inner.to_numpy(value)

    def to_numpy_all(self, values: Mapping[str, Value]) -> dict[str, np.ndarray[Any, Any]]:
        return self._inner.to_numpy_all(values)

    def close(self) -> None:
        pass


class _RecordingGraph:
    def __init__(self, graph: Graph, calls: list[RecordedCall]) -> None:
        self._graph = graph
        self._calls = calls
        self.inputs = graph.inputs

    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        outputs = self._graph(feeds)
        if len(self._calls) < _CALLS:
            self._calls.append((_arrays(feeds), _arrays(outputs)))
        return outputs


def _arrays(values: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    return {
        name: np.array(value if isinstance(value, np.ndarray) else value.numpy())
        for name, value in values.items()
    }


def _quiet_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    return options
