"""A step's words to learn from the teacher, and the loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.training.distillation.teacher import Teacher
from xdecoder_rt.training.vocabulary import Tokenizer, trimmed_tokens
from xdecoder_rt.words.templates import COMPACT_TEMPLATES, prompts

_LESSON_STREAM = 6
_FREQUENT = 0.5
"""Share of the words of a lesson taken from the first, the most frequent, tenth."""


@dataclass
class Lesson:
    """Words and where they should lie.

    Attributes:
        token_ids: ``[T, L]`` int64.
        targets: ``[T, D]`` float32, of unit length.
    """

    token_ids: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Lesson:
        """Move the lesson to a device."""
        return Lesson(
            self.token_ids.to(device, non_blocking=True), self.targets.to(device, non_blocking=True)
        )

    def pin_memory(self) -> Lesson:
        """Copy the lesson to page-locked memory."""
        return Lesson(self.token_ids.pin_memory(), self.targets.pin_memory())


class LessonWriter:
    """Draws lessons.

    Args:
        teacher: knows the words.
        tokenizer: texts to ids padded with the end token.
        size: words a lesson.
        seed: seed of the draws.
    """

    def __init__(self, teacher: Teacher, tokenizer: Tokenizer, size: int, seed: int) -> None:
        self._teacher = teacher
        self._tokenizer = tokenizer
        self._size = size
        self._seed = seed

    def write(self, position: int) -> Lesson:
        """Return the lesson of a step; the same position gives the same.

        Each word comes in a sentence of its own, as names do in training.
        """
        rng = np.random.default_rng((_LESSON_STREAM, self._seed, position))
        total = len(self._teacher.texts)
        frequent = rng.random(self._size) < _FREQUENT
        bound = np.where(frequent, max(1, total // 10), total)
        indices = (rng.random(self._size) * bound).astype(np.int64)
        templates = rng.integers(len(COMPACT_TEMPLATES), size=self._size)
        sentences = [
            prompts(self._teacher.texts[i], [COMPACT_TEMPLATES[t]])[0]
            for i, t in zip(indices.tolist(), templates.tolist(), strict=True)
        ]
        targets = torch.from_numpy(self._teacher.embeddings[indices].astype(np.float32))
        return Lesson(trimmed_tokens(self._tokenizer, sentences), F.normalize(targets, dim=-1))


def distillation_loss(embeddings: Tensor, targets: Tensor) -> Tensor:
    """Return the distance of words from where the teacher puts them.

    One minus the cosine, and the squared error of the cosines among them.

    Args:
        embeddings: ``[T, D]``, unnormalised.
        targets: ``[T, D]``, of unit length.
    """
    unit = F.normalize(embeddings, dim=-1)
    pointwise = 1 - (unit * targets).sum(dim=-1).mean()
    relations = F.mse_loss(unit @ unit.T, targets @ targets.T)
    return pointwise + 10 * relations
