"""Times of candidate shapes: their graphs with random weights, in every form that a plan may have.

Speed does not depend on what the weights are. INT8 has the form of an INT8 plan for processors,
over intervals that are made up.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend
from xdecoder_rt.backends.openvino import OpenVINOBackend
from xdecoder_rt.calibration.observe import watched_tensors
from xdecoder_rt.calibration.profiles import profile_of, quantizable
from xdecoder_rt.calibration.qdq import quantize
from xdecoder_rt.export.costs import macs, parameters
from xdecoder_rt.export.onnx_graphs import (
    MAX_BATCH,
    ExportedGraph,
    export_graph,
    export_image_graphs,
)
from xdecoder_rt.models import ModelConfig, XDecoder
from xdecoder_rt.models.graphs import Normalise, VisionGraph

KEPT = 12
"""Queries whose masks are formed."""
FORMS = ("onnxruntime fp32", "openvino fp32", "onnxruntime int8", "openvino int8")
GRAPHS = ("vision", "decode", "mask")
WARMUP = 2

Times = Mapping[str, Mapping[str, list[float]]]
"""Milliseconds by form and graph."""


def export(config: ModelConfig, size: tuple[int, int], folder: Path) -> dict[str, Path]:
    """Write a candidate's graphs in fp32 and INT8, with the inputs that they are timed on.

    Graphs that candidates share, whose part of the configuration is the same, are written once.

    Returns:
        A folder for each graph.
    """
    torch.manual_seed(0)
    model = XDecoder(config).eval().requires_grad_(False)
    pixel = dataclasses.asdict(config.pixel_decoder)
    decoder = dataclasses.asdict(config.decoder)
    keys: dict[str, object] = {
        "vision": {"pixel": pixel, "decoder": decoder},
        "decode": {"decoder": decoder, "dim": pixel["dim"], "mask_dim": pixel["mask_dim"]},
        "mask": {name: pixel[name] for name in ("mask_dim", "mask_stride")},
    }
    places = {name: folder / f"{name}-{_digest((size, key))}" for name, key in keys.items()}
    missing = [name for name, place in places.items() if not (place / "costs.json").exists()]
    if missing == ["vision"]:
        graphs = [_exported(VisionGraph(model), size)]
    else:
        graphs = export_image_graphs(model, size) if missing else []
    for graph in graphs:
        if graph.name in missing:
            _write(graph, places[graph.name])
    costs = folder / f"model-{_digest(dataclasses.asdict(config))}.json"
    outside_text = parameters(model) - parameters(model.text_encoder)
    costs.write_text(json.dumps({"parameters": outside_text}))
    return {**places, "model": costs}


def _digest(key: object) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]


class BackboneGraph(nn.Module):
    """Normalisation and backbone, which no candidate changes."""

    outputs = ("stride_4", "stride_8", "stride_16", "stride_32")

    def __init__(self, model: XDecoder) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.normalise = Normalise(model.config.pixel_mean, model.config.pixel_std)

    def forward(self, frame: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(self.normalise(frame, valid)))


def export_backbone(config: ModelConfig, size: tuple[int, int], folder: Path) -> dict[str, Path]:
    """Write the backbone alone, as :func:`export` does with a candidate."""
    torch.manual_seed(0)
    model = XDecoder(config).eval().requires_grad_(False)
    place = folder / f"backbone-{_digest((size, dataclasses.asdict(config.backbone)))}"
    if not (place / "costs.json").exists():
        _write(_exported(BackboneGraph(model), size), place)
    costs = folder / "backbone.json"
    costs.write_text(json.dumps({"parameters": parameters(model.backbone)}))
    return {"vision": place, "model": costs}


def _exported(module: nn.Module, size: tuple[int, int]) -> ExportedGraph:
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    generator = torch.Generator().manual_seed(0)
    frame = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8, generator=generator)
    example = {"frame": frame, "valid": torch.tensor([size, size])}
    return export_graph("vision", module, example, ({0: batch}, {0: batch}))


def _write(graph: ExportedGraph, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    feeds = {key: value.numpy() for key, value in graph.typical.items()}
    if graph.name == "mask":
        feeds["mask_embedding"] = feeds["mask_embedding"][:, :KEPT]
    np.savez(place / "feeds.npz", **feeds)
    (place / "fp32.onnx").write_bytes(graph.model.SerializeToString())
    profile = profile_of("cpu")
    nodes = quantizable(graph.model, profile)
    ranges = dict.fromkeys(watched_tensors(graph.model), (-3.0, 3.0))
    int8 = quantize(graph.model, profile, nodes, ranges)
    (place / "int8.onnx").write_bytes(int8.SerializeToString())
    costs = {"macs": macs(graph), "nodes": len(graph.model.graph.node), "int8_nodes": len(nodes)}
    (place / "costs.json").write_text(json.dumps(costs))


def compiled(place: Path, form: str, threads: int) -> Callable[[], object]:
    """Return a call that runs a graph once in a form; what OpenVINO compiles is kept beside it."""
    library, precision = form.split()
    backend: OnnxRuntimeBackend | OpenVINOBackend = (
        OpenVINOBackend(threads, precision, place / "compiled")
        if library == "openvino"
        else OnnxRuntimeBackend(threads)
    )
    graph = backend.load(place.name, (place / f"{precision}.onnx").read_bytes, is_steady=True)
    with np.load(place / "feeds.npz") as feeds:
        values = {name: feeds[name] for name in graph.inputs}
    return lambda: backend.to_numpy_all(graph(values))


def measure(
    places: Mapping[str, Mapping[str, Path]],
    forms: Sequence[str],
    threads: int,
    rounds: int,
    pause: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return milliseconds by candidate, form and graph, in rounds to and fro.

    Args:
        places: of the graphs of each candidate.
        forms: some of `FORMS`.
        threads: of each call.
        rounds: calls of each graph.
        pause: called once everything is compiled.
    """
    runs: dict[tuple[Path, str], Callable[[], object]] = {}
    for own in places.values():
        for graph in GRAPHS:
            for form in forms if graph in own else ():
                if (own[graph], form) not in runs:
                    runs[own[graph], form] = compiled(own[graph], form, threads)
    pause()
    times: dict[tuple[Path, str], list[float]] = {key: [] for key in runs}
    for number in range(WARMUP + rounds):
        # To and fro, so that none always comes after the same other.
        for key in list(runs)[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            runs[key]()
            spent = 1e3 * (time.perf_counter() - began)
            if number >= WARMUP:
                times[key].append(spent)
    return {
        name: {
            form: {graph: times[own[graph], form] for graph in GRAPHS if graph in own}
            for form in forms
        }
        for name, own in places.items()
    }


def medians(times: Times) -> dict[str, dict[str, float]]:
    """Return the median of each form and graph, milliseconds."""
    return {
        form: {graph: round(statistics.median(values), 2) for graph, values in own.items()}
        for form, own in times.items()
    }


def fastest(medians: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[str, float]]:
    """Return the form and the milliseconds of each graph in the fastest plan of one library.

    An INT8 plan leaves in fp32 what INT8 does not make faster.
    """
    plans = []
    for library in dict.fromkeys(form.split()[0] for form in medians):
        forms = [form for form in medians if form.split()[0] == library]
        plan = {}
        for graph in medians[forms[0]]:
            best = min(forms, key=lambda form: medians[form][graph])
            plan[graph] = (best, medians[best][graph])
        plans.append(plan)
    return min(plans, key=lambda plan: sum(spent for _, spent in plan.values()))
