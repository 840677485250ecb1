"""Writes QuantizeLinear and DequantizeLinear into a graph.

The mechanics are onnxruntime.quantization's (which tensors of a node take a pair, per-channel
scales and axes, weights stored as int8); what is quantized, over which intervals and in which form
is said here. Only inputs of layers get pairs: the runtimes then fuse what follows a layer (sum,
activation, the next quantization) into it. Biases stay in fp32: TensorRT refuses int32 ones, the
others make them themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from xdecoder_rt.calibration.observe import WEIGHTED
from xdecoder_rt.calibration.onnx_edit import (
    consumers,
    drop_unused,
    initializers,
    ordered,
    producers,
    renamed,
)
from xdecoder_rt.calibration.profiles import QuantizationProfile
from xdecoder_rt.calibration.ranges import Range

QUANTIZED_READERS = (*WEIGHTED, "Add")
_LARGE = 1 << 16  # bytes of a constant that is worth storing in fp16


def quantize(
    model: onnx.ModelProto,
    profile: QuantizationProfile,
    nodes: Collection[str],
    ranges: Mapping[str, Range],
) -> onnx.ModelProto:
    """Quantize some nodes of an fp32 graph.

    Args:
        model: the graph; it is not changed.
        profile: the form.
        nodes: names out of :func:`~xdecoder_rt.calibration.profiles.quantizable`.
        ranges: intervals of the tensors that enter them.

    Returns:
        A checked QDQ graph.
    """
    result = onnx.shape_inference.infer_shapes(model)
    if nodes:
        data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
        activation = QuantType.QInt8 if profile.symmetric else QuantType.QUInt8
        quantizer = QDQQuantizer(
            result,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=activation,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=list(nodes),
            nodes_to_exclude=[],
            op_types_to_quantize=list(WEIGHTED),
            extra_options={
                "QuantizeBias": False,
                "ActivationSymmetric": profile.symmetric,
                "WeightSymmetric": True,
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": list(WEIGHTED),
                "QDQKeepRemovableActivations": True,
            },
        )
        quantizer.quantize_model()
        result = quantizer.model.model
    _spare_others(result.graph, set(nodes))
    result.graph.name = model.graph.name
    result.producer_name, result.producer_version = model.producer_name, model.producer_version
    del result.opset_import[:]
    result.opset_import.extend(model.opset_import)
    ordered(result.graph, list(result.graph.node))
    drop_unused(result.graph)
    onnx.checker.check_model(result, full_check=True)
    return result


def _spare_others(graph: onnx.GraphProto, nodes: Collection[str]) -> None:
    """Let a quantized tensor be read as it was by all but the chosen layers and residual sums.

    A sum that reads what a layer reads is left with it: runtimes fuse it into a convolution then.
    """
    made_by, read_by = producers(graph), consumers(graph)
    for node in list(graph.node):
        source = made_by.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if source is None or source.op_type != "QuantizeLinear":
            continue
        for reader in read_by.get(node.output[0], []):
            if reader.name not in nodes and reader.op_type != "Add":
                renamed(reader, {node.output[0]: source.input[0]})


def quantize_tables(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store tables that rows are gathered from in int8, a scale for each column."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    stored, types = initializers(graph), {}
    nodes = list(graph.node)
    for node in nodes:
        is_gather = node.op_type in ("Gather", "GatherND") and node.input[0] in stored
        if not is_gather:
            continue
        table = numpy_helper.to_array(stored[node.input[0]])
        if table.dtype != np.float32 or table.ndim != 2 or table.nbytes < _LARGE:
            continue
        name, output = node.input[0], node.output[0]
        rank = _rank(model, output)
        scale = np.maximum(np.abs(table).max(axis=0) / 127, np.float32(1e-12)).astype(np.float32)
        codes = np.round(table / scale).clip(-127, 127).astype(np.int8)
        graph.initializer.extend(
            (
                numpy_helper.from_array(codes, f"{name}_int8"),
                numpy_helper.from_array(scale, f"{name}_scale"),
            )
        )
        node.input[0], node.output[0] = f"{name}_int8", f"{output}_int8"
        graph.node.append(
            helper.make_node(
                "DequantizeLinear",
                [f"{output}_int8", f"{name}_scale"],
                [output],
                f"{output}_dequantize",
                axis=rank - 1,
            )
        )
        types[output] = rank
    if types:
        ordered(graph, list(graph.node))
        drop_unused(graph)
        onnx.checker.check_model(result, full_check=True)
    return result


def halve_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large fp32 constants in fp16 with a ``Cast``, which runtimes fold when they load."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for value in list(graph.initializer):
        array = numpy_helper.to_array(value)
        if array.dtype != np.float32 or array.nbytes < _LARGE:
            continue
        if np.abs(array).max() > np.finfo(np.float16).max:
            continue
        name = value.name
        value.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}_fp16"))
        graph.node.append(
            helper.make_node("Cast", [f"{name}_fp16"], [name], f"{name}_cast", to=TensorProto.FLOAT)
        )
    ordered(graph, list(graph.node))
    onnx.checker.check_model(result, full_check=True)
    return result


def violations(model: onnx.ModelProto, profile: QuantizationProfile) -> list[str]:
    """Return what in a QDQ graph breaks the profile's rules; empty where nothing does."""
    graph = model.graph
    stored, made_by, read_by = initializers(graph), producers(graph), consumers(graph)
    broken = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            if stored[node.input[0]].data_type == TensorProto.INT32:
                broken.append(f"{node.name}: an int32 bias")
            for reader in read_by.get(node.output[0], []):
                if reader.op_type not in WEIGHTED:
                    broken.append(f"{node.name}: a quantized constant of a {reader.op_type}")
        if node.op_type == "QuantizeLinear":
            if profile.symmetric and len(node.input) > 2 and node.input[2]:
                zero = numpy_helper.to_array(stored[node.input[2]])
                if zero.dtype != np.int8 or zero.any():
                    broken.append(f"{node.name}: a zero point or a type other than int8")
            for pair in read_by.get(node.output[0], []):
                if pair.op_type != "DequantizeLinear":
                    broken.append(f"{node.name}: read by a {pair.op_type}")
        if node.op_type == "DequantizeLinear" and node.input[0] in made_by:
            for reader in read_by.get(node.output[0], []):
                if reader.op_type not in QUANTIZED_READERS:
                    broken.append(f"{node.name}: a quantized input of a {reader.op_type}")
                elif reader.op_type == "MatMul" and not _is_weight(graph, reader.input[1]):
                    broken.append(f"{node.name}: an attention product")
    if not profile.depthwise:
        for node in graph.node:
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            if node.op_type == "Conv" and groups > 1 and _is_quantized(graph, node):
                broken.append(f"{node.name}: a quantized depthwise convolution")
    return broken


def _is_weight(graph: onnx.GraphProto, name: str) -> bool:
    stored, node = initializers(graph), producers(graph).get(name)
    while node is not None and node.op_type in ("DequantizeLinear", "Cast"):
        name, node = node.input[0], producers(graph).get(node.input[0])
    return name in stored


def _is_quantized(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    source = producers(graph).get(node.input[0])
    return source is not None and source.op_type == "DequantizeLinear"


def _rank(model: onnx.ModelProto, name: str) -> int:
    graph = onnx.shape_inference.infer_shapes(model).graph
    for value in (*graph.value_info, *graph.output):
        if value.name == name:
            return len(value.type.tensor_type.shape.dim)
    raise ValueError(f"the rank of {name} is unknown")
