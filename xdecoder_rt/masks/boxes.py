"""The boxes of a map's segments, all in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from xdecoder_rt.pixels.variants import fastest

__all__ = ["boxes_of_map"]

_tracks = fastest("xdecoder_rt.masks._tracks")


def boxes_of_map(
    segmentation: npt.NDArray[np.int32], ids: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Return the tight box of each segment of a map.

    Args:
        segmentation: ``[H, W]``, ids of segments.
        ids: those that are asked for, from 0, each once.

    Returns:
        float32 ``[N, 4]``: left, top, right, bottom (exclusive); zeros for one without a pixel.

    Example:
        >>> boxes_of_map(np.array([[0, 7, 7], [3, 7, 7]], np.int32), [7, 3]).tolist()
        [[1.0, 0.0, 3.0, 2.0], [0.0, 1.0, 1.0, 2.0]]
    """
    pixels = np.ascontiguousarray(segmentation, np.int32)
    places = np.full(max(ids, default=0) + 1, -1, np.int32)
    places[list(ids)] = np.arange(len(ids), dtype=np.int32)
    height, width = pixels.shape
    boxes = np.tile(np.array([width, height, 0, 0], np.int32), (len(ids), 1))
    _tracks.find_boxes(pixels, places, boxes)
    boxes[boxes[:, 2] == 0] = 0
    return boxes.astype(np.float32)
