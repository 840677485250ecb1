"""One optimiser step's data: images with their targets, and all that is said and asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch

from xdecoder_rt.training.answers import AnswerSampler
from xdecoder_rt.training.dataset import Batch
from xdecoder_rt.training.distillation.lesson import Lesson, LessonWriter
from xdecoder_rt.training.step_text import StepText, StepWriter
from xdecoder_rt.training.vocabulary import VocabularySampler


@dataclass
class Step:
    """The input of one training step.

    Attributes:
        batch: images and targets.
        text: the texts.
        lesson: words to learn from a teacher, or None.
    """

    batch: Batch
    text: StepText
    lesson: Lesson | None = None

    def to(self, device: torch.device) -> Step:
        """Move the step to a device."""
        lesson = None if self.lesson is None else self.lesson.to(device)
        return Step(self.batch.to(device), self.text.to(device), lesson)

    def pin_memory(self) -> Step:
        """Copy the step to page-locked memory (called by the data loader)."""
        lesson = None if self.lesson is None else self.lesson.pin_memory()
        return Step(self.batch.pin_memory(), self.text.pin_memory(), lesson)


class StepMaker:
    """Adds texts to batches; all that is drawn follows from the position of the first sample.

    Args:
        vocabulary: draws the names that segments are told from.
        answers: draws candidate answers.
        writer: puts the texts together.
        lessons: draws words to learn from a teacher; None for none.
    """

    def __init__(
        self,
        vocabulary: VocabularySampler,
        answers: AnswerSampler,
        writer: StepWriter,
        lessons: LessonWriter | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._answers = answers
        self._writer = writer
        self._lessons = lessons

    def make(self, batch: Batch, position: int) -> Step:
        """Return the step of a batch.

        Args:
            batch: images and targets.
            position: place of its first sample in the order of all.
        """
        names = self._vocabulary.sample(batch.labels, batch.sources, position)
        questions = list(chain.from_iterable(batch.questions))
        answers = self._answers.sample(questions, position)
        text = self._writer.write(batch, names, answers)
        return Step(batch, text, None if self._lessons is None else self._lessons.write(position))
