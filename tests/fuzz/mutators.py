"""Changes to files of each format, drawn from a generator, so that a seed tells all of them.

A mutator takes the generator, the file and another of the corpus, and returns a file. Those that
know a format keep what would otherwise be refused at once: lengths, checksums and digests.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeAlias

Mutator: TypeAlias = Callable[[Random, bytes, bytes], bytes]

MOST_BYTES = 1 << 16
_EDGES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 1023, 1024, 4096)
_POWERS = (8, 15, 16, 24, 31, 32, 40, 53, 62, 63, 64)
NUMBERS = tuple(
    sorted({*_EDGES, *(-n for n in _EDGES), *((1 << p) + d for p in _POWERS for d in (-1, 0, 1))})
)
TEXTS = (
    "",
    " ",
    "\0",
    "..",
    "../x",
    "/x",
    "~",
    "a" * 300,
    "a" * 5_000,
    "\u200b",
    "\ufeff",
    "\u2010",
    "\ud800",
    "e\u0301" * 40,
    "\U0001f986",
    "\u202e",
    "[",
    "]",
    "|",
    "[threshold 2]",
    "{}",
    "{0}",
    "%s",
    "NaN",
    "Infinity",
    "1e999",
    "-0",
    "true",
    "null",
    "\r\n",
    "\u2028",
    "\x1b[2J",
    "https://example.org/x",
    "background",
)


def mutate_bytes(rng: Random, data: bytes, other: bytes) -> bytes:
    """Flip bits, write edge values, cut, move, repeat and splice pieces."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        _change_bytes(rng, content, other)
    return bytes(content[:MOST_BYTES])


def _change_bytes(rng: Random, content: bytearray, other: bytes) -> None:
    at = rng.randrange(len(content) + 1)
    length = min(rng.choice((1, 1, 2, 4, 8, 16, 64, 256)), len(content) - at)
    kind = rng.randrange(9)
    if kind == 0 and at < len(content):
        content[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(content):
        content[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    elif kind == 2:
        width = rng.choice((1, 2, 4, 8))
        number = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
        content[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
    elif kind == 3:
        del content[at : at + length]
    elif kind == 4:
        content[at:at] = content[at : at + length] * rng.choice((1, 1, 2, 8))
    elif kind == 5:
        content[at:at] = rng.randbytes(max(1, length))
    elif kind == 6 and other:
        start = rng.randrange(len(other))
        content[at : at + length] = other[start : start + rng.choice((1, 4, 16, 64, len(other)))]
    elif kind == 7:
        del content[at:]
    else:
        content[at:at] = rng.choice(TEXTS).encode("utf-8", "surrogatepass")


def mutate_text(rng: Random, data: bytes, other: bytes) -> bytes:
    """Change a text by letters and lines, at times by bytes."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, data, other)
    lines = data.decode("utf-8", "replace").split("\n")
    others = other.decode("utf-8", "replace").split("\n")
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(lines))
        line = lines[at]
        place = rng.randrange(len(line) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            lines[at] = line[:place] + rng.choice(TEXTS) + line[place:]
        elif kind == 1:
            lines[at] = line[:place] + str(rng.choice(NUMBERS)) + line[place + 1 :]
        elif kind == 2:
            lines[at] = line[:place] + line[place + rng.randrange(1, 9) :]
        elif kind == 3:
            lines.insert(at, rng.choice((line, rng.choice(others))))
        elif kind == 4 and len(lines) > 1:
            del lines[at]
        else:
            lines[at] = (
                line[:place]
                + chr(rng.choice((rng.randrange(0x20, 0x7F), rng.randrange(0xD7FF))))
                + line[place:]
            )
    return "\n".join(lines).encode("utf-8", "surrogatepass")[:MOST_BYTES]


# --- JSON -----------------------------------------------------------------------------------------


def mutate_json(rng: Random, data: bytes, other: bytes) -> bytes:
    """Change the values and keys of a document, at times its text."""
    if rng.random() < 0.15:
        return mutate_bytes(rng, data, other)
    try:
        document = json.loads(data)
        strange = json.loads(other)
    except (ValueError, RecursionError):
        return mutate_bytes(rng, data, other)
    document = change_json(rng, document, strange)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.05:  # a key twice
        text = text.replace("{", '{"name": 1, ', 1)
    return text.encode("utf-8", "surrogatepass")[:MOST_BYTES]


def change_json(rng: Random, document: Any, strange: Any) -> Any:
    """Return a document with one to three of its values or keys changed."""
    box = [document]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(box))
        container, key = rng.choice(places)
        kind = rng.randrange(8)
        if kind == 0 and container is not box:
            del container[key]
        elif kind == 1 and isinstance(container, dict):
            name = rng.choice((rng.choice(TEXTS), f"{key}x", str(rng.choice(list(container)))))
            container[name] = container.pop(key)
        elif kind == 2 and isinstance(container, list) and container is not box:
            container.insert(key, container[key])
        elif kind == 3:
            source, place = rng.choice(list(_places([strange])))
            container[key] = json.loads(json.dumps(source[place]))
        elif kind == 4:
            source, place = rng.choice(places)
            container[key] = json.loads(json.dumps(source[place]))
        else:
            container[key] = _value_like(rng, container[key])
    return box[0]


def _places(container: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    """Every place of a document: the container and the key in it. Large lists by a few of them."""
    keys = list(container) if isinstance(container, dict) else list(range(len(container)))
    found: list[tuple[Any, Any]] = []
    for key in keys if len(keys) <= 64 else keys[:32] + keys[-32:]:
        found.append((container, key))
        if isinstance(container[key], dict | list) and depth < 12:
            found += _places(container[key], depth + 1)
    return found


def _value_like(rng: Random, value: Any) -> Any:
    """Another value, mostly of the same kind."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice((None, True, False, 0, "", [], {}, [[]], {"": {}}))
    if kind == 1:
        return rng.choice((float("nan"), float("inf"), -float("inf"), 1e300, -0.0, 1e-320))
    if kind == 2:
        nested: Any = value
        for _ in range(rng.choice((1, 2, 8, 40, 300))):
            nested = [nested] if rng.random() < 0.5 else {"a": nested}
        return nested
    if isinstance(value, bool) or value is None:
        return rng.choice((not value, 2, "true", [value]))
    if isinstance(value, int | float):
        return rng.choice((value + 1, value - 1, -value, value * 2, value / 2, rng.choice(NUMBERS)))
    if isinstance(value, str):
        place = rng.randrange(len(value) + 1)
        text = value[:place] + rng.choice(TEXTS) + value[place:]
        return rng.choice((text, text, rng.choice(TEXTS), value[:place], value * 2, value.upper()))
    if isinstance(value, list):
        return rng.choice((value * 2, value[::-1], value[:1], value * 20, [*value, value]))
    return rng.choice(NUMBERS)


# --- archives and files with digests --------------------------------------------------------------


def mutate_archive(rng: Random, data: bytes, other: bytes) -> bytes:
    """Change the headers of a ZIP archive, where its structure is."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, data, other)
    content = bytearray(data)
    signs = [match.start() for match in re.finditer(b"PK", content)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not signs:
            break
        at = rng.choice(signs) + rng.randrange(46)
        width = rng.choice((1, 2, 4, 8))
        old = int.from_bytes(content[at : at + width], "little")
        number = rng.choice((old + 1, old - 1, old ^ 1, old * 2, rng.choice(NUMBERS), len(content)))
        if at + width <= len(content):
            content[at : at + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    return bytes(content)


def mutate_plan(rng: Random, data: bytes, other: bytes) -> bytes:
    """Change the manifest or a member of a plan, and write it with right checksums and digests."""
    if rng.random() < 0.25:
        return mutate_archive(rng, data, other)
    try:
        members = _stored_members(data)
        manifest = json.loads(members["manifest.json"])
        listed = manifest["members"]
    except (ValueError, KeyError, TypeError, struct.error, RecursionError):
        return mutate_archive(rng, data, other)
    names = [name for name in members if name != "manifest.json"]
    kind = rng.randrange(6)
    if kind <= 2 or not names:
        manifest = change_json(rng, manifest, manifest)
    elif kind == 3:
        name = rng.choice(names)
        members[name] = mutate_bytes(rng, members[name], members[rng.choice(names)])
    elif kind == 4:
        name = rng.choice(names)
        renamed = rng.choice((name + "x", *TEXTS[:9], "a/" + name, "MANIFEST.JSON"))
        members[renamed] = members.pop(name)
        if rng.random() < 0.5 and isinstance(listed, dict) and name in listed:
            listed[renamed] = listed.pop(name)
    else:
        members.pop(rng.choice(names))
    return repack(members, manifest)


def repack(members: dict[str, bytes], manifest: Any) -> bytes:
    """Write a plan as it stands, right or not; sizes and digests in the manifest become right."""
    listed = manifest.get("members") if isinstance(manifest, dict) else None
    if isinstance(listed, dict):
        for name, info in listed.items():
            if isinstance(info, dict) and name in members:
                info["sha256"] = hashlib.sha256(members[name]).hexdigest()
                info["size"] = len(members[name])
    text = json.dumps(manifest).encode("utf-8", "surrogatepass")
    return write_zip(
        [("manifest.json", text), *((n, d) for n, d in members.items() if n != "manifest.json")]
    )


def write_zip(members: Sequence[tuple[str, bytes]]) -> bytes:
    """Write stored members under any names."""
    body, directory = bytearray(), bytearray()
    for name, data in members:
        raw, crc = name.encode("utf-8", "surrogatepass"), zlib.crc32(data)
        common = struct.pack("<5H3I", 20, 0, 0, 0, 0x21, crc, len(data), len(data))
        directory += b"PK\1\2" + struct.pack("<H", 0x0314) + common
        directory += struct.pack("<5H2I", len(raw), 0, 0, 0, 0, 0o100644 << 16, len(body)) + raw
        body += b"PK\3\4" + common + struct.pack("<2H", len(raw), 0) + raw + data
    end = struct.pack("<4H2IH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    return bytes(body + directory + b"PK\5\6" + end)


def _stored_members(data: bytes) -> dict[str, bytes]:
    """The members of an archive that `write_zip` wrote, one after another."""
    members, at = {}, 0
    while data[at : at + 4] == b"PK\3\4":
        size, names, extra = struct.unpack_from("<I2H", data, at + 22)
        start = at + 30 + names + extra
        members[data[at + 30 : at + 30 + names].decode()] = data[start : start + size]
        at = start + size
    return members


def with_header(prefix: bytes, width: int, digest: bool, mutate: Mutator = mutate_json) -> Mutator:
    """Change a file of a prefix, the length of a JSON header, the header, and values after it.

    Args:
        prefix: what stands before the length.
        width: bytes of the length, little-endian.
        digest: whether the file ends with the SHA-256 of all before it.
        mutate: changes the header.
    """

    def change(rng: Random, data: bytes, other: bytes) -> bytes:
        kind = rng.randrange(8)
        if kind == 0:
            return mutate_bytes(rng, data, other)
        begin = len(prefix) + width
        body = data[:-32] if digest else data
        length = int.from_bytes(body[len(prefix) : begin], "little")
        header, values = body[begin : begin + length], body[begin + length :]
        if kind <= 5:
            strange = other[begin : begin + int.from_bytes(other[len(prefix) : begin], "little")]
            header = mutate(rng, header, strange)
            length = len(header)
        elif kind == 6:
            values = mutate_bytes(rng, values, other)
        else:
            length = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
        body = prefix + length.to_bytes(width, "little") + header + values
        return body + hashlib.sha256(body).digest() if digest else body

    return change


# --- images ---------------------------------------------------------------------------------------


def mutate_image(rng: Random, data: bytes, other: bytes) -> bytes:
    """Change an image; of a PNG also whole chunks, with right checksums."""
    if not data.startswith(b"\x89PNG") or rng.random() < 0.3:
        return mutate_bytes(rng, data, other)
    chunks = _chunks(data)
    strange = _chunks(other) if other.startswith(b"\x89PNG") else chunks
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(chunks))
        name, content = chunks[at]
        kind = rng.randrange(6)
        if kind <= 2:
            chunks[at] = (name, mutate_bytes(rng, content, other))
        elif kind == 3:
            chunks.insert(at, rng.choice(strange))
        elif kind == 4 and len(chunks) > 1:
            del chunks[at]
        else:
            names = (
                b"eXIf",
                b"tRNS",
                b"PLTE",
                b"iTXt",
                b"zTXt",
                b"iCCP",
                b"acTL",
                b"fdAT",
                b"gAMA",
            )
            chunks[at] = (rng.choice(names), content)
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found or [(b"IHDR", b"")]


def _chunk(name: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(name + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + name + content + crc


# --- command lines --------------------------------------------------------------------------------


def mutate_arguments(rng: Random, data: bytes, other: bytes) -> bytes:
    """Change a command line, which is a JSON list of texts; the command itself stays."""
    command, *arguments = json.loads(data)
    _, *others = json.loads(other)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(arguments) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            del arguments[at : at + 1]
        elif kind == 1:
            arguments.insert(at, rng.choice((*others, *arguments, "--json", "-o", "--", "-")))
        elif kind == 2:
            arguments.insert(at, str(rng.choice((*NUMBERS, "nan", "1e400", "0.5", "-0.1", "1,2"))))
        elif kind == 3:
            arguments.insert(at, rng.choice(TEXTS))
        elif kind == 4:
            rng.shuffle(arguments)
        elif at < len(arguments) and kind == 5:
            arguments[at] = mutate_text(rng, arguments[at].encode("utf-8", "replace"), b"x").decode(
                "utf-8", "surrogateescape"
            )
        elif at < len(arguments):
            arguments[at] = str(rng.choice((*NUMBERS, *TEXTS)))
    return json.dumps([command, *arguments]).encode()
