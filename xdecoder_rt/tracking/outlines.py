"""Segments of a frame on a coarse grid: which cells are whose, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdecoder_rt.results import Segmentation

__all__ = ["GridSegments", "on_grid"]

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


def on_grid(segmentation: Segmentation, things: list[int]) -> GridSegments:
    """Return things on the grid.

    Args:
        segmentation: panoptic or instance.
        things: indices into its `segments_info`.
    """
    ids = segmentation.segmentation
    step = max(1, round((ids.size / _CELLS) ** 0.5))
    coarse = ids[step // 2 :: step, step // 2 :: step]
    if not coarse.size:
        coarse = ids
    numbers = [segmentation.segments_info[index]["id"] for index in things]
    # The last entry is what greater numbers, which are no thing's, are clipped to.
    table = np.full(max(numbers, default=0) + 2, -1, np.int16)
    table[numbers] = np.arange(len(things), dtype=np.int16)
    owners = table.take(coarse, mode="clip")
    flat = np.flatnonzero(owners.ravel() >= 0)
    owned = owners.ravel()[flat]
    order = np.argsort(owned, kind="stable")
    counts = np.bincount(owned, minlength=len(things))
    places = np.stack(np.divmod(flat[order].astype(np.int32), np.int32(owners.shape[1])))
    ends = counts.cumsum().tolist()
    cells = [places[:, first:last] for first, last in zip([0, *ends], ends, strict=False)]
    sums = [np.bincount(owned[order], part, len(things)) for part in places]
    centres = np.zeros(len(things), np.complex128)
    centres.real, centres.imag = sums[0], sums[1]
    centres /= np.maximum(counts, 1)
    for index in np.flatnonzero(counts == 0).tolist():
        # Too small for the grid, or hidden by a surer instance.
        found = np.argwhere(segmentation.mask(things[index]))
        middle = found.mean(axis=0) if len(found) else np.zeros(2)
        cells[index] = (middle // step).astype(np.int32)[:, None]
        centres[index] = complex(*(middle / step))
    return GridSegments(step, owners, cells, centres, np.maximum(counts, 1).astype(np.float64))
