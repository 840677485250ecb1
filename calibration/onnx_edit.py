"""Small changes to ONNX graphs: reading and writing values, types, and which nodes feed which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

HALF_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every tensor that shape inference can tell, by name."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.data_type for value in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read each tensor."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            if name:
                readers.setdefault(name, []).append(node)
    return readers


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return the node that makes each tensor."""
    return {name: node for node in graph.node for name in node.output}


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the initializers by name."""
    return {value.name: value for value in graph.initializer}


def to_half(values: npt.NDArray[np.float32], element: int, name: str) -> onnx.TensorProto:
    """Return an initializer in fp16 or bf16; what fp16 cannot hold becomes its largest number."""
    if element == TensorProto.FLOAT16:
        limit = np.finfo(np.float16).max
        return numpy_helper.from_array(np.clip(values, -limit, limit).astype(np.float16), name)
    # Round to nearest, ties to even, on the bits.
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)).astype(
        np.uint16
    )
    return helper.make_tensor(name, element, values.shape, rounded.tobytes(), raw=True)


def ordered(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Replace a graph's nodes by others, in an order in which each finds its inputs made."""
    available = {value.name for value in (*graph.input, *graph.initializer)} | {""}
    waiting = list(nodes)
    done: list[onnx.NodeProto] = []
    while waiting:
        ready = [node for node in waiting if available.issuperset(node.input)]
        if not ready:
            raise ValueError(f"nodes of {graph.name} wait for one another")
        for node in ready:
            available.update(node.output)
        done += ready
        ready_ids = {id(node) for node in ready}
        waiting = [node for node in waiting if id(node) not in ready_ids]
    del graph.node[:]
    graph.node.extend(done)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove initializers that no node reads, and notes on tensors that are not there."""
    used = {name for node in graph.node for name in node.input}
    used_initializers = [value for value in graph.initializer if value.name in used]
    del graph.initializer[:]
    graph.initializer.extend(used_initializers)
    outputs = {name for node in graph.node for name in node.output}
    notes = [value for value in graph.value_info if value.name in outputs]
    del graph.value_info[:]
    graph.value_info.extend(notes)


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes whose results nobody reads, and then what `drop_unused` does."""
    read = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if read.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            read.update(node.input)
    drop_unused(graph)


def raise_opset(model: onnx.ModelProto, least: int) -> None:
    """Declare a later opset where the model's is earlier; its operators mean the same in both."""
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version < least:
            entry.version = least


def renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Give a node other inputs, by their names."""
    for i, name in enumerate(node.input):
        if name in names:
            node.input[i] = names[name]
