"""What is said of a training image stays true of the view that is shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cv2", reason="augmentation needs opencv-python-headless")

from xdecoder_rt.datasets.items import NOTHING, AnsweredQuestion, Phrase, Segment
from xdecoder_rt.tasks import TASKS
from xdecoder_rt.training.dataset import Example, TrainingSet, plain_example
from xdecoder_rt.training.sampler import SampleKey
from xdecoder_rt.training.targets import NO_TARGET
from xdecoder_rt.training.texts import Texts, draw_texts, first_texts

PHRASES = (
    Phrase("the box on the left", (1,)),
    Phrase("the box on the right", (2,)),
    Phrase("the boxes", (1, 2)),
)
QUESTION = AnsweredQuestion("is the small box left or right ?", ("left",), ("left", "right"))


@pytest.fixture(scope="module")
def item(fake_item: Any) -> Any:
    """A small box on the left, a large one on the right, a floor."""
    ids = np.full((60, 90), 3)
    ids[20:30, 10:20], ids[20:44, 56:80] = 1, 2
    pixels = np.repeat((ids * 60).astype(np.uint8)[..., None], 3, axis=2)
    segments = (
        Segment(1, "box", True, 100),
        Segment(2, "box", True, 576),
        Segment(3, "floor", False, 4724),
    )
    return fake_item(
        pixels,
        ids,
        segments,
        phrases=PHRASES,
        captions=("a small box left of a large box",),
        questions=(QUESTION,),
    )


def example(item: Any, position: int, tasks: Any = tuple(TASKS)) -> Example:
    source = SimpleNamespace(items=[item], vocabulary=("box", "floor"), stuff=frozenset())
    return TrainingSet([source], 64, 16, 0, tasks)[SampleKey(0, 0, position)]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6))
def test_views_keep_texts_true(item: Any, position: int) -> None:
    seen = example(item, position)
    assert (seen.caption is None) == (not seen.questions) == (not seen.targets.phrases)
    if seen.caption is None:
        return  # a free view, of which nothing is said
    ids, labels = seen.targets.ids, seen.targets.labels
    assert sorted(labels) == ["box", "box", "floor"]
    boxes = [
        row[ids]
        for label, row in zip(labels, seen.targets.membership, strict=False)
        if label == "box"
    ]
    small, large = sorted(boxes, key=np.count_nonzero)

    def middle(mask: np.ndarray) -> float:
        return float(np.nonzero(mask)[1].mean())

    # Nothing is cut: the sizes stay in proportion, give or take a pixel of a side of five.
    assert large.sum() / small.sum() == pytest.approx(5.76, rel=0.45)
    small_is_left = middle(small) < middle(large)
    meant = seen.targets.membership[len(labels) :, ids]
    for text, mask in zip(seen.targets.phrases, meant, strict=True):
        left = small if small_is_left else large
        right = large if small_is_left else small
        wanted = {"the boxes": small | large, "the box on the left": left}.get(text, right)
        assert np.array_equal(mask, wanted), text
    side = "left" if small_is_left else "right"
    assert seen.caption == f"a small box {side} of a large box"
    assert seen.questions[0].answers == (side,)
    assert set(seen.questions[0].choices or ()) == {"left", "right"}


def test_most_views_have_texts_and_some_are_free(item: Any) -> None:
    spoken = [example(item, position).caption is not None for position in range(200)]
    assert 0.7 < np.mean(spoken) < 0.9
    # Where segments are not trained, free views would teach nothing.
    assert all(example(item, p, ("caption",)).caption is not None for p in range(50))


def test_mirroring_twice_changes_nothing_and_once_the_sides() -> None:
    texts = Texts(PHRASES, ("the cup on the left",), "Left of it", (QUESTION,))
    mirrored = texts.mirrored()
    assert mirrored.caption == "Right of it"
    assert mirrored.phrases[0] == Phrase("the box on the right", (1,))
    assert mirrored.absent == ("the cup on the right",)
    assert mirrored.questions == (
        AnsweredQuestion("is the small box right or left ?", ("right",), ("right", "left")),
    )
    assert mirrored.mirrored() == texts
    assert Texts().mirrored() == Texts()


@pytest.mark.parametrize(
    ("tasks", "phrases", "caption", "question"),
    [
        (("segment",), False, False, False),
        (("refer",), True, False, False),
        (("caption",), False, True, False),
        (("embed",), False, True, False),
        (("answer",), False, False, True),
    ],
)
def test_only_the_texts_of_trained_tasks_are_drawn(
    item: Any, tasks: tuple[str, ...], phrases: bool, caption: bool, question: bool
) -> None:
    for texts in (draw_texts(item, tasks, np.random.default_rng(0)), first_texts(item, tasks)):
        assert bool(texts.phrases) == phrases
        assert (texts.caption is not None) == caption
        assert bool(texts.questions) == question
    plain = plain_example(item, 64, tasks)
    assert plain.segmented == ("segment" in tasks)
    assert bool(plain.targets.phrases) == phrases


def test_some_images_are_asked_for_what_is_not_there(item: Any) -> None:
    vocabulary = ("box", "crate", "floor", "spoon")  # a crate may be called a box
    drawn = [
        draw_texts(item, ["refer"], np.random.default_rng(i), vocabulary).absent for i in range(300)
    ]
    assert 0.2 < np.mean([bool(absent) for absent in drawn]) < 0.4
    said = {text for absent in drawn for text in absent}
    assert said <= {"the spoon", "the spoon on the left", "the spoon on the right", "the spoones"}
    assert len(said) >= 3
    # What training does not ask for phrases, or does not know the segments of, is not asked.
    assert not draw_texts(item, ["caption"], np.random.default_rng(0), vocabulary).absent
    unknown = SimpleNamespace(segments=(), phrases=PHRASES, captions=(), questions=())
    assert not any(
        draw_texts(unknown, ["refer"], np.random.default_rng(i), vocabulary).absent
        for i in range(50)
    )


def test_up_to_three_different_questions_are_drawn() -> None:
    asked = tuple(AnsweredQuestion(f"is it {i} ?", ("yes",)) for i in range(5))
    for count in (1, 2, 5):
        item = SimpleNamespace(segments=(), phrases=(), captions=(), questions=asked[:count])
        texts: Any = draw_texts(item, ["answer"], np.random.default_rng(0))
        assert len(set(texts.questions)) == min(3, count)


def test_one_to_three_different_phrases_are_drawn(item: Any) -> None:
    drawn = [draw_texts(item, ["refer"], np.random.default_rng(i)).phrases for i in range(60)]
    assert {len(phrases) for phrases in drawn} == {1, 2, 3}
    assert all(len(set(phrases)) == len(phrases) for phrases in drawn)


def test_an_image_that_is_known_to_show_nothing_is_learnt_from(fake_item: Any) -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    unlabelled = fake_item(pixels, np.zeros((48, 64), np.uint8), ())
    nothing = fake_item(pixels, np.full((48, 64), NOTHING, np.int16), ())
    for tasks, known in ((("segment",), True), (("caption",), False)):
        assert example(nothing, 0, tasks).segmented is known
        assert plain_example(nothing, 64, tasks).segmented is known
        assert not example(unlabelled, 0, tasks).segmented
    assert (example(nothing, 0).targets.ids == NO_TARGET).all()
