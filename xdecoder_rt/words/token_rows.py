"""Texts that share a beginning in one row of tokens, so that the beginning is encoded once.

A causal encoder's state at a token depends on the tokens before it alone. So texts are a prefix
tree: a node is a token after a certain beginning, and is encoded once however many texts go through
it. Nodes of the tree are laid into rows of bounded length, each node seeing its ancestors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ROW_TOKENS", "TokenBatch", "TokenRow", "batches", "rows"]

# Attention within a row grows with its length, beginnings that rows repeat shrink with it.
ROW_TOKENS = 128
BATCH_ROWS = 4
# Rows are filled up to a multiple of this: to some backends a new length is a new plan of a graph.
LENGTH_MULTIPLE = 16


@dataclass(frozen=True)
class TokenRow:
    """A row of tokens: some nodes of the prefix tree, parents before their children.

    Attributes:
        token_ids: of each node.
        places: of each node in its texts; its depth in the tree.
        parents: the row's index of each node's parent, -1 for the first token of a text.
        paths: index of a text to the nodes that it goes through, one a token.
    """

    token_ids: tuple[int, ...]
    places: tuple[int, ...]
    parents: tuple[int, ...]
    paths: dict[int, tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True)
class TokenBatch:
    """Rows filled up to one length, as the text graph takes them.

    Attributes:
        token_ids: int64 ``[T, L]``.
        places: int64 ``[T, L]``.
        visible: bool ``[T, L, L]``: a node sees its ancestors and itself.
        paths: of each row; see :class:`TokenRow`.
    """

    token_ids: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    visible: npt.NDArray[np.bool_]
    paths: tuple[dict[int, tuple[int, ...]], ...]


def rows(texts: Sequence[tuple[int, ...]], limit: int = ROW_TOKENS) -> Iterator[TokenRow]:
    """Lay texts into rows, those alike side by side.

    Args:
        texts: token ids of each; none is empty.
        limit: most nodes of a row; a longer text gets a row of its own.
    """
    order = sorted(range(len(texts)), key=texts.__getitem__)
    start = 0
    while start < len(order):
        row, start = _row(texts, order, start, limit)
        yield row


def batches(texts: Sequence[tuple[int, ...]], limit: int = ROW_TOKENS) -> Iterator[TokenBatch]:
    """Batch rows of like length together, up to :data:`BATCH_ROWS` at a time."""
    waiting: dict[int, list[TokenRow]] = {}
    for row in rows(texts, limit):
        length = -(-len(row) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
        similar_rows = waiting.setdefault(length, [])
        similar_rows.append(row)
        if len(similar_rows) == BATCH_ROWS:
            yield _batch(waiting.pop(length), length)
    for length, similar_rows in waiting.items():
        yield _batch(similar_rows, length)


def _row(
    texts: Sequence[tuple[int, ...]], order: list[int], start: int, limit: int
) -> tuple[TokenRow, int]:
    """Return the row that begins with a text, and where in `order` the next one begins."""
    token_ids: list[int] = []
    places: list[int] = []
    parents: list[int] = []
    paths: dict[int, tuple[int, ...]] = {}
    previous: tuple[int, ...] = ()
    path: tuple[int, ...] = ()
    for at in range(start, len(order)):
        text = texts[order[at]]
        common = _common(previous, text)
        if token_ids and len(token_ids) + len(text) - common > limit:
            return TokenRow(tuple(token_ids), tuple(places), tuple(parents), paths), at
        nodes = list(path[:common])
        for place in range(common, len(text)):
            parents.append(nodes[-1] if nodes else -1)
            nodes.append(len(token_ids))
            token_ids.append(text[place])
            places.append(place)
        previous, path = text, tuple(nodes)
        paths[order[at]] = path
    return TokenRow(tuple(token_ids), tuple(places), tuple(parents), paths), len(order)


def _common(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Return the length of the beginning that two texts share."""
    for place, (first_token, second_token) in enumerate(zip(first, second, strict=False)):
        if first_token != second_token:
            return place
    return min(len(first), len(second))


def _batch(similar_rows: list[TokenRow], length: int) -> TokenBatch:
    shape = (len(similar_rows), length)
    token_ids, places = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    # What fills a row up sees itself, because a softmax must be over something.
    visible = np.tile(np.eye(length, dtype=np.bool_), (len(similar_rows), 1, 1))
    for i, row in enumerate(similar_rows):
        token_ids[i, : len(row)], places[i, : len(row)] = row.token_ids, row.places
        for node, parent in enumerate(row.parents):
            if parent >= 0:
                visible[i, node] |= visible[i, parent]
    return TokenBatch(token_ids, places, visible, tuple(row.paths for row in similar_rows))
