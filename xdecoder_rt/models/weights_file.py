"""PyTorch's own files of weights, walked before PyTorch reads them.

`torch.load` with ``weights_only`` runs no foreign code, but does what a file asks for: a kilobyte
of deflated zeros becomes a megabyte, and twenty bytes of pickle a ``bytearray`` of any length. So
here an archive must store its parts as they are, and its pickle may ask for tensors alone.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import BinaryIO

from xdecoder_rt.errors import CheckpointError, printable
from xdecoder_rt.files.regular import open_regular

__all__ = ["check_weights_file"]

_PICKLE_LIMIT = 16 << 20  # X-Decoder's are a tenth of a megabyte
_PARTS_LIMIT = 1 << 16
_LEGACY_PICKLES = 5  # a number, the version, sizes of integers, the content, the storages' names
_NUMBERS = ("Float", "Half", "BFloat16", "Double", "Byte", "Char", "Short", "Int", "Long", "Bool")
_TENSORS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {number}Storage" for number in _NUMBERS),
}
_NAMED_OTHERWISE = ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4")


def check_weights_file(path: Path) -> None:
    """Refuse a ``.pt`` file that takes more than its own length to read, or is more than tensors.

    Raises:
        CheckpointError: it does, is damaged, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            if zipfile.is_zipfile(file):
                _check_pickle(io.BytesIO(_archived_pickle(file, path.stat().st_size)))
                return
            file.seek(0)
            pickles = io.BytesIO(file.read(_PICKLE_LIMIT))
            for _ in range(_LEGACY_PICKLES):
                _check_pickle(pickles)
    except Exception as error:  # of a damaged file zipfile and pickletools raise almost anything
        raise unreadable_weights(path, error) from error


def unreadable_weights(path: Path, error: Exception) -> CheckpointError:
    """Return the error of a file that is damaged or more than weights."""
    return CheckpointError(
        f"{path} cannot be read as weights alone ({printable(str(error), 300)})",
        expected="a .pt file that holds tensors and nothing else",
        fix="Download it again, or convert it to .safetensors where you trust it",
    )


def _archived_pickle(file: BinaryIO, size: int) -> bytes:
    """Return the pickle of an archive whose parts are stored as they are."""
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if len(parts) > _PARTS_LIMIT:
            raise ValueError(f"it has {len(parts):,} parts, more than {_PARTS_LIMIT:,}")
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("its parts are compressed, which torch.save does not do")
        if sum(part.file_size for part in parts) > size:
            raise ValueError("its parts are longer than the file")
        pickles = [part for part in parts if part.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > _PICKLE_LIMIT:
            raise ValueError(f"it has no data.pkl of at most {_PICKLE_LIMIT:,} bytes")
        return archive.read(pickles[0])


def _check_pickle(file: BinaryIO) -> None:
    """Walk a pickle to its end; refuse one that names anything but tensors and their numbers."""
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in _NAMED_OTHERWISE:
            raise ValueError(f"its pickle asks for more than tensors: {opcode.name}")
        if opcode.name == "GLOBAL" and argument not in _TENSORS:
            raise ValueError(f"its pickle asks for {argument}")
