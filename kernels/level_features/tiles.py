"""Tiles of the output of the level shrink, and the weights that each tile needs.

A tile is a few rows and columns of one level. Its values depend on a band of source rows and a
band of source columns, so beside the bands it needs two small dense blocks of the resize
matrices. All of it depends on the sizes alone: computed once on the host, read by the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.kernels.spec import ARGUMENT_ALIGNMENT
from xdecoder_rt.masks.resample import Axis, bicubic_axis

LAUNCH_LEVELS = 3
"""Levels that one launch serves."""

TILE_ROWS = 16
TILE_COLUMNS = 32
"""Output rows and columns of a tile."""

ROW_CHUNK = 32
COLUMN_CHUNK = 32
"""Source rows and columns that a tile takes in at a time."""

FIELDS = (
    "level",
    "row",
    "column",
    "height",
    "width",
    "source_row",
    "source_row_stop",
    "source_column",
    "source_column_stop",
    "row_weights",
    "column_weights",
)
"""Columns of the tile table: level, first output row and column, the level's size, the bands of
source rows and columns (the last column may lie past the map), and where the weights begin."""


@dataclass(frozen=True, eq=False)
class TilePlan:
    """The tiles of one plane.

    Attributes:
        table: int32 ``[tiles, len(FIELDS)]``, the longest-running tiles first.
        weights: float64, one after another the blocks ``[TILE_ROWS, source rows]`` and
            ``[source columns, TILE_COLUMNS]``, padded with zeros to whole tiles and whole chunks.
    """

    table: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Block:
    """Some outputs of an axis: the first, its band of the source, where its weights begin."""

    first: int
    start: int
    stop: int
    weights: int


class _Weights:
    """Blocks of weights, one after another."""

    def __init__(self) -> None:
        self.blocks: list[npt.NDArray[np.float64]] = []
        self.count = 0

    def add(self, block: npt.NDArray[np.float64]) -> int:
        """Append a block and return where it begins."""
        begin = self.count
        self.blocks.append(block.ravel())
        self.count += block.size
        return begin


def _cut(
    axis: Axis, per: int, chunk: int, alignment: int, weights: _Weights, transposed: bool
) -> list[_Block]:
    """Cut an axis into blocks of ``per`` outputs and lay down the weights of each.

    Bands begin and end at multiples of ``alignment``, so that loads are whole vectors.
    """
    matrix = axis.matrix()
    blocks = []
    for first in range(0, axis.target, per):
        last = min(first + per, axis.target)
        start = int(axis.first[first]) // alignment * alignment
        stop = int(axis.first[last - 1]) + axis.taps
        read = stop - start
        block = np.zeros((per, -(-read // chunk) * chunk))
        block[: last - first, :read] = matrix[first:last, start:stop]
        stop = -(-stop // alignment) * alignment
        blocks.append(_Block(first, start, stop, weights.add(block.T if transposed else block)))
    return blocks


@lru_cache(maxsize=64)
def tile_plan(size: tuple[int, int], sizes: tuple[tuple[int, int], ...]) -> TilePlan:
    """Return the tiles of the shrink of a map of ``size`` to the levels' ``sizes``.

    Raises:
        ArgumentError: there are not three levels, or a length is below 1.
    """
    if len(sizes) != LAUNCH_LEVELS:
        raise ArgumentError(
            f"there are {len(sizes)} levels", expected=f"the sizes of {LAUNCH_LEVELS} levels"
        )
    weights = _Weights()
    tiles = []
    for level, (height, width) in enumerate(sizes):
        rows = _cut(bicubic_axis(size[0], height), TILE_ROWS, ROW_CHUNK, 1, weights, False)
        columns = _cut(
            bicubic_axis(size[1], width),
            TILE_COLUMNS,
            COLUMN_CHUNK,
            ARGUMENT_ALIGNMENT,
            weights,
            True,
        )
        for row in rows:
            for column in columns:
                corner = (row.first, column.first)
                bands = (row.start, row.stop, column.start, column.stop)
                begins = (row.weights, column.weights)
                tiles.append((level, *corner, height, width, *bands, *begins))
    table = np.array(tiles, dtype=np.int32)
    area = (table[:, 6] - table[:, 5]) * (table[:, 8] - table[:, 7])
    table = np.ascontiguousarray(table[np.argsort(-area, kind="stable")])
    flat = np.concatenate(weights.blocks)
    for array in (table, flat):
        array.flags.writeable = False
    return TilePlan(table, flat)
