"""Which queries are kept, and for which class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.masks.classification import (
    class_probabilities,
    classify,
    keep_panoptic,
    top_instances,
)
from xdecoder_rt.questions.object_words import word_logits
from xdecoder_rt.words.vocabulary import Vocabulary


def logits_of(*probabilities: tuple[float, ...]) -> np.ndarray:
    return np.log(np.array(probabilities, dtype=np.float32))


def test_classify_is_the_scaled_cosine_with_each_name() -> None:
    table = np.eye(3, 4, dtype=np.float32)
    embeddings = np.array([[3, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 5]], dtype=np.float32)
    expected = 10 * np.array([[1, 0, 0], [0, 0.5**0.5, 0.5**0.5], [0, 0, 0]])
    np.testing.assert_allclose(classify(embeddings, table, 10.0), expected, atol=1e-5)


def test_classify_of_a_zero_embedding_is_zero() -> None:
    assert not classify(np.zeros((1, 4)), np.eye(3, 4), 100.0).any()


def test_probabilities_do_not_overflow() -> None:
    found = class_probabilities(np.array([[1000.0, 0.0, -1000.0]]))
    np.testing.assert_array_equal(found, [[1, 0, 0]])


def test_panoptic_keeps_confident_queries_that_are_not_void() -> None:
    logits = logits_of(
        (0.9, 0.05, 0.05),  # kept
        (0.05, 0.05, 0.9),  # void
        (0.5, 0.4, 0.1),  # not confident
        (0.05, 0.85, 0.1),  # kept
    )
    kept = keep_panoptic(logits, 0.8)
    np.testing.assert_array_equal(kept.queries, [0, 3])
    np.testing.assert_array_equal(kept.labels, [0, 1])
    np.testing.assert_allclose(kept.scores, [0.9, 0.85], rtol=1e-6)


def test_a_score_equal_to_the_threshold_is_not_kept() -> None:
    assert len(keep_panoptic(np.zeros((1, 2)), 0.5)) == 0


def test_instances_may_take_a_query_more_than_once() -> None:
    chosen = top_instances(logits_of((0.5, 0.4, 0.1), (0.3, 0.1, 0.6)), 3)
    np.testing.assert_array_equal(chosen.queries, [0, 0, 1])
    np.testing.assert_array_equal(chosen.labels, [0, 1, 0])
    np.testing.assert_array_equal(chosen.unique_queries, [0, 1])
    np.testing.assert_array_equal(chosen.rows, [0, 0, 1])


def test_stuff_uses_up_places_of_the_best() -> None:
    # The best two are looked at; one of them is stuff and is dropped, no third takes its place.
    logits = logits_of((0.6, 0.3, 0.1), (0.2, 0.7, 0.1))
    chosen = top_instances(logits, 2, np.array([True, False]))
    np.testing.assert_array_equal(chosen.queries, [0])
    np.testing.assert_array_equal(chosen.labels, [0])


@given(st.integers(0, 8), st.integers(1, 6), st.integers(0, 60), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_top_instances_are_the_highest_without_void(
    queries: int, classes: int, top_k: int, seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (queries, classes + 1))
    chosen = top_instances(logits, top_k)
    scores = class_probabilities(logits)[:, :-1]
    np.testing.assert_array_equal(chosen.scores, np.sort(scores, axis=None)[::-1][:top_k])
    np.testing.assert_array_equal(chosen.scores, scores[chosen.queries, chosen.labels])
    np.testing.assert_array_equal(chosen.unique_queries[chosen.rows], chosen.queries)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 2, 3)])
def test_logits_without_a_class_beside_void_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="classes \\+ 1"):
        class_probabilities(np.zeros(shape))


def test_embeddings_of_another_width_are_refused() -> None:
    with pytest.raises(ArgumentError, match="do not fit"):
        classify(np.zeros((2, 5)), np.zeros((3, 4)), 1.0)


def test_is_thing_of_another_length_is_refused() -> None:
    with pytest.raises(ArgumentError, match="one entry per class"):
        top_instances(np.zeros((2, 4)), 5, np.ones(4, dtype=bool))


def test_a_negative_top_k_is_refused() -> None:
    with pytest.raises(ArgumentError, match="top_k"):
        top_instances(np.zeros((2, 4)), -1)


def test_what_is_taken_from_void_lets_names_win() -> None:
    vocabulary = Vocabulary.parse(["cup", "mug"])
    table = np.eye(3, dtype=np.float32)  # void is the last
    embedding = np.array([[0.6, 0.5, 0.62], [0.1, 0.1, 0.9]], np.float32)
    plain = word_logits(embedding, table, 10.0, vocabulary)
    offset = word_logits(embedding, table, 10.0, vocabulary, void_offset=1.0)
    np.testing.assert_array_equal(offset[:, :-1], plain[:, :-1])
    np.testing.assert_allclose(offset[:, -1], plain[:, -1] - 1.0)
    assert len(keep_panoptic(plain, 0.1)) == 0
    assert keep_panoptic(offset, 0.1).queries.tolist() == [0]
