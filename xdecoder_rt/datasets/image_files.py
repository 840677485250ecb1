"""The image files of a data set: pictures upright, maps turned with them; errors name the file.

Pictures go through the one reader of image files and come upright, as a viewer shows them. A map
is drawn on the upright picture, unless its data set declares that it was drawn on the pixels as
they are stored (``"stored"``): then it is turned as the picture is.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.errors import ArgumentError, DatasetError, ImageError, quoted
from xdecoder_rt.files.image_file import ImageHeader, open_image, read_header, read_image, turned
from xdecoder_rt.files.regular import open_regular

Ids = TypeVar("Ids", bound=NDArray[np.integer[Any]])
Orientation: TypeAlias = Literal["upright", "stored"]
"""What maps were drawn on: the picture as a viewer shows it, or its pixels as they are stored."""
ORIENTATIONS = ("upright", "stored")

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _RGBA = 0, 2, 3, 6  # PNG colour types
_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes


def check_orientation(value: str) -> None:
    """Check what a caller says that maps were drawn on.

    Raises:
        ArgumentError: it is none of `ORIENTATIONS`.
    """
    if value not in ORIENTATIONS:
        raise ArgumentError(
            f"'orientation' is {quoted(value)}", expected="one of " + ", ".join(ORIENTATIONS)
        )


def read_rgb(path: Path, draft: int | None = None) -> NDArray[np.uint8]:
    """Decode a photograph to H x W x 3 uint8 RGB, upright, as the engine reads it.

    Args:
        path: The file.
        draft: A side in pixels: a JPEG may come smaller, by halves, though no smaller than this,
            which is quicker. None takes it as it is.

    Raises:
        DatasetError: if the file is missing, broken, or no image that the engine reads.
    """
    with _dataset_errors(path):
        return read_image(path, draft=draft)


def image_header(path: Path) -> ImageHeader:
    """Read size and orientation from a file's header, without decoding it.

    Raises:
        DatasetError: if the file is missing or not an image.
    """
    with _dataset_errors(path):
        return read_header(path)


def read_size(path: Path) -> tuple[int, int]:
    """Read the height and width that `read_rgb` gives, without decoding the file.

    Raises:
        DatasetError: if the file is missing or not an image.
    """
    return image_header(path).upright


def read_id_png(path: Path) -> NDArray[np.uint8]:
    """Decode a one-channel 8-bit PNG to H x W uint8; of a palette PNG, the indices.

    Raises:
        DatasetError: if the file is missing, broken, or not such a PNG.
    """
    _check_png(path, (_GREY, _PALETTE), "one channel of 8 bits (colour type 0 or 3)")
    with _dataset_errors(path), open_image(path) as (image, _):
        return np.array(image)


def read_grey_ids(path: Path) -> NDArray[np.int32]:
    """Decode a one-channel PNG or TIFF of 8 or 16 bits to H x W int32; of a palette, the indices.

    Raises:
        DatasetError: if the file is missing, broken, or of another form.
    """
    with _dataset_errors(path), open_image(path) as (image, _):
        if image.format not in ("PNG", "TIFF") or image.mode not in ("L", "P", "I", *_GREY_16):
            raise DatasetError(
                f"{path} is a {image.format} of mode {image.mode!r}",
                expected="a PNG or TIFF of one channel, 8 or 16 bits",
            )
        return np.array(image).astype(np.int32)


def read_rgb_png_ids(path: Path) -> NDArray[np.int32]:
    """Decode COCO's panoptic PNG to H x W int32 ids, R + 256 G + 65536 B.

    Raises:
        DatasetError: if the file is missing, broken, or not an 8-bit RGB PNG.
    """
    _check_png(path, (_RGB, _RGBA), "an 8-bit RGB PNG (colour type 2 or 6)")
    with _dataset_errors(path), open_image(path) as (image, _):
        rgb = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    ids = rgb[..., 2].astype(np.int32)
    for channel in (1, 0):
        ids <<= 8
        ids |= rgb[..., channel]
    return ids


def upright_map(ids: Ids, where: str, image: Path, orientation: Orientation) -> Ids:
    """Return a map as it lies on the upright image, after its size is checked.

    Args:
        ids: H x W, as it was read or drawn.
        where: The map's file or name, for errors.
        image: The image file.
        orientation: What the map was drawn on.

    Raises:
        DatasetError: if it has not the image's size, or the image cannot be read.
    """
    header = check_map_size((ids.shape[0], ids.shape[1]), where, image, orientation)
    return turned(ids, header.orientation) if orientation == "stored" else ids  # type: ignore[return-value]


def check_map_size(
    shape: tuple[int, int], where: str, image: Path, orientation: Orientation
) -> ImageHeader:
    """Check a map's height and width against its image's header, which is returned.

    Raises:
        DatasetError: as :func:`upright_map`; it names the EXIF orientation that turns the image.
    """
    header = image_header(image)
    size = header.upright if orientation == "upright" else header.stored
    if shape == size:
        return header
    remark, fix = "", None
    if header.orientation > 1 and orientation == "upright":
        remark = f", turned by its EXIF orientation {header.orientation}"
        if shape == header.stored:
            fix = (
                "turn the map as the image is turned, or declare that maps were drawn on the "
                'pixels as they are stored: "orientation": "stored" in annotations.json, '
                'orientation="stored" of readers'
            )
    elif orientation == "stored":
        remark = " as it is stored"
    raise DatasetError(
        f"{where} is {shape} and its image {image} is {size} (height, width){remark}",
        expected="the same size",
        fix=fix,
    )


def _check_png(path: Path, colour_types: Collection[int], expected: str) -> None:
    """Check that a file is a PNG of 8 bits and of one of some colour types.

    Pillow brings other depths to 8 bits silently, which changes ids, so the header is read here.

    Raises:
        DatasetError: if it is not, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            header = file.read(26)
    except FileNotFoundError:
        raise DatasetError(f"{quoted(str(path), 200)} does not exist") from None
    except OSError as error:
        raise DatasetError(f"{quoted(str(path), 200)} cannot be read: {error.strerror}") from error
    if len(header) < 26 or not header.startswith(_PNG_SIGNATURE):
        raise DatasetError(f"{quoted(str(path), 200)} is not a PNG file", expected=expected)
    depth, colour_type = header[24], header[25]
    if depth != 8 or colour_type not in colour_types:
        raise DatasetError(
            f"{quoted(str(path), 200)} is a PNG of {depth} bits and colour type {colour_type}",
            expected=expected,
        )


@contextmanager
def _dataset_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        if not os.path.exists(path):
            raise DatasetError(f"{quoted(str(path), 200)} does not exist") from None
        raise DatasetError(error.what, expected=error.expected, fix=error.fix) from error
