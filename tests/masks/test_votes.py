"""Queries that found the same thing agree on what it is, and one of them speaks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from xdecoder_rt.masks.classification import Selection, class_probabilities
from xdecoder_rt.masks.votes import join_votes, without_duplicates

Floats = npt.NDArray[np.float32]


def logits_of(rows: list[list[float]]) -> Floats:
    return np.log(np.array(rows, np.float32))


def test_what_several_queries_say_of_one_thing_outbids_void() -> None:
    one_by_one = logits_of([[0.3, 0.1, 0.6], [0.35, 0.05, 0.6], [0.3, 0.1, 0.6]])
    same = np.ones((3, 3), np.float32)
    joined = class_probabilities(join_votes(one_by_one, same, 0.5))
    assert (class_probabilities(one_by_one).argmax(axis=1) == 2).all()
    assert (joined.argmax(axis=1) == 0).all()
    # 0.3 + 0.5 * (0.35 + 0.3) of 0.3 + 0.325 + 0.1 + 0.5 * (0.05 + 0.1) + 0.6
    np.testing.assert_allclose(joined[0, 0], 0.625 / 1.4, rtol=1e-5)


def test_half_an_overlap_has_an_eighth_of_a_vote() -> None:
    logits = logits_of([[0.2, 0.2, 0.6], [0.8, 0.1, 0.1]])
    overlaps = np.array([[1.0, 0.5], [0.5, 1.0]], np.float32)
    joined = class_probabilities(join_votes(logits, overlaps, 1.0))
    words = np.array([0.2 + 0.8 / 8, 0.2 + 0.1 / 8, 0.6])
    np.testing.assert_allclose(joined[0], words / words.sum(), rtol=1e-5)


@st.composite
def decodes(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Class logits, and overlaps of masks that there could be."""
    queries, words = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    logits = draw(
        arrays.arrays(np.float32, (queries, words + 1), elements=st.floats(-9, 9, width=32))
    )
    masks = draw(arrays.arrays(np.bool_, (queries, 12))).astype(np.float32)
    shared = masks @ masks.T
    area = masks.sum(axis=1)
    return logits, shared / np.maximum(area[:, None] + area[None] - shared, 1)


@given(decodes())
def test_nothing_changes_where_nothing_overlaps_or_votes_weigh_nothing(
    decode: tuple[Floats, Floats],
) -> None:
    logits, overlaps = decode
    expected = class_probabilities(logits)
    for weight, shares in ((0.0, overlaps), (1.0, np.eye(len(logits), dtype=np.float32))):
        found = class_probabilities(join_votes(logits, shares, weight))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@given(decodes(), st.floats(0, 1))
def test_votes_never_speak_for_void_and_stay_probabilities(
    decode: tuple[Floats, Floats], weight: float
) -> None:
    logits, overlaps = decode
    before, kept = class_probabilities(logits), overlaps.copy()
    after = class_probabilities(join_votes(logits, overlaps, weight))
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-5)
    assert (after[:, -1] <= before[:, -1] + 1e-6).all()
    np.testing.assert_array_equal(overlaps, kept)


def selected(scores: list[float]) -> Selection:
    count = len(scores)
    labels = np.arange(count, dtype=np.int64) % 3
    return Selection(np.arange(count, dtype=np.int64), np.array(scores, np.float32), labels)


def test_the_surest_of_queries_with_nearly_the_same_mask_stays() -> None:
    overlaps = np.eye(4, dtype=np.float32)
    overlaps[0, 1] = overlaps[1, 0] = 0.9
    overlaps[2, 3] = overlaps[3, 2] = 0.5
    kept = without_duplicates(selected([0.4, 0.7, 0.2, 0.3]), overlaps)
    assert kept.queries.tolist() == [1, 2, 3]  # half is not nearly the same
    assert kept.labels.tolist() == [1, 2, 0]
    np.testing.assert_allclose(kept.scores, [0.7, 0.2, 0.3])


def test_what_gave_way_silences_nobody() -> None:
    """In a chain of three the one in the middle goes, and the ends do not see each other."""
    overlaps = np.eye(3, dtype=np.float32)
    overlaps[0, 1] = overlaps[1, 0] = overlaps[1, 2] = overlaps[2, 1] = 0.8
    assert without_duplicates(selected([0.9, 0.8, 0.7]), overlaps).queries.tolist() == [0, 2]


@given(decodes())
def test_those_that_stay_are_apart_and_those_that_go_had_a_better_one(
    decode: tuple[Floats, Floats],
) -> None:
    logits, overlaps = decode
    scores = class_probabilities(logits)[:, 0]
    everyone = selected(scores.tolist())
    kept = without_duplicates(everyone, overlaps)
    among = overlaps[np.ix_(kept.queries, kept.queries)].copy()
    np.fill_diagonal(among, 0)
    assert (among <= 0.5).all()
    for query in set(range(len(scores))) - set(kept.queries.tolist()):
        better = kept.queries[overlaps[query, kept.queries] > 0.5]
        assert (scores[better] >= scores[query]).any()


@pytest.mark.parametrize("queries", [[], [3]])
def test_none_and_one_are_left(queries: list[int]) -> None:
    chosen = np.array(queries, np.int64)
    selection = Selection(chosen, np.ones(len(chosen), np.float32), np.zeros(len(chosen), np.int64))
    assert without_duplicates(selection, np.eye(4, dtype=np.float32)).queries.tolist() == queries
