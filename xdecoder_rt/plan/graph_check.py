"""A plan's graphs against its manifest, before any runtime sees them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from xdecoder_rt.errors import PlanError
from xdecoder_rt.plan.graph_call import Shape
from xdecoder_rt.plan.graph_operators import OPERATORS
from xdecoder_rt.plan.graph_ports import GraphPorts, check_ports, graph_ports
from xdecoder_rt.plan.graph_shapes import infer_shapes
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.plan.onnx_walk import OnnxGraph, read_onnx
from xdecoder_rt.plan.protobuf import Buffer

__all__ = ["check_graph"]

_ELEMENTS = 1 << 25


@dataclass(frozen=True)
class _Bounds:
    """What graphs of a family need, per pixel of the input where not said, several times over.

    The starter (compact) makes tensors of 24 elements a pixel, 477 in a frame, and multiplies
    16,500 times.

    Attributes:
        elements: of one tensor.
        run_elements: of all that a run makes.
        least_run_elements: that any run may make; the published text encoder makes 2^30.8 in its
            large call, in INT8 2^31.1.
        products: multiply-accumulates of a run.
        least_products: that any run may take; the published text encoder takes 2^37.4 of its large
            call, which has no pixels.
        most_products: of a run at any size.
    """

    elements: int
    run_elements: int
    least_run_elements: int
    products: int
    least_products: int
    most_products: int


_BOUNDS = {
    "compact": _Bounds(128, 1 << 11, 1 << 31, 1 << 18, 1 << 36, 1 << 40),
    "published": _Bounds(128, 1 << 13, 1 << 33, 1 << 22, 1 << 39, 1 << 42),
}


def check_graph(
    manifest: Manifest,
    graph: str,
    size: tuple[int, int] | None,
    data: Buffer,
    weights: Mapping[str, int] | None = None,
) -> OnnxGraph:
    """Read a portable graph, and refuse what no plan needs.

    Beyond :func:`~xdecoder_rt.plan.onnx_walk.read_onnx`: its inputs and outputs are those that the
    manifest says, operators fit each other, and in a usual call and in a large one no tensor and no
    run is larger than graphs of its family are at that input size, several times over, and outputs
    come out in the shapes that the manifest says.

    Args:
        manifest: the plan's.
        graph: ``vision``, ``decode``, ``mask``, ``text`` or ``token``.
        size: height and width of the input; None where the graph is for any.
        data: the serialized model, from an untrusted source.
        weights: sizes of the members that hold its weights, by name; None where it holds all.

    Raises:
        PlanError: the graph is refused.
    """
    model = read_onnx(data, OPERATORS, weights)
    ports = graph_ports(manifest, graph, size)
    check_ports(model, ports)
    taken = {port.name for port in model.inputs}
    inputs = {name: shape for name, (_, shape) in ports.inputs.items() if name in taken}
    bounds = _BOUNDS[manifest.model.family]
    pixels = math.prod(size) if size is not None else 0
    most = _ELEMENTS + bounds.elements * pixels
    elements = bounds.least_run_elements + bounds.run_elements * pixels
    products = min(bounds.least_products + bounds.products * pixels, bounds.most_products)
    for sizes in _sizes_of_calls(manifest, graph):
        work = infer_shapes(model, {name: _at(inputs[name], sizes) for name in inputs}, most)
        if work.elements > elements:
            raise PlanError(
                f"A run of the graph makes {work.elements:,} elements",
                expected=f"at most {elements:,} at this input size",
            )
        if work.products > products:
            raise PlanError(
                f"A run of the graph takes {work.products:,} multiply-accumulates",
                expected=f"at most {products:,} at this input size",
            )
        _check_outputs(ports, sizes, work.shapes)
    return model


def _check_outputs(ports: GraphPorts, sizes: dict[str, int], shapes: dict[str, Shape]) -> None:
    for name, (_, shape) in ports.outputs.items():
        expected = _at(shape, sizes)
        if len(expected) != len(shapes[name]) or any(
            ours not in (theirs, -1) for ours, theirs in zip(expected, shapes[name], strict=True)
        ):
            raise PlanError(
                f"The output {name!r} comes out as {list(shapes[name])}",
                expected=f"{list(expected)}, as the manifest has it",
                fix="build the plan again: xdecoder-rt build",
            )


def _sizes_of_calls(manifest: Manifest, graph: str) -> list[dict[str, int]]:
    """Return the free dimensions of a usual call and of a large one; no two alike.

    A graph can make shapes that are small at one of them alone. An image has no other size, so one
    call stands for all of the vision graph's.
    """
    queries = manifest.decoder.num_queries
    if graph == "text":
        length = manifest.text.context_length
        return [
            {"texts": texts, "length": length, "past": past, "seen": length + past}
            for texts, past in ((3, 5), (61, 71))
        ]
    rows = queries + 13
    usual = {
        "batch": 1,
        "rows": rows,
        "past": 32,
        "seen": rows + 32,
        "regions": 2,
        "kept": queries,
        "captions": 3,
        "vocabulary": -1,
    }
    if graph == "vision":
        return [usual]
    rows = manifest.decoder.max_rows or 4 * queries + 13
    large = {"rows": rows, "past": queries + 71, "seen": rows + queries + 71, "regions": 5}
    return [usual, {**usual, **large, "kept": 1, "captions": 29}]


def _at(shape: tuple[int | str, ...], sizes: dict[str, int]) -> Shape:
    return tuple(sizes[each] if isinstance(each, str) else each for each in shape)
