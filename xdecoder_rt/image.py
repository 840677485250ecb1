"""Images in: reading, and the letterbox that fits them into a network input.

Everything here is 8-bit RGB, and scaled to the bytes that Pillow gives; normalisation is part of
the vision graph.
"""

from __future__ import annotations

import io
import os
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from xdecoder_rt.errors import ArgumentError, ImageError, quoted
from xdecoder_rt.files.image_file import EncodedImage, over_black, read_image, to_rgb
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.pixels.scaling import scale_into, stacked, turned_round

__all__ = [
    "ImageSource",
    "RgbImage",
    "check_channels",
    "lay_image",
    "letterbox",
    "load_image",
    "load_pixels",
    "resize_shorter_side",
]


class CudaArray(Protocol):
    """An array on a GPU, as Numba, CuPy and PyTorch make them."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Where it is, its shape and its type."""


class DLPackArray(Protocol):
    """An array that is handed over by DLPack."""

    def __dlpack_device__(self) -> tuple[int, int]:
        """Type and number of the device."""

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        """The array, ready for what is queued on `stream`."""


RgbImage: TypeAlias = "npt.NDArray[np.uint8]"
"""Pixels, uint8 ``[height, width, 3]``."""
ImageSource: TypeAlias = (
    "npt.NDArray[np.uint8] | Image.Image | EncodedImage | CudaArray | DLPackArray"
)
"""An image; arrays on a GPU are taken by the backends that run there."""

CHANNELS = ("rgb", "bgr")


def check_channels(channels: object) -> None:
    """Refuse an order of channels that there is not.

    Raises:
        ArgumentError: it is neither ``"rgb"`` nor ``"bgr"``.
    """
    if not (isinstance(channels, str) and channels in CHANNELS):
        raise ArgumentError(
            f"channels is {quoted(channels)}",
            expected="'rgb', or 'bgr' for arrays of OpenCV",
        )


def load_image(source: ImageSource, channels: str = "rgb") -> npt.NDArray[np.uint8]:
    """Read an image from an array, a Pillow image, a file or a file's bytes, as 8-bit RGB.

    Grey becomes RGB with three equal channels. Transparency is composited over black: a fully
    transparent pixel has no colour of its own, and opaque images are unaffected. The EXIF
    orientation of a *file* is applied, so that pixels are where a viewer shows them; a Pillow image
    is taken as its `size` says. 16 bits become 8 by dropping the lower eight; 16 bits that hold
    10, 12 or 14 are refused, as they would come out nearly black. An animation gives its first
    frame. The input is never modified; an array that already is what is needed comes back itself,
    not as a copy.

    Args:
        source: ``HxWx3`` colour, ``HxW`` or ``HxWx1`` grey, or ``HxWx4`` array of uint8, opacity
            last; a Pillow image of 8 bits per channel, or grey of 16; the path of a JPEG, PNG,
            WebP, BMP, TIFF, GIF or PPM file of at most 134 million pixels (WebP: 67 million); or
            such a file's ``bytes``, ``bytearray``, ``memoryview`` or ``io.BytesIO``.
        channels: the order of an array's colours: ``"rgb"``, or ``"bgr"`` for those of OpenCV
            (BGRA with four). Files and Pillow images say themselves which is which, so it means
            nothing for them.

    Returns:
        uint8 ``[H, W, 3]``, RGB, contiguous.

    Raises:
        ImageError: none of the above, empty, unreadable or truncated; the message says which, and
            for arrays of other types how to convert them.
        ArgumentError: `channels` is another order.

    Example:
        >>> image = load_image("desk.jpg")
        >>> image.shape, image.dtype
        ((480, 640, 3), dtype('uint8'))
        >>> load_image(image[:, :, ::-1], "bgr").shape
        (480, 640, 3)
    """
    pixels, order = load_pixels(source, channels)
    return pixels if order == "rgb" else turned_round(pixels)


def load_pixels(source: ImageSource, channels: str = "rgb") -> tuple[npt.NDArray[np.uint8], str]:
    """Read an image as :func:`load_image` does, but leave the colours of an array in their order.

    Returns:
        uint8 ``[H, W, 3]``, contiguous; and the order that :func:`lay_image` is to know.
    """
    check_channels(channels)
    if isinstance(source, np.ndarray):
        return _from_array(np.asarray(source), channels)
    if isinstance(source, Image.Image):
        return to_rgb(source, "The Pillow image"), "rgb"
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview | io.BytesIO):
        return read_image(source), "rgb"
    if source is None:
        raise ImageError(
            "None was given instead of an image",
            expected="a NumPy array, a Pillow image, a path or the bytes of a file",
            fix="check what made it: cv2.imread returns None for a file that it cannot read; "
            "give the path itself",
        )
    raise ImageError(
        f"An image of type {type(source).__name__} was given",
        expected="a NumPy array, a Pillow image, a path or the bytes of a file",
        fix="convert a tensor with image.cpu().numpy(); read an open file with file.read()",
    )


def _from_array(array: npt.NDArray[np.generic], channels: str) -> tuple[npt.NDArray[np.uint8], str]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(
            f"The image array has the shape {list(array.shape)}",
            expected="[height, width, 3] (colour), [height, width] (grey) or [height, width, 4]",
            fix=_shape_advice(array),
        )
    if array.size == 0:
        raise ImageError(
            f"The image array is empty: its shape is {list(array.shape)}",
            expected="at least one pixel",
        )
    if array.dtype != np.uint8:
        raise ImageError(
            f"The image array is of type {array.dtype}",
            expected="uint8, 0 to 255",
            fix=_dtype_advice(array),
        )
    pixels = array.astype(np.uint8, copy=False)
    if pixels.shape[2] == 1:
        return stacked([pixels[:, :, 0]] * 3), "rgb"
    if pixels.shape[2] == 4:
        return over_black(pixels), channels
    if pixels.flags.c_contiguous:
        return pixels, channels
    if channels == "bgr":
        return turned_round(pixels), "rgb"
    backwards = pixels[:, :, ::-1]
    if backwards.flags.c_contiguous:  # the usual way to turn a picture round: nothing is copied
        return backwards, "bgr"
    return np.ascontiguousarray(pixels), channels


def _shape_advice(array: npt.NDArray[np.generic]) -> str | None:
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return "channels first to channels last: image.transpose(1, 2, 0)"
    if array.ndim == 1 and array.dtype == np.uint8:
        return "the bytes of a file are given as bytes: image.tobytes()"
    if array.ndim == 4:
        return "a batch is given as a list of images: list(images)"
    return None


def _dtype_advice(array: npt.NDArray[np.generic]) -> str:
    if array.dtype == np.bool_:
        return "image.astype(np.uint8) * 255"
    if np.issubdtype(array.dtype, np.floating):
        values = array.astype(np.float64)
        if not np.isfinite(values).all():
            return "replace NaN and infinity first: np.nan_to_num(image), then convert to uint8"
        if values.min() >= 0 and values.max() <= 1:
            return "from 0..1: (image * 255).round().astype(np.uint8)"
        return "from 0..255: image.round().clip(0, 255).astype(np.uint8)"
    if array.dtype == np.uint16:
        if 0 < array.max() < 0x1000:
            return "from 12 bits in 16: (image >> 4).astype(np.uint8)"
        return "from 16 bits: (image >> 8).astype(np.uint8)"
    return "image.clip(0, 255).astype(np.uint8)"


def letterbox(
    image: npt.NDArray[np.uint8], size: tuple[int, int], interpolation: str = "bilinear"
) -> tuple[npt.NDArray[np.uint8], Letterbox]:
    """Scale an image into a network input without changing its aspect ratio.

    Args:
        image: uint8 ``[h, w, 3]``; see `load_image`. Not modified.
        size: (height, width) of the input.
        interpolation: see :func:`lay_image`.

    Returns:
        What :func:`lay_image` gives; and its geometry.

    Raises:
        ArgumentError: the interpolation is unknown or a side is below 1.
    """
    box = Letterbox.fit((image.shape[0], image.shape[1]), size)
    return lay_image(image, box, interpolation), box


def lay_image(
    image: npt.NDArray[np.uint8],
    box: Letterbox,
    interpolation: str,
    *,
    channels: str = "rgb",
    threads: int = 1,
) -> npt.NDArray[np.uint8]:
    """Scale an image into its place in a network input.

    Args:
        image: uint8 ``[h, w, 3]``; see `load_image`. Not modified.
        box: its place.
        interpolation: ``"bilinear"`` or ``"bicubic"``, as Pillow does them: antialiased, the
            filter's support growing with the down-scaling.
        channels: the order of the image's colours, ``"rgb"`` or ``"bgr"``.
        threads: at most so many work on it.

    Returns:
        uint8 ``[height, width, 3]``, RGB, new, with zeros beyond the valid area.

    Raises:
        ArgumentError: the interpolation or the order of channels is unknown.
    """
    check_channels(channels)
    frame = np.zeros((*box.target, 3), dtype=np.uint8)
    turns = channels == "bgr"
    scale_into(frame, image, box.valid, interpolation, turns=turns, threads=threads)
    return frame


def resize_shorter_side(image: npt.NDArray[np.uint8], short: int) -> npt.NDArray[np.uint8]:
    """Resize as the original's demo does: Pillow bicubic, the shorter side becomes `short`.

    Args:
        image: uint8 ``[h, w, 3]``.
        short: length of the shorter side afterwards; the longer one is
            ``int(short * longer / shorter)``, with no upper limit.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        ArgumentError: `short` is below 1.
    """
    if short < 1:
        raise ArgumentError(f"The shorter side cannot be {short}", expected="at least 1")
    height, width = image.shape[:2]
    if height <= width:
        size = (short, int(short * width / height))
    else:
        size = (int(short * height / width), short)
    resized = np.empty((*size, 3), dtype=np.uint8)
    scale_into(resized, image, size, "bicubic")
    return resized
