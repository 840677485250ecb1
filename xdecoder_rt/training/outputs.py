"""Files that a command writes after long work."""

from __future__ import annotations

import os
from pathlib import Path

from xdecoder_rt.atomic import make_folder, real_path
from xdecoder_rt.errors import ArgumentError

__all__ = ["prepare_output"]


def prepare_output(path: Path) -> None:
    """Make the folder of a file and find out, before the work, whether the file can be written.

    Raises:
        ArgumentError: the folder cannot be made or written, or the file is a folder.
    """
    try:
        target = real_path(path)
        make_folder(target.parent)
    except OSError as error:
        raise ArgumentError(f"{path} cannot be written: {error.strerror or error}") from error
    if os.path.isdir(target):
        raise ArgumentError(f"{path} is a folder", expected="a file to write")
    if not os.access(target.parent, os.W_OK):
        raise ArgumentError(f"{path} cannot be written: there is no permission to")
