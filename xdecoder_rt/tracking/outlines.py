"""Segments of a frame on a coarse grid: which cells are whose, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdecoder_rt.results import Segmentation

__all__ = ["GridSegments", "on_grid"]

# Finer grids change no id on the rendered sequences, and cost more.
_CELLS = 30_000


@dataclass(frozen=True, eq=False)
class GridSegments:
    """Things of a frame on a grid.

    Attributes:
        step: pixels a cell.
        owners: int16 ``[h, w]``, the index of the thing in each cell, -1 for none.
        cells: int32 ``[2, k]`` of each thing, rows and columns; at least one cell.
        centres: float64 ``[N, 2]``, in cells.
        areas: float64 ``[N]``, in cells.
    """

    step: int
    owners: npt.NDArray[np.int16]
    cells: list[npt.NDArray[np.int32]]
    centres: npt.NDArray[np.float64]
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
    table = np.full(max(max(numbers, default=0), int(coarse.max(initial=0))) + 1, -1, np.int16)
    table[numbers] = np.arange(len(things))
    owners = table[coarse.clip(0)]
    rows, columns = np.nonzero(owners >= 0)
    owned = owners[rows, columns]
    order = np.argsort(owned, kind="stable")
    counts = np.bincount(owned, minlength=len(things))
    places = np.stack((rows, columns)).astype(np.int32)[:, order]
    cells = np.split(places, counts.cumsum()[:-1], axis=1) if things else []
    for index in np.flatnonzero(counts == 0).tolist():
        # Too small for the grid, or hidden by a surer instance.
        found = np.argwhere(segmentation.mask(things[index]))
        middle = found.mean(axis=0) if len(found) else np.zeros(2)
        cells[index] = (middle // step).astype(np.int32)[:, None]
    centres = np.array([part.mean(axis=1) for part in cells]).reshape(-1, 2)
    return GridSegments(step, owners, cells, centres, np.maximum(counts, 1).astype(np.float64))
