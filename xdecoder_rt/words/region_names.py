"""A classifier's own names in the words of a call: which of them mean which word."""

from __future__ import annotations

import numpy as np

from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import RegionInfo
from xdecoder_rt.words.distractors import Distractors
from xdecoder_rt.words.per_table import PerTable
from xdecoder_rt.words.text_graph import Features
from xdecoder_rt.words.vectors import read_vectors

__all__ = ["RegionNames", "names_of"]


class RegionNames:
    """The names of the classifier that a plan brings. Calls may come from many threads.

    Args:
        info: the plan's region section.
        vectors: float32 ``[names, D]``, each name in the space of texts.
        distractors: the plan's, or None.
    """

    def __init__(
        self, info: RegionInfo, vectors: Features, distractors: Distractors | None = None
    ) -> None:
        self.info = info
        self._vectors = vectors
        self._distractors = distractors
        self._relations = PerTable(lambda table: self._relation(table, None))
        self._contested = PerTable(lambda table: self._relation(table, distractors))

    def joined_by(self, info: RegionInfo) -> RegionNames:
        """Return the same names, joined in another way."""
        return RegionNames(info, self._vectors, self._distractors)

    def embedding(self, scores: Features) -> Features:
        """Return what the classifier says of a region as a point in the space of texts.

        Args:
            scores: float32 ``[names]``, probabilities.

        Returns:
            float32 ``[D]``: the names' vectors in these parts.
        """
        point: Features = scores @ self._vectors
        return point

    def relation(self, table: Features, is_contested: bool = False) -> Features:
        """Return how likely each word is meant by each name, and none of them.

        A softmax over the words, by the products of their embeddings with the name's vector, and
        over void, whose product is the plan's constant: so a name that fits none of the words
        speaks for void, whatever the words are.

        Args:
            table: ``[K + 1, D]`` unit rows, the last one void's, which is not read.
            is_contested: whether the plan's distractors are among the words, and speak for void.

        Returns:
            float32 ``[K + 1, names]``, columns summing to 1; read-only, kept for the table's next
            call.
        """
        return (self._contested if is_contested else self._relations)(table)

    def _relation(self, table: Features, distractors: Distractors | None) -> Features:
        words = len(table) - 1
        rivals = table[:0] if distractors is None else distractors.beside_for_regions(table)
        logits = np.empty((words + 1 + len(rivals), len(self._vectors)), np.float32)
        np.matmul(table[:-1], self._vectors.T, out=logits[:words])
        logits[words] = self.info.void
        np.matmul(rivals, self._vectors.T, out=logits[words + 1 :])
        logits *= np.float32(self.info.scale)
        logits -= logits.max(axis=0)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=0)
        logits[words] += logits[words + 1 :].sum(axis=0)
        return logits[: words + 1].copy() if len(rivals) else logits


def names_of(plan: Plan, distractors: Distractors | None = None) -> RegionNames | None:
    """Return the names that a plan's classifier of regions has; None for a plan without.

    Args:
        plan: an open plan.
        distractors: the plan's.

    Raises:
        PlanError: their member is damaged or of another size.
    """
    info = plan.manifest.region
    if info is None:
        return None
    vectors = read_vectors(plan, info.vectors, info.names, "names of regions")
    return RegionNames(info, vectors, distractors)
