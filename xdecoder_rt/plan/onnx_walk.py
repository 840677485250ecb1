"""A walk through an ONNX model before any runtime sees it.

A plan may come from anyone, and ONNX can say a great deal that a graph of ours never does: read its
weights from files of this machine, loop for ever, call operators of other libraries. So a model is
read here field by field, and every field, operator, type and count that no plan needs is refused.
Weights are stepped over, not read, where they stand in the model; where they stand in a member of
the plan (:mod:`xdecoder_rt.plan.external`) their place is checked.

Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from xdecoder_rt.errors import PlanError, quoted
from xdecoder_rt.plan.external import Place, check_places, read_place
from xdecoder_rt.plan.protobuf import LENGTH, VARINT, Buffer, packed_integers, read_fields

__all__ = ["ELEMENT_BYTES", "Attribute", "Constant", "Node", "OnnxGraph", "Port", "read_onnx"]

_OPSETS = range(18, 25)
_IR_VERSIONS = range(8, 14)
_DOMAINS = ("", "ai.onnx")
_NODES_LIMIT = 20_000
_CONSTANTS_LIMIT = 40_000
_PORTS_LIMIT = 2_048
_NODE_BYTES = 1 << 16
_NOTES_LIMIT = 1_024
_FIELDS_LIMIT = 200_000
_NODE_LINKS = 512
_ATTRIBUTES_LIMIT = 32
_LIST_LIMIT = 1_024
_NUMBER_LIMIT = 1 << 20
_NAME_LIMIT = 1_024
_RANK_LIMIT = 8
_DIMENSION_LIMIT = 1 << 31
_SMALL = 64

ELEMENT_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 16: 2, 17: 1, 19: 1}
"""Bytes of an element by TensorProto.DataType: float32, uint8, int8, uint16, int16, int32, int64,
bool, float16, float64, bfloat16, float8e4m3fn and float8e5m2."""

_FORMATS = {1: "f", 2: "B", 3: "b", 6: "i", 7: "q", 9: "B", 10: "e", 11: "d"}


def _key(number: int, wire: int = LENGTH) -> int:
    return number << 3 | wire


@dataclass(frozen=True)
class Constant:
    """A tensor that the model holds, or that a member of the plan holds for it.

    Attributes:
        kind: TensorProto.DataType.
        shape: its dimensions.
        values: its elements where they are few and of a type that shapes are made of, else None.
        place: where its elements are if the model does not hold them.
        content: the field of TensorProto that has its elements, and the field's bytes in the
            model, not copied; None where the model does not hold them.
    """

    kind: int
    shape: tuple[int, ...]
    values: tuple[float, ...] | None = None
    place: Place | None = None
    content: tuple[int, memoryview] | None = field(default=None, repr=False, compare=False)


Attribute: TypeAlias = "int | float | str | Constant | tuple[int, ...] | tuple[float, ...] | None"


@dataclass(frozen=True)
class Node:
    """An operator at work, with the names of its inputs (empty: left out) and outputs."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]


@dataclass(frozen=True)
class Port:
    """An input or output: its type (TensorProto.DataType) and shape, names for free dimensions."""

    name: str
    kind: int
    shape: tuple[int | str, ...]


@dataclass
class OnnxGraph:
    """What a model consists of, its weights excepted."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)


def _refuse(what: str, expected: str | None = None) -> NoReturn:
    raise PlanError(what, expected=expected)


def _unknown(message: str, key: int) -> NoReturn:
    _refuse(f"{message} has the field {key >> 3} of wire type {key & 7}", "fields that plans use")


def read_onnx(
    data: Buffer,
    operators: frozenset[str] | None = None,
    weights: Mapping[str, int] | None = None,
) -> OnnxGraph:
    """Read a serialized ONNX model and refuse what no plan needs.

    Args:
        data: the model, from an untrusted source.
        operators: those that it may have.
        weights: sizes of the members that hold its large initializers, by name; all of them must
            be used. None where it has to hold all of itself.

    Raises:
        PlanError: the model is malformed, keeps data in other files, has an operator, domain,
            opset, type, sub-graph or function that plans do not have, or too much of anything.
    """
    graph: OnnxGraph | None = None
    version: int | None = None
    opset: int | None = None
    for key, a, b in read_fields(data, 0, len(data), _NOTES_LIMIT):
        if key == _key(7):
            if graph is not None:
                _refuse("The model has two graphs")
            graph = _read_graph(data, a, b, operators, weights is not None)
        elif key == _key(8):
            if opset is not None:
                _refuse("The model imports two sets of operators", "those of the standard")
            opset = _read_opset(data, a, b)
        elif key == _key(1, VARINT):
            version = a
        elif key == _key(20):
            _refuse("The model has training information", "none in a plan")
        elif key == _key(25):
            _refuse("The model has functions of its own", "operators of the standard")
        elif key not in _MODEL_NOTES:
            _unknown("The model", key)
    if version not in _IR_VERSIONS:
        _refuse(f"The model has the IR version {version}", f"8 to {_IR_VERSIONS[-1]}")
    if opset is None or graph is None:
        _refuse("The model lacks its graph or its opset")
    places = {name: each.place for name, each in graph.constants.items() if each.place is not None}
    check_places(places, weights or {})
    return graph


# Producer and its version, domain, model version, description and notes: for people.
_MODEL_NOTES = (_key(2), _key(3), _key(4), _key(5, VARINT), _key(6), _key(14))


def _read_opset(data: Buffer, start: int, stop: int) -> int:
    domain, version = "", 0
    for key, a, b in read_fields(data, start, stop):
        if key == _key(1):
            domain = _text(data, a, b)
        elif key == _key(2, VARINT):
            version = a
        else:
            _unknown("An opset", key)
    if domain not in _DOMAINS:
        _refuse(f"The model uses operators of the domain {quoted(domain)}", "the standard's")
    if version not in _OPSETS:
        _refuse(f"The model has opset {version}", f"{_OPSETS[0]} to {_OPSETS[-1]}")
    return version


def _read_graph(
    data: Buffer, start: int, stop: int, operators: frozenset[str] | None, may_refer: bool
) -> OnnxGraph:
    graph = OnnxGraph()
    for key, a, b in read_fields(data, start, stop, _FIELDS_LIMIT):
        if key == _NODE:
            graph.nodes.append(_read_node(data, a, b, operators))
            _count(graph.nodes, _NODES_LIMIT, "nodes")
        elif key == _INITIALIZER:
            name, constant = _read_tensor(data, a, b, may_refer)
            if name in graph.constants:
                _refuse(f"The constant {quoted(name)} is there twice")
            graph.constants[name] = constant
            _count(graph.constants, _CONSTANTS_LIMIT, "constants")
        elif key in (_INPUT, _OUTPUT):
            ports = graph.inputs if key == _INPUT else graph.outputs
            ports.append(_read_port(data, a, b))
            _count(ports, _PORTS_LIMIT, "inputs or outputs")
        elif key == _SPARSE:
            _refuse("The graph has sparse constants", "dense ones")
        elif key not in _GRAPH_NOTES:
            _unknown("The graph", key)
    return graph


_NODE, _INITIALIZER, _INPUT, _OUTPUT, _SPARSE = map(_key, (1, 5, 11, 12, 15))
# Name, description, shapes of inner values and notes: no runtime does anything by them alone.
_GRAPH_NOTES = (_key(2), _key(10), _key(13), _key(16))


def _count(items: list[Node] | list[Port] | dict[str, Constant], most: int, what: str) -> None:
    if len(items) > most:
        _refuse(f"The graph has more than {most:,} {what}")


def _read_node(data: Buffer, start: int, stop: int, operators: frozenset[str] | None) -> Node:
    if stop - start > _NODE_BYTES:
        _refuse(f"A node takes {stop - start:,} bytes", f"at most {_NODE_BYTES:,}")
    message = bytes(data[start:stop])
    inputs: list[str] = []
    outputs: list[str] = []
    attributes: dict[str, Attribute] = {}
    kind, domain = "", ""
    for key, a, b in read_fields(message, 0, len(message), 3 * _NODE_LINKS):
        if key == _IN:
            inputs.append(_text(message, a, b))
        elif key == _OUT:
            outputs.append(_text(message, a, b))
        elif key == _KIND:
            kind = _text(message, a, b)
        elif key == _ATTRIBUTE:
            name, value = _read_attribute(message, a, b)
            if name in attributes:
                _refuse(f"A node has the attribute {quoted(name)} twice")
            attributes[name] = value
        elif key == _DOMAIN:
            domain = _text(message, a, b)
        elif key not in _NODE_NOTES:
            _unknown("A node", key)
    if domain not in _DOMAINS:
        _refuse(f"The operator {quoted(kind)} is of the domain {quoted(domain)}", "the standard's")
    if operators is not None and kind not in operators:
        _refuse(f"The graph has the operator {quoted(kind)}", "operators that plans are built of")
    if max(len(inputs), len(outputs)) > _NODE_LINKS or len(attributes) > _ATTRIBUTES_LIMIT:
        _refuse(f"A node of {kind} has too many inputs, outputs or attributes")
    return Node(kind, tuple(inputs), tuple(outputs), attributes)


_IN, _OUT, _KIND, _ATTRIBUTE, _DOMAIN = _key(1), _key(2), _key(4), _key(5), _key(7)
# Name, description and notes.
_NODE_NOTES = (_key(3), _key(6), _key(9))


def _read_attribute(data: Buffer, start: int, stop: int) -> tuple[str, Attribute]:
    name, kind, seen = "", 0, 0
    value: Attribute = None
    integers: list[int] = []
    floats: list[float] = []
    for key, a, b in read_fields(data, start, stop, _LIST_LIMIT + 8):
        if key == _ATTRIBUTE_NAME:
            name = _text(data, a, b)
            continue
        if key == _ATTRIBUTE_TYPE:
            kind = a
            continue
        if key == _DESCRIPTION:
            continue
        number = key >> 3
        if number in _SUB_GRAPHS:
            _refuse("A node has a sub-graph", "none: nothing in a plan branches or loops")
        reader = _ATTRIBUTE_FIELDS.get(key)
        if reader is None:
            _unknown("An attribute", key)
        if seen not in (0, number):
            _refuse(f"The attribute {quoted(name)} has values of two types")
        seen = number
        if number == _INTS:
            integers += [a] if key & 7 == VARINT else packed_integers(data, a, b)
        elif number == _FLOATS:
            floats += _floats(data, a, b)
        else:
            value = reader(data, a, b)
        if max(len(integers), len(floats)) > _LIST_LIMIT:
            _refuse(f"The attribute {quoted(name)} has over {_LIST_LIMIT:,} values")
    result: Attribute = value
    if kind == 6 or seen == _FLOATS:
        result = tuple(floats)
    elif kind == 7 or seen == _INTS:
        result = tuple(integers)
    numbers = result if isinstance(result, tuple) else (result,)
    if any(isinstance(each, int) and abs(each) > _NUMBER_LIMIT for each in numbers):
        _refuse(f"The attribute {quoted(name)} is out of range", f"at most {_NUMBER_LIMIT:,}")
    if kind not in _KINDS or (seen and _KINDS[kind] != seen):
        _refuse(f"The attribute {quoted(name)} has the type {kind} and other values")
    if value is None and result is None:
        result = _ZEROS.get(kind)
    return name, result


_ATTRIBUTE_NAME, _ATTRIBUTE_TYPE, _DESCRIPTION = _key(1), _key(20, VARINT), _key(13)
_FLOATS, _INTS = 7, 8
# AttributeProto.type to the field with the value: float, int, string, tensor, floats, ints.
_KINDS = {1: 2, 2: 3, 3: 4, 4: 5, 6: 7, 7: 8}
# proto3 leaves zeros out.
_ZEROS: dict[int, Attribute] = {1: 0.0, 2: 0, 3: ""}
# g, graphs, and beside them what only sub-graphs and functions use.
_SUB_GRAPHS = (6, 11, 21)
_ATTRIBUTE_FIELDS: dict[int, Callable[[Buffer, int, int], Attribute]] = {
    _key(2, 5): lambda data, a, b: _floats(data, a, b)[0],
    _key(3, VARINT): lambda data, a, b: a,
    _key(4): lambda data, a, b: _text(data, a, b),
    _key(5): lambda data, a, b: _read_tensor(data, a, b)[1],
    _key(7): lambda data, a, b: None,
    _key(7, 5): lambda data, a, b: None,
    _key(8): lambda data, a, b: None,
    _key(8, VARINT): lambda data, a, b: None,
}


def _floats(data: Buffer, start: int, stop: int) -> tuple[float, ...]:
    if (stop - start) % 4:
        _refuse("A list of floats is cut off")
    return struct.unpack(f"<{(stop - start) // 4}f", data[start:stop])


def _read_tensor(
    data: Buffer, start: int, stop: int, may_refer: bool = False
) -> tuple[str, Constant]:
    name, kind, location = "", 0, 0
    entries: list[tuple[Buffer, int, int]] = []
    dimensions: list[int] = []
    content: tuple[int, int, int] | None = None
    for key, a, b in read_fields(data, start, stop):
        if key == _DIMS_PACKED:
            dimensions += packed_integers(data, a, b) if b - a < _SMALL else [-1]
        elif key == _DIMS:
            dimensions.append(a)
        elif key == _DATA_TYPE:
            kind = a
        elif key == _TENSOR_NAME:
            name = _text(data, a, b)
        elif key in _TENSOR_CONTENTS:
            if content is not None:
                _refuse(f"The constant {quoted(name)} has its data twice", "once, packed")
            content = (key >> 3, a, b)
        elif key == _EXTERNAL_DATA:
            entries.append((data, a, b))
        elif key == _DATA_LOCATION:
            location = a
        elif key not in _TENSOR_NOTES:
            _unknown("A constant", key)
    if kind not in ELEMENT_BYTES:
        _refuse(f"The constant {quoted(name)} has the type {kind}", "numbers of one byte or more")
    if len(dimensions) > _RANK_LIMIT or not all(0 <= n < _DIMENSION_LIMIT for n in dimensions):
        _refuse(f"The constant {quoted(name)} has impossible dimensions")
    count = 1
    for dimension in dimensions:
        count *= dimension
    if entries or location:
        if not may_refer or location != _EXTERNAL:
            _refuse(f"The constant {quoted(name)} is kept in another file", "it in the model")
        place = read_place(entries, name)
        if content is not None or place.length != count * ELEMENT_BYTES[kind]:
            _refuse(
                f"The constant {quoted(name)} has {place.length:,} bytes elsewhere",
                f"the {count * ELEMENT_BYTES[kind]:,} of its dimensions, and none in the model",
            )
        return name, Constant(kind, tuple(dimensions), None, place)
    number, a, b = content or (9, 0, 0)
    _check_content(data, name, kind, count, number, a, b)
    values = _values(data, kind, count, number, a, b)
    return name, Constant(kind, tuple(dimensions), values, None, (number, memoryview(data)[a:b]))


_DIMS_PACKED, _DIMS, _DATA_TYPE, _TENSOR_NAME = _key(1), _key(1, VARINT), _key(2, VARINT), _key(8)
_EXTERNAL_DATA, _DATA_LOCATION = _key(13), _key(14, VARINT)
# float_data, int32_data, int64_data, raw_data, double_data and uint64_data.
_TENSOR_CONTENTS = tuple(_key(number) for number in (4, 5, 7, 9, 10))
_TENSOR_NOTES = (_key(12), _key(16))  # description and notes
_EXTERNAL = 1  # TensorProto.DataLocation
_CONTENT_OF_KIND = {1: 4, 11: 10, 7: 7}


def _check_content(
    data: Buffer, name: str, kind: int, count: int, number: int, a: int, b: int
) -> None:
    """Check that the data is as much as the dimensions say."""
    if number == 9:
        held = (b - a) / ELEMENT_BYTES[kind]
    elif number != _CONTENT_OF_KIND.get(kind, 5):
        _refuse(f"The constant {quoted(name)} of type {kind} has its data in the field {number}")
    elif number in (4, 10):
        held = (b - a) / ELEMENT_BYTES[kind]
    else:
        if b - a > _NODE_BYTES:
            _refuse(f"The constant {quoted(name)} is large", "raw_data for what is large")
        held = len(packed_integers(data, a, b))
    if held != count:
        _refuse(
            f"The constant {quoted(name)} has {held:g} elements", f"the {count:,} of its dimensions"
        )


def _values(
    data: Buffer, kind: int, count: int, number: int, a: int, b: int
) -> tuple[float, ...] | None:
    if count > _SMALL or kind not in _FORMATS:
        return None
    if number in (5, 7):
        values = tuple(packed_integers(data, a, b))
        return values if kind in (2, 3, 6, 7, 9) else None
    return struct.unpack(f"<{count}{_FORMATS[kind]}", data[a:b])


def _read_port(data: Buffer, start: int, stop: int) -> Port:
    name, kind = "", 0
    shape: list[int | str] | None = None
    for key, a, b in read_fields(data, start, stop):
        if key == _key(1):
            name = _text(data, a, b)
        elif key == _key(2):
            if shape is not None:
                _refuse(f"The port {quoted(name)} has two types")
            kind, shape = _read_type(data, a, b)
        elif key not in (_key(3), _key(4)):  # description and notes
            _unknown("A port", key)
    if shape is None:
        _refuse(f"The port {quoted(name)} has no shape", "the shape of every input and output")
    return Port(name, kind, tuple(shape))


def _read_type(data: Buffer, start: int, stop: int) -> tuple[int, list[int | str] | None]:
    """Return a tensor's type and shape; nothing else passes in or out."""
    kind, shape = 0, None
    for key, a, b in read_fields(data, start, stop):
        if key != _key(1):
            _unknown("The type of a port", key)
        for inner, c, d in read_fields(data, a, b):
            if inner == _key(1, VARINT):
                kind = c
            elif inner == _key(2) and shape is None:
                shape = _read_shape(data, c, d)
            else:
                _unknown("A tensor's type", inner)
    return kind, shape


def _read_shape(data: Buffer, start: int, stop: int) -> list[int | str]:
    shape: list[int | str] = []
    for key, a, b in read_fields(data, start, stop):
        if key != _key(1) or len(shape) == _RANK_LIMIT:
            _refuse("The shape of a port is odd or has too many dimensions")
        dimension: int | str = ""
        for inner, c, d in read_fields(data, a, b):
            if inner == _key(1, VARINT):
                dimension = c
            elif inner == _key(2):
                dimension = _text(data, c, d)
            else:
                _unknown("A dimension", inner)
        shape.append(dimension)
    return shape


def _text(data: Buffer, start: int, stop: int) -> str:
    if stop - start > _NAME_LIMIT:
        _refuse(f"A name has {stop - start:,} bytes", f"at most {_NAME_LIMIT:,}")
    try:
        return str(data[start:stop], "utf-8")
    except UnicodeDecodeError as error:
        raise PlanError("A name is not UTF-8") from error
