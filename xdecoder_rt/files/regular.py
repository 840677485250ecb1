"""The one opener of files that users name: regular files, and nothing that could block."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_regular", "read_regular", "sha256_of"]

_CHUNK = 1 << 20
_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a named pipe"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
    (stat.S_ISSOCK, "it is a socket"),
)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    What is opened is what was examined: nothing is looked up twice.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be opened, or is a folder, pipe, device or socket; `strerror` says which.
    """
    try:
        # O_NONBLOCK: a named pipe would otherwise block here for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    except ValueError as error:  # NUL in the name, or half a character
        raise OSError(errno.EINVAL, "no file can have this name") from error
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise OSError(errno.ENXIO, "it is a socket, not a regular file") from error
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "it is special")
            raise OSError(errno.EINVAL, f"{kind}, not a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes; of a larger one, one byte more than that.

    Raises:
        OSError: as :func:`open_regular`.
    """
    with open_regular(Path(path)) as file:
        return file.read(limit + 1)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a regular file in hexadecimal digits.

    Raises:
        OSError: as :func:`open_regular`.
    """
    digest = hashlib.sha256()
    with open_regular(Path(path)) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


_BINARY = getattr(os, "O_BINARY", 0)  # Windows
