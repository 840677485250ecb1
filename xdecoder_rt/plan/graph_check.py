"""A plan's graphs against its manifest, before any runtime sees them."""

from __future__ import annotations

import math

from xdecoder_rt.errors import PlanError
from xdecoder_rt.plan.graph_call import Shape
from xdecoder_rt.plan.graph_operators import OPERATORS
from xdecoder_rt.plan.graph_ports import GraphPorts, check_ports, graph_ports
from xdecoder_rt.plan.graph_shapes import infer_shapes
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.plan.onnx_walk import OnnxGraph, read_onnx
from xdecoder_rt.plan.protobuf import Buffer

__all__ = ["check_graph"]

_ELEMENTS, _ELEMENTS_PER_PIXEL = 1 << 25, 128
_ALL_ELEMENTS = 64
_PRODUCTS, _PRODUCTS_PER_PIXEL = 1 << 36, 1 << 22


def check_graph(
    manifest: Manifest, graph: str, size: tuple[int, int] | None, data: Buffer
) -> OnnxGraph:
    """Read a portable graph, and refuse what no plan needs.

    Beyond :func:`~xdecoder_rt.plan.onnx_walk.read_onnx`: its inputs and outputs are those that the
    manifest says, operators fit each other, and on inputs of usual size no tensor and no run is
    larger than graphs of either family are at that input size, several times over.

    Args:
        manifest: the plan's.
        graph: ``vision``, ``decode``, ``mask``, ``text`` or ``token``.
        size: height and width of the input; None where the graph is for any.
        data: the serialized model, from an untrusted source.

    Raises:
        PlanError: the graph is refused.
    """
    model = read_onnx(data, OPERATORS)
    ports = graph_ports(manifest, graph, size)
    check_ports(model, ports)
    usual = _usual_sizes(manifest, graph)
    taken = {port.name for port in model.inputs}
    shapes = {name: _at(shape, usual) for name, (_, shape) in ports.inputs.items() if name in taken}
    pixels = math.prod(size) if size is not None else 0
    most = _ELEMENTS + _ELEMENTS_PER_PIXEL * pixels
    work = infer_shapes(model, shapes, most)
    if work.elements > _ALL_ELEMENTS * most:
        raise PlanError(
            f"A run of the graph makes {work.elements:,} elements",
            expected=f"at most {_ALL_ELEMENTS * most:,} at this input size",
        )
    products = _PRODUCTS + _PRODUCTS_PER_PIXEL * pixels
    if work.products > products:
        raise PlanError(
            f"A run of the graph takes {work.products:,} multiply-accumulates",
            expected=f"at most {products:,} at this input size",
        )
    _check_outputs(ports, usual, work.shapes)
    return model


def _check_outputs(ports: GraphPorts, usual: dict[str, int], shapes: dict[str, Shape]) -> None:
    for name, (_, shape) in ports.outputs.items():
        expected = _at(shape, usual)
        if len(expected) != len(shapes[name]) or any(
            ours not in (theirs, -1) for ours, theirs in zip(expected, shapes[name], strict=True)
        ):
            raise PlanError(
                f"The output {name!r} comes out as {list(shapes[name])}",
                expected=f"{list(expected)}, as the manifest has it",
                fix="build the plan again: xdecoder-rt build",
            )


def _usual_sizes(manifest: Manifest, graph: str) -> dict[str, int]:
    """The free dimensions of a call on one image or a few texts; no two alike."""
    queries = manifest.decoder.num_queries
    if graph == "text":
        length = manifest.text.context_length
        return {"texts": 3, "length": length, "past": 5, "seen": length + 5}
    rows = queries + 13
    return {
        "batch": 1,
        "rows": rows,
        "past": 32,
        "seen": rows + 32,
        "regions": 2,
        "kept": queries,
        "captions": 3,
        "vocabulary": -1,
    }


def _at(shape: tuple[int | str, ...], sizes: dict[str, int]) -> Shape:
    return tuple(sizes[each] if isinstance(each, str) else each for each in shape)
