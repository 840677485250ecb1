"""Files beside images: where pictures and PNGs of labels are written, and writing them."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from xdecoder_rt.atomic import make_folder, real_path
from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.files.output_file import check_writable, writer

if TYPE_CHECKING:
    from PIL import Image

    from xdecoder_rt.cli.images import ImageList

PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_JPEG_QUALITY = 92


def add_picture(group: argparse._ActionsContainer, description: str) -> None:
    """Add ``-o`` and ``--font``.

    Args:
        group: where to.
        description: what the picture shows, for the help.
    """
    group.add_argument(
        "-o",
        "--output",
        metavar="PICTURE",
        help=f"{description}: .png, .jpg or .webp; with several images or a folder of them a "
        "folder, which is made",
    )
    group.add_argument(
        "--font",
        metavar="FILE",
        help="TrueType font of the picture's texts, for scripts that the built-in font lacks",
    )


def destinations(
    images: ImageList, target: str | None, suffix: str | None, content: str
) -> list[Path | None]:
    """Return the file to write for each image, all checked before any work.

    Args:
        images: as asked for.
        target: a file for one image, a folder for several; None writes nothing.
        suffix: the only file type, or None for those of pictures.
        content: what is written, for messages.

    Raises:
        ArgumentError: a place cannot be written, or is one of the images.
    """
    if target is None:
        return [None] * len(images.paths)
    path = Path(target)
    if images.are_several or os.path.isdir(path) or target.endswith(os.sep):
        files = _in_folder(images, path, suffix or ".png", content)
    else:
        allowed = PICTURE_FORMATS if suffix is None else (suffix,)
        if path.suffix.lower() not in allowed:
            raise ArgumentError(
                f"{quoted(target, 200)} is no name for {content}",
                expected=f"a file ending in {' or '.join(allowed)}",
            )
        files = [path]
    inputs = set[Path]()
    for image in images.paths:
        with suppress(OSError):  # no file can have this name, which reading it will tell
            inputs.add(real_path(image))
    for file in files:
        check_writable(file, content)
        if real_path(file) in inputs:
            raise ArgumentError(
                f"{quoted(str(file), 200)} is one of the images",
                fix=f"choose another place for {content}",
            )
    return list(files)


def _in_folder(images: ImageList, folder: Path, suffix: str, content: str) -> list[Path]:
    """Return files in a folder, named after the images; equal names get numbers."""
    try:
        make_folder(folder)
    except OSError as error:
        raise ArgumentError(
            f"The folder {quoted(str(folder), 200)} for {content} cannot be made: "
            f"{error.strerror or error}",
            expected="a folder, as there are several images" if images.are_several else None,
        ) from error
    files: list[Path] = []
    used_names: set[str] = set()
    for image in images.paths:
        stem = name = Path(image).stem
        number = 1
        while name in used_names:
            number += 1
            name = f"{stem}-{number}"
        used_names.add(name)
        files.append(folder / f"{name}{suffix}")
    return files


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture, whole or not at all; its format is told by the name.

    Raises:
        ArgumentError: it cannot be written.
    """
    form = PICTURE_FORMATS[path.suffix.lower()]
    options = {"quality": _JPEG_QUALITY} if form == "JPEG" else {}
    with writer(path, "the picture") as file:
        picture.save(file, format=form, **options)
