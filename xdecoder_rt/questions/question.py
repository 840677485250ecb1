"""The form of every question to an encoded image: its rows, and the reading of its answer.

All that is asked at once goes through one decode, after which each question reads its own rows. On
processors of several cores, answers that come step by step are written beside the others: a step
has so few rows that it takes one core as long as two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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

    @property
    def is_stepwise(self) -> bool:
        """Whether reading its answer decodes more rows, a few at a time."""

    def groups(self, state: ImageState) -> Sequence[RowGroup]:
        """Return the rows that it adds to the latents."""

    def read(self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]) -> Any:
        """Return the answer, from the decoded rows of its groups."""


def answer_all(runtime: Runtime, state: ImageState, questions: Sequence[Question]) -> list[Any]:
    """Answer questions on one image, those that come step by step beside the others.

    The latents are decoded once; where everything is answered in one thread, with all rows that
    are asked for in one decode.
    """
    asked = [(question, question.groups(state)) for question in questions]
    stepwise = [pair for pair in asked if pair[0].is_stepwise]
    if not runtime.shares_cores or len(stepwise) in (0, len(asked)):
        return _answers(runtime, state, asked)
    runtime.rows.latents(state)
    with ThreadPoolExecutor(1, "xdecoder_rt questions") as pool:
        whole = [pair for pair in asked if not pair[0].is_stepwise]
        answers_of_whole = pool.submit(_answers, runtime, state, whole)
        steps = iter(_answers(runtime, state, stepwise))
        others = iter(answers_of_whole.result())
    return [next(steps if question.is_stepwise else others) for question in questions]


def _answers(
    runtime: Runtime, state: ImageState, asked: Sequence[tuple[Question, Sequence[RowGroup]]]
) -> list[Any]:
    """Answer questions, each with its rows, by one decode."""
    rows = iter(runtime.rows.decode(state, [group for _, groups in asked for group in groups]))
    decoded = [[next(rows) for _ in groups] for _, groups in asked]
    return [
        question.read(runtime, state, question_rows)
        for (question, _), question_rows in zip(asked, decoded, strict=True)
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
