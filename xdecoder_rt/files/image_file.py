"""The one reader of image files: upright 8-bit RGB, within bounds of memory and work."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from xdecoder_rt.errors import ImageError, quoted
from xdecoder_rt.files.completeness import check_end, check_size
from xdecoder_rt.files.formats import DECODED_FORMATS, HEAD_SIZE, describe, image_format
from xdecoder_rt.files.quiet_pillow import quiet_pillow
from xdecoder_rt.files.regular import open_regular

__all__ = [
    "EncodedImage",
    "ImageHeader",
    "open_image",
    "over_black",
    "read_header",
    "read_image",
    "to_rgb",
    "turned",
]

EncodedImage: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | io.BytesIO"
"""A path, or the bytes of a file."""

_PIXELS_LIMIT = 1 << 27
# Its decoder holds two canvases and a frame beside the image that it gives.
_WEBP_PIXELS_LIMIT = 1 << 26
_SCANS_LIMIT = 100  # of a progressive JPEG, each over all pixels; encoders write about ten
_BAND_PIXELS = 1 << 20
_ORIENTATION = 0x0112
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV")
_GREY16 = ("I;16", "I;16L", "I;16B", "I;16N")
_PLUGINS = {"TIFF": TiffImagePlugin, "WEBP": WebPImagePlugin}  # imported, they can be opened


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says of itself before it is decoded.

    Attributes:
        stored: height and width of the pixels as they are stored.
        orientation: EXIF's tag, 1 to 8; 1 where there is none.
    """

    stored: tuple[int, int]
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width as a viewer shows the image."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored


def turned(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return stored pixels ``[H, W, ...]`` upright, by EXIF's orientation 1 to 8."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def read_image(source: EncodedImage, *, draft: int | None = None) -> npt.NDArray[np.uint8]:
    """Decode an image file upright.

    Grey becomes three equal channels, transparency is composited over black, 16 bits become 8 by
    dropping the lower eight, an animation gives its first frame.

    Args:
        source: a path, or a file's bytes.
        draft: a side in pixels: a JPEG may come smaller, by halves, though no smaller than this,
            which is quicker. None takes it as it is.

    Returns:
        uint8 ``[H, W, 3]``, contiguous.

    Raises:
        ImageError: it is no regular file, no image of `DECODED_FORMATS`, too large, damaged, has
            the data of some of its rows only, or holds 10, 12 or 14 bits in 16.
    """
    with open_image(source) as (image, name):
        if draft is not None:
            image.draft("RGB", (draft, draft))
        orientation = _header(image).orientation
        pixels = to_rgb(image, name)
        if image.format == "TIFF" and _orientation(image) != orientation:
            return pixels  # Pillow has turned it
        return turned(pixels, orientation)


def read_header(source: EncodedImage) -> ImageHeader:
    """Read the size and the orientation of an image file without decoding it.

    Raises:
        ImageError: as :func:`read_image`.
    """
    with open_image(source) as (image, _):
        return _header(image)


@contextmanager
def open_image(source: EncodedImage) -> Iterator[tuple[Image.Image, str]]:
    """Open an image file with Pillow, undecoded, after its format and its size are checked.

    Args:
        source: as for :func:`read_image`.

    Yields:
        The image, and its name for messages. What Pillow raises inside the block becomes an
        ImageError.

    Raises:
        ImageError: as :func:`read_image`.
    """
    name = "The encoded image"
    if isinstance(source, str | os.PathLike):
        name = f"The image {quoted(os.fspath(source), 200)}"
    try:
        with quiet_pillow(), _open(source) as file:
            form = _check_format(file, name)
            with Image.open(file, formats=(form,)) as image:
                _check_bounds(image, file, name)
                check_size(image, file, name)
                yield image, name
                if not image.tile:  # it has been decoded
                    check_end(image, file, name)
    except (ImageError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise ImageError(f"There is no {name[4:]}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} cannot be decoded: its header is damaged") from error
    except Exception as error:  # a hostile file makes Pillow's decoders raise almost anything
        reason = getattr(error, "strerror", None)
        if reason:
            raise ImageError(f"{name} cannot be read: {reason}") from error
        raise ImageError(f"{name} cannot be decoded: {error}") from error


def _open(source: EncodedImage) -> BinaryIO:
    if isinstance(source, str | os.PathLike):
        return open_regular(source)
    # All of it, as `Image.open` takes it: what was just written stands at its end.
    return io.BytesIO(source.getvalue() if isinstance(source, io.BytesIO) else bytes(source))


def _check_format(file: BinaryIO, name: str) -> str:
    head = file.read(HEAD_SIZE)
    file.seek(0)
    form = image_format(head)
    if form is None:
        what, fix = describe(head)
        raise ImageError(f"{name} {what}", expected="one of " + ", ".join(DECODED_FORMATS), fix=fix)
    if form == "WEBP":
        # Pillow allocates as it opens; 16383 is the format's own limit of a side.
        _check_pixels(_webp_size(head), _WEBP_PIXELS_LIMIT, name)
    return form


def _webp_size(head: bytes) -> tuple[int, int]:
    """Return the width and height in a WebP's first bytes."""
    if head[12:16] == b"VP8X":
        return (
            int.from_bytes(head[24:27], "little") + 1,
            int.from_bytes(head[27:30], "little") + 1,
        )
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (
        int.from_bytes(head[26:28], "little") & 0x3FFF,
        int.from_bytes(head[28:30], "little") & 0x3FFF,
    )


def _check_bounds(image: Image.Image, file: BinaryIO, name: str) -> None:
    _check_pixels(image.size, _PIXELS_LIMIT, name)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile = [image.tag_v2.get(tag, 1) for tag in (322, 323)]
        if not all(isinstance(side, int) for side in tile):
            raise ImageError(f"{name} has tiles of no size")
        # A tile is decoded whole, however small the image is.
        if tile[0] * tile[1] > max(1 << 24, 4 * image.width * image.height):
            raise ImageError(
                f"{name} has tiles of {tile[0]} x {tile[1]} pixels",
                expected="tiles no larger than the image",
                fix="write it again with another program",
            )
    if image.format == "PNG" and "exif" not in image.info:
        # Where it may come late, Pillow decodes the image to look for it.
        place = file.tell()
        if exif := _late_exif(file):
            image.info["exif"] = b"Exif\0\0" + exif
        file.seek(place)
    if image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        place = file.tell()
        file.seek(0)
        scans = sum(block.count(b"\xff\xda") for block in iter(lambda: file.read(1 << 20), b""))
        file.seek(place)
        if scans > _SCANS_LIMIT * max(1, getattr(image, "n_frames", 1)):
            raise ImageError(
                f"{name} has {scans} scans",
                expected=f"at most {_SCANS_LIMIT}",
                fix="write it again with another program",
            )


def _late_exif(file: BinaryIO) -> bytes | None:
    """Return the EXIF chunk of a PNG, wherever it stands."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return file.read(min(length, 1 << 16))
        file.seek(length + 4, os.SEEK_CUR)
    return None


def _check_pixels(size: tuple[int, int], limit: int, name: str) -> None:
    if size[0] * size[1] > limit:
        raise ImageError(
            f"{name} has {size[0]} x {size[1]} pixels",
            expected=f"at most {limit:,}",
            fix="crop or shrink it first",
        )


def _header(image: Image.Image) -> ImageHeader:
    size = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # newer Pillows give the upright size
        size = int(image.tag_v2[256]), int(image.tag_v2[257])
    return ImageHeader((size[1], size[0]), _orientation(image))


def _orientation(image: Image.Image) -> int:
    try:
        # PNG's own method decodes the image.
        exif = Image.Image.getexif(image) if image.format == "PNG" else image.getexif()
        value = exif.get(_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # damaged metadata: viewers show the pixels as they are
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def to_rgb(image: Image.Image, name: str) -> npt.NDArray[np.uint8]:
    """Return a Pillow image as 8-bit RGB, in the orientation of its `size`.

    It goes band by band, so that nothing beside the image and the result is large.

    Args:
        image: 8 bits a channel, or 16-bit grey.
        name: for messages, as the begin of a sentence.

    Returns:
        uint8 ``[H, W, 3]``, contiguous.

    Raises:
        ImageError: it is of another mode, empty or damaged, or holds fewer bits than it has.
    """
    if image.mode not in (*_MODES, *_GREY16) and not (image.mode == "I" and _is_deep(image)):
        raise ImageError(
            f"{name} is of mode {image.mode!r}",
            expected="8 bits per channel (RGB, RGBA or L), or 16-bit grey",
            fix="scale its values to 0..255 and convert it to 'L' or 'RGB'",
        )
    if image.width == 0 or image.height == 0:
        raise ImageError(f"{name} is empty: its size is {image.size}", expected="at least 1x1")
    try:
        fills_16_bits = _is_deep(image) and not _declares_depth(image)
        image.load()
        if fills_16_bits:
            _check_depth(image, name)
        rgb = np.empty((image.height, image.width, 3), np.uint8)
        rows = max(1, _BAND_PIXELS // image.width)
        for top in range(0, image.height, rows):
            band = rgb[top : top + rows]
            band[:] = _band(image.crop((0, top, image.width, top + len(band))))
        return rgb
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow raises what its decoders raise
        raise ImageError(f"{name} cannot be decoded: {error}") from error


def _band(band: Image.Image) -> npt.NDArray[np.uint8]:
    if band.mode == "I" or band.mode in _GREY16:
        return (np.asarray(band) >> 8).astype(np.uint8)[:, :, None]
    if band.mode in ("RGBa", "La"):
        # Premultiplied: compositing over black has been done already.
        return np.asarray(band, np.uint8)[:, :, :-1]
    if "A" in band.mode or "transparency" in band.info:
        return over_black(np.asarray(band.convert("RGBA"), np.uint8))
    return np.asarray(band.convert("RGB"), np.uint8)


def over_black(rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Composite ``[H, W, 4]`` over black: colour times alpha, rounded to nearest."""
    alpha = rgba[:, :, 3].astype(np.uint16)
    is_opaque = alpha.min() == 255
    rgb = np.empty((*alpha.shape, 3), np.uint8)
    for channel in range(3):  # each by itself: 6 ms at 720p, where pixels as they lie take 27
        colour = rgba[:, :, channel]
        rgb[:, :, channel] = colour if is_opaque else (colour * alpha + np.uint16(127)) // 255
    return rgb


def _tile_arguments(image: Image.Image) -> tuple[Any, ...]:
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ()
    return arguments if isinstance(arguments, tuple) else (arguments,)


def _is_deep(image: Image.Image) -> bool:
    """Whether an image has 16 bits a channel; of colour, its file must not be decoded yet.

    Once it is, Pillow has dropped the lower eight bits.
    """
    if image.mode in _GREY16:
        return True
    if image.mode == "I":
        return image.format in ("PNG", "PPM")
    arguments = _tile_arguments(image)
    if image.format == "PPM":
        return any(isinstance(value, int) and value > 255 for value in arguments)
    is_colour = image.mode in ("RGB", "RGBA", "RGBX", "RGBa", "LA")
    rawmode = arguments[0] if arguments else ""
    return is_colour and isinstance(rawmode, str) and ";16" in rawmode and rawmode[:3] != "BGR"


def _declares_depth(image: Image.Image) -> bool:
    """Whether a PPM or PGM names its largest value, by which Pillow scales it."""
    arguments = _tile_arguments(image)
    return image.format == "PPM" and any(
        isinstance(value, int) and value < 0xFFFF for value in arguments
    )


def _check_depth(image: Image.Image, name: str) -> None:
    """Refuse 16 bits of which the upper two are unused: a camera's 10, 12 or 14 bits, unscaled."""
    ranges: Any = image.getextrema()
    is_grey = isinstance(ranges[0], int | float)
    ends = [ranges] if is_grey else list(ranges[:1] if image.mode == "LA" else ranges[:3])
    largest = max(int(end[1]) for end in ends)
    if not is_grey:  # what the eight bits that Pillow keeps came from; of PPM it rounds them
        largest = (514 * largest - 257) // 2 if image.format == "PPM" else largest << 8 | 0xFF
    if 0 < largest < 0x4000:  # what is black is black at any depth
        raise ImageError(
            f"{name} has 16 bits a channel, of which it uses {max(1, largest.bit_length())}",
            expected="values up to 65,535",
            fix="scale it (12 bits: image << 4) or convert it to 8 bits (12 bits: image >> 4)",
        )
