"""The pairs of rows and columns whose scores add up to most."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["best_pairs"]

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
    """Return each row's column for the least sum, by shortest augmenting paths.

    Args:
        cost: ``[R, C]`` with R <= C, from 0.
    """
    rows, columns = cost.shape
    # Potentials of Jonker and Volgenant; column 0 is where a path begins.
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    owner = np.zeros(columns + 1, np.int64)
    for row in range(1, rows + 1):
        owner[0], column = row, 0
        distance = np.full(columns + 1, np.inf)
        before = np.zeros(columns + 1, np.int64)
        visited = np.zeros(columns + 1, np.bool_)
        while True:
            visited[column] = True
            current = owner[column]
            reduced = cost[current - 1] - row_price[current] - column_price[1:]
            is_shorter = ~visited[1:] & (reduced < distance[1:])
            distance[1:][is_shorter] = reduced[is_shorter]
            before[1:][is_shorter] = column
            nearest = int(np.where(visited, np.inf, distance)[1:].argmin()) + 1
            step = distance[nearest]
            row_price[owner[visited]] += step
            column_price[visited] -= step
            distance[~visited] -= step
            column = nearest
            if owner[column] == 0:
                break
        while column:
            owner[column], column = owner[before[column]], int(before[column])
    result = [0] * rows
    for column in range(1, columns + 1):
        if owner[column]:
            result[owner[column] - 1] = column - 1
    return result
