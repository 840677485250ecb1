"""Pixels of ROS images: every encoding that drivers send, rows with padding, JPEG and PNG."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ImageError, quoted
from xdecoder_rt.image import load_image
from xdecoder_rt.pixels.scaling import stacked

Pixels = npt.NDArray[np.uint8]

# Channels, bytes of one, and which channels are red, green and blue.
_PLAIN = {
    "rgb8": (3, 1, (0, 1, 2)),
    "bgr8": (3, 1, (2, 1, 0)),
    "rgba8": (4, 1, (0, 1, 2)),  # drivers leave the fourth byte as it comes: it is no opacity
    "bgra8": (4, 1, (2, 1, 0)),
    "mono8": (1, 1, (0, 0, 0)),
    "8UC1": (1, 1, (0, 0, 0)),
    "8UC3": (3, 1, (2, 1, 0)),  # OpenCV's own order
    "8UC4": (4, 1, (2, 1, 0)),
    "rgb16": (3, 2, (0, 1, 2)),
    "bgr16": (3, 2, (2, 1, 0)),
    "mono16": (1, 2, (0, 0, 0)),
    "16UC1": (1, 2, (0, 0, 0)),
}
# Where the brightness of both pixels and the two colours lie in four bytes.
_PACKED = {
    "yuv422": (1, 3, 0, 2),  # UYVY, as ROS has it
    "uyvy": (1, 3, 0, 2),
    "yuv422_yuy2": (0, 2, 1, 3),
    "yuyv": (0, 2, 1, 3),
}
_PLANAR = {"nv12": (0, 1), "nv21": (1, 0), "nv24": (0, 1)}
_BAYER = re.compile(r"bayer_(rggb|bggr|gbrg|grbg)(8|16)")
ENCODINGS = (
    *_PLAIN, *_PACKED, *_PLANAR,
    *(f"bayer_{order}{bits}" for order in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)),
)  # fmt: skip


def pixels_of(message: Any) -> Pixels:
    """Return the pixels of a ``sensor_msgs/Image``: uint8 ``[H, W, 3]``, RGB.

    Raises:
        ImageError: the encoding is none of `ENCODINGS`, or the data are too few.
    """
    name = str(message.encoding)
    bayer = _BAYER.fullmatch(name)
    if name in _PLAIN:
        count, size, order = _PLAIN[name]
        values = _eight_bits(message, _rows(message, message.height, count * size), size)
        return _ordered(values.reshape(message.height, -1, count), order)
    if bayer:
        size = int(bayer[2]) // 8
        mosaic = _eight_bits(message, _rows(message, message.height, size), size)
        return _demosaiced(mosaic, bayer[1])
    if name in _PACKED:
        return _of_packed(message, _PACKED[name])
    if name in _PLANAR:
        return _of_planes(message, name)
    raise ImageError(
        f"The image is of the encoding {quoted(name)}",
        expected="one of " + ", ".join(ENCODINGS),
        fix="convert it first, as image_proc does",
    )


def depth_of(message: Any) -> npt.NDArray[Any]:
    """Return a depth image: uint16 in millimetres or float32 in metres, ``[H, W]``.

    Raises:
        ImageError: the encoding is another, or the data are too few.
    """
    kinds = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
    if message.encoding not in kinds:
        raise ImageError(
            f"The depth image is of the encoding {quoted(str(message.encoding))}",
            expected="16UC1 in millimetres or 32FC1 in metres",
        )
    kind = np.dtype((">" if message.is_bigendian else "<") + kinds[message.encoding])
    rows = _rows(message, message.height, kind.itemsize)
    values = np.ascontiguousarray(rows).view(kind)
    return values.astype(kind.newbyteorder("="), copy=False)


def decoded(message: Any) -> Pixels:
    """Return the pixels of a ``sensor_msgs/CompressedImage``: uint8 ``[H, W, 3]``, RGB.

    A JPEG whose end marker the camera leaves out is whole all the same.

    Raises:
        ImageError: they cannot be read.
    """
    data = bytes(message.data)
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-64:]:
        data += b"\xff\xd9"
    return load_image(data)


def _rows(message: Any, height: int, width_bytes: int) -> Pixels:
    """Return the bytes of rows without their padding, ``[height, bytes]``.

    Args:
        message: the image.
        height: rows, of all planes.
        width_bytes: bytes a pixel of the width.
    """
    step, needed = int(message.step), width_bytes * int(message.width)
    data = np.frombuffer(message.data, np.uint8)
    if min(message.height, message.width) < 1 or step < needed or len(data) < step * height:
        raise ImageError(
            f"The image of {message.height} x {message.width} {quoted(str(message.encoding))} has "
            f"{len(data)} bytes in steps of {step}",
            expected=f"{height} rows of at least {needed} bytes",
        )
    return data[: step * height].reshape(height, step)[:, :needed]


def _ordered(values: Pixels, order: tuple[int, ...]) -> Pixels:
    """Return channels in another order, as a view where it is their own."""
    if order == tuple(range(values.shape[2])):
        return np.ascontiguousarray(values)
    return stacked([values[:, :, channel] for channel in order])


def _eight_bits(message: Any, rows: Pixels, size: int) -> Pixels:
    # The high byte of 16 bits.
    return rows if size == 1 else rows[:, (0 if message.is_bigendian else 1) :: 2]


def _of_packed(message: Any, order: tuple[int, int, int, int]) -> Pixels:
    if message.width % 2:
        raise ImageError(
            f"The image of {quoted(str(message.encoding))} is {message.width} pixels wide",
            expected="an even width: two pixels share their colour",
        )
    quads = _rows(message, message.height, 2).reshape(message.height, -1, 4)
    light = quads[:, :, order[:2]].reshape(message.height, message.width)
    colours = quads[:, :, order[2:]].repeat(2, axis=1)
    return _rgb(light, colours)


def _of_planes(message: Any, name: str) -> Pixels:
    height, width, order = message.height, message.width, _PLANAR[name]
    if name == "nv24":
        rows = _rows(message, 3 * height, 1)
        colours = rows[height:].reshape(height, 2 * width)
        return _rgb(rows[:height], colours.reshape(height, width, 2))
    if height % 2 or width % 2:
        raise ImageError(
            f"The image of {quoted(name)} has {height} x {width} pixels",
            expected="even sides: four pixels share their colour",
        )
    rows = _rows(message, height + height // 2, 1)
    pairs = rows[height:].reshape(height // 2, width // 2, 2)[:, :, order]
    return _rgb(rows[:height], pairs.repeat(2, axis=0).repeat(2, axis=1))


def _rgb(light: Pixels, colours: Pixels) -> Pixels:
    """Return RGB of ITU-R BT.601 in studio range: ``[H, W]`` and ``[H, W, 2]`` of blue and red."""
    y = 1.164383 * (light.astype(np.float32) - 16)
    blue, red = (colours[:, :, i].astype(np.float32) - 128 for i in (0, 1))
    rgb = np.stack(
        (y + 1.596027 * red, y - 0.391762 * blue - 0.812968 * red, y + 2.017232 * blue), axis=2
    )
    pixels: Pixels = (rgb + 0.5).clip(0, 255).astype(np.uint8)
    return pixels


def _demosaiced(mosaic: Pixels, order: str) -> Pixels:
    """Return RGB of a Bayer mosaic ``[H, W]``, each colour the mean of its samples around."""
    height, width = mosaic.shape
    planes = np.zeros((height, width, 3), np.float32)
    for channel, letter in enumerate("rgb"):
        weight = np.zeros((height, width), np.float32)
        for place in (i for i, other in enumerate(order) if other == letter):
            weight[place // 2 :: 2, place % 2 :: 2] = 1
        total = _around(mosaic * weight)
        planes[:, :, channel] = total / np.maximum(_around(weight), 1e-6)
    pixels: Pixels = (planes + 0.5).clip(0, 255).astype(np.uint8)
    return pixels


def _around(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return sums over 3 x 3 with the bilinear weights 1, 2 and 4."""
    for axis in (0, 1):
        padded = np.pad(values, [(1, 1) if a == axis else (0, 0) for a in (0, 1)])
        n = values.shape[axis]
        values = (
            padded.take(range(n), axis)
            + 2 * padded.take(range(1, n + 1), axis)
            + padded.take(range(2, n + 2), axis)
        )
    return values
