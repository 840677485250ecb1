"""Decoding the image files of a data set, with errors that name the file.

Pixels are taken as they are stored: an orientation tag is not applied, because label maps are
drawn on the stored pixels (COCO's convention).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xdecoder_rt.errors import DatasetError

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _RGBA = 0, 2, 3, 6  # PNG colour types
_RGB_MODES = frozenset({"L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


def read_rgb(path: Path, draft: int | None = None) -> NDArray[np.uint8]:
    """Decode a photograph to H x W x 3 uint8 RGB; grey is repeated, an alpha channel dropped.

    Args:
        path: The file.
        draft: A side in pixels: a JPEG may come smaller, by halves, though no smaller than this,
            which is quicker. None takes it as it is.

    Raises:
        DatasetError: if the file is missing, broken, or neither colour nor 8-bit grey.
    """
    with _open_image(path) as image:
        if draft is not None:
            image.draft("RGB", (draft, draft))
        if image.mode not in _RGB_MODES:
            raise DatasetError(
                f"{path} has pixels of mode {image.mode!r}", expected="8-bit grey or colour"
            )
        return np.array(image.convert("RGB"))


def read_size(path: Path) -> tuple[int, int]:
    """Read height and width from a file's header, without decoding it.

    Raises:
        DatasetError: if the file is missing or not an image.
    """
    with _open_image(path) as image:
        return image.height, image.width


def read_id_png(path: Path) -> NDArray[np.uint8]:
    """Decode a one-channel 8-bit PNG to H x W uint8; of a palette PNG, the indices.

    Raises:
        DatasetError: if the file is missing, broken, or not such a PNG.
    """
    _check_png(path, (_GREY, _PALETTE), "one channel of 8 bits (colour type 0 or 3)")
    with _open_image(path) as image:
        return np.array(image)


def read_rgb_png_ids(path: Path) -> NDArray[np.int32]:
    """Decode COCO's panoptic PNG to H x W int32 ids, R + 256 G + 65536 B.

    Raises:
        DatasetError: if the file is missing, broken, or not an 8-bit RGB PNG.
    """
    _check_png(path, (_RGB, _RGBA), "an 8-bit RGB PNG (colour type 2 or 6)")
    with _open_image(path) as image:
        rgb = np.asarray(image.convert("RGB"))
    ids = rgb[..., 2].astype(np.int32)
    for channel in (1, 0):
        ids <<= 8
        ids |= rgb[..., channel]
    return ids


def check_same_size(ids: NDArray[np.integer[Any]], panoptic: Path, image: Path) -> None:
    """Check that a map read from `panoptic` has the size in the header of `image`.

    Raises:
        DatasetError: if it has not, or the image cannot be read.
    """
    size = read_size(image)
    if ids.shape != size:
        raise DatasetError(
            f"{panoptic} is {ids.shape} and its image {image} is {size} (height, width)",
            expected="the same size",
        )


def _check_png(path: Path, colour_types: Collection[int], expected: str) -> None:
    """Check that a file is a PNG of 8 bits and of one of some colour types.

    Pillow brings other depths to 8 bits silently, which changes ids, so the header is read here.

    Raises:
        DatasetError: if it is not, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(26)
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    if len(header) < 26 or not header.startswith(_PNG_SIGNATURE):
        raise DatasetError(f"{path} is not a PNG file", expected=expected)
    depth, colour_type = header[24], header[25]
    if depth != 8 or colour_type not in colour_types:
        raise DatasetError(
            f"{path} is a PNG of {depth} bits and colour type {colour_type}", expected=expected
        )


@contextmanager
def _open_image(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist") from None
    except DatasetError:
        raise
    # Pillow's decoders raise any of these on broken data (SyntaxError from PNG chunks).
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path} cannot be decoded: {error}") from error
