"""Graphs of plans: changes that keep most of them valid ONNX."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any, TypeAlias

import mutators
import numpy as np
import onnx
from onnx import helper, numpy_helper

Change: TypeAlias = Callable[[Random, Any], object]

TOKEN_WIDTH, TOKEN_WORDS = 128, 32
_TYPES = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16)
_EDGES = (-(1 << 62), -2, -1, 0, 1, 2, 3, 7, 16, 255, 1 << 16, 1 << 20, 1 << 31, 1 << 40, 1 << 62)


@cache
def small_graphs() -> list[bytes]:
    """Token graphs of a few nodes, for `tests/data/manifest.json`."""
    bodies: list[tuple[list[Any], dict[str, Any]]] = [
        ([], {}),
        (
            [
                helper.make_node("LayerNormalization", ["x", "g", "b"], ["n"], axis=-1),
                helper.make_node("Gelu", ["n"], ["m"]),
            ],
            {"g": np.ones(TOKEN_WIDTH, np.float32), "b": np.zeros(TOKEN_WIDTH, np.float32)},
        ),
        (
            [
                helper.make_node("Shape", ["x"], ["s"]),
                helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
                helper.make_node("Concat", ["n", "rest"], ["t"], axis=0),
                helper.make_node("Reshape", ["x", "t"], ["r"]),
                helper.make_node("Transpose", ["r"], ["q"], perm=[0, 2, 1]),
                helper.make_node("Softmax", ["q"], ["p"], axis=-1),
                helper.make_node("ReduceMean", ["p", "one"], ["k"], keepdims=1),
                helper.make_node("Mul", ["p", "k"], ["l"]),
                helper.make_node("Reshape", ["l", "flat"], ["m"]),
            ],
            {
                "zero": np.array([0], np.int64),
                "one": np.array([1], np.int64),
                "rest": np.array([4, TOKEN_WIDTH // 4], np.int64),
                "flat": np.array([-1, TOKEN_WIDTH], np.int64),
            },
        ),
        (
            [
                helper.make_node("Unsqueeze", ["x", "front"], ["i"]),
                helper.make_node("Conv", ["i", "k"], ["c"], pads=[1, 1, 1, 1]),
                helper.make_node("Resize", ["c", "", "", "big"], ["d"], mode="linear"),
                helper.make_node("Slice", ["d", "a", "z", "two"], ["e"]),
                helper.make_node("Split", ["x"], ["u", "v"], axis=1, num_outputs=2),
                helper.make_node("Concat", ["u", "v"], ["w2"], axis=1),
                helper.make_node("Where", ["yes", "x", "w2"], ["m"]),
            ],
            {
                "front": np.array([0, 1], np.int64),
                "k": np.ones((1, 1, 3, 3), np.float32),
                "big": np.array([1, 1, 6, 2 * TOKEN_WIDTH], np.int64),
                "a": np.array([0], np.int64),
                "z": np.array([5], np.int64),
                "two": np.array([3], np.int64),
                "yes": np.array([True]),
            },
        ),
    ]
    return [_token_graph(nodes, constants) for nodes, constants in bodies]


def _token_graph(nodes: list[Any], constants: dict[str, Any]) -> bytes:
    nodes = copy.deepcopy(nodes)
    for node in nodes:
        node.input[:] = ["caption_embedding" if name == "x" else name for name in node.input]
    last = "m" if nodes else "caption_embedding"
    weight = np.ones((TOKEN_WIDTH, TOKEN_WORDS), np.float32)
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", [last, "w"], ["token_logits"])],
        "token",
        [helper.make_tensor_value_info("caption_embedding", 1, ["captions", TOKEN_WIDTH])],
        [helper.make_tensor_value_info("token_logits", 1, ["captions", TOKEN_WORDS])],
        [numpy_helper.from_array(v, n) for n, v in {"w": weight, **constants}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def mutate_graph(rng: Random, data: bytes, other: bytes) -> bytes:
    """Change a graph in one to three places; at times its bytes."""
    if rng.random() < 0.1:
        return mutators.mutate_bytes(rng, data, other)
    try:
        model = onnx.load_from_string(data)
    except Exception:  # the package raises several kinds on what earlier changes left
        return mutators.mutate_bytes(rng, data, other)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change(rng, model, lambda: onnx.load_from_string(other))
    serialized: bytes = model.SerializeToString()
    return serialized


def change(rng: Random, model: Any, other: Callable[[], Any], among: Sequence[str] = ()) -> str:
    """Change one thing of a model, and return the name of the change.

    Args:
        rng: draws it.
        model: the model.
        other: gives another, to take nodes from.
        among: names of changes to draw from; all where empty.
    """
    names = list(among or CHANGES)
    name = rng.choices(names, [CHANGES[each][0] for each in names])[0]
    # A change that a graph has no place for, or a value that a field cannot hold, changes nothing;
    # of tensors that earlier changes broke, the package raises several kinds.
    try:
        if name == "other graph's node":
            model.graph.node.insert(
                rng.randrange(len(model.graph.node) + 1), rng.choice(other().graph.node)
            )
        else:
            CHANGES[name][1](rng, model)
    except Exception:
        return "none"
    return name


def _number(rng: Random, value: int) -> int:
    return rng.choice((value + 1, value - 1, value * 2, -value, value // 2, rng.choice(_EDGES)))


def _weights(rng: Random, model: Any) -> None:
    tensor = rng.choice(model.graph.initializer)
    values = numpy_helper.to_array(tensor).copy()
    flat = values.reshape(-1)
    at = rng.randrange(len(flat))
    if values.dtype.kind == "f":
        number = rng.choice((0.0, -1.0, 1e30, -1e30, float("nan"), float("inf"), 1e-40, 65504.0))
        if rng.random() < 0.3:
            flat[:] = number
        else:
            flat[at : at + rng.choice((1, 8, 64))] = number
    elif values.dtype.kind == "b":
        flat[at] = not flat[at]
    else:
        limits = np.iinfo(values.dtype)
        flat[at] = max(limits.min, min(limits.max, _number(rng, int(flat[at]))))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _small_constant(rng: Random, model: Any) -> None:
    """Change what shapes, axes and paddings are made of."""
    small = [t for t in model.graph.initializer if t.data_type == 7 and 0 < np.prod(t.dims) <= 16]
    tensor = rng.choice(small)
    values = numpy_helper.to_array(tensor).copy()
    at = rng.randrange(values.size)
    values.reshape(-1)[at] = _number(rng, int(values.reshape(-1)[at]))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _shape_of_constant(rng: Random, model: Any) -> None:
    tensor = rng.choice(model.graph.initializer)
    values = numpy_helper.to_array(tensor)
    kind = rng.randrange(5)
    if kind == 0 and values.ndim > 1:
        values = np.ascontiguousarray(np.swapaxes(values, 0, -1))
    elif kind == 1:
        values = values.reshape(-1)
    elif kind == 2:
        values = values[None]
    elif kind == 3 and values.ndim:
        values = np.concatenate([values, values], rng.randrange(values.ndim))
    elif values.ndim:
        values = values[: max(0, values.shape[0] - 1)]
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def _type_of_constant(rng: Random, model: Any) -> None:
    tensor = rng.choice(model.graph.initializer)
    if rng.random() < 0.3:
        tensor.data_type = rng.choice(_TYPES)
        return
    kind = rng.choice((np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_))
    with np.errstate(all="ignore"):
        values = numpy_helper.to_array(tensor).astype(kind)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _dimension_of_constant(rng: Random, model: Any) -> None:
    tensor = rng.choice(model.graph.initializer)
    at = rng.randrange(len(tensor.dims))
    tensor.dims[at] = _number(rng, tensor.dims[at])


def _external(rng: Random, model: Any) -> None:
    tensor = rng.choice(model.graph.initializer)
    if tensor.external_data and rng.random() < 0.8:
        _place(rng, tensor)
        return
    tensor.ClearField("raw_data")
    if rng.random() < 0.8:
        tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", rng.choice((CANARY, f"./{CANARY}", f"../{CANARY}"))


def _place(rng: Random, tensor: Any) -> None:
    """Change an entry of a tensor that is elsewhere, and at times its dimensions with it."""
    pairs = tensor.external_data
    pair = rng.choice(pairs)
    kind = rng.randrange(6)
    if kind == 0:
        pairs.remove(pair)
    elif kind == 1:
        pairs.add(key=rng.choice((pair.key, "checksum", "basepath", "")), value=pair.value)
    elif kind == 2:
        pairs.sort(key=lambda each: rng.random())
    elif pair.key == "location":
        above = (f"../{pair.value}", f"./{pair.value}", pair.value.replace(".bin", "-2.bin"))
        pair.value = rng.choice((CANARY, "*/_ORT_MEM_ADDR_/*", *above))
    else:
        number = _number(rng, int(pair.value))
        pair.value = rng.choice((str(number), str(number), f" {number}", hex(number), "٣"))
        if pair.key == "length" and rng.random() < 0.5:
            tensor.dims[:] = [number // 4]


CANARY = "canary"
"""A file of the folder that graphs run in; no graph has any business with it."""


def _attribute(rng: Random, model: Any) -> None:
    node = rng.choice([n for n in model.graph.node if n.attribute])
    attribute = rng.choice(node.attribute)
    if attribute.type == onnx.AttributeProto.INT:
        attribute.i = _number(rng, attribute.i)
    elif attribute.type == onnx.AttributeProto.INTS and attribute.ints:
        at = rng.randrange(len(attribute.ints))
        kind = rng.randrange(4)
        if kind == 0:
            del attribute.ints[at]
        elif kind == 1:
            attribute.ints.append(attribute.ints[at])
        else:
            attribute.ints[at] = _number(rng, attribute.ints[at])
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = rng.choice((0.0, -attribute.f, 1e30, float("nan"), float("inf"), 1e-30))
    elif attribute.type == onnx.AttributeProto.STRING:
        texts = (b"", b"linear", b"cubic", b"nearest", b"SAME_UPPER", b"VALID", b"tanh", b"x" * 99)
        attribute.s = rng.choice(texts)
    elif attribute.type == onnx.AttributeProto.TENSOR:
        values = numpy_helper.to_array(attribute.t)
        attribute.t.CopyFrom(numpy_helper.from_array(values * rng.choice((0, 2, -1)), ""))


def _add_attribute(rng: Random, model: Any) -> None:
    node = rng.choice(model.graph.node)
    names = "axis axes keepdims group mode pads strides dilations allowzero perm to alpha epsilon"
    value = rng.choice((0, 1, -1, [1, 1], [0, 1, 2], 0.5, "linear", rng.choice(_EDGES)))
    node.attribute.append(helper.make_attribute(rng.choice(names.split()), value))


def _drop_attribute(rng: Random, model: Any) -> None:
    node = rng.choice([n for n in model.graph.node if n.attribute])
    del node.attribute[rng.randrange(len(node.attribute))]


_OPERATORS = (
    *("Add", "Mul", "Div", "Sub", "Pow", "Relu", "Sigmoid", "Erf", "Gelu", "Sqrt", "Exp", "Log"),
    *("MatMul", "Gemm", "Softmax", "Concat", "Reshape", "Transpose", "Gather", "Slice", "Expand"),
    *("Conv", "MaxPool", "AveragePool", "Resize", "Unsqueeze", "Squeeze", "Where", "Cast", "Shape"),
    *("ReduceMean", "ReduceSum", "ReduceMax", "LayerNormalization", "Split", "Identity", "Equal"),
    *(
        "ConstantOfShape",
        "Tile",
        "NonZero",
        "TopK",
        "Range",
        "Loop",
        "GridSample",
        "Einsum",
        "STFT",
    ),
    *("ScatterND", "GatherND", "QuantizeLinear", "DequantizeLinear", "OneHot", "Pad", "Compress"),
)


def _operator(rng: Random, model: Any) -> None:
    node = rng.choice(model.graph.node)
    same = [other.op_type for other in model.graph.node if len(other.input) == len(node.input)]
    node.op_type = rng.choice(same) if rng.random() < 0.6 else rng.choice(_OPERATORS)


def _input(rng: Random, model: Any) -> None:
    node = rng.choice([n for n in model.graph.node if n.input])
    names = [name for other in model.graph.node for name in (*other.input, *other.output)]
    node.input[rng.randrange(len(node.input))] = rng.choice((*names, ""))


def _input_count(rng: Random, model: Any) -> None:
    node = rng.choice([n for n in model.graph.node if n.input])
    if rng.random() < 0.5:
        del node.input[rng.randrange(len(node.input))]
    else:
        node.input.append(rng.choice(node.input))


def _insert_node(rng: Random, model: Any) -> None:
    """Put an operator between a tensor and who takes it."""
    node = rng.choice([n for n in model.graph.node if n.input and n.input[0]])
    at = list(model.graph.node).index(node)
    fresh = f"inserted_{at}_{rng.randrange(1 << 30)}"
    kind = rng.choice(_OPERATORS)
    inputs = [node.input[0]] * rng.choice((1, 1, 2))
    if kind in ("Expand", "Reshape", "ConstantOfShape", "Tile"):
        sizes = [
            rng.choice((1, 2, 64, 1 << 14, 1 << 28, 1 << 40)) for _ in range(rng.choice((1, 2)))
        ]
        model.graph.initializer.append(
            numpy_helper.from_array(np.array(sizes, np.int64), f"{fresh}_sizes")
        )
        inputs = [*inputs[: kind != "ConstantOfShape"], f"{fresh}_sizes"]
    model.graph.node.insert(at, helper.make_node(kind, inputs, [fresh]))
    model.graph.node[at + 1].input[0] = fresh


def _loop(rng: Random, model: Any) -> None:
    """Put a loop of many rounds before the graph."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["in"], ["out"])],
        "body",
        [
            *(helper.make_tensor_value_info(n, k, []) for n, k in (("i", 7), ("go", 9))),
            helper.make_tensor_value_info("in", 1, []),
        ],
        [helper.make_tensor_value_info("on", 9, []), helper.make_tensor_value_info("out", 1, [])],
    )
    rounds = rng.choice((3, 1 << 20, 1 << 40, 1 << 62))
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(rounds, np.int64), "rounds"),
            numpy_helper.from_array(np.array(True), "forever"),
            numpy_helper.from_array(np.array(0.5, np.float32), "half"),
        ]
    )
    model.graph.node.insert(
        0, helper.make_node("Loop", ["rounds", "forever", "half"], ["looped"], body=body)
    )
    # Taken by an output, or a runtime would leave the loop out.
    floats = [port.name for port in model.graph.output if port.type.tensor_type.elem_type == 1]
    name = rng.choice(floats)
    for node in model.graph.node:
        node.output[:] = [f"{each}_before" if each == name else each for each in node.output]
        node.input[:] = [f"{each}_before" if each == name else each for each in node.input]
    model.graph.node.append(helper.make_node("Add", [f"{name}_before", "looped"], [name]))


def _huge_constant(rng: Random, model: Any) -> None:
    """Add a tensor of many elements to an output, by way of its sum."""
    sizes = rng.choice(([1 << 28], [1 << 14, 1 << 14], [1 << 40], [1 << 20, 1 << 20]))
    one = numpy_helper.from_array(np.array([1e-9], np.float32), "")
    model.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), "sizes"))
    # By way of an input, or a runtime would fold it while the graph is loaded.
    floats = [port.name for port in model.graph.output if port.type.tensor_type.elem_type == 1]
    name = rng.choice(floats)
    for node in model.graph.node:
        node.output[:] = [f"{each}_before" if each == name else each for each in node.output]
        node.input[:] = [f"{each}_before" if each == name else each for each in node.input]
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["sizes"], ["huge"], value=one),
            helper.make_node("ReduceSum", [f"{name}_before"], ["scalar"], keepdims=0),
            helper.make_node("Add", ["huge", "scalar"], ["filled"]),
            helper.make_node("ReduceMax", ["filled"], ["greatest"], keepdims=0),
            helper.make_node("Add", [f"{name}_before", "greatest"], [name]),
        ]
    )


def _port(rng: Random, model: Any) -> None:
    port = rng.choice([*model.graph.input, *model.graph.output])
    kind = rng.randrange(5)
    shape = port.type.tensor_type.shape
    if kind == 0:
        port.name += "x"
    elif kind == 1:
        port.type.tensor_type.elem_type = rng.choice(_TYPES)
    elif kind == 2:
        dimension = rng.choice(shape.dim)
        dimension.dim_value = _number(rng, dimension.dim_value)
    elif kind == 3:
        rng.choice(shape.dim).dim_param = rng.choice(("n", "rows", ""))
    else:
        shape.dim.add().dim_value = 1


def _drop_node(rng: Random, model: Any) -> None:
    del model.graph.node[rng.randrange(len(model.graph.node))]


def _move_node(rng: Random, model: Any) -> None:
    node = model.graph.node.pop(rng.randrange(len(model.graph.node)))
    model.graph.node.insert(rng.randrange(len(model.graph.node) + 1), node)


def _repeat_node(rng: Random, model: Any) -> None:
    node = copy.deepcopy(rng.choice(model.graph.node))
    if rng.random() < 0.7:
        node.output[:] = [f"{name}_again" for name in node.output]
    model.graph.node.append(node)


def _opset(rng: Random, model: Any) -> None:
    model.opset_import[0].version = rng.choice(
        (17, 18, 19, 20, 21, 22, 23, 24, 25, 1 << 31, 1 << 40, 1 << 40)
    )


def _domain(rng: Random, model: Any) -> None:
    rng.choice((model.opset_import[0], rng.choice(model.graph.node))).domain = rng.choice(
        ("ai.onnx", "com.microsoft", "ai.onnx.ml", "x")
    )


def _ir_version(rng: Random, model: Any) -> None:
    model.ir_version = rng.choice((3, 8, 9, 10, 11, 12, 13, 1 << 40))


def _drop_constant(rng: Random, model: Any) -> None:
    del model.graph.initializer[rng.randrange(len(model.graph.initializer))]


def _value_info(rng: Random, model: Any) -> None:
    """State a shape of an inner tensor, right or wrong."""
    node = rng.choice(model.graph.node)
    shape = [rng.choice((1, 3, 64, -1, 1 << 40)) for _ in range(rng.randrange(5))]
    model.graph.value_info.append(
        helper.make_tensor_value_info(node.output[0], rng.choice(_TYPES), shape)
    )


def _notes(rng: Random, model: Any) -> None:
    model.metadata_props.add(key="a", value="b" * rng.choice((0, 9, 5_000)))
    model.producer_name = rng.choice(mutators.TEXTS).encode("utf-8", "replace").decode()


# Name to how often, beside the others, and what.
CHANGES: dict[str, tuple[int, Change]] = {
    "weights": (20, _weights),
    "small constant": (10, _small_constant),
    "shape of a constant": (4, _shape_of_constant),
    "type of a constant": (3, _type_of_constant),
    "dimension of a constant": (2, _dimension_of_constant),
    "constant dropped": (1, _drop_constant),
    "external data": (2, _external),
    "attribute": (10, _attribute),
    "attribute added": (4, _add_attribute),
    "attribute dropped": (3, _drop_attribute),
    "operator": (6, _operator),
    "input of a node": (6, _input),
    "inputs of a node": (2, _input_count),
    "node inserted": (4, _insert_node),
    "node dropped": (2, _drop_node),
    "node moved": (3, _move_node),
    "node repeated": (5, _repeat_node),
    "other graph's node": (1, lambda rng, model: None),
    "loop": (1, _loop),
    "huge constant": (1, _huge_constant),
    "port": (4, _port),
    "opset": (3, _opset),
    "domain": (1, _domain),
    "IR version": (2, _ir_version),
    "inner shape": (5, _value_info),
    "notes": (4, _notes),
}
