"""The pairs of rows and columns whose scores add up to most."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xdecoder_rt.pixels.variants import fastest

__all__ = ["best_pairs"]

_tracks = fastest("xdecoder_rt.masks._tracks")

Floats = npt.NDArray[np.float64]


def best_pairs(scores: Floats) -> list[tuple[int, int]]:
    """Return pairs with the greatest sum of scores, each row and column in one pair at most.

    Args:
        scores: float64 ``[R, C]`` from 0; 0 is no pair.

    Returns:
        Pairs of a row and a column, rows ascending.
    """
    allowed = scores > 0
    row_counts, column_counts = allowed.sum(axis=1), allowed.sum(axis=0)
    pairs: list[tuple[int, int]] = []
    # Most rows have one column that has no other row: these need no search.
    only = np.flatnonzero(row_counts == 1)
    columns = allowed[only].argmax(axis=1) if len(only) else only
    alone = column_counts[columns] == 1
    pairs += zip(only[alone].tolist(), columns[alone].tolist(), strict=True)
    open_rows, open_columns = row_counts > 0, column_counts > 0
    open_rows[only[alone]] = False
    open_columns[columns[alone]] = False
    rows, columns = np.flatnonzero(open_rows), np.flatnonzero(open_columns)
    if len(rows):
        part = scores[np.ix_(rows, columns)]
        if len(rows) <= len(columns):
            found = list(enumerate(_assigned(part.max() - part)))
        else:
            found = [(row, i) for i, row in enumerate(_assigned(part.max() - part.T))]
        pairs += [(int(rows[i]), int(columns[j])) for i, j in found if part[i, j] > 0]
    return sorted(pairs)


def _assigned(cost: Floats) -> list[int]:
    """Return each row's column for the least sum.

    Args:
        cost: ``[R, C]`` with R <= C, from 0.
    """
    assigned = np.zeros(len(cost), np.int64)
    _tracks.assign(np.ascontiguousarray(cost), assigned)
    found: list[int] = assigned.tolist()
    return found
