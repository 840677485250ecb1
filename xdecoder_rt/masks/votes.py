"""Queries that found the same thing agree on what it is, and one of them speaks.

A decoder without non-maximum suppression learns to let one query have a thing and to make the
others say void. What it has never seen it finds with several, none of them sure. Two rules make one
answer of theirs: the words of queries whose masks overlap count for one another, so that together
they outbid void; then of those with nearly the same mask the surest stays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xdecoder_rt.masks.classification import (
    LEAST_PROBABILITY,
    Selection,
    block_products,
    class_probabilities,
)

__all__ = ["join_votes", "without_duplicates"]

_EXPONENT = 3
"""Of an overlap: a query that shares half of its mask has an eighth of its vote."""
_SAME = 0.5
"""Masks that overlap by more are of one thing."""


def join_votes(
    class_logits: npt.NDArray[np.float32], overlaps: npt.NDArray[np.float32], weight: float
) -> npt.NDArray[np.float32]:
    """Return class logits in which queries count that have much the same mask.

    To each word's probability is added that of the other queries, by the cube of their overlap and
    `weight`. Void has no votes, so what several queries say of one thing outbids it.

    Args:
        class_logits: ``[Q, K + 1]``, the last column void.
        overlaps: ``[Q, Q]``, intersection over union of the masks.
        weight: of a vote whose mask is the same, 0 to 1.

    Returns:
        float32 ``[Q, K + 1]``, logarithms of probabilities.
    """
    probabilities = class_probabilities(class_logits)
    shares = overlaps**_EXPONENT * np.float32(weight)
    np.fill_diagonal(shares, 0.0)
    words = np.ascontiguousarray(probabilities[:, :-1].T)
    probabilities[:, :-1] += block_products(words, shares).T
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    logits: npt.NDArray[np.float32] = np.log(np.maximum(probabilities, LEAST_PROBABILITY))
    return logits


def without_duplicates(selection: Selection, overlaps: npt.NDArray[np.float32]) -> Selection:
    """Return a selection in which no two queries have nearly the same mask; the surer one stays.

    Args:
        selection: queries, each once.
        overlaps: ``[Q, Q]`` of all queries.
    """
    is_free = np.ones(len(selection), dtype=np.bool_)
    same = overlaps[np.ix_(selection.queries, selection.queries)] > _SAME
    for best in np.argsort(-selection.scores, kind="stable"):
        if is_free[best]:
            is_free &= ~same[best]
            is_free[best] = True
    return Selection(
        selection.queries[is_free], selection.scores[is_free], selection.labels[is_free]
    )
