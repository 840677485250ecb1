"""Visual question answering: the question's last row against the texts of possible answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xdecoder_rt import tasks
from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.results import Answer
from xdecoder_rt.rows import RowGroup
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import DecodedRows, Floats, ImageState
from xdecoder_rt.words.encoder import unit
from xdecoder_rt.words.normal_form import clean_name, name_key
from xdecoder_rt.words.word import check_text


@dataclass(frozen=True)
class AnswerQuestion:
    """A question on the image.

    Attributes:
        choices: the possible answers, as results name them.
        texts: what is embedded of each.
        group: the rows of its words.
    """

    is_textual: ClassVar[bool] = False
    choices: tuple[str, ...]
    texts: tuple[str, ...]
    group: RowGroup

    @classmethod
    def ask(
        cls, runtime: Runtime, question: str, choices: Sequence[str] | None, strict: bool
    ) -> AnswerQuestion:
        """Check and encode a question; its arguments are those of :meth:`Engine.answer`.

        Raises:
            ArgumentError: there is nothing to choose from, a choice is there twice, the plan lacks
                this task, or the runtime is closed.
            VocabularyError: a text is empty, unreadable, or too long and `strict` is set.
        """
        runtime.require("answer")
        checked = check_choices(choices, runtime.manifest.text.answers)
        text = check_text(question, "The question")
        runtime.text.check_lengths([text], strict)
        (features,) = runtime.text.token_features([text])
        # The plan's own answers are embedded exactly as they were trained.
        texts = checked if choices is None else tuple(map(clean_name, checked))
        return cls(checked, texts, question_group(features, runtime.manifest.decoder.num_queries))

    def groups(self, state: ImageState) -> Sequence[RowGroup]:
        """Return the rows of the question's words."""
        return (self.group,)

    def read(self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]) -> Answer:
        """Compare the question's last row with the choices."""
        (question,) = rows
        scale = runtime.manifest.decoder.logit_scale
        return read_answer(question, self.choices, runtime.text.table(self.texts), scale)


def check_choices(choices: Sequence[str] | None, answers: Sequence[str]) -> tuple[str, ...]:
    """Return what a question is answered from.

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
        raise ArgumentError(f"choices is {quoted(choices)}", expected="a list of answers")
    texts = tuple(check_text(choice, f"Choice {i}") for i, choice in enumerate(choices))
    if not texts:
        raise ArgumentError("There are no choices", expected="at least one, or None")
    earlier: dict[str, str] = {}
    for text in texts:
        key = name_key(text)
        if key in earlier:
            spelling = "" if earlier[key] == text else f" (also as {quoted(earlier[key])})"
            raise ArgumentError(
                f"The choice {quoted(text)} is there twice{spelling}", expected="each once"
            )
        earlier[key] = text
    return texts


def question_group(features: Floats, num_queries: int) -> RowGroup:
    """Return the rows that a question adds; `features` are those of its tokens, ``[L, D]``."""
    return RowGroup(tasks.group("answer", num_queries, len(features)), features)


def read_answer(
    rows: DecodedRows, choices: Sequence[str], table: Floats, logit_scale: float
) -> Answer:
    """Return the choice whose text is nearest to what the question's last row says.

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
