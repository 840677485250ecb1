"""Whether an image file has the data of its pixels.

Pillow refuses a file that is cut off. It says nothing of one that ends in order after a few rows:
the others stay black. What is found here: files with fewer bytes than their pixels can be packed
into, TIFFs whose strips do not cover them, and streams of PNG and JPEG that end early. A
progressive JPEG that lacks scans is coarser, and not found.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Collection, Iterator
from math import ceil
from typing import BinaryIO

from PIL import Image, ImageFile, TiffImagePlugin

from xdecoder_rt.errors import ImageError

__all__ = ["check_end", "check_size"]

_DEFLATE = 1032  # 258 bytes in two bits
_LZW = 4096 * 8 / 12  # the longest string of a full table, in a code of 12 bits
_JPEG = 128 * 8  # pixels a byte: a block takes a bit, and stands for 128 of them at most
_ARITHMETIC_JPEG = (b"\xff\xc9", b"\xff\xca")  # begins of its frames; it has no such bound
_BMP_RUNS = 255 / 2  # a run takes two bytes; whole rows can be skipped, which no picture does
# Bytes that a byte can stand for. Of zstd, LZMA and LERC, and of WebP, there is no useful bound: a
# blank picture of any size takes some hundred bytes.
_TIFF_RATIOS = {
    **{"raw": 1.0, "packbits": 64.0, "tiff_lzw": _LZW},
    **{"tiff_adobe_deflate": _DEFLATE, "tiff_deflate": _DEFLATE},
}
_TIFF_LINES = ("tiff_ccitt", "group3", "group4", "tiff_raw_16")  # a line takes a bit at least
_YCBCR = 6
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of PNG's colour types
_PASSES = ((8, 8, 0, 0), (8, 8, 4, 0), (4, 8, 0, 4), (4, 4, 2, 0), (2, 4, 0, 2), (2, 2, 1, 0))
_LAST_PASS = (1, 2, 0, 1)  # of an interlaced PNG: steps and begins, across and down
_BLOCK = 1 << 16
_BAND_PIXELS = 1 << 20
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # of those that stand before a length
_MORE = bytes(range(1, 0x80)) * 64  # of a scan
_FIX = "copy or download it again"


def check_size(image: ImageFile.ImageFile, file: BinaryIO, name: str) -> None:
    """Refuse an image that its file has too few bytes for, before it is decoded.

    Args:
        image: opened, not decoded.
        file: what it was opened from.
        name: for messages, as the begin of a sentence.

    Raises:
        ImageError: its pixels cannot be packed into so few bytes, or strips of a TIFF are missing.
    """
    size = _size(file)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_strips(image, name)
    if _least_bytes(image, file) > size:
        raise ImageError(
            f"{name} has {size:,} bytes, too few for its {image.width} x {image.height} pixels",
            fix=_FIX,
        )


def check_end(image: Image.Image, file: BinaryIO, name: str) -> None:
    """Refuse an image whose stream ended before its last row, after it was decoded.

    Args:
        image: decoded.
        file: what it was opened from.
        name: for messages, as the begin of a sentence.

    Raises:
        ImageError: rows are missing.
    """
    last = image.getpixel((image.width - 1, image.height - 1))
    if image.format == "PNG":
        # Of an interlaced image the last pixel is not the last of the stream.
        may_be_short = image.info.get("interlace") or _is_all(last, (0,))
        is_short = may_be_short and _png_ends_early(file)
    else:
        # What libjpeg makes of blocks that are not there.
        may_be_short = image.format in ("JPEG", "MPO") and _is_all(last, (127, 128))
        is_short = may_be_short and _jpeg_ends_early(image, file)
    if is_short:
        raise ImageError(f"{name} is damaged: its data end before its last row", fix=_FIX)


def _size(file: BinaryIO) -> int:
    place = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(place)
    return size


def _least_bytes(image: ImageFile.ImageFile, file: BinaryIO) -> float:
    """Return how many bytes the image's pixels take at least; 0 where that is not known."""
    pixels = image.width * image.height
    if image.format == "PNG":
        return _png_bytes(_content(file, 16, 13)) / _DEFLATE
    if image.format == "GIF":
        return pixels / _LZW
    if image.format in ("JPEG", "MPO"):
        least, size = pixels / _JPEG, _size(file)
        if least > size and any(mark in _content(file, 0, size) for mark in _ARITHMETIC_JPEG):
            return 0
        return least
    if image.format == "BMP" and image.tile[0][0] == "bmp_rle":
        return pixels / _BMP_RUNS
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        compression = image.info.get("compression")
        if compression in _TIFF_LINES:
            return int(image.tag_v2[TiffImagePlugin.IMAGELENGTH]) / 8
        if compression == "jpeg":
            return pixels / _JPEG
        if compression in _TIFF_RATIOS:
            return _tiff_bytes(image) / _TIFF_RATIOS[compression]
    return 0


def _tiff_bytes(image: TiffImagePlugin.TiffImageFile) -> int:
    """Return how many bytes a TIFF's pixels have before they are packed."""
    tags = image.tag_v2
    width, height = int(tags[TiffImagePlugin.IMAGEWIDTH]), int(tags[TiffImagePlugin.IMAGELENGTH])
    samples = _samples(image)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _YCBCR:
        samples = 1  # its colours may be of a lower resolution
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, 1)
    return ceil(width * samples * int(min(bits) if isinstance(bits, tuple) else bits) / 8) * height


def _samples(image: TiffImagePlugin.TiffImageFile) -> int:
    return int(image.tag_v2.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))


def _check_strips(image: TiffImagePlugin.TiffImageFile, name: str) -> None:
    """Refuse a TIFF whose strips or tiles leave pixels out; where libtiff decodes, it does."""
    boxes = [tile[1] or (0, 0, *image.size) for tile in image.tile]
    covered = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    is_planar = image.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
    planes = _samples(image) if is_planar and len(image.tile) > 1 else 1
    if covered < image.width * image.height * planes:
        raise ImageError(
            f"{name} lacks strips: they have {covered:,} of its {image.width} x {image.height} "
            "pixels",
            fix=_FIX,
        )


def _is_all(pixel: object, values: Collection[int]) -> bool:
    """Whether all channels of a pixel have one of the values."""
    return all(value in values for value in (pixel if isinstance(pixel, tuple) else (pixel,)))


def _png_bytes(header: bytes) -> int:
    """Return how many bytes a PNG's pixels have before they are packed, of its header chunk."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _CHANNELS.get(header[9], 1)
    total = 0
    for across, down, left, top in (*_PASSES, _LAST_PASS) if header[12] else ((1, 1, 0, 0),):
        columns, rows = ceil((width - left) / across), ceil((height - top) / down)
        if columns > 0 and rows > 0:
            total += rows * (1 + ceil(columns * bits / 8))
    return total


def _png_ends_early(file: BinaryIO) -> bool:
    missing = _png_bytes(_content(file, 16, 13))
    stream = zlib.decompressobj()
    try:
        for block in _png_data(file):
            while block and not stream.eof and missing > 0:
                missing -= len(stream.decompress(block, _BLOCK))
                block = stream.unconsumed_tail
        return missing > 0 and missing > len(stream.flush())
    except zlib.error:  # behind the last row, or Pillow had refused it
        return False


def _png_data(file: BinaryIO) -> Iterator[bytes]:
    """Yield the image data of a PNG in parts."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        after = file.tell() + length + 4
        while head[4:] == b"IDAT" and length > 0 and (data := file.read(min(length, _BLOCK))):
            length -= len(data)
            yield data
        file.seek(after)


def _jpeg_ends_early(image: Image.Image, file: BinaryIO) -> bool:
    """Whether a JPEG becomes another image where its scan goes on; a whole one reads no further."""
    data = _content(file, 0, _size(file))
    end = _jpeg_end(data)
    longer = io.BytesIO(data[:end] + _MORE + b"\xff\xd9")
    with Image.open(longer, formats=("JPEG",)) as again:
        again.draft(image.mode, image.size)
        again.load()
        rows = max(1, _BAND_PIXELS // image.width)
        for top in range(0, image.height, rows):
            band = (0, top, image.width, min(top + rows, image.height))
            if image.crop(band).tobytes() != again.crop(band).tobytes():
                return True
    return False


def _jpeg_end(data: bytes) -> int:
    """Return where the first image of a JPEG file ends, before the marker of its end."""
    place = 2
    while (marker := _MARKER.search(data, place)) and marker[0] != b"\xff\xd9":
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return marker.start() if marker else len(data)


def _content(file: BinaryIO, start: int, count: int) -> bytes:
    place = file.tell()
    file.seek(start)
    data = file.read(count)
    file.seek(place)
    return data
