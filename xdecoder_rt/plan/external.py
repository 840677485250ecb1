"""Weights outside their graph: the one form of external data that a graph of a plan may have.

Since format version 2 a large initializer is ONNX external data whose location is a member of the
plan, ``weights/<SHA-256 of its bytes>.bin``. Nothing resolves it from a disk: a graph is joined
with its weights in memory before a runtime sees it. The graphs that refer to a member refer to all
of it, each byte once, so that a joined graph is no larger than the file.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NoReturn

from xdecoder_rt.errors import PlanError, quoted
from xdecoder_rt.plan.protobuf import (
    LENGTH,
    VARINT,
    Buffer,
    length_header,
    read_fields,
    written_field,
)

__all__ = [
    "LEAST_BYTES",
    "WEIGHTS",
    "Place",
    "Skeleton",
    "Tensor",
    "check_places",
    "padded",
    "read_place",
    "read_skeleton",
    "weights_digest",
    "weights_member",
]

WEIGHTS = "weights/"
"""The folder of the members that hold weights."""
LEAST_BYTES = 1024
"""Smaller tensors stay in their graph: shapes are made of some of them."""
_ALIGNMENT = 64
# The number is of members with the same bytes: a graph may need both.
_NAME = re.compile(WEIGHTS + r"([0-9a-f]{64})(?:-[1-9][0-9]{0,3})?\.bin")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_TEXT_LIMIT = 200

_GRAPH, _INITIALIZER = 7 << 3 | LENGTH, 5 << 3 | LENGTH
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9 << 3 | LENGTH, 13 << 3 | LENGTH, 14 << 3 | VARINT
_KEY, _VALUE = 1 << 3 | LENGTH, 2 << 3 | LENGTH
_FIELDS_LIMIT = 200_000
_EXTERNAL = 1


@dataclass(frozen=True)
class Place:
    """Where the data of a tensor lies: a member of the plan, and bytes of it."""

    member: str
    offset: int
    length: int


def weights_digest(member: str) -> str | None:
    """Return the digest that the name of a member with weights says; None for other names."""
    match = _NAME.fullmatch(member)
    return None if match is None else match[1]


def weights_member(digest: str, taken: Container[str]) -> str:
    """Return a name for a member with weights of a digest that no other has."""
    numbered = (f"{WEIGHTS}{digest}-{number}.bin" for number in range(2, 10_000))
    names = chain([f"{WEIGHTS}{digest}.bin"], numbered)
    return next(name for name in names if name not in taken)


def padded(size: int) -> int:
    """Return where the next tensor of a member begins after `size` bytes."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def read_place(entries: Iterable[tuple[Buffer, int, int]], tensor: str) -> Place:
    """Read the place of a tensor's data, of the one form that plans have.

    Args:
        entries: the tensor's ``external_data``, each ``data[a:b]``; from an untrusted source.
        tensor: its name, for messages.

    Raises:
        PlanError: it is of another form.
    """
    found: dict[str, str] = {}
    for data, start, stop in entries:
        pair = {_KEY: "", _VALUE: ""}
        for field, a, b in read_fields(data, start, stop, 2):
            if field not in pair or b - a > _TEXT_LIMIT:
                _refuse(tensor, "in a way that no plan has")
            pair[field] = bytes(data[a:b]).decode("utf-8", "replace")
        if pair[_KEY] in found:
            _refuse(tensor, f"and says its {quoted(pair[_KEY])} twice")
        found[pair[_KEY]] = pair[_VALUE]
    location = found.get("location", "")
    if weights_digest(location) is None:
        _refuse(tensor, f"at {quoted(location)}")
    if found.keys() != {"location", "offset", "length"}:
        _refuse(tensor, f"with {', '.join(quoted(key) for key in found)}")
    numbers = [found[name] for name in ("offset", "length")]
    if not all(map(_NUMBER.fullmatch, numbers)):
        _refuse(tensor, f"at offset and length {quoted(numbers)}")
    return Place(location, int(numbers[0]), int(numbers[1]))


def _refuse(tensor: str, problem: str) -> NoReturn:
    raise PlanError(
        f"The constant {quoted(tensor)} is kept in another file {problem}",
        expected=f"it in the model, or location {WEIGHTS}<SHA-256>.bin, offset and length",
    )


def check_places(places: Mapping[str, Place], sizes: Mapping[str, int]) -> None:
    """Check that a graph refers to its members with weights, to each byte of them once.

    Args:
        places: of its tensors, by name; from an untrusted source.
        sizes: of the members that the manifest lists for the graph.

    Raises:
        PlanError: it refers to another, beyond an end, to a byte twice or to none.
    """
    of_member: dict[str, list[tuple[int, int, str]]] = {name: [] for name in sizes}
    for tensor, place in places.items():
        if place.member not in sizes:
            raise PlanError(
                f"The constant {quoted(tensor)} is kept in {place.member}",
                expected="a member that the manifest lists under weights of this graph",
            )
        of_member[place.member].append((place.offset, place.length, tensor))
    for member, ranges in of_member.items():
        end = 0
        for offset, length, tensor in sorted(ranges):
            due = padded(end)
            if offset != due or length < LEAST_BYTES or offset + length > sizes[member]:
                raise PlanError(
                    f"The constant {quoted(tensor)} takes {length:,} bytes from byte {offset:,} of "
                    f"{member}, which has {sizes[member]:,}",
                    expected=f"at least {LEAST_BYTES:,} from byte {due:,}: tensors stand one after "
                    "another",
                )
            end = offset + length
        if end != sizes[member]:
            raise PlanError(
                f"The graph uses {end:,} bytes of {member}", expected=f"all {sizes[member]:,}"
            )


@dataclass(frozen=True)
class Tensor:
    """An initializer whose data is large or elsewhere.

    Attributes:
        head: its fields before the data, serialized.
        tail: its fields after.
        data: where the data lies: in the model, from and to which byte; or outside.
    """

    head: bytes
    tail: bytes
    data: tuple[int, int] | Place

    @property
    def length(self) -> int:
        """Bytes of its data."""
        if isinstance(self.data, Place):
            return self.data.length
        return self.data[1] - self.data[0]


@dataclass(frozen=True)
class Skeleton:
    """A model without the data of its large initializers.

    Attributes:
        before: fields of the model before its graph, serialized.
        graph: fields of the graph, serialized, or large initializers.
        after: fields of the model after its graph.
    """

    before: bytes
    graph: tuple[bytes | Tensor, ...]
    after: bytes

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The large initializers, in their order."""
        return tuple(part for part in self.graph if isinstance(part, Tensor))

    def apart(self, places: Sequence[Place]) -> bytes:
        """Return the model with its large initializers elsewhere.

        Args:
            places: of their data, in their order.
        """
        remaining = iter(places)
        parts = [
            part if isinstance(part, bytes) else _apart(part, next(remaining))
            for part in self.graph
        ]
        header = length_header(_GRAPH, sum(map(len, parts)))
        return b"".join((self.before, header, *parts, self.after))

    def joined(self) -> list[bytes | Tensor]:
        """Return what the model consists of with everything in it; of a tensor, only its data."""
        parts: list[bytes | Tensor] = []
        size = 0
        for part in self.graph:
            if isinstance(part, bytes):
                parts.append(part)
                size += len(part)
                continue
            data = length_header(_RAW_DATA, part.length)
            inner = len(part.head) + len(data) + part.length + len(part.tail)
            header = length_header(_INITIALIZER, inner) + part.head + data
            parts += [header, part, part.tail]
            size += len(header) + part.length + len(part.tail)
        return [self.before + length_header(_GRAPH, size), *parts, self.after]


def read_skeleton(data: Buffer) -> Skeleton:
    """Take a model apart that has been walked, or that was made here."""
    sides: tuple[list[bytes], list[bytes]] = ([], [])
    graph: list[bytes | Tensor] | None = None
    for key, a, b in read_fields(data, 0, len(data), _FIELDS_LIMIT):
        if key == _GRAPH:
            graph = [
                _initializer(data, c, d)
                if inner == _INITIALIZER
                else written_field(data, inner, c, d)
                for inner, c, d in read_fields(data, a, b, _FIELDS_LIMIT)
            ]
        else:
            sides[graph is not None].append(written_field(data, key, a, b))
    return Skeleton(b"".join(sides[0]), tuple(graph or ()), b"".join(sides[1]))


def _initializer(data: Buffer, start: int, stop: int) -> bytes | Tensor:
    sides: tuple[list[bytes], list[bytes]] = ([], [])
    entries: list[tuple[Buffer, int, int]] = []
    large: tuple[int, int] | None = None
    for key, a, b in read_fields(data, start, stop):
        if key == _RAW_DATA and b - a >= LEAST_BYTES:
            large = a, b
        elif key == _EXTERNAL_DATA:
            entries.append((data, a, b))
        elif key != _DATA_LOCATION:
            sides[large is not None or bool(entries)].append(written_field(data, key, a, b))
    if entries:
        return Tensor(b"".join(sides[0]), b"".join(sides[1]), read_place(entries, ""))
    if large is not None:
        return Tensor(b"".join(sides[0]), b"".join(sides[1]), large)
    return written_field(data, _INITIALIZER, start, stop)


def _apart(tensor: Tensor, place: Place) -> bytes:
    pairs = {"location": place.member, "offset": str(place.offset), "length": str(place.length)}
    entries = []
    for name, value in pairs.items():
        pair = written_field(name.encode(), _KEY, 0, len(name))
        pair += written_field(value.encode(), _VALUE, 0, len(value))
        entries.append(written_field(pair, _EXTERNAL_DATA, 0, len(pair)))
    inside = tensor.head + b"".join(entries)
    inside += written_field(b"", _DATA_LOCATION, _EXTERNAL, 0) + tensor.tail
    return length_header(_INITIALIZER, len(inside)) + inside
