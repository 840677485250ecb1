"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_writer"]


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends without an exception.

    The bytes go to a temporary file in the same directory, reach the disk (fsync), and replace
    `path` in one step. Whatever interrupts the block, a full disk or Ctrl-C included, an older file
    at `path` stays as it was and the temporary file is removed. A symbolic link is followed.

    Args:
        path: the file to write; its directory must exist.

    Yields:
        The open temporary file, writable and readable.

    Raises:
        OSError: the directory is missing or not writable, `path` exists and is not a regular file,
            or the disk is full.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise IsADirectoryError(f"{target} exists and is not a regular file")
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    # os.open with 0o666 lets the umask decide, which tempfile's 0o600 would not.
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    """Make the new name durable; file systems that cannot do this lose nothing but that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
