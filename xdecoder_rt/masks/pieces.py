"""Masks without specks: connected pieces that are small beside the largest are left out.

A model's masks have specks: a few pixels far from the thing, which stretch its box. Pixels that
touch, at a corner at least, are of one piece. The largest piece of a mask always stays, and so does
every piece that has at least a given share of its pixels: a thing behind a pole is in two pieces.
The share is the plan's (``postprocess.piece_share``); ``docs/measured/masks.md`` has what it was
chosen by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

import numpy as np
import numpy.typing as npt

from xdecoder_rt.masks.panoptic_rule import MapSegment
from xdecoder_rt.pixels.bands import in_bands

__all__ = ["clean_map", "clean_masks"]

_pieces = import_module("xdecoder_rt.masks._pieces")


def clean_map(
    segmentation: npt.NDArray[np.int32], segments: Sequence[MapSegment], share: float
) -> tuple[MapSegment, ...]:
    """Clear the small pieces of a map's things, in place; their pixels become 0.

    Stuff keeps all of its pieces: a wall behind things is in pieces, large and small.

    Args:
        segmentation: int32 ``[H, W]``, ids of segments, 0 where there is none.
        segments: ids from 1 without gaps.
        share: pieces smaller than this share of their segment's largest piece go; 0 to 1.

    Returns:
        The segments with the areas that are left.
    """
    if not share or not segments:
        return tuple(segments)
    shares = np.array([0.0, *(share if segment.isthing else 0.0 for segment in segments)])
    areas = np.zeros(len(shares), np.int64)
    _pieces.clean_map(segmentation, shares, areas)
    return tuple(replace(segment, area=int(areas[segment.id])) for segment in segments)


def clean_masks(
    masks: npt.NDArray[np.bool_], boxes: npt.NDArray[np.int64], share: float, *, threads: int = 1
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Clear the small pieces of masks, each for itself, in place.

    Args:
        masks: bool ``[K, H, W]``, C-contiguous.
        boxes: int64 ``[K, 4]``: left, top, right, bottom (exclusive); zeros for an empty mask.
        share: pieces smaller than this share of their mask's largest piece go; 0 to 1.
        threads: at most so many groups of masks are worked on at once.

    Returns:
        The areas ``[K]`` and boxes ``[K, 4]`` of what is left, int64.
    """
    extents = np.zeros((len(masks), 5), np.int64)

    def work(start: int, stop: int) -> None:
        _pieces.clean_masks(masks.view(np.uint8), boxes, share, start, stop, extents)

    if len(masks):
        in_bands(len(masks), 1, threads, work)
    return extents[:, 0], extents[:, 1:]
