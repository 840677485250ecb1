"""Finding places for labels on a picture: inside their segments, apart from one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["LabelPlacer", "LabelPlace"]

_GRID_CELLS = 160
_HIDES_THINGS = 2.0
_FAR_FROM_CENTRE = 0.35
_SMALL = 2.5

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelPlace:
    """The place of a label, in pixels.

    Attributes:
        x: its left edge.
        y: its top edge.
        anchor: for a label beside its segment, the (x, y) of the segment that a line should lead
            to; None for one inside.
    """

    x: int
    y: int
    anchor: tuple[int, int] | None


class LabelPlacer:
    """Gives each label a rectangle that no other label has.

    The picture is looked at on a coarse grid; sums over all positions of a rectangle come from one
    integral image each.

    Args:
        indices: int ``[H, W]``, 0 for nothing, k for the k-th segment.
        is_quiet: per segment, whether it is background, which labels may hide.
    """

    def __init__(self, indices: npt.NDArray[np.int32], is_quiet: Sequence[bool]) -> None:
        self._cell = max(1, math.ceil(max(indices.shape) / _GRID_CELLS))
        self._size = indices.shape
        # A picture thinner than a cell has a row or column of the grid all the same.
        first = [min(self._cell // 2, side - 1) for side in indices.shape]
        self._points = np.s_[first[0] :: self._cell, first[1] :: self._cell]
        self._grid = indices[self._points]
        areas = np.bincount(self._grid.ravel(), minlength=len(is_quiet) + 1)
        is_thing = ~np.array([True, *is_quiet])
        # Per cell, the share of its thing that it is: hiding a corner of a table costs little,
        # hiding a mug costs a mug.
        self._shares = np.where(is_thing, 1 / np.maximum(areas, 1), 0.0)[self._grid]
        self._occupied = np.zeros(self._grid.shape, dtype=bool)

    def take(self, segment: int, plate: tuple[int, int]) -> LabelPlace | None:
        """Choose and occupy a place.

        A segment larger than its label carries it inside, near its centre; a smaller one has it
        beside, so as not to be hidden.

        Args:
            segment: the segment's index in the map, from 1.
            plate: width and height of the label in pixels.

        Returns:
            The place, or None if there is no free one.
        """
        return self._take(self._grid == segment, plate)

    def take_mask(self, mask: npt.NDArray[np.bool_], plate: tuple[int, int]) -> LabelPlace | None:
        """Choose a place as `take` does, for any region; of a scattered one, in its densest part.

        Args:
            mask: bool ``[H, W]``, of the map's size.
            plate: width and height of the label in pixels.
        """
        region = mask[self._points]
        if not region.any() and mask.any():  # it lies between the points of the grid
            region = np.zeros_like(region)
            rows, columns = np.nonzero(mask)
            region[
                (rows // self._cell).clip(max=region.shape[0] - 1),
                (columns // self._cell).clip(max=region.shape[1] - 1),
            ] = True
        return self._take(_densest(region), plate)

    def _take(self, region: npt.NDArray[np.bool_], plate: tuple[int, int]) -> LabelPlace | None:
        columns, rows = (math.ceil(side / self._cell) for side in plate)
        if not region.any() or rows > region.shape[0] or columns > region.shape[1]:
            return None
        if plate[0] > self._size[1] or plate[1] > self._size[0]:
            return None
        cells = rows * columns
        is_small = region.sum() < _SMALL * cells
        if is_small:
            covered = np.zeros((region.shape[0] - rows + 1, region.shape[1] - columns + 1))
            hidden = _box_sums(np.where(region, 1 / region.sum(), self._shares), rows, columns)
        else:
            covered = _box_sums(region, rows, columns) / cells
            hidden = _box_sums(np.where(region, 0.0, self._shares), rows, columns)
        distance = _distances(region, covered.shape, rows, columns)
        score = covered - _HIDES_THINGS * hidden - _FAR_FROM_CENTRE * distance
        score[_box_sums(self._occupied, rows, columns) > 0] = -np.inf
        row, column = np.unravel_index(int(score.argmax()), score.shape)
        if not np.isfinite(score[row, column]):
            return None
        self._occupied[row : row + rows, column : column + columns] = True
        return LabelPlace(
            x=min(int(column) * self._cell, self._size[1] - plate[0]),
            y=min(int(row) * self._cell, self._size[0] - plate[1]),
            anchor=self._middle(region) if is_small else None,
        )

    def _middle(self, region: npt.NDArray[np.bool_]) -> tuple[int, int]:
        """Return the pixel (x, y) of the segment that is nearest to its centre of mass."""
        ys, xs = np.nonzero(region)
        nearest = int(np.hypot(ys - ys.mean(), xs - xs.mean()).argmin())
        down, across = self._points
        return (
            across.start + int(xs[nearest]) * self._cell,
            down.start + int(ys[nearest]) * self._cell,
        )


def _densest(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Confine a mask to the square of its own area that holds most of it."""
    side = math.ceil(math.sqrt(region.sum()))
    if not side:
        return region
    rows, columns = min(side, region.shape[0]), min(side, region.shape[1])
    sums = _box_sums(region, rows, columns)
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    part = np.zeros_like(region)
    window = np.s_[row : row + rows, column : column + columns]
    part[window] = region[window]
    return part


def _box_sums(values: npt.NDArray[np.bool_] | _Floats, rows: int, columns: int) -> _Floats:
    """Sum over the ``rows x columns`` box at every position where it lies inside."""
    integral = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    integral[1:, 1:] = values.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    sums: _Floats = (
        integral[rows:, columns:]
        - integral[:-rows, columns:]
        - integral[rows:, :-columns]
        + integral[:-rows, :-columns]
    )
    return sums


def _distances(
    region: npt.NDArray[np.bool_], shape: tuple[int, ...], rows: int, columns: int
) -> _Floats:
    """Return each box's distance from the segment's centre, in units of the segment's extent."""
    ys, xs = np.nonzero(region)
    extent = max(math.sqrt(len(ys)), rows, columns)
    down = np.arange(shape[0])[:, None] + rows / 2 - ys.mean()
    across = np.arange(shape[1])[None, :] + columns / 2 - xs.mean()
    distances: _Floats = np.hypot(down, across) / extent
    return distances
