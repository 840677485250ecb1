"""The images of a folder, and what else lies in it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xdecoder_rt.errors import ImageError, quoted
from xdecoder_rt.files.formats import HEAD_SIZE, IMAGE_SUFFIXES, image_format
from xdecoder_rt.files.regular import open_regular

__all__ = ["FolderImages", "list_images", "natural_order"]

SUB_FOLDERS, HIDDEN, NO_SUFFIX = "sub-folders", "hidden", "without a suffix"
_KINDS_SHOWN = 8


@dataclass(frozen=True)
class FolderImages:
    """What a folder holds.

    Attributes:
        folder: the folder.
        images: its images in the order of their names, numbers by value.
        left_out: how many others there are of each kind: a suffix in small letters,
            ``"sub-folders"``, which are not entered, ``"hidden"``, ``"without a suffix"``.
    """

    folder: Path
    images: tuple[Path, ...]
    left_out: Mapping[str, int]

    @property
    def remark(self) -> str:
        """What is left out, in a few words; empty where nothing is."""
        kinds = [f"{count} {kind}" for kind, count in self.left_out.items()]
        shown = kinds[:_KINDS_SHOWN] + ["others"] * (len(kinds) > _KINDS_SHOWN)
        return ", ".join(shown)


def list_images(folder: Path) -> FolderImages:
    """List the images of a folder: by their names' ends, others by their first bytes.

    A file that is named as an image is listed whatever it holds, so that a damaged one is
    reported and not passed over.

    Raises:
        ImageError: the folder cannot be read.
    """
    images, left_out = [], Counter[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                kind = _kind_left_out(entry)
                if kind is None:
                    images.append(folder / entry.name)
                else:
                    left_out[kind] += 1
    except OSError as error:
        raise ImageError(
            f"The folder {quoted(str(folder), 200)} cannot be read: {error.strerror or error}"
        ) from error
    return FolderImages(
        folder, tuple(sorted(images, key=natural_order)), dict(sorted(left_out.items()))
    )


def _kind_left_out(entry: os.DirEntry[str]) -> str | None:
    """Return what kind of thing is no image, or None for an image."""
    if entry.name.startswith("."):
        return HIDDEN
    if entry.is_dir():
        return SUB_FOLDERS
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in IMAGE_SUFFIXES or _begins_as_image(entry.path):
        return None
    return suffix if re.fullmatch(r"\.[a-z0-9_]{1,16}", suffix) else NO_SUFFIX


def _begins_as_image(path: str) -> bool:
    try:
        with open_regular(path) as file:
            return image_format(file.read(HEAD_SIZE)) is not None
    except OSError:
        return False


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Return a key that puts frame 2 before frame 10."""
    parts = re.split(r"([0-9]+)", path.name)
    # Every second part is a number; "²" is a digit to Python and none to int.
    return [(1, int(part), "") if i % 2 else (0, 0, part) for i, part in enumerate(parts)]
