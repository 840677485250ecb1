"""The area that goes to words for what an image does not show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.evaluation.absent import AbsentWords

PRESENT, ABSENT = (0, 1), (5, 6)


def test_present_words_cost_nothing_wherever_they_are() -> None:
    words = AbsentWords()
    words.update(PRESENT, np.array([[1, 1], [2, 0]]), {1: 1, 2: 0})
    assert (words.compute().area, words.compute().words) == (0, 0)


def test_segments_of_one_absent_word_are_one_word_and_all_their_area() -> None:
    words = AbsentWords()
    words.update(PRESENT, np.array([[1, 2], [3, 0]]), {1: 5, 2: 5, 3: 0})
    assert (words.compute().area, words.compute().words) == (50, 1)


def test_images_count_the_same_whatever_their_size() -> None:
    words = AbsentWords()
    words.update(PRESENT, np.ones((1, 2), int), {1: 5})
    words.update(PRESENT, np.ones((30, 40), int), {1: 0})
    assert words.compute().area == 50
    assert words.compute().words == 0.5


def test_an_image_that_shows_nothing_has_no_present_word() -> None:
    words = AbsentWords()
    words.update((), np.array([[0, 1, 1, 1]]), {1: 0})
    assert words.compute().area == 75


@given(st.lists(st.sampled_from([*PRESENT, *ABSENT]), min_size=1, max_size=9), st.integers(0, 99))
def test_the_area_is_that_of_the_false_segments(classes: list[int], seed: int) -> None:
    ids = np.random.default_rng(seed).integers(0, len(classes) + 1, (6, 7))
    words = AbsentWords()
    words.update(PRESENT, ids, dict(enumerate(classes, 1)))
    false = sum(np.count_nonzero(ids == i) for i, c in enumerate(classes, 1) if c in ABSENT)
    assert words.compute().area == pytest.approx(100 * false / 42)
    assert words.compute().words == len(set(classes) & set(ABSENT))


def test_without_images_there_is_no_score() -> None:
    with pytest.raises(ArgumentError, match="no image"):
        AbsentWords().compute()
