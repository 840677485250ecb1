"""The texts of one training image: phrases, a caption, a question."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from xdecoder_rt.datasets.items import AnsweredQuestion, PanopticItem, Phrase
from xdecoder_rt.scenes.language import mirrored

PHRASES_PER_IMAGE = 3
# Tasks that learn from captions: writing them, and finding their images.
_CAPTIONED = frozenset(("caption", "embed"))


@dataclass(frozen=True)
class Texts:
    """Texts of one image.

    Attributes:
        phrases: what is to be found, of different texts.
        caption: a description, or None.
        question: a question with its answers, or None.
    """

    phrases: tuple[Phrase, ...] = ()
    caption: str | None = None
    question: AnsweredQuestion | None = None

    def mirrored(self) -> Texts:
        """Return the texts of the mirrored image: left is right."""
        question = self.question
        if question is not None:
            question = replace(
                question,
                text=mirrored(question.text),
                answers=tuple(map(mirrored, question.answers)),
                choices=question.choices and tuple(map(mirrored, question.choices)),
            )
        return Texts(
            tuple(replace(phrase, text=mirrored(phrase.text)) for phrase in self.phrases),
            None if self.caption is None else mirrored(self.caption),
            question,
        )


def draw_texts(item: PanopticItem, tasks: Collection[str], rng: np.random.Generator) -> Texts:
    """Draw some of an image's texts, at random.

    One to three phrases are drawn, because phrases asked together see one another: the model must
    know them alone too.

    Args:
        item: the image.
        tasks: names of :data:`~xdecoder_rt.tasks.TASKS`; texts of others are left out.
        rng: source of randomness.
    """
    phrases: tuple[Phrase, ...] = ()
    caption = question = None
    distinct = list({phrase.text: phrase for phrase in item.phrases}.values())
    if distinct and "refer" in tasks:
        count = int(rng.integers(1, min(PHRASES_PER_IMAGE, len(distinct)) + 1))
        phrases = tuple(distinct[i] for i in rng.choice(len(distinct), count, replace=False))
    if item.captions and not _CAPTIONED.isdisjoint(tasks):
        caption = item.captions[int(rng.integers(len(item.captions)))]
    if item.questions and "answer" in tasks:
        question = item.questions[int(rng.integers(len(item.questions)))]
    return Texts(phrases, caption, question)


def first_texts(item: PanopticItem, tasks: Collection[str]) -> Texts:
    """Return an image's first phrase, first caption and first question, those of `tasks` alone."""
    described = not _CAPTIONED.isdisjoint(tasks)
    return Texts(
        tuple(item.phrases[:1]) if "refer" in tasks else (),
        item.captions[0] if item.captions and described else None,
        item.questions[0] if item.questions and "answer" in tasks else None,
    )
