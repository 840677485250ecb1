"""The answers that training knows, and those that one step chooses from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from xdecoder_rt.datasets.items import AnsweredQuestion, PanopticDataset
from xdecoder_rt.scenes.bank.composed import ComposedScenes

MOST_ANSWERS = 3000
COMPOSED_ITEMS = 300
"""How many items of an endless source stand for all of them."""
_ANSWER_STREAM = 5


def frequent_answers(
    sources: Iterable[PanopticDataset], limit: int = MOST_ANSWERS
) -> tuple[str, ...]:
    """Return the answers most often accepted in some data sets, the most frequent first.

    An answer that several people gave to one question counts as often; a blank one, which VQA
    has now and then, is none.

    Args:
        sources: data sets with questions, or without.
        limit: how many, at most.
    """
    counted = Counter(
        answer
        for source in sources
        for item in (
            source.items[:COMPOSED_ITEMS] if isinstance(source, ComposedScenes) else source.items
        )
        for question in item.questions
        for answer in question.answers
        if answer.strip()
    )
    # Equal counts in the order of the alphabet: the same data in another order gives the same.
    ranked = sorted(counted, key=lambda answer: (-counted[answer], answer))
    return tuple(ranked[:limit])


class AnswerSampler:
    """Candidate answers for the questions of one step.

    Args:
        answers: every answer that training knows.
        size: candidates a step, when the questions themselves have fewer.
        seed: seed of the draws.
    """

    def __init__(self, answers: Sequence[str], size: int, seed: int) -> None:
        self.answers = tuple(answers)
        self.size = size
        self.seed = seed

    def sample(self, questions: Sequence[AnsweredQuestion], position: int) -> tuple[str, ...]:
        """Return the answers that questions accept and offer, filled up at random.

        Args:
            questions: those of all images.
            position: of the step's first sample; the same arguments give the same candidates.
        """
        if not questions:
            return ()
        step_answers = [text for q in questions for text in (*q.answers, *(q.choices or ()))]
        rng = np.random.default_rng((_ANSWER_STREAM, self.seed, position))
        drawn = (self.answers[int(i)] for i in rng.permutation(len(self.answers)))
        candidates = dict.fromkeys(step_answers)
        for answer in drawn:
            if len(candidates) >= self.size:
                break
            candidates.setdefault(answer)
        return tuple(candidates)
