"""Images scaled into frames: Pillow's bytes, by compiled loops, in one pass over the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.pixels.axes import check_interpolation, fixed_axis
from xdecoder_rt.pixels.bands import in_bands
from xdecoder_rt.pixels.variants import fastest

__all__ = ["scale_into", "stacked", "turned_round"]

_loops = fastest("xdecoder_rt.pixels._scale")
_BAND_MULTIPLE = 8
# A third of a millisecond's work on one core: for less, waking another takes longer.
_PIXELS_A_THREAD = 1 << 18


def scale_into(
    frame: npt.NDArray[np.uint8],
    image: npt.NDArray[np.uint8],
    size: tuple[int, int],
    interpolation: str,
    *,
    turns: bool = False,
    threads: int = 1,
) -> None:
    """Scale an image into the top left of a frame, as Pillow does: width first, then height.

    Args:
        frame: uint8 ``[H, W, 3]``, C-contiguous; what lies beyond `size` stays as it is.
        image: uint8 ``[h, w, 3]``. Not modified.
        size: height and width that the image gets, within the frame's.
        interpolation: ``"bilinear"`` or ``"bicubic"``, antialiased.
        turns: whether the colours change their order, from BGR to RGB.
        threads: at most so many bands of rows are worked on at once.

    Raises:
        ArgumentError: the interpolation is unknown, the image has not three channels or no pixels,
            or the frame is too small.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ArgumentError(
            f"The image is {image.dtype} of shape {list(image.shape)}",
            expected="uint8 [height, width, 3]",
        )
    if frame.shape[2:] != (3,) or frame.shape[0] < size[0] or frame.shape[1] < size[1]:
        raise ArgumentError(
            f"The frame has the shape {list(frame.shape)}",
            expected=f"3 channels and at least {size[0]} x {size[1]} pixels",
        )
    check_interpolation(interpolation)
    if image.shape[:2] == size:
        frame[: size[0], : size[1]] = turned_round(image) if turns else image
        return
    rows = fixed_axis(image.shape[0], size[0], interpolation)
    columns = fixed_axis(image.shape[1], size[1], interpolation)
    pixels = np.ascontiguousarray(image)

    def work(start: int, stop: int) -> None:
        _loops.scale(
            pixels, columns.first, columns.rows, rows.first, rows.rows, rows.taps,
            turns, start, stop, frame,
        )  # fmt: skip

    worthwhile = max(1, image.shape[0] * image.shape[1] // _PIXELS_A_THREAD)
    in_bands(size[0], _BAND_MULTIPLE, min(threads, worthwhile), work)


def turned_round(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return BGR as RGB: uint8 ``[h, w, 3]``, new and C-contiguous."""
    return stacked([pixels[:, :, channel] for channel in (2, 1, 0)])


def stacked(planes: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Return planes ``[h, w]`` as the channels of pixels: uint8 ``[h, w, channels]``, new."""
    # Plane by plane: 1 ms at 720p, where NumPy, going by pixels, takes 5 to 33.
    pixels = np.empty((*planes[0].shape, len(planes)), np.uint8)
    for channel, plane in enumerate(planes):
        pixels[:, :, channel] = plane
    return pixels
