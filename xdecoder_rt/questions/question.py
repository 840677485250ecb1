"""The form of every question to an encoded image: its rows, and the reading of its answer.

All that is asked at once goes through one decode, after which each question reads its own rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.rows import RowGroup
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import DecodedRows, ImageState


class Question(Protocol):
    """One task asked of an image.

    Each has a constructor ``ask(runtime, …)`` too, which checks that the plan can do the task and
    checks and encodes the texts.
    """

    def groups(self, state: ImageState) -> Sequence[RowGroup]:
        """Return the rows that it adds to the latents."""

    def read(self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]) -> Any:
        """Return the answer, from the decoded rows of its groups."""


def answer_all(runtime: Runtime, state: ImageState, questions: Sequence[Question]) -> list[Any]:
    """Answer questions on one image with one decode; later tokens of a caption come after it."""
    groups = [question.groups(state) for question in questions]
    rows = iter(
        runtime.rows.decode(
            state, [group for question_groups in groups for group in question_groups]
        )
    )
    decoded = [[next(rows) for _ in question_groups] for question_groups in groups]
    return [
        question.read(runtime, state, question_rows)
        for question, question_rows in zip(questions, decoded, strict=True)
    ]


def for_each(name: str, subject: Any, images: int, is_shared: bool) -> list[Any]:
    """Return the subject of the question to each of several images.

    Args:
        name: of what is asked, in the plural.
        subject: one for all images, or a list with one for each.
        images: how many there are.
        is_shared: whether `subject` is one for all.

    Raises:
        ArgumentError: there is not one for each.
    """
    if is_shared:
        return [subject] * images
    count = len(subject) if isinstance(subject, list | tuple) else 1
    if count != images or not isinstance(subject, list | tuple):
        raise ArgumentError(
            f"There are {name} for {count} images and {images} images", expected="one for each"
        )
    return list(subject)
