"""A step's data follows from the position of its first sample alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("cv2", reason="augmentation needs opencv-python-headless")

from xdecoder_rt.tasks import TASKS
from xdecoder_rt.training.answers import AnswerSampler
from xdecoder_rt.training.dataset import TrainingSet
from xdecoder_rt.training.distillation.lesson import LessonWriter
from xdecoder_rt.training.distillation.teacher import Teacher
from xdecoder_rt.training.loader import load_steps
from xdecoder_rt.training.sampler import SampleOrder
from xdecoder_rt.training.sources import open_dataset
from xdecoder_rt.training.step import Step, StepMaker
from xdecoder_rt.training.step_text import StepWriter
from xdecoder_rt.training.vocabulary import VocabularySampler
from xdecoder_rt.words.templates import COMPACT_TEMPLATES

Tokenizer = Callable[[Sequence[str]], NDArray[np.int64]]
Load = Callable[..., list[Step]]


@pytest.fixture
def load(tiny_folder: Path, tiny_teacher: Path, tiny_tokenizer: Tokenizer) -> Load:
    source = open_dataset(tiny_folder)
    examples = TrainingSet([source], 64, 16, 0)
    order = SampleOrder([len(source.items)], [1.0], 0)
    tokenizer: Any = tiny_tokenizer

    def steps(position: int, count: int, taught: bool = True, workers: int = 0) -> list[Step]:
        maker = StepMaker(
            VocabularySampler([source.vocabulary], 5, 0, COMPACT_TEMPLATES),
            AnswerSampler(["yes", "no", "three"], 4, 0),
            StepWriter(tokenizer, 6, tuple(TASKS), 8),
            LessonWriter(Teacher.load(tiny_teacher), tokenizer, 7, 0) if taught else None,
        )
        loaded = load_steps(examples, maker, order.batches(position, 2), workers)
        return [next(loaded) for _ in range(count)]

    return steps


def tensors(step: Step) -> list[torch.Tensor]:
    assert step.lesson is not None
    text = [value for value in vars(step.text).values() if isinstance(value, torch.Tensor)]
    return [
        step.batch.images,
        *step.text.buckets,
        *text,
        step.lesson.token_ids,
        step.lesson.targets,
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_step_is_the_same_from_wherever_a_run_goes_on(load: Load, workers: int) -> None:
    first, second = load(0, 2)
    (again,) = load(2, 1, workers=workers)
    for before, after in zip(tensors(second), tensors(again), strict=True):
        assert torch.equal(before, after)
    assert any(
        a.shape != b.shape or not torch.equal(a, b)
        for a, b in zip(tensors(first), tensors(second), strict=False)
    )


def test_without_a_teacher_there_is_no_lesson_and_the_rest_is_the_same(load: Load) -> None:
    (taught,), (alone,) = load(0, 1), load(0, 1, taught=False)
    assert alone.lesson is None
    assert torch.equal(taught.batch.images, alone.batch.images)
    for with_, without in zip(taught.text.buckets, alone.text.buckets, strict=True):
        assert torch.equal(with_, without)


def test_a_step_moves_as_a_whole(load: Load) -> None:
    (step,) = load(0, 1)
    moved = step.to(torch.device("meta"))
    assert all(tensor.is_meta for tensor in tensors(moved))
    assert load(0, 1, taught=False)[0].to(torch.device("meta")).lesson is None
