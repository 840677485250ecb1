"""Files that a command writes: whether that will be possible, and writing them whole."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from xdecoder_rt.atomic import atomic_writer, make_folder, real_path
from xdecoder_rt.errors import ArgumentError, quoted

__all__ = ["check_writable", "prepare_output", "unwritable", "writer"]


def check_writable(path: str | os.PathLike[str], content: str) -> None:
    """Find out before long work whether a file can be written after it.

    Args:
        path: the file.
        content: what would be in it, for the message.

    Raises:
        ArgumentError: its folder is missing or closed, or it is a folder itself.
    """
    try:
        target = real_path(path)
    except OSError as error:
        raise unwritable(path, content, error.strerror or str(error)) from error
    folder = target.parent
    if os.path.isdir(target):
        raise unwritable(path, content, "it is a folder")
    if not os.path.isdir(folder):
        raise unwritable(path, content, f"there is no folder {quoted(str(folder), 200)}")
    if not os.access(target if _is_special(target) else folder, os.W_OK):
        raise unwritable(path, content, "there is no permission to")


def prepare_output(path: str | os.PathLike[str], content: str) -> None:
    """Make the folder of a file, and find out as :func:`check_writable` does.

    Args:
        path: the file.
        content: what would be in it, for the message.

    Raises:
        ArgumentError: the folder cannot be made or written, or the file is a folder.
    """
    try:
        make_folder(real_path(path).parent)
    except OSError as error:
        raise unwritable(path, content, error.strerror or str(error)) from error
    check_writable(path, content)


@contextlib.contextmanager
def writer(path: str | os.PathLike[str], content: str) -> Iterator[BinaryIO]:
    """Open a file to be written whole or not at all; a pipe or device is written directly.

    Args:
        path: the file.
        content: what is in it, for the message.

    Raises:
        ArgumentError: it cannot be written.
    """
    try:
        if _is_special(Path(path)):
            with open(path, "wb") as stream:
                yield stream
        else:
            with atomic_writer(path) as file:
                yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(path, content, error.strerror or str(error)) from error


def unwritable(path: str | os.PathLike[str], content: str, reason: str) -> ArgumentError:
    """Return the error of a file that cannot be written."""
    return ArgumentError(
        f"{quoted(os.fspath(path), 200)} cannot be written: {reason}",
        fix=f"choose another place for {content}",
    )


def _is_special(path: Path) -> bool:
    """Whether a path is there and is neither a file nor a folder (/dev/null, a pipe)."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
