"""Segments of a frame on a coarse grid: which cells are whose, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdecoder_rt.pixels.variants import fastest
from xdecoder_rt.results import Segmentation

__all__ = ["GridSegments", "on_grid"]

_tracks = fastest("xdecoder_rt.masks._tracks")

# Enough for the overlap of what moves between frames; time grows with it.
_CELLS = 16_000


@dataclass(frozen=True, eq=False)
class GridSegments:
    """Things of a frame on a grid.

    Attributes:
        step: pixels a cell.
        owners: int16 ``[h, w]``, the index of the thing in each cell, -1 for none.
        cells: int32 ``[2, k]`` of each thing, rows and columns; at least one.
        centres: complex128 ``[N]``, in cells: row + column i.
        areas: float64 ``[N]``, in cells.
    """

    step: int
    owners: npt.NDArray[np.int16]
    cells: list[npt.NDArray[np.int32]]
    centres: npt.NDArray[np.complex128]
    areas: npt.NDArray[np.float64]

    def common(
        self, cells: Sequence[npt.NDArray[np.int32]], shifts: npt.NDArray[np.complex128]
    ) -> npt.NDArray[np.int32]:
        """Return how many cells the things have in common with others, int32 ``[others, N]``.

        Args:
            cells: int32 ``[2, k]`` of each of the others; at least one other.
            shifts: ways that these go first, complex128 ``[others]``, in cells.
        """
        ends = np.array([part.shape[1] for part in cells]).cumsum(dtype=np.int32)
        steps = shifts.view(np.float64).round().astype(np.int32).reshape(-1, 2)
        common = np.zeros((len(cells), len(self.cells)), np.int32)
        places = np.ascontiguousarray(np.concatenate(cells, axis=1))
        _tracks.count_common(places, ends, steps, self.owners, common)
        return common


def on_grid(
    segmentation: Segmentation, ids: npt.NDArray[np.int32], things: Sequence[int]
) -> GridSegments:
    """Return things on the grid.

    Args:
        segmentation: panoptic or instance.
        ids: its map, C-contiguous.
        things: indices into its `segments_info`.
    """
    height, width = ids.shape
    step = max(1, min(round((ids.size / _CELLS) ** 0.5), height, width))
    rows, columns = (-(-(length - step // 2) // step) for length in (height, width))
    owners = np.empty((rows, columns), np.int16)
    places = np.empty((2, rows * columns), np.int32)
    ends = np.zeros(len(things), np.int32)
    sums = np.zeros((len(things), 2), np.int64)
    _tracks.sort_cells(ids, _index_of_id(segmentation, things), step, owners, places, ends, sums)
    stops = ends.tolist()
    cells = [places[:, start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
    counts = np.diff(ends, prepend=np.int32(0))
    areas = np.maximum(counts, 1).astype(np.float64)
    means = sums / areas[:, None]
    centres = means.view(np.complex128).reshape(-1)
    # Those without a cell are too small for the grid, or hidden by a surer instance.
    absent = np.flatnonzero(counts == 0).tolist()
    if absent:
        middles = _middles(segmentation, ids, [things[index] for index in absent])
        for index, middle in zip(absent, middles, strict=True):
            cells[index] = (middle // step).astype(np.int32)[:, None]
            centres[index] = complex(*(middle / step))
    return GridSegments(step, owners, cells, centres, areas)


def _middles(
    segmentation: Segmentation, ids: npt.NDArray[np.int32], indices: Sequence[int]
) -> list[npt.NDArray[np.float64]]:
    """Return the mean row and column of each segment's pixels, in pixels; zeros of none.

    Args:
        segmentation: panoptic or instance.
        ids: its map, C-contiguous.
        indices: into its `segments_info`.
    """
    if segmentation.masks is not None:
        places = [np.argwhere(segmentation.masks[index]) for index in indices]
        return [part.mean(axis=0) if len(part) else np.zeros(2) for part in places]
    sums = np.zeros((len(indices), 3), np.int64)
    _tracks.sum_places(ids, _index_of_id(segmentation, indices), sums)
    pixels = np.maximum(sums[:, 0], 1)
    return list(np.stack((sums[:, 1] / pixels, sums[:, 2] / 2 / pixels), axis=1))


def _index_of_id(segmentation: Segmentation, indices: Sequence[int]) -> npt.NDArray[np.int16]:
    """Return the place in `indices` of each segment's id, -1 of others."""
    numbers = [segmentation.segments_info[index]["id"] for index in indices]
    table = np.full(max(numbers, default=0) + 1, -1, np.int16)
    table[numbers] = np.arange(len(indices), dtype=np.int16)
    return table
