"""The files inside a Qt resource file (`.rcc`), as `rcc -binary` writes them.

A resource file is a tree of names and the data of its leaves, each stored as it is or compressed
by zlib. The numbers are big-endian; every offset is checked against the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

__all__ = ["resources"]

_COMPRESSED, _FOLDER, _ZSTD = 1, 2, 4
_MOST_ENTRIES = 100_000
_LARGEST_MEMBER = 64 << 20


def resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield each file's path, beginning with `/`, and its bytes.

    Args:
        data: The resource file. Files that are compressed by Zstandard are left out.

    Raises:
        ValueError: It is no resource file, or damaged.
    """
    try:
        yield from _walk(data)
    except (struct.error, IndexError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"a damaged Qt resource file: {error}") from error


def _walk(data: bytes) -> Iterator[tuple[str, bytes]]:
    magic, version, tree, content, names = struct.unpack_from(">4s4I", data)
    if magic != b"qres":
        raise ValueError("no Qt resource file")
    entry_size = 22 if version >= 2 else 14  # since 2 with the time of the last change
    stack, seen = [(0, "")], 0
    while stack:
        index, parent = stack.pop()
        seen += 1
        if seen > _MOST_ENTRIES:
            raise ValueError("a Qt resource file of too many entries")
        entry = tree + index * entry_size
        name_at, flags = struct.unpack_from(">IH", data, entry)
        path = f"{parent}/{_name(data, names + name_at)}" if index else ""
        if flags & _FOLDER:
            count, first = struct.unpack_from(">II", data, entry + 6)
            if count > _MOST_ENTRIES:
                raise ValueError("a Qt resource file of too many entries")
            stack.extend((child, path) for child in range(first + count - 1, first - 1, -1))
        elif not flags & _ZSTD:
            (start,) = struct.unpack_from(">I", data, entry + 10)
            (size,) = struct.unpack_from(">I", data, content + start)
            member = data[content + start + 4 : content + start + 4 + size]
            yield path, _inflated(member) if flags & _COMPRESSED else member


def _name(data: bytes, at: int) -> str:
    (length,) = struct.unpack_from(">H", data, at)
    return data[at + 6 : at + 6 + 2 * length].decode("utf-16-be")


def _inflated(member: bytes) -> bytes:
    """Return what zlib compressed; four bytes before it tell its size."""
    inflater = zlib.decompressobj()
    data = inflater.decompress(member[4:], _LARGEST_MEMBER)
    if not inflater.eof:
        raise ValueError("a Qt resource file whose member is cut or too large")
    return data
