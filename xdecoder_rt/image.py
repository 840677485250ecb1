"""Images in: reading, and the letterbox that fits them into a network input.

Everything here is 8-bit RGB, and scaled to the bytes that Pillow gives; normalisation is part of
the vision graph.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from xdecoder_rt.errors import ArgumentError, ImageError, quoted
from xdecoder_rt.files.image_file import EncodedImage, over_black, read_image, to_rgb
from xdecoder_rt.pixels.scaling import scale_into, stacked, turned_round

__all__ = [
    "ImageSource",
    "Letterbox",
    "ResizeRule",
    "RgbImage",
    "check_channels",
    "choose_size",
    "lay_image",
    "letterbox",
    "load_image",
    "load_pixels",
    "resize_shorter_side",
    "unscaled_letterbox",
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


@dataclass(frozen=True)
class Letterbox:
    """The place of an image in a network input: scaled, at the top left, padded right and below.

    All sizes are (height, width) in pixels.

    Attributes:
        source: of the original image.
        target: of the network input.
        valid: of the scaled image inside the target, at least 1 x 1.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    valid: tuple[int, int]

    @classmethod
    def fit(cls, source: tuple[int, int], target: tuple[int, int]) -> Letterbox:
        """Return the largest letterbox of the source's aspect ratio inside `target`.

        The side that limits fills the target exactly; the other is rounded to the nearest pixel
        (half up) and is at least 1. Smaller images are enlarged.

        Raises:
            ArgumentError: a side is below 1.
        """
        if min(*source, *target) < 1:
            raise ArgumentError(
                f"An image of {source} cannot be fitted into {target}",
                expected="heights and widths of at least 1",
            )
        height, width = source
        # Integers throughout: equal aspect ratios must come out equal.
        if target[0] * width <= target[1] * height:
            valid = (target[0], max(1, (2 * width * target[0] + height) // (2 * height)))
        else:
            valid = (max(1, (2 * height * target[1] + width) // (2 * width)), target[1])
        return cls(source, target, valid)

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the input per pixel of the source, vertically and horizontally.

        The two differ by the rounding of `valid` only.
        """
        return self.valid[0] / self.source[0], self.valid[1] / self.source[1]

    @property
    def is_unscaled(self) -> bool:
        """Whether the image goes in pixel by pixel."""
        return self.valid == self.source

    @property
    def padding(self) -> float:
        """The share of the target that is padding, 0 to 1."""
        return 1 - (self.valid[0] * self.valid[1]) / (self.target[0] * self.target[1])


def choose_size(source: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Choose the input size that shows the most of an image for what it computes.

    A size is worth the resolution that it keeps (1 where nothing is scaled down) times the root of
    the share that is no padding. Among sizes worth within one percent of the best (rounding makes
    them differ), the smallest wins.

    Args:
        source: (height, width) of the image.
        sizes: (height, width) of the inputs to choose from.

    Returns:
        One of `sizes`.

    Raises:
        ArgumentError: there are no sizes.
    """
    if not sizes:
        raise ArgumentError("There are no input sizes to choose from")

    def worth(size: tuple[int, int]) -> float:
        box = Letterbox.fit(source, size)
        return float(min(1.0, *box.scale) * (1 - box.padding) ** 0.5)

    least = 0.99 * max(map(worth, sizes))
    return min((size for size in sizes if worth(size) >= least), key=_size_order)


def _size_order(size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    return size[0] * size[1], size


@dataclass(frozen=True)
class ResizeRule:
    """How images are scaled into network inputs.

    Attributes:
        name: ``"letterbox"``: to fill the input that fits best. ``"short_side"``: to a short side,
            whatever the input, which must hold the scaled image. ``"squash"``: to the input's
            height and width, without keeping proportions.
        short_side: pixels of a scaled image's short side, of ``"short_side"`` alone.
        longest_side: pixels that its long side may have, for which it is scaled less; None for no
            limit.
    """

    name: str = "letterbox"
    short_side: int | None = None
    longest_side: int | None = None

    def scaled_size(self, source: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width that ``"short_side"`` scales an image to.

        Sides are rounded half up, as detectron2's `ResizeShortestEdge` rounds; without a limit of
        the long side it is rounded down, as torchvision's `Resize` does.

        Args:
            source: (height, width) of the image.

        Raises:
            ArgumentError: a side is below 1, or the rule is another.
        """
        if min(source) < 1 or self.short_side is None:
            raise ArgumentError(
                f"An image of {source} cannot be scaled by the rule {self.name}",
                expected="a height and width of at least 1, and the rule short_side",
            )
        short, long = min(source), max(source)
        if self.longest_side is None:
            sides = self.short_side, self.short_side * long // short
        else:
            # In floating point and in this order, as there: halves round alike.
            exact = [float(self.short_side), self.short_side / short * long]
            if exact[1] > self.longest_side:
                scale = self.longest_side / exact[1]
                exact = [side * scale for side in exact]
            sides = max(1, int(exact[0] + 0.5)), int(exact[1] + 0.5)
        return sides if source[0] <= source[1] else (sides[1], sides[0])

    def place(self, source: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> Letterbox:
        """Return where an image goes: which input, and which part of it.

        The smallest input that holds the scaled image is taken. An image that none holds is scaled
        less, by the input that shows it largest.

        Args:
            source: (height, width) of the image.
            sizes: (height, width) of the inputs to choose from.

        Raises:
            ArgumentError: there are no sizes, or a side is below 1.
        """
        if self.name == "letterbox":
            return Letterbox.fit(source, choose_size(source, sizes))
        if self.name == "squash":
            target = choose_size(source, sizes)
            return Letterbox(source, target, target)
        scaled = self.scaled_size(source)
        holding = [size for size in sizes if size[0] >= scaled[0] and size[1] >= scaled[1]]
        if holding:
            return Letterbox(source, min(holding, key=_size_order), scaled)
        boxes = [Letterbox.fit(source, size) for size in sorted(sizes, key=_size_order)]
        return max(boxes, key=lambda box: box.valid[0] * box.valid[1])

    def place_unscaled(
        self, source: tuple[int, int], sizes: Sequence[tuple[int, int]]
    ) -> Letterbox:
        """Return where an image goes that is taken pixel by pixel; the arguments of :meth:`place`.

        Raises:
            ImageError: the rule scales it.
        """
        if self.name == "letterbox":
            return unscaled_letterbox(source, sizes)
        box = self.place(source, sizes)
        if not box.is_unscaled:
            size = f"{box.valid[0]} x {box.valid[1]}"
            raise _would_be_scaled(source, f"{size}, as the plan scales it")
        return box


def unscaled_letterbox(source: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> Letterbox:
    """Return the letterbox that takes an image pixel by pixel, with the least padding.

    Args:
        source: (height, width) of the image.
        sizes: (height, width) of the inputs to choose from.

    Raises:
        ImageError: every input would scale it.
    """
    boxes = [Letterbox.fit(source, size) for size in sizes]
    fitting = [box for box in boxes if box.is_unscaled]
    if not fitting:
        raise _would_be_scaled(
            source,
            "a height or width of the plan's input, the other side no larger: "
            + ", ".join(f"{height} x {width}" for height, width in sizes),
        )
    return min(fitting, key=lambda box: box.padding)


def _would_be_scaled(source: tuple[int, int], expected: str) -> ImageError:
    return ImageError(
        f"The image of {source[0]} x {source[1]} on the device would have to be scaled",
        expected=expected,
        fix="scale it on the device first, give it as a NumPy array, or build the plan with "
        "compiled kernels, which scale frames",
    )


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
