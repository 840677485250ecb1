"""A strict subset of ZIP: the container of a plan.

Members are stored, never compressed, so that each is one range of bytes of the file, no larger than
the file is. The reader is written for hostile input. It accepts only archives in which every byte
is accounted for: members one after another from the first byte, the central directory, the end
record, and nothing before, between or after. It reads no more than the directory, takes no size on
trust, and raises nothing but `PlanError`. Layout and field names follow PKWARE's APPNOTE.TXT 6.3.

The writer aligns the data of each member to 64 bytes (with a padding extra field, as Android's
zipalign does) and is deterministic: the same members give the same bytes.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from xdecoder_rt.errors import PlanError, quoted

__all__ = ["MEMBER_ALIGNMENT", "ArchiveWriter", "Member", "check_member_name", "read_directory"]

MEMBER_ALIGNMENT = 64

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END64_MAGIC, _LOCATOR64_MAGIC = b"PK\x06\x06", b"PK\x06\x07"

_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_ZIP64_FIELD = 0x0001
_PADDING_FIELD = 0xD935  # the id that zipalign uses
_UTF8_FLAG = 0x0800
_ENCRYPTED_FLAG = 0x0001
_VERSION, _VERSION64 = 20, 45
_UNIX = 3
_FILE_MODE = 0o100644
_DATE_1980_01_01 = 0x21
_TYPE_BITS, _REGULAR = 0o170000, 0o100000
_MS_DIRECTORY = 0x10

_MEMBERS_LIMIT = 4096
_DIRECTORY_LIMIT = 2 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]*(/[A-Za-z0-9_][A-Za-z0-9._+@-]*)*")
_NAME_LIMIT = 200


@dataclass(frozen=True)
class Member:
    """One stored member: `size` bytes of the file from `offset`, with their CRC-32."""

    name: str
    offset: int
    size: int
    crc32: int


@dataclass(frozen=True)
class _Entry:
    """A record of the central directory, as it stands in the file."""

    raw_name: bytes
    flags: int
    method: int
    crc32: int
    compressed: int
    size: int
    header_offset: int
    system: int
    attributes: int


def check_member_name(name: str) -> str:
    """Return `name` if it is a plain relative path, the same on every system.

    Letters, digits and ``._+@-`` in parts joined by ``/``; no part begins with a dot, so neither
    ``..`` nor a hidden file can be named.

    Raises:
        PlanError: it is not.
    """
    if len(name) > _NAME_LIMIT or not _NAME.fullmatch(name):
        raise PlanError(
            f"The member name {quoted(name)} is not allowed",
            expected="a relative path of letters, digits and ._+@- inside the archive",
        )
    return name


def read_directory(file: BinaryIO, file_size: int) -> dict[str, Member]:
    """Find the members of the archive in `file`, which is `file_size` bytes long.

    Args:
        file: an open file, readable and seekable.
        file_size: its size in bytes.

    Returns:
        The members by name, in the order of the archive.

    Raises:
        PlanError: the file is truncated, is not such an archive, or one of its members is
            compressed, encrypted, a directory, a link, badly named, listed twice, overlapping
            another, or outside the file.
    """
    count, directory_offset, directory_size = _end_of_archive(file, file_size)
    directory = _read(file, directory_offset, directory_size)
    entries = list(_entries(directory, count))
    _refuse_checkpoint(entries)
    members: dict[str, Member] = {}
    position = 0
    for entry in entries:
        name = _checked_name(entry)
        if name in members:
            raise PlanError(f"The member {name!r} is listed twice")
        if entry.header_offset != position:
            _misplaced(name, entry.header_offset, position)
        offset = _data_offset(file, entry, name, directory_offset)
        position = offset + entry.size
        if position > directory_offset:
            raise PlanError(
                f"The member {name!r} claims {entry.size:,} bytes, more than the file holds",
                fix="the file is damaged; fetch or build it again",
            )
        members[name] = Member(name, offset, entry.size, entry.crc32)
    if position != directory_offset:
        _misplaced("the central directory", directory_offset, position)
    return members


def _misplaced(what: str, found: int, due: int) -> NoReturn:
    problem = "overlaps another" if found < due else "leaves a gap before it"
    raise PlanError(
        f"In this archive {what!r} begins at byte {found:,} and {problem}",
        expected=f"byte {due:,}: members stand one after another",
        fix="write the plan with xdecoder-rt build",
    )


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """Read exactly `size` bytes from `offset`."""
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise PlanError(
            f"The file ends at byte {offset + len(data):,}, inside the archive",
            fix="the file is truncated; fetch or build it again",
        )
    return data


def _end_of_archive(file: BinaryIO, file_size: int) -> tuple[int, int, int]:
    """Return number of entries, offset and size of the central directory."""
    if file_size < _END.size:
        raise PlanError(f"The file has {file_size} bytes, too few for a plan")
    end_offset = file_size - _END.size
    magic, disk, start_disk, here, count, size, offset, comment = _END.unpack(
        _read(file, end_offset, _END.size)
    )
    if magic != _END_MAGIC:
        raise PlanError(
            "The file begins like a plan but does not end like one",
            expected="the end record of a ZIP archive as the last 22 bytes",
            fix="the file is truncated or has something appended; fetch or build it again",
        )
    if _MAX16 in (here, count) or _MAX32 in (size, offset):
        end_offset, disk, start_disk, here, count, size, offset = _end64(file, end_offset)
    if disk or start_disk or here != count or comment:
        raise PlanError(
            "The archive spans several disks or has a comment", expected="neither in a plan"
        )
    if count > _MEMBERS_LIMIT or size > _DIRECTORY_LIMIT:
        raise PlanError(
            f"The archive lists {count:,} members in {size:,} bytes",
            expected=f"at most {_MEMBERS_LIMIT:,} members",
        )
    if offset + size != end_offset:
        raise PlanError(
            f"The central directory should end at byte {offset + size:,}, but the archive's end "
            f"record stands at {end_offset:,}",
            fix="the file is damaged or has something prepended; fetch or build it again",
        )
    return count, offset, size


def _end64(file: BinaryIO, end_offset: int) -> tuple[int, int, int, int, int, int, int]:
    """Read these facts from the ZIP64 end record, whose place the locator tells."""
    locator_offset = end_offset - _LOCATOR64.size
    if locator_offset < _END64.size:
        raise PlanError("The archive's end record is damaged")
    magic, disk, offset64, disks = _LOCATOR64.unpack(_read(file, locator_offset, _LOCATOR64.size))
    if magic != _LOCATOR64_MAGIC or disk or disks > 1 or offset64 + _END64.size != locator_offset:
        raise PlanError("The archive's ZIP64 locator is damaged")
    fields = _END64.unpack(_read(file, offset64, _END64.size))
    magic, _length, _made, _needed, disk, start_disk, here, count, size, offset = fields
    if magic != _END64_MAGIC:
        raise PlanError("The archive's ZIP64 end record is damaged")
    return offset64, disk, start_disk, here, count, size, offset


def _entries(directory: bytes, count: int) -> Iterator[_Entry]:
    """Read the `count` records of the central directory, which they must fill exactly."""
    position = 0
    for _ in range(count):
        if position + _CENTRAL.size > len(directory):
            raise PlanError(f"The central directory holds fewer than its {count} members")
        fields = _CENTRAL.unpack_from(directory, position)
        magic, made, _needed, flags, method, _time, _date, crc, compressed, size = fields[:10]
        name_size, extra_size, comment_size, disk, _internal, attributes, header = fields[10:]
        if magic != _CENTRAL_MAGIC or disk:
            raise PlanError("The central directory is damaged")
        name_at = position + _CENTRAL.size
        extra_at = name_at + name_size
        position = extra_at + extra_size + comment_size
        if position > len(directory):
            raise PlanError("The central directory is cut inside a member's record")
        extra = directory[extra_at : extra_at + extra_size]
        size, compressed, header = _zip64_values(extra, (size, compressed, header))
        name = directory[name_at:extra_at]
        yield _Entry(name, flags, method, crc, compressed, size, header, made >> 8, attributes)
    if position != len(directory):
        raise PlanError(f"The central directory holds more than its {count} members")


def _zip64_values(extra: bytes, values: tuple[int, ...]) -> tuple[int, ...]:
    """Replace each 0xFFFFFFFF in `values` by the next 64-bit value of the ZIP64 field."""
    if _MAX32 not in values:
        return values
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, position)
        position += 4
        if kind == _ZIP64_FIELD and size >= 8 * values.count(_MAX32):
            if position + size > len(extra):
                break
            wide = iter(struct.unpack_from(f"<{size // 8}Q", extra, position))
            return tuple(next(wide) if value == _MAX32 else value for value in values)
        position += size
    raise PlanError("A member's ZIP64 sizes are missing")


def _refuse_checkpoint(entries: Iterable[_Entry]) -> None:
    if any(entry.raw_name.endswith(b"/data.pkl") for entry in entries):
        raise PlanError(
            "The file is a PyTorch checkpoint, not a plan",
            fix="build a plan from it: xdecoder-rt build --checkpoint FILE",
        )


def _checked_name(entry: _Entry) -> str:
    """Return the member's name, after everything its record says has been checked."""
    text = entry.raw_name.decode("latin-1")
    mode_type = (entry.attributes >> 16) & _TYPE_BITS if entry.system == _UNIX else 0
    if text.endswith(("/", "\\")) or entry.attributes & _MS_DIRECTORY:
        raise PlanError(f"The member {quoted(text)} is a directory", expected="plain files only")
    if mode_type not in (0, _REGULAR):
        raise PlanError(
            f"The member {quoted(text)} is a link or a device", expected="plain files only"
        )
    name = check_member_name(text)
    if entry.flags & _ENCRYPTED_FLAG:
        raise PlanError(f"The member {name!r} is encrypted", expected="plain members")
    if entry.method != 0:
        raise PlanError(
            f"The member {name!r} is compressed",
            expected="stored members, each one range of bytes of the file",
            fix="write the plan with xdecoder-rt build, or zip it with -0",
        )
    if entry.flags & ~_UTF8_FLAG:
        raise PlanError(
            f"The member {name!r} uses the ZIP feature flags {entry.flags:#06x}",
            expected="none of them in a plan",
        )
    if entry.compressed != entry.size:
        raise PlanError(
            f"The member {name!r} is stored but has two sizes, {entry.compressed:,} and "
            f"{entry.size:,} bytes"
        )
    return name


def _data_offset(file: BinaryIO, entry: _Entry, name: str, limit: int) -> int:
    """Return where the member's bytes begin; its local header must agree with the directory."""
    header = entry.header_offset
    if header + _LOCAL.size > limit:
        raise PlanError(f"The member {name!r} lies outside the file")
    fields = _LOCAL.unpack(_read(file, header, _LOCAL.size))
    magic, _needed, flags, method, _time, _date, crc, compressed, size = fields[:9]
    name_size, extra_size = int(fields[9]), int(fields[10])
    offset = header + _LOCAL.size + name_size + extra_size
    if magic != _LOCAL_MAGIC or offset > limit:
        raise PlanError(f"The header of the member {name!r} is damaged")
    tail = _read(file, header + _LOCAL.size, name_size + extra_size)
    size, compressed = _zip64_values(tail[name_size:], (size, compressed))
    local = (tail[:name_size], flags, method, crc, compressed, size)
    if local != (entry.raw_name, entry.flags, entry.method, entry.crc32, entry.size, entry.size):
        raise PlanError(f"The two headers of the member {name!r} contradict each other")
    return offset


class ArchiveWriter:
    """Writes stored members to an open, empty file, each aligned to `MEMBER_ALIGNMENT` bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0
        self._central: list[bytes] = []

    def add(self, name: str, chunks: Iterable[bytes | memoryview], size: int, crc32: int) -> None:
        """Append a member.

        Args:
            name: its name, see `check_member_name`.
            chunks: its bytes.
            size: how many there are.
            crc32: their CRC-32, known beforehand because the header precedes the data.

        Raises:
            PlanError: the name is not allowed, or `chunks` do not have that size and CRC.
        """
        raw_name = check_member_name(name).encode("ascii")
        header_offset = self._position
        wide = size >= _MAX32
        zip64 = struct.pack("<HHQQ", _ZIP64_FIELD, 16, size, size) if wide else b""
        version = _VERSION64 if wide else _VERSION
        narrow = _MAX32 if wide else size
        unpadded = header_offset + _LOCAL.size + len(raw_name) + len(zip64)
        padding = -(unpadded + 4) % MEMBER_ALIGNMENT
        extra = zip64 + struct.pack("<HH", _PADDING_FIELD, padding) + bytes(padding)
        common = (0, 0, 0, _DATE_1980_01_01, crc32, narrow, narrow, len(raw_name))
        local = _LOCAL.pack(_LOCAL_MAGIC, version, *common, len(extra))
        self._write(local + raw_name + extra)
        written, checksum = 0, 0
        for chunk in chunks:
            checksum = zlib.crc32(chunk, checksum)
            written += len(chunk)
            self._write(chunk)
        if (written, checksum) != (size, crc32):
            raise PlanError(
                f"The source of the member {name!r} changed while the plan was being written"
            )
        self._central.append(
            self._central_record(raw_name, common, header_offset, size, version, wide)
        )

    def close(self) -> None:
        """Write the central directory; the file is then a whole archive."""
        directory = b"".join(self._central)
        count, offset, size = len(self._central), self._position, len(directory)
        self._write(directory)
        if offset >= _MAX32:
            end64 = (_VERSION64, _VERSION64, 0, 0, count, count, size, offset)
            self._write(_END64.pack(_END64_MAGIC, _END64.size - 12, *end64))
            self._write(_LOCATOR64.pack(_LOCATOR64_MAGIC, 0, offset + size, 1))
        narrow = min(offset, _MAX32)
        self._write(_END.pack(_END_MAGIC, 0, 0, count, count, size, narrow, 0))

    @staticmethod
    def _central_record(
        raw_name: bytes,
        common: tuple[int, ...],
        header_offset: int,
        size: int,
        version: int,
        wide: bool,
    ) -> bytes:
        values = ([size, size] if wide else []) + (
            [header_offset] if header_offset >= _MAX32 else []
        )
        extra = b""
        if values:
            version = _VERSION64
            extra = struct.pack(f"<HH{len(values)}Q", _ZIP64_FIELD, 8 * len(values), *values)
        made = _UNIX << 8 | version
        place = min(header_offset, _MAX32)
        tail = (len(extra), 0, 0, 0, _FILE_MODE << 16, place)
        return _CENTRAL.pack(_CENTRAL_MAGIC, made, version, *common, *tail) + raw_name + extra

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._position += len(data)
