"""The choice of queries that speak, each for a class.

Classes are rows of a text table, so a vocabulary of any size costs one small product per image.
The table's last row is the embedding of "background", which stands for *void* (no object).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError

__all__ = ["LEAST_PROBABILITY", "Selection", "block_products", "class_probabilities"]
__all__ += ["class_shares", "classify", "join_regions", "keep_panoptic", "top_instances"]
__all__ += ["with_distractors"]

_BLOCK_ROWS = 8
_BLOCK_MACS = 1 << 19
LEAST_PROBABILITY = np.float32(1e-30)
"""That logarithms are taken of."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Queries chosen from class logits, with the class that each speaks for.

    Attributes:
        queries: int64 ``[N]``; a query may occur once per class.
        scores: float32 ``[N]``, class probabilities.
        labels: int64 ``[N]``, indices into the vocabulary.
    """

    queries: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.queries)

    @cached_property
    def unique_queries(self) -> npt.NDArray[np.int64]:
        """The queries whose masks are needed, ascending, each once: int64 ``[U]``."""
        return np.unique(self.queries)

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """For each entry the index of its query in `unique_queries`: int64 ``[N]``."""
        return np.searchsorted(self.unique_queries, self.queries)


def classify(
    class_embeddings: npt.NDArray[np.floating], text_table: npt.NDArray[np.floating], scale: float
) -> npt.NDArray[np.float32]:
    """Return class logits of every query.

    Args:
        class_embeddings: ``[Q, D]``, of any length.
        text_table: ``[K + 1, D]``, unit rows, the last one void.
        scale: exp(logit_scale), not clamped.

    Returns:
        float32 ``[Q, K + 1]``.

    Raises:
        ArgumentError: the shapes do not fit each other.
    """
    embeddings = np.asarray(class_embeddings, dtype=np.float32)
    table = np.asarray(text_table, dtype=np.float32)
    if embeddings.ndim != 2 or table.ndim != 2 or embeddings.shape[1] != table.shape[1]:
        raise ArgumentError(
            f"class embeddings {embeddings.shape} and text table {table.shape} do not fit",
            expected="[queries, width] and [classes + 1, width]",
        )
    unit = embeddings / (np.linalg.norm(embeddings, axis=1, keepdims=True) + 1e-7)
    return np.ascontiguousarray(block_products(table, unit * np.float32(scale)).T)


def with_distractors(
    class_logits: npt.NDArray[np.float32], distractor_logits: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return class logits in which void has the probability of words that nobody asked for, too.

    Args:
        class_logits: ``[Q, K + 1]``, the last column void.
        distractor_logits: ``[Q, N]``.

    Returns:
        float32 ``[Q, K + 1]``; and ``[Q, 1]``, the part of void's probability that is theirs.
    """
    others = np.concatenate((class_logits[:, -1:], distractor_logits), axis=1)
    most = others.max(axis=1, keepdims=True)
    powers = np.exp(others - most)
    total = powers.sum(axis=1, keepdims=True)
    joined = class_logits.copy()
    joined[:, -1:] = most + np.log(total)
    return joined, 1 - powers[:, :1] / total


def join_regions(
    class_logits: npt.NDArray[np.float32],
    region_probabilities: npt.NDArray[np.float32],
    weight: float,
    void_yield: float = 0.0,
    distractor_part: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Return class logits joined with what a classifier says of the queries' regions.

    A mean of both probabilities, in which the classifier counts as far as the decoder is unsure,
    and by the square of how sure it is itself of a class. So a query that the decoder is sure of
    keeps its class and outbids what the classifier names beside it, and void gives way only to what
    somebody is sure of. A geometric mean, as for a decoder that knows photographs, lets queries
    speak that void silences because another query has their object.

    What the decoder would call by a word that nobody asked for is something, of which the
    classifier may know better what: there it counts as far as it is sure, whatever the weight.

    Args:
        class_logits: ``[Q, K + 1]``, the last column void.
        region_probabilities: ``[Q, K + 1]``, the last column none of the classes.
        weight: share of a classifier that is sure beside a decoder that is not at all, 0 to 1.
        void_yield: share that void's probability then loses where the classifier is sure of a
            class, 0 to 1.
        distractor_part: ``[Q, 1]`` of :func:`with_distractors`, or None.

    Returns:
        float32 ``[Q, K + 1]``, logarithms of probabilities.
    """
    decoder = class_probabilities(class_logits)
    doubt = 1 - decoder[:, :-1].max(axis=1, keepdims=True)
    certainty = region_probabilities[:, :-1].max(axis=1, keepdims=True)
    shares = np.float32(weight) * doubt * certainty**2
    joined = decoder + shares * (region_probabilities - decoder)
    if distractor_part is not None:
        others = (1 - shares) * decoder[:, -1:] * distractor_part
        given = others * certainty**2 * region_probabilities[:, :-1]
        joined[:, :-1] += given
        joined[:, -1] -= given.sum(axis=1)
    if void_yield:
        joined[:, -1:] *= 1 - np.float32(void_yield) * certainty
        joined /= joined.sum(axis=1, keepdims=True)
    logits: npt.NDArray[np.float32] = np.log(np.maximum(joined, LEAST_PROBABILITY))
    return logits


def class_shares(
    name_probabilities: npt.NDArray[np.floating], relation: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Return how likely each class is in each region, by a classifier's own names.

    Args:
        name_probabilities: ``[Q, names]``.
        relation: ``[K + 1, names]``, of each class and void, columns summing to 1.

    Returns:
        float32 ``[Q, K + 1]``.
    """
    names = np.asarray(name_probabilities, dtype=np.float32)
    return np.ascontiguousarray(block_products(np.asarray(relation, dtype=np.float32), names).T)


def block_products(
    table: npt.NDArray[np.float32], unit: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return ``table @ unit.T``, in blocks so small that BLAS takes each on the calling thread.

    As one product it would be shared out to all cores, and where those have other work the threads
    wait for one another: tens of milliseconds instead of less than one.
    """
    rows, queries = len(table), len(unit)
    block = max(1, min(_BLOCK_ROWS, _BLOCK_MACS // max(1, unit.size)))
    whole = rows - rows % block
    products = np.empty((rows, queries), dtype=np.float32)
    np.matmul(
        table[:whole].reshape(-1, block, table.shape[1]),
        unit.T,
        out=products[:whole].reshape(-1, block, queries),
    )
    np.matmul(table[whole:], unit.T, out=products[whole:])
    return products


def class_probabilities(class_logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Apply softmax over the classes and void: ``[Q, K + 1]`` to float32 ``[Q, K + 1]``.

    Raises:
        ArgumentError: not two axes, or no class beside void.
    """
    logits = _checked_logits(class_logits)
    powers = logits - logits.max(axis=1, keepdims=True)
    np.exp(powers, out=powers)
    probabilities: npt.NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _checked_logits(class_logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    logits = np.asarray(class_logits, dtype=np.float32)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ArgumentError(
            f"the class logits have shape {logits.shape}",
            expected="[queries, classes + 1] with at least one class",
        )
    return logits


def keep_panoptic(class_logits: npt.NDArray[np.floating], threshold: float) -> Selection:
    """Select the queries that take part in panoptic output, ascending.

    A query is kept when its best class is not void and has a probability above `threshold`
    (the original's ``OBJECT_MASK_THRESHOLD``, 0.8).

    Args:
        class_logits: ``[Q, K + 1]``, the last column void.
        threshold: 0 to 1.

    Raises:
        ArgumentError: `class_logits` has another shape.
    """
    logits = _checked_logits(class_logits)
    labels = logits.argmax(axis=1)
    # The softmax of the best class is all that is wanted of it.
    powers = logits - logits.max(axis=1, keepdims=True)
    scores = np.float32(1.0) / np.exp(powers, out=powers).sum(axis=1)
    queries = np.flatnonzero((labels != logits.shape[1] - 1) & (scores > threshold))
    return Selection(queries, scores[queries], labels[queries])


def top_instances(
    class_logits: npt.NDArray[np.floating],
    top_k: int,
    is_thing: npt.NDArray[np.bool_] | None = None,
) -> Selection:
    """Select the best (query, class) pairs, best first.

    The `top_k` highest probabilities over all queries and classes without void; of these, the
    pairs whose class is a thing. One query may be chosen for several classes.

    Args:
        class_logits: ``[Q, K + 1]``, the last column void.
        top_k: pairs to look at (the original's ``DETECTIONS_PER_IMAGE``, 100).
        is_thing: bool ``[K]``; None keeps every class.

    Raises:
        ArgumentError: wrong shapes, or `top_k` is negative.
    """
    scores = class_probabilities(class_logits)[:, :-1]
    classes = scores.shape[1]
    if top_k < 0:
        raise ArgumentError(f"top_k is {top_k}", expected="0 or more")
    if is_thing is not None and np.shape(is_thing) != (classes,):
        raise ArgumentError(
            f"is_thing has shape {np.shape(is_thing)}",
            expected=f"one entry per class, ({classes},)",
        )
    # Stable, so that ties are ordered by query and class on every machine.
    order = np.argsort(-scores, axis=None, kind="stable")[:top_k]
    queries, labels = np.divmod(order, classes)
    if is_thing is not None:
        things = np.asarray(is_thing, dtype=bool)[labels]
        order, queries, labels = order[things], queries[things], labels[things]
    return Selection(queries, scores.reshape(-1)[order], labels)
