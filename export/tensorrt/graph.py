"""A plan's ONNX graph in the form that TensorRT's parser takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from xdecoder_rt.errors import BuildError, PlanError

_STANDARD = ("", "ai.onnx")
# What may stand between an input of no elements and the concatenation that takes it.
_ELEMENTWISE = ("Cast", "Identity", "QuantizeLinear", "DequantizeLinear")
PARSER_OPSET = 20
"""The newest opset that the parser of TensorRT 10.3, which JetPack 6 has, is documented for."""


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


def declare_parser_opset(model: ModelProto) -> None:
    """Declare the opset that every parser knows, where a graph declares a later one.

    bf16 graphs declare 22, from which on ONNX has convolutions in bf16. TensorRT has them whatever
    is declared, and the graphs were exported for an earlier opset, of whose operators they are.
    """
    for entry in model.opset_import:
        if entry.domain in _STANDARD:
            entry.version = min(entry.version, PARSER_OPSET)


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


def fix_inputs(model: ModelProto, values: Mapping[str, npt.NDArray[Any]]) -> None:
    """Put inputs that are the same in every call into a graph, which then takes the others alone.

    Arrays without elements, which TensorRT takes as inputs only, must go into concatenations, from
    which they are taken out.

    Args:
        model: changed in place.
        values: by input; those of names that the graph does not take are left out.

    Raises:
        BuildError: something else reads an array without elements.
    """
    graph = model.graph
    empty = set()
    for port in [port for port in graph.input if port.name in values]:
        graph.input.remove(port)
        value = values[port.name]
        if value.size:
            kind = helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
            graph.initializer.append(numpy_helper.from_array(value.astype(kind), port.name))
        else:
            empty.add(port.name)
    for node in list(graph.node):
        if empty.isdisjoint(node.input):
            continue
        if node.op_type in _ELEMENTWISE:
            empty.update(node.output)
            graph.node.remove(node)
            continue
        if node.op_type != "Concat" or empty.issuperset(node.input):
            raise BuildError(
                f"The operator {node.op_type} reads {', '.join(sorted(empty & set(node.input)))}",
                expected="that no rows come before the latents, which the graph puts before others",
                fix="build the portable plan again with this release",
            )
        full = [name for name in node.input if name not in empty]
        del node.input[:]
        node.input.extend(full)
        if len(full) == 1:
            node.op_type = "Identity"
            del node.attribute[:]


def fix_shapes(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
    """Make a graph one of fixed shapes, so that no kernel is compiled for others.

    Args:
        model: changed in place.
        shapes: of every input.
    """
    graph, sizes = model.graph, dict[str, int]()
    for port in graph.input:
        for axis, size in zip(port.type.tensor_type.shape.dim, shapes[port.name], strict=True):
            if axis.dim_param:
                sizes[axis.dim_param] = size
                axis.dim_value = size
    for port in graph.output:
        for axis in port.type.tensor_type.shape.dim:
            if axis.dim_param in sizes:
                axis.dim_value = sizes[axis.dim_param]
    # What lies between is inferred; the shapes that are written down are symbolic.
    del graph.value_info[:]


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
