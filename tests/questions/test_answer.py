"""Questions: what is chosen from, how it is scored, and what cannot be asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xdecoder_rt import Engine, Word, tasks
from xdecoder_rt.errors import ArgumentError, VocabularyError
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.questions import answer as answering
from xdecoder_rt.state import DecodedRows
from xdecoder_rt.tasks import Row

CHOICES = ["yes", "no", "two mugs"]


@pytest.fixture(scope="module")
def engine(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tiny_plan, threads=1, cache_dir=tmp_path_factory.mktemp("cache")) as opened:
        yield opened


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (50, 70, 3), np.uint8)


def rows_with(class_embedding: np.ndarray) -> DecodedRows:
    count = len(class_embedding)
    layout = tasks.group("answer", 9, count)
    return DecodedRows(layout, class_embedding, class_embedding, class_embedding, (), ())


def test_scores_are_the_softmax_of_scaled_cosines() -> None:
    generator = np.random.default_rng(0)
    embedding = generator.normal(0, 3, (4, 8)).astype(np.float32)
    table = generator.normal(0, 1, (3, 8)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    answer = answering.read_answer(rows_with(embedding), CHOICES, table, 12.5)
    # The question's last row speaks, and no other.
    cosines = torch.nn.functional.cosine_similarity(
        torch.from_numpy(table), torch.from_numpy(embedding[-1:])
    )
    expected = torch.softmax(12.5 * cosines.double(), 0).tolist()
    assert list(answer.scores) == CHOICES
    assert list(answer.scores.values()) == pytest.approx(expected, rel=1e-5)
    assert answer.text == CHOICES[int(np.argmax(expected))]
    assert answer.score == max(answer.scores.values())


def test_a_large_scale_overflows_nothing() -> None:
    embedding, table = np.eye(2, dtype=np.float32)[:1], np.eye(2, dtype=np.float32)
    answer = answering.read_answer(rows_with(embedding), ["yes", "no"], table, 1e6)
    assert answer.scores == {"yes": 1.0, "no": 0.0}


def test_a_question_is_its_tokens() -> None:
    features = np.ones((5, 16), np.float32)
    group = answering.question_group(features, 9)
    assert group.layout.kind.tolist() == [Row.QUESTION] * 5
    assert group.region is None


def test_the_answer_is_one_of_the_choices(engine: Engine) -> None:
    answer = engine.answer(picture(), "is there a mug?", CHOICES)
    assert answer.text in CHOICES
    assert sum(answer.scores.values()) == pytest.approx(1.0)
    shuffled = engine.answer(picture(), "is there a mug?", CHOICES[::-1])
    assert shuffled.text == answer.text
    assert shuffled.scores == pytest.approx(dict(answer.scores))


def test_the_question_and_the_image_matter(engine: Engine) -> None:
    first = engine.answer(picture(), "is there a mug?", CHOICES).scores["yes"]
    assert engine.answer(picture(), "how many?", CHOICES).scores["yes"] != first
    assert engine.answer(picture(1), "is there a mug?", CHOICES).scores["yes"] != first


def test_without_choices_the_plans_own_answers_are_taken(
    altered: Callable[[Callable[[Manifest], Manifest]], Path], engine: Engine, tmp_path: Path
) -> None:
    def with_answers(manifest: Manifest) -> Manifest:
        return replace(manifest, text=replace(manifest.text, answers=("red", "blue")))

    with Engine(altered(with_answers), cache_dir=tmp_path / "cache") as other:
        own = other.answer(picture(), "what colour?")
        assert list(own.scores) == ["red", "blue"]
        assert list(other.answer(picture(), "what colour?", ["green"]).scores) == ["green"]
    given = engine.answer(picture(), "what colour?", ["red", "blue"])
    assert given.text == own.text
    assert given.scores == pytest.approx(dict(own.scores))


def test_a_plan_without_answers_needs_choices(engine: Engine) -> None:
    with pytest.raises(ArgumentError, match=r"no choices.*no answers of its own.*choices="):
        engine.answer(picture(), "what is it?")


@pytest.mark.parametrize(
    ("choices", "error", "named"),
    [
        ([], ArgumentError, "There are no choices.*at least one"),
        (["yes", "no", "yes"], ArgumentError, "'yes' is there twice"),
        ("yes", ArgumentError, "choices is 'yes'.*a list"),
        (7, ArgumentError, "choices is 7"),
        (["yes", ""], VocabularyError, "Choice 1 is empty"),
        (["yes", 3], VocabularyError, "Choice 1 is a int"),
        (["nul\0"], VocabularyError, "Choice 0"),
    ],
)
def test_choices_that_cannot_be_chosen_from(
    choices: object, error: type[Exception], named: str, engine: Engine
) -> None:
    with pytest.raises(error, match=named):
        engine.answer(picture(), "what is it?", choices)  # type: ignore[call-overload]


@pytest.mark.parametrize("question", ["", " ", None, 3, "nul\0", "\ud800"])
def test_questions_that_cannot_be_asked(question: object, engine: Engine) -> None:
    with pytest.raises(VocabularyError, match="The question"):
        engine.answer(picture(), question, CHOICES)  # type: ignore[call-overload]


def test_a_question_over_the_context_length(engine: Engine) -> None:
    question = "why " * 80
    with pytest.warns(RuntimeWarning, match="'why why.*cut to its first 75 tokens") as caught:
        engine.answer(picture(), question, CHOICES)
    assert caught[0].filename == __file__
    with pytest.raises(VocabularyError, match="'why why.*too long"):
        engine.answer(picture(), question, CHOICES, strict=True)


def test_a_list_of_images_may_have_a_question_each(engine: Engine) -> None:
    images = [picture(0), picture(1)]
    questions = ["is there a mug?", "how many?"]
    answers = engine.answer(images, questions, CHOICES)
    for image, question, answer in zip(images, questions, answers, strict=True):
        assert answer.scores == pytest.approx(dict(engine.answer(image, question, CHOICES).scores))
    assert len(engine.answer(images, "is there a mug?", CHOICES)) == 2
    with pytest.raises(ArgumentError, match="questions for 3 images and 2 images"):
        engine.answer(images, [*questions, "why?"], CHOICES)


def test_choices_that_the_tokenizer_reads_alike_are_one_choice(engine: Engine) -> None:
    for choices in (["yes", "Yes"], ["rubber_duck", "rubber duck"], ["no", "n\u200bo"]):
        with pytest.raises(ArgumentError, match="twice"):
            engine.answer(picture(), "is it?", choices)
    typed = engine.answer(picture(), "is it?", ["rubber_duck", "yes"])
    plain = engine.answer(picture(), "is it?", ["rubber duck", "yes"])
    assert list(typed.scores) == ["rubber_duck", "yes"]
    assert list(typed.scores.values()) == list(plain.scores.values())


def test_many_choices_with_one_twice_are_refused_at_once() -> None:
    started = time.perf_counter()
    with pytest.raises(ArgumentError, match="twice"):
        answering.check_choices([*map(str, range(60_000)), "59999"], ())
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("name", ["beams", "max_tokens"])
@pytest.mark.parametrize("value", ["2", 1.5, [2], True, 0, np.zeros(2)])
def test_counts_of_wrong_kinds_are_refused_as_ours(
    engine: Engine, name: str, value: object
) -> None:
    with pytest.raises(ArgumentError, match=f"{name} is"):
        engine.caption(picture(), **{name: value})  # type: ignore[call-overload]
    with pytest.raises(ArgumentError, match="threads is"):
        Engine("never opened.plan", threads=value)  # type: ignore[arg-type]


def test_numbers_without_end_are_refused_as_ours(engine: Engine) -> None:
    with pytest.raises(ArgumentError, match="max_tokens is <int>"):
        engine.caption(picture(), max_tokens=10**5000)
    assert engine.caption(picture(), max_tokens=np.int64(3), beams=np.int32(1)).text is not None


@pytest.mark.parametrize("task", [None, 5, ["panoptic"], np.zeros(2), b"panoptic", "\ud800"])
def test_a_segmentation_task_of_a_wrong_kind_is_refused_as_ours(
    engine: Engine, task: object
) -> None:
    with pytest.raises(ArgumentError, match="no segmentation task"):
        engine.segment(picture(), ["mug"], task=task)  # type: ignore[call-overload]


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_background_as_a_word_or_negative_changes_nothing(engine: Engine, task: str) -> None:
    plain = engine.segment(picture(), ["mug", "table"], task=task)
    for words in (
        ["mug", "table", "background"],
        ["mug", "table", Word("Background", negative=True)],
        ["mug", ["table", "background"]],
    ):
        named = engine.segment(picture(), words, task=task)
        assert named.segments_info == plain.segments_info
        assert np.array_equal(named.segmentation, plain.segmentation)
    with pytest.raises(VocabularyError, match="no other word"):
        engine.segment(picture(), ["background"], task=task)


def test_background_as_a_word_has_its_own_pixels_in_semantic_output(engine: Engine) -> None:
    result = engine.segment(picture(), ["background", "mug"], task="semantic")
    assert {info["label"] for info in result.segments_info} <= {"mug"}
    assert set(np.unique(result.segmentation)) <= {-1, 1}


def test_a_name_that_looks_right_is_segmented_as_what_it_looks_like(engine: Engine) -> None:
    plain = engine.class_table(["rubber duck", "robot-arm"])
    typed = engine.class_table(["rubber_duck", "robot\u2010arm\u200b"])
    assert np.array_equal(plain, typed)
