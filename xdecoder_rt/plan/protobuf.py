"""The wire format of Protocol Buffers, read field by field within given bounds, and written.

Strict where a parser of the full format is lenient, since what a runtime makes of an odd file
cannot be known: groups, numbers of more than 64 bits and anything that ends outside its message are
refused. Nothing is copied; a field of any length is stepped over in one go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from xdecoder_rt.errors import PlanError

__all__ = [
    "FIXED32",
    "FIXED64",
    "LENGTH",
    "VARINT",
    "Buffer",
    "length_header",
    "packed_integers",
    "read_fields",
    "written_field",
]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
Buffer: TypeAlias = "bytes | memoryview"
_VARINT_BYTES = 10
_SIGN, _WORD = 1 << 63, 1 << 64


def read_fields(
    data: Buffer, start: int, stop: int, most: int = 64
) -> Iterator[tuple[int, int, int]]:
    """Read the fields of the message in ``data[start:stop]``.

    Args:
        data: holds the message.
        start: where it begins.
        stop: where it ends; not past the end of `data`.
        most: fields that it may have.

    Yields:
        (key, a, b): the key is the field's number times 8 plus its wire type. For a varint `a` is
        the number, signed as int64, and `b` is 0; else the value is ``data[a:b]``.

    Raises:
        PlanError: the message is malformed or has more fields.
    """
    position = start
    while position < stop:
        most -= 1
        if most < 0:
            raise PlanError("A message of the model has too many fields")
        key = data[position]
        position += 1
        if key > 127:
            key, position = _varint(data, position - 1, stop)
        wire = key & 7
        if wire == LENGTH:
            if position < stop and data[position] < 128:
                size = data[position]
                position += 1
            else:
                size, position = _varint(data, position, stop)
            end = position + size
            if size < 0 or end > stop:
                raise PlanError(f"A field of {size:,} bytes ends outside its message")
            yield key, position, end
            position = end
        elif wire == VARINT:
            value, position = _varint(data, position, stop)
            yield key, value, 0
        elif wire in (FIXED32, FIXED64):
            end = position + (4 if wire == FIXED32 else 8)
            if end > stop:
                raise PlanError("A number is cut off at the end of its message")
            yield key, position, end
            position = end
        else:
            raise PlanError(f"A field has the wire type {wire}", expected="no groups")


def packed_integers(data: Buffer, start: int, stop: int) -> list[int]:
    """Read a packed list of int64.

    Raises:
        PlanError: it is malformed.
    """
    numbers = []
    position = start
    while position < stop:
        value, position = _varint(data, position, stop)
        numbers.append(value)
    return numbers


def written_field(data: Buffer, key: int, a: int, b: int) -> bytes:
    """Return a field as :func:`read_fields` gave it, serialized in the shortest form."""
    if key & 7 == LENGTH:
        return length_header(key, b - a) + data[a:b]
    return _written_varint(key) + (_written_varint(a) if key & 7 == VARINT else bytes(data[a:b]))


def length_header(key: int, size: int) -> bytes:
    """Return what stands before the `size` bytes of a field that has a length."""
    return _written_varint(key) + _written_varint(size)


def _written_varint(value: int) -> bytes:
    value %= _WORD
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def _varint(data: Buffer, position: int, stop: int) -> tuple[int, int]:
    """Return the int64 at `position`, and where it ends."""
    value = 0
    for shift in range(0, 7 * _VARINT_BYTES, 7):
        if position >= stop:
            raise PlanError("A number is cut off at the end of its message")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >= _WORD:
                break
            return value - _WORD if value >= _SIGN else value, position
    raise PlanError("A number has more than 64 bits")
