"""Files of ``torch.save``: the tensors in them, without running any of their pickled code.

The archive (since PyTorch 1.6) and the form before it are read here and not by ``torch.load``: what
a pickle would make beside its tensors is left out instead of refusing the file, nothing that a file
claims takes memory that the file does not have, and no message advises to switch safety off.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from xdecoder_rt.errors import CheckpointError, quoted
from xdecoder_rt.files.plain_pickle import PickleMachine, most_characters
from xdecoder_rt.files.regular import open_regular
from xdecoder_rt.models.pt_pickle import PtPickleMachine, StoredNumbers, StoredTensor

LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of PyTorch before 1.6 begin: the pickled number 0x1950a86a20f9469cfc6c."""
ZIP_START = b"PK\x03\x04"
_LEGACY_PROTOCOL = 1001
_MAX_PICKLE_BYTES = 1 << 26
_MAX_LEGACY_CHARACTERS = 1 << 23  # how long the pickle is shows at its end alone
# What zipfile and struct raise at bytes that are not as they should be.
_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
)
_LOCAL_HEADER = struct.Struct("<26xHH")
_WHOLE = "a whole file of torch.save"
_AGAIN = "Download or copy it again"


@dataclass(frozen=True)
class PtFile:
    """An open file of ``torch.save``.

    Attributes:
        value: what was saved, with tensors as :class:`~xdecoder_rt.models.pt_pickle.StoredTensor`.
        foreign: names of classes and functions that are no plain data.
        form: ``zip`` or ``legacy``.
        size: bytes of the file.
    """

    value: object
    foreign: tuple[str, ...]
    form: str
    size: int
    _memory: mmap.mmap
    _storages: Mapping[str, tuple[int, int]]
    _label: str

    def tensor(self, name: str, stored: StoredTensor) -> Tensor:
        """Return a tensor, whose numbers are read from the file as they are used.

        Args:
            name: in messages.
            stored: of this file.

        Raises:
            CheckpointError: the file does not hold the numbers that the tensor claims.
        """
        dtype = getattr(torch, stored.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise self._error(
                f"{quoted(name)} is of the type {quoted(stored.dtype, 40)}", "numbers"
            )
        count = 1
        for side in stored.shape:
            count *= side
        try:
            if count == 0:
                return torch.empty(stored.shape, dtype=dtype)
            return self._view(name, stored, dtype, count)
        except (RuntimeError, OverflowError) as error:  # too many sides, or too long ones
            raise self._error(f"{quoted(name, 100)} is no tensor of PyTorch's", _WHOLE) from error

    def _view(self, name: str, stored: StoredTensor, dtype: torch.dtype, count: int) -> Tensor:
        steps = zip(stored.shape, stored.stride, strict=True)
        last = stored.offset + sum((side - 1) * step for side, step in steps)
        start, size = self._storages.get(stored.storage.key, (0, 0))
        # A tensor larger than its storage repeats numbers: it would take memory that nothing backs.
        if (last + 1) * dtype.itemsize > size or count * dtype.itemsize > size:
            raise self._error(f"it lacks the numbers of {quoted(name, 100)}", _WHOLE)
        numbers = size // dtype.itemsize
        if start % dtype.itemsize:
            data = bytearray(self._memory[start : start + numbers * dtype.itemsize])
            flat = torch.frombuffer(data, dtype=dtype)
        else:
            flat = torch.frombuffer(self._memory, dtype=dtype, count=numbers, offset=start)
        return flat.as_strided(stored.shape, stored.stride, stored.offset)

    def _error(self, reason: str, expected: str) -> CheckpointError:
        return unreadable(self._label, reason, expected)


def unreadable(
    label: str, reason: str, expected: str = _WHOLE, fix: str = _AGAIN
) -> CheckpointError:
    """Return the error of a file that no weights can be read from."""
    return CheckpointError(
        f"{label} cannot be read as weights alone: {reason}", expected=expected, fix=fix
    )


def _pickle_of(label: str) -> str:
    return f"{label} cannot be read as weights alone: its list of tensors"


def open_pt(path: Path, label: str) -> PtFile:
    """Open a file that begins as those of ``torch.save`` do.

    Args:
        path: a file.
        label: its name in messages.

    Raises:
        CheckpointError: it is cut, damaged, or no such file.
    """
    with open_regular(path) as file:
        start = file.read(len(LEGACY_START))
        read = _read_zip if start.startswith(ZIP_START) else _read_legacy
        file.seek(0)
        try:
            machine, value, storages = read(file, label)
        except _DAMAGE as error:
            raise unreadable(label, "it is cut or damaged") from error
        # A private copy: the file is never written, and pages that nobody changes cost nothing.
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    form = "zip" if read is _read_zip else "legacy"
    return PtFile(value, tuple(machine.foreign), form, len(memory), memory, storages, label)


_Content = tuple[PtPickleMachine, object, dict[str, tuple[int, int]]]


def _read_zip(file: BinaryIO, label: str) -> _Content:
    """Read the pickle of an archive, and where its storages begin and how long they are."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.partition("/")[2] == "data.pkl"]
        folder = pickles[0].partition("/")[0] if pickles else ""
        if f"{folder}/constants.pkl" in members or any("/code/" in name for name in members):
            raise unreadable(
                label,
                "it is a TorchScript program",
                "a state_dict",
                "Save model.state_dict() with torch.save",
            )
        if len(pickles) != 1:
            raise unreadable(label, "it is a ZIP archive that torch.save did not write")
        total = os.fstat(file.fileno()).st_size
        for info in members.values():
            # An archive of torch.save is not compressed: nothing in it becomes larger.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > total:
                raise unreadable(
                    label, "its members are compressed", "members as torch.save stores"
                )
        byte_order = members.get(f"{folder}/byteorder")
        if byte_order is not None and byte_order.file_size < 16:
            _check_byte_order(label, archive.read(byte_order) == b"little")
        if members[pickles[0]].file_size > _MAX_PICKLE_BYTES:
            raise unreadable(label, "its list of tensors is too long", "at most 64 MB")
        pickled = archive.read(pickles[0])
        machine = PtPickleMachine(_pickle_of(label), most_characters(len(pickled)))
        value = machine.read(pickled)
        prefix = f"{folder}/data/"
        storages = {
            name.removeprefix(prefix): (_data_start(file, info), info.file_size)
            for name, info in members.items()
            if name.startswith(prefix)
        }
    return machine, value, storages


def _data_start(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return where a member's bytes begin: behind its own header, which has its own lengths."""
    file.seek(info.header_offset)
    name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)


def _read_legacy(file: BinaryIO, label: str) -> _Content:
    """Read five pickles, and the storages behind them: a count of numbers, and the numbers."""
    if file.read(len(LEGACY_START)) != LEGACY_START:
        raise unreadable(label, "torch.save did not write it")
    protocol = _plain(file, label, 1 << 10)
    if protocol != _LEGACY_PROTOCOL:
        raise unreadable(label, f"its protocol is {quoted(protocol)}", f"{_LEGACY_PROTOCOL}")
    system = _plain(file, label, 1 << 10)
    _check_byte_order(label, not isinstance(system, dict) or system.get("little_endian") is True)
    machine = _LegacyMachine(_pickle_of(label), _MAX_LEGACY_CHARACTERS)
    value = machine.read(file)
    keys = _plain(file, label, 1 << 20)
    if not isinstance(keys, list):
        raise unreadable(label, "it does not list its storages")
    total = os.fstat(file.fileno()).st_size
    storages: dict[str, tuple[int, int]] = {}
    for key in map(str, keys):
        (count,) = struct.unpack("<q", file.read(8))
        size = count * machine.item_sizes.get(key, 1)
        start = file.tell()
        if count < 0 or start + size > total:
            raise EOFError
        storages[key] = (start, size)
        file.seek(size, os.SEEK_CUR)
    return machine, value, storages


def _plain(file: BinaryIO, label: str, most: int) -> object:
    """Read a pickle without tensors, of so many opcodes and characters at most."""
    return PickleMachine(_pickle_of(label), 64 * most, CheckpointError, most).read(file)


class _LegacyMachine(PtPickleMachine):
    """Notes the element size of every storage, which tells how long it is in the file."""

    def __init__(self, where: str, most_characters: int) -> None:
        super().__init__(where, most_characters)
        self.item_sizes: dict[str, int] = {}

    def _push(self, value: object) -> None:
        if isinstance(value, StoredNumbers):
            dtype = getattr(torch, value.dtype, None)
            self.item_sizes[value.key] = dtype.itemsize if isinstance(dtype, torch.dtype) else 1
        super()._push(value)


def _check_byte_order(label: str, is_little: bool) -> None:
    if not is_little or sys.byteorder != "little":
        raise unreadable(label, "its numbers are in big-endian order", "little-endian numbers")
