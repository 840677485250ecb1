"""Regions that confine a caption: read, checked, and brought to the grids of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.results import Reference
from xdecoder_rt.rows import RegionLevels

RegionSource: TypeAlias = "npt.NDArray[np.bool_] | Sequence[float] | Reference"
"""A bool mask of the image's size, a box (left, top, right, bottom), or a `Reference`."""


def is_box(source: RegionSource) -> bool:
    """Whether a region is read as a box: it is neither a mask nor a `Reference`."""
    is_mask = isinstance(source, np.ndarray) and source.ndim == 2
    return not (is_mask or isinstance(source, Reference))


def read_region(source: RegionSource, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return a region as a mask.

    Args:
        source: see `RegionSource`; a box in pixels, its right and bottom edges exclusive.
        size: (height, width) of the image.

    Returns:
        bool ``[H, W]`` with at least one true pixel.

    Raises:
        ArgumentError: it is none of these, not of the image's size, outside the image, or empty.
    """
    if is_box(source):
        mask = _box_mask(source, size)
    else:
        mask = source.mask if isinstance(source, Reference) else np.asarray(source)
    if mask.dtype != np.bool_:
        raise ArgumentError(
            f"The region is an array of {mask.dtype}", expected="bool", fix="compare it: mask > 0"
        )
    if mask.shape != size:
        raise ArgumentError(
            f"The region is {mask.shape[0]}x{mask.shape[1]} pixels",
            expected=f"the image's size, {size[0]}x{size[1]}",
        )
    if not mask.any():
        raise ArgumentError(
            "The region is empty", expected="at least one pixel", fix="leave region out for all"
        )
    return mask


def _box_mask(source: object, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    try:
        box = np.asarray(source, np.float64)
    except (TypeError, ValueError):
        box = np.empty(0)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise ArgumentError(
            f"The region is {quoted(source)}",
            expected="a bool mask [H, W], a box (left, top, right, bottom), or a Reference",
        )
    height, width = size
    left, top = np.floor(box[:2]).clip(0, (width, height)).astype(int)
    right, bottom = np.ceil(box[2:]).clip(0, (width, height)).astype(int)
    if left >= right or top >= bottom:
        raise ArgumentError(
            f"The region {box.tolist()} covers no pixel of the image",
            expected=f"left < right and top < bottom inside {width}x{height} (width x height)",
        )
    mask = np.zeros(size, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def region_levels(
    mask: npt.NDArray[np.bool_], letterbox: Letterbox, strides: Sequence[int]
) -> RegionLevels:
    """Return a mask on the grids that the decoder attends to.

    As the original does, a position of a level takes the mask's pixel at its own top left corner
    (nearest resize). A region that slips through a level's grid that way takes every position
    that it touches, where the original would divide by zero.

    Args:
        mask: bool ``[H, W]``, in the image's pixels.
        letterbox: where the image lies in the network's input.
        strides: of the grids, in pixels of the network's input.
    """
    (height, width), (scale_y, scale_x) = letterbox.target, letterbox.scale
    levels = []
    for stride in strides:
        # The centre of the input pixel at each position's corner, in the image's pixels.
        y = (np.arange(0, height, stride) + 0.5) / scale_y
        x = (np.arange(0, width, stride) + 0.5) / scale_x
        inside = np.zeros((len(y), len(x)), np.bool_)
        is_row, is_column = y < mask.shape[0], x < mask.shape[1]
        picked = mask[np.ix_(y[is_row].astype(int), x[is_column].astype(int))]
        inside[: picked.shape[0], : picked.shape[1]] = picked
        if not inside.any():
            rows, columns = np.nonzero(mask)
            touched_y = ((rows + 0.5) * scale_y / stride).astype(int)
            touched_x = ((columns + 0.5) * scale_x / stride).astype(int)
            inside[touched_y.clip(max=len(y) - 1), touched_x.clip(max=len(x) - 1)] = True
        levels.append(np.where(inside, np.float32(1), np.float32(-1)).ravel())
    return tuple(levels)
