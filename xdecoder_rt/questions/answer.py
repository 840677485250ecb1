"""Visual question answering: the question's last row against the texts of possible answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xdecoder_rt import tasks
from xdecoder_rt.errors import ArgumentError, shown
from xdecoder_rt.results import Answer
from xdecoder_rt.rows import Group
from xdecoder_rt.state import DecodedRows, Floats
from xdecoder_rt.words.encoder import unit
from xdecoder_rt.words.word import check_text


def check_choices(choices: Sequence[str] | None, answers: Sequence[str]) -> tuple[str, ...]:
    """What a question is answered from.

    Args:
        choices: the caller's, or None.
        answers: the plan's own.

    Raises:
        ArgumentError: there are no choices, or one is there twice.
        VocabularyError: a choice is empty or unreadable.
    """
    if choices is None:
        if not answers:
            raise ArgumentError(
                "There are no choices, and the plan has no answers of its own",
                fix='give choices=["yes", "no"], or build from a checkpoint trained on questions',
            )
        return tuple(answers)
    if isinstance(choices, str) or not isinstance(choices, Sequence):
        raise ArgumentError(f"choices is {shown(choices)}", expected="a list of answers")
    texts = tuple(check_text(choice, f"Choice {i}") for i, choice in enumerate(choices))
    if not texts:
        raise ArgumentError("There are no choices", expected="at least one, or None")
    if len(set(texts)) < len(texts):
        twice = next(text for i, text in enumerate(texts) if text in texts[:i])
        raise ArgumentError(f"The choice {shown(twice)} is there twice", expected="each once")
    return texts


def question_group(features: Floats, num_queries: int) -> Group:
    """The rows that a question adds to a decode; ``features`` are its tokens', ``[L, D]``."""
    return Group(tasks.group("answer", num_queries, len(features)), features)


def read_answer(
    rows: DecodedRows, choices: Sequence[str], table: Floats, logit_scale: float
) -> Answer:
    """The choice whose text is nearest to what the question's last row says.

    Args:
        rows: the question's.
        choices: K texts.
        table: their unit embeddings, ``[K, D]``.
        logit_scale: factor of the cosines.
    """
    (class_embedding,) = rows.answer("answer")
    logits = logit_scale * (table @ unit(class_embedding[0])).astype(np.float64)
    weights = np.exp(logits - logits.max())
    scores = weights / weights.sum()
    best = int(scores.argmax())
    by_choice = {choice: float(score) for choice, score in zip(choices, scores, strict=True)}
    return Answer(choices[best], float(scores[best]), by_choice)
