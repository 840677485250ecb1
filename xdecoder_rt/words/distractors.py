"""Words that nobody asked for and that compete all the same: those of the training.

Asked for six words, a decoder that learnt hundreds has to choose among six. What it would have
called a horse becomes the best of them. So a plan may bring the words of its training: those that
are unlike every word of a call take part in its softmax, and what they win is void. A vocabulary
with an other class, which has what is none of its words, is asked without them.
"""

from __future__ import annotations

from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import DistractorInfo
from xdecoder_rt.words.per_table import PerTable
from xdecoder_rt.words.text_graph import Features
from xdecoder_rt.words.vectors import read_vectors

__all__ = ["Distractors", "distractors_of"]


class Distractors:
    """The words of a plan's training, as embeddings. Calls may come from many threads.

    Args:
        info: the plan's section of them.
        vectors: float32 ``[count, D]``, unit rows.
    """

    def __init__(self, info: DistractorInfo, vectors: Features) -> None:
        self._info = info
        self._vectors = vectors
        self.beside = PerTable(lambda table: self._unlike(table, info.likeness))
        """From a table of words ``[K + 1, D]``, the last row void's, to the distractors that are
        unlike each of them, float32 ``[N, D]``: a synonym of a word must not compete with it."""

    def beside_for_regions(self, table: Features) -> Features:
        """Return the same for what a classifier says of regions; its asker keeps what it makes."""
        return self._unlike(table, self._info.region_likeness)

    def _unlike(self, table: Features, least: float) -> Features:
        likeness = (self._vectors @ table[:-1].T).max(axis=1)
        unlike: Features = self._vectors[likeness < least]
        return unlike


def distractors_of(plan: Plan) -> Distractors | None:
    """Return the distractors that a plan brings; None for a plan without.

    Raises:
        PlanError: their member is damaged or of another size.
    """
    info = plan.manifest.distractors
    if info is None:
        return None
    return Distractors(info, read_vectors(plan, info.vectors, info.count, "distractors"))
