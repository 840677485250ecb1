"""The texts of one training image: phrases, a caption, questions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xdecoder_rt.datasets.items import AnsweredQuestion, PanopticItem, Phrase
from xdecoder_rt.scenes.language import mirrored
from xdecoder_rt.scenes.language.kinds import alike

PHRASES_PER_IMAGE = 3
QUESTIONS_PER_IMAGE = 3
ABSENT_SHARE = 0.3
"""Share of the images with phrases that are asked for something that is not there, too."""
_TRIES = 8
# Tasks that learn from captions: writing them, and finding their images.
_CAPTIONED = frozenset(("caption", "embed"))


@dataclass(frozen=True)
class Texts:
    """Texts of one image.

    Attributes:
        phrases: what is to be found, of different texts.
        absent: phrases of what is not there.
        caption: a description, or None.
        questions: questions with their answers.
    """

    phrases: tuple[Phrase, ...] = ()
    absent: tuple[str, ...] = ()
    caption: str | None = None
    questions: tuple[AnsweredQuestion, ...] = ()

    def mirrored(self) -> Texts:
        """Return the texts of the mirrored image: left is right."""
        return Texts(
            tuple(replace(phrase, text=mirrored(phrase.text)) for phrase in self.phrases),
            tuple(map(mirrored, self.absent)),
            None if self.caption is None else mirrored(self.caption),
            tuple(map(_mirrored_question, self.questions)),
        )


def _mirrored_question(question: AnsweredQuestion) -> AnsweredQuestion:
    return replace(
        question,
        text=mirrored(question.text),
        answers=tuple(map(mirrored, question.answers)),
        choices=question.choices and tuple(map(mirrored, question.choices)),
    )


def draw_texts(
    item: PanopticItem,
    tasks: Collection[str],
    rng: np.random.Generator,
    vocabulary: Sequence[str] = (),
) -> Texts:
    """Draw some of an image's texts, at random.

    One to three phrases are drawn, because phrases asked together see one another: the model must
    know them alone too. Up to three questions are drawn, none of which sees another.

    Args:
        item: the image.
        tasks: names of :data:`~xdecoder_rt.tasks.TASKS`; texts of others are left out.
        rng: source of randomness.
        vocabulary: names of the data set; those that no segment could be called are asked for too,
            with the right answer that nothing is meant.
    """
    phrases: tuple[Phrase, ...] = ()
    absent: tuple[str, ...] = ()
    questions: tuple[AnsweredQuestion, ...] = ()
    caption = None
    distinct = list({phrase.text: phrase for phrase in item.phrases}.values())
    if distinct and "refer" in tasks:
        count = int(rng.integers(1, min(PHRASES_PER_IMAGE, len(distinct)) + 1))
        phrases = tuple(distinct[i] for i in rng.choice(len(distinct), count, replace=False))
        if rng.random() < ABSENT_SHARE:
            absent = _absent(item, distinct, vocabulary, rng)
    if item.captions and not _CAPTIONED.isdisjoint(tasks):
        caption = item.captions[int(rng.integers(len(item.captions)))]
    if item.questions and "answer" in tasks:
        count = min(QUESTIONS_PER_IMAGE, len(item.questions))
        chosen = rng.choice(len(item.questions), count, replace=False)
        questions = tuple(item.questions[i] for i in chosen)
    return Texts(phrases, absent, caption, questions)


def _absent(
    item: PanopticItem,
    phrases: Sequence[Phrase],
    vocabulary: Sequence[str],
    rng: np.random.Generator,
) -> tuple[str, ...]:
    """Return a phrase of what is not there, where the image's segments tell; else nothing.

    Half of them are one of the image's own phrases about another thing: of "the red cup on the
    left" not all is wrong.
    """
    present = {segment.label for segment in item.segments}
    if not present or not vocabulary:
        return ()
    for _ in range(_TRIES):
        name = vocabulary[int(rng.integers(len(vocabulary)))]
        if name in present or any(alike(name, label) for label in present):
            continue
        said = phrases[int(rng.integers(len(phrases)))].text
        own = max((label for label in present if label in said), key=len, default=None)
        if own is not None and rng.random() < 0.5:
            return (said.replace(own, name),)
        return (f"the {name}",)
    return ()


def first_texts(item: PanopticItem, tasks: Collection[str]) -> Texts:
    """Return an image's first phrase, first caption and first question, those of `tasks` alone.

    Nothing is asked for that is not there.
    """
    described = not _CAPTIONED.isdisjoint(tasks)
    return Texts(
        phrases=tuple(item.phrases[:1]) if "refer" in tasks else (),
        caption=item.captions[0] if item.captions and described else None,
        questions=tuple(item.questions[:1]) if "answer" in tasks else (),
    )
