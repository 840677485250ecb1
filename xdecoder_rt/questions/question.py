"""The form of every question to an encoded image: its rows, and the reading of its answer.

All that is asked at once goes through one decode, after which each question reads its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.image import ImageSource
from xdecoder_rt.rows import RowGroup
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import DecodedRows, ImageState

AnyImage: TypeAlias = "ImageSource | ImageState"
Images: TypeAlias = "list[AnyImage] | tuple[AnyImage, ...]"


class Question(Protocol):
    """One task asked of an image.

    Each has a constructor ``ask(runtime, …)`` too, which checks that the plan can do the task and
    checks and encodes the texts.
    """

    @property
    def is_textual(self) -> bool:
        """Whether, asked alone, it takes the input that a plan may have for texts."""

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


def answer_one(runtime: Runtime, image: AnyImage, channels: str, question: Question) -> Any:
    """Answer one question on one image."""
    state = runtime.state(image, channels, question.is_textual)
    return answer_all(runtime, state, [question])[0]


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


def answer_each(
    runtime: Runtime,
    image: AnyImage | Images,
    channels: str,
    ask: Callable[[Any], Question],
    name: str = "",
    subject: Any = None,
    is_shared: bool = True,
) -> Any:
    """Answer what is asked of an image, or of each of a list of images.

    Args:
        runtime: an open plan.
        image: one, or a list or tuple.
        channels: the order of an array's.
        ask: from a subject to the question.
        name: of the subjects, in the plural.
        subject: one for all images, or a list with one for each.
        is_shared: whether `subject` is one for all.

    Returns:
        The answer; a list for a list.

    Raises:
        ArgumentError: there is not one subject for each.
    """
    if not isinstance(image, list | tuple):
        question = ask(subject)
        return answer_one(runtime, image, channels, question)
    questions = [ask(part) for part in for_each(name, subject, len(image), is_shared)]
    return [
        answer_one(runtime, single, channels, question)
        for single, question in zip(image, questions, strict=True)
    ]


def image_list(images: Images) -> list[AnyImage]:
    """Return images that must be several as a list.

    Raises:
        ArgumentError: they are no list or tuple.
    """
    if not isinstance(images, list | tuple):
        raise ArgumentError(
            f"images is a {type(images).__name__}", expected="a list of images or states"
        )
    return list(images)
