"""From an fp32 graph to a strongly typed fp16 or bf16 one, chosen nodes kept in fp32.

TensorRT 11 and TensorRT-RTX take every type from the graph, so the graph says them: nodes compute
in the type of their inputs, and a ``Cast`` stands wherever two types meet. ONNX Runtime's converter
knows fp16 only and inserts a pair of casts around every node that it leaves out; this one serves
both types and casts a tensor once.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from xdecoder_rt.calibration.onnx_edit import (
    HALF_TYPES,
    drop_unused,
    element_types,
    initializers,
    ordered,
    producers,
    raise_opset,
    to_half,
)

# The first in which QuantizeLinear, convolutions and all else that these graphs use take the type.
TYPED_OPSETS = {"fp16": 19, "bf16": 22}
_STATE = ("keys_", "values_", "mask_features_", "mask_map", "region_map")


def is_state(name: str) -> bool:
    """Return whether an input or output passes between graphs and never visits the host."""
    return name.startswith(_STATE)


def candidates(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that may compute in a half type.

    Those before the first layer with weights stay in fp32: they normalise pixels, where rounding
    the mean shifts every value alike.
    """
    types = element_types(model)
    weights = {value.name for value in model.graph.initializer if len(value.dims) > 1}
    frames = {
        value.name
        for value in model.graph.input
        if value.type.tensor_type.elem_type == TensorProto.UINT8
    }
    names = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            # It gives the type that the layer behind it computes in; a weight's makes a weight.
            weights |= set(node.output) if node.input[0] in weights else set()
        else:
            is_weighted = node.op_type in ("Conv", "Gemm", "MatMul") and weights & set(node.input)
            if frames & set(node.input) and not is_weighted:
                frames |= set(node.output)
                continue
        floats = [
            name for name in (*node.input, *node.output) if types.get(name) == TensorProto.FLOAT
        ]
        if floats:
            names.append(node.name)
    return names


def to_typed(model: onnx.ModelProto, precision: str, keep: Collection[str] = ()) -> onnx.ModelProto:
    """Convert a graph.

    The image state (keys, values, mask features, mask map) passes between graphs in the half type;
    every other input and output stays as it is, with a cast at the border.

    Args:
        model: an fp32 graph, quantized or not.
        precision: ``"fp16"`` or ``"bf16"``.
        keep: names of nodes that stay in fp32.

    Returns:
        A checked model, of opset 19 for fp16 and 22 for bf16.
    """
    half = HALF_TYPES[precision]
    result = onnx.ModelProto()
    result.CopyFrom(model)
    raise_opset(result, TYPED_OPSETS[precision])
    graph = result.graph
    types, stored = element_types(model), initializers(graph)
    low = set(candidates(model)) - set(keep)
    made_by = producers(graph)
    actual = {name: element for name, element in types.items()}
    for value in graph.input:
        if is_state(value.name) and actual[value.name] == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = half
            actual[value.name] = half
    for name, node in made_by.items():
        if types.get(name) == TensorProto.FLOAT and node.name in low:
            actual[name] = half
    nodes: list[onnx.NodeProto] = []
    casts: dict[tuple[str, int], str] = {}

    def cast(name: str, element: int) -> str:
        """Return the tensor in another type; made once."""
        key = (name, element)
        if key not in casts:
            casts[key] = f"{name}_{TensorProto.DataType.Name(element).lower()}"
            if name in stored:
                values = numpy_helper.to_array(stored[name])
                graph.initializer.append(to_half(values, element, casts[key]))
            else:
                nodes.append(helper.make_node("Cast", [name], [casts[key]], casts[key], to=element))
        return casts[key]

    for node in graph.node:
        element = half if node.name in low else TensorProto.FLOAT
        for i, name in enumerate(node.input):
            if types.get(name) == TensorProto.FLOAT and name:
                if node.op_type == "Resize" and i > 0:
                    continue  # its scales are fp32 whatever it resizes
                if (TensorProto.FLOAT if name in stored else actual[name]) != element:
                    node.input[i] = cast(name, element)
        if node.op_type == "Cast" and node.name in low:
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = half
        if node.op_type == "ConstantOfShape" and node.name in low:
            _retype_fill(node, half)
    for value in graph.output:
        if types.get(value.name) != TensorProto.FLOAT:
            continue
        element = half if is_state(value.name) else TensorProto.FLOAT
        value.type.tensor_type.elem_type = element
        if actual[value.name] != element:
            _cast_output(graph, value.name, element, nodes)
    # What inference said of fp32 tensors no longer holds.
    del graph.value_info[:]
    ordered(graph, [*graph.node, *nodes])
    drop_unused(graph)
    onnx.checker.check_model(result, full_check=True)
    return result


def _cast_output(
    graph: onnx.GraphProto, name: str, element: int, nodes: list[onnx.NodeProto]
) -> None:
    """Give a graph output another type than its node makes."""
    inner = f"{name}_inner"
    for node in (*graph.node, *nodes):
        for names in (node.input, node.output):
            for i, tensor in enumerate(names):
                if tensor == name:
                    names[i] = inner
    nodes.append(helper.make_node("Cast", [inner], [name], f"{name}_cast", to=element))


def _retype_fill(node: onnx.NodeProto, element: int) -> None:
    for attribute in node.attribute:
        if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(to_half(numpy_helper.to_array(attribute.t), element, ""))


def emulated(model: onnx.ModelProto, precision: str, keep: Collection[str] = ()) -> onnx.ModelProto:
    """Return an fp32 graph that rounds as :func:`to_typed`'s does, for runtimes without the type.

    Inputs, weights and outputs of every low node are rounded; sums are in fp32, as in tensor cores.
    """
    half = HALF_TYPES[precision]
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    types, stored = element_types(model), initializers(graph)
    low = set(candidates(model)) - set(keep)
    nodes: list[onnx.NodeProto] = []
    rounded: dict[str, str] = {}

    def rounding(name: str) -> str:
        if name not in rounded:
            rounded[name] = f"{name}_rounded"
            nodes.append(helper.make_node("Cast", [name], [f"{name}_half"], f"{name}_to", to=half))
            nodes.append(
                helper.make_node(
                    "Cast",
                    [f"{name}_half"],
                    [rounded[name]],
                    f"{name}_from",
                    to=TensorProto.FLOAT,
                )
            )
        return rounded[name]

    low_outputs = {name for node in graph.node if node.name in low for name in node.output}
    for node in graph.node:
        for i, name in enumerate(node.input):
            is_scale = node.op_type == "Resize" and i > 0
            if types.get(name) != TensorProto.FLOAT or is_scale or not name:
                continue
            if node.name in low or name in low_outputs:
                if name in stored:
                    if name not in rounded:
                        rounded[name] = f"{name}_rounded"
                        value = _round(numpy_helper.to_array(stored[name]), half)
                        graph.initializer.append(numpy_helper.from_array(value, rounded[name]))
                    node.input[i] = rounded[name]
                else:
                    node.input[i] = rounding(name)
    ordered(graph, [*graph.node, *nodes])
    drop_unused(graph)
    return result


def _round(values: npt.NDArray[np.float32], element: int) -> npt.NDArray[np.float32]:
    tensor = to_half(values, element, "rounded")
    values = numpy_helper.to_array(tensor).astype(np.float32)
    return values
