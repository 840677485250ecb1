"""A plan's ONNX graph in the form that TensorRT's parser takes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from xdecoder_rt.errors import BuildError, PlanError

_STANDARD = ("", "ai.onnx")


def read_graph(name: str, data: bytes) -> ModelProto:
    """Parse a graph of a portable plan and check its operators.

    TensorRT takes an operator that it does not know for a plugin, and a plugin of that name may end
    the process: so only the standard's operators go to the parser.

    Args:
        name: the member, for messages.
        data: the serialized model.

    Raises:
        PlanError: it is not an ONNX model.
        BuildError: it has operators that are not of the ONNX standard.
    """
    model = ModelProto()
    try:
        model.ParseFromString(bytes(data))
    except Exception as error:  # protobuf's DecodeError is not exported alike by its versions
        raise PlanError(f"{name} is not an ONNX graph ({error})") from error
    unknown = {
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        for node in model.graph.node
        if node.domain not in _STANDARD or not onnx.defs.has(node.op_type, "")
    }
    if unknown:
        raise BuildError(
            f"{name} has the operators {', '.join(sorted(unknown))}",
            expected="operators of the ONNX standard",
            fix="build the portable plan with xdecoder-rt build",
        )
    return model


def cast_frames_first(model: ModelProto) -> None:
    """Move the cast of uint8 frames before the transpose: TensorRT casts uint8 and no more."""
    graph = model.graph
    small = {
        value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8
    }
    for node in list(graph.node):
        if node.op_type != "Transpose" or node.input[0] not in small:
            continue
        users = [user for user in graph.node if node.output[0] in user.input]
        if len(users) == 1 and users[0].op_type == "Cast":
            _swap(node, users[0])
            between = [info for info in graph.value_info if info.name == node.output[0]]
            for value in between:
                graph.value_info.remove(value)  # of another type and shape now


def drop_softmax_floors(model: ModelProto) -> None:
    """Take off the floor under masked scores: a GPU has fast denormals, and fuses without it.

    ``softmax(max(x, max(x) - c))``, as :mod:`xdecoder_rt.export.masked_attention` writes for CPUs,
    becomes ``softmax(x)``.
    """
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    for node in list(graph.node):
        highest = producers.get(node.input[0]) if node.op_type == "Softmax" else None
        if highest is None or highest.op_type != "Max" or len(highest.input) != 2:
            continue
        scores, below = highest.input
        floor = producers.get(below)
        best = (
            producers.get(floor.input[0]) if floor is not None and floor.op_type == "Sub" else None
        )
        if floor is None or best is None or best.op_type != "ReduceMax":
            continue
        steps = highest, floor, best
        if best.input[0] != scores or any(readers[step.output[0]] > 1 for step in steps):
            continue
        node.input[0] = scores
        for step in steps:
            graph.node.remove(step)


def keep_scales_positive(model: ModelProto) -> None:
    """Replace quantization scales of 0 by the least number: TensorRT refuses 0.

    They are of channels whose weights are all next to nothing, rounded down in fp16.
    """
    quantizers = ("QuantizeLinear", "DequantizeLinear")
    scales = {node.input[1] for node in model.graph.node if node.op_type in quantizers}
    for constant in model.graph.initializer:
        if constant.name in scales:
            scale = numpy_helper.to_array(constant)
            if scale.dtype.kind == "f" and (scale == 0).any():
                least = np.finfo(scale.dtype).smallest_subnormal
                positive = np.where(scale == 0, least, scale)
                constant.CopyFrom(numpy_helper.from_array(positive, constant.name))


def _swap(transpose: NodeProto, cast: NodeProto) -> None:
    """``cast(transpose(x))`` to ``transpose(cast(x))``, in place: names of the ends stay."""
    between = transpose.output[0]
    first, second = NodeProto(), NodeProto()
    first.CopyFrom(cast)
    second.CopyFrom(transpose)
    first.input[0], first.output[0] = transpose.input[0], between
    second.input[0], second.output[0] = between, cast.output[0]
    transpose.CopyFrom(first)
    cast.CopyFrom(second)
