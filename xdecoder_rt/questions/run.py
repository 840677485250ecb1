"""Several tasks asked of one image at once: one look, one decode."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from xdecoder_rt.questions.answer import AnswerQuestion
from xdecoder_rt.questions.caption import CaptionQuestion
from xdecoder_rt.questions.embed import EmbedQuestion
from xdecoder_rt.questions.question import AnyImage, Images, Question, answer_all, for_each
from xdecoder_rt.questions.refer import ReferQuestion, are_of_one_image
from xdecoder_rt.questions.regions import RegionSource
from xdecoder_rt.questions.segment import Classes, SegmentQuestion
from xdecoder_rt.results import Output
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import ImageState


def ask_run(
    runtime: Runtime,
    *,
    segment: Classes | None,
    task: str,
    stuff: Collection[str],
    min_score: float | None,
    object_threshold: float | None,
    overlap_threshold: float | None,
    refer: Sequence[str] | None,
    joint: bool,
    caption: bool,
    prompt: str | None,
    region: RegionSource | None,
    beams: int | None,
    max_tokens: int | None,
    answer: str | None,
    choices: Sequence[str] | None,
    embed: bool,
    strict: bool,
) -> dict[str, Question]:
    """Return what :meth:`Engine.run` asks of one image, by the fields of `Output`.

    Raises:
        ArgumentError: the plan lacks a task, an argument is out of range, or the runtime is closed.
        VocabularyError: a word or text is empty, unreadable, or too long and `strict` is set.
    """
    runtime.require()
    questions: dict[str, Question] = {}
    if segment is not None:
        questions["segment"] = SegmentQuestion.ask(
            runtime, segment, task, stuff, min_score, object_threshold, overlap_threshold
        )
    if refer is not None:
        questions["refer"] = ReferQuestion.ask(runtime, refer, joint, strict, min_score)
    if answer is not None:
        questions["answer"] = AnswerQuestion.ask(runtime, answer, choices, strict)
    if embed:
        questions["embed"] = EmbedQuestion.ask(runtime)
    if caption:
        questions["caption"] = CaptionQuestion.ask(
            runtime, prompt, region, beams, max_tokens, strict
        )
    return questions


def answer_run(runtime: Runtime, state: ImageState, questions: Mapping[str, Question]) -> Output:
    """Answer the questions of :func:`ask_run` with one decode."""
    answers = answer_all(runtime, state, list(questions.values()))
    return Output(**dict(zip(questions, answers, strict=True)))


def _answer_image(
    runtime: Runtime, image: AnyImage, channels: str, questions: Mapping[str, Question]
) -> Output:
    # One look serves all: what needs the image's own size decides.
    is_textual = all(question.is_textual for question in questions.values())
    return answer_run(runtime, runtime.state(image, channels, is_textual), questions)


def run_for_each(arguments: Mapping[str, Any], images: int) -> list[dict[str, Any]]:
    """Return the arguments of :func:`ask_run` for each of several images.

    Args:
        arguments: those of :meth:`Engine.run`; phrases, regions and questions may be one an image.
        images: how many there are.

    Raises:
        ArgumentError: there is not one for each.
    """
    phrases, region, question = arguments["refer"], arguments["region"], arguments["answer"]
    is_one_question = question is None or isinstance(question, str)
    parts = zip(
        for_each("phrases", phrases, images, are_of_one_image(phrases)),
        for_each("regions", region, images, region is None),
        for_each("questions", question, images, is_one_question),
        strict=True,
    )
    return [
        {**arguments, "refer": phrases, "region": region, "answer": question}
        for phrases, region, question in parts
    ]


def run_each(
    runtime: Runtime, image: AnyImage | Images, channels: str, arguments: Mapping[str, Any]
) -> Output | list[Output]:
    """Do what is asked of an image, or of each of a list of images.

    Args:
        runtime: an open plan.
        image: one, or a list or tuple.
        channels: the order of an array's.
        arguments: those of :func:`ask_run`; for a list, see :func:`run_for_each`.

    Returns:
        The results; a list for a list.
    """
    if not isinstance(image, list | tuple):
        questions = ask_run(runtime, **arguments)
        return _answer_image(runtime, image, channels, questions)
    return [
        _answer_image(runtime, single, channels, ask_run(runtime, **parts))
        for single, parts in zip(image, run_for_each(arguments, len(image)), strict=True)
    ]
