"""Recall against its definition, query by query, and what ties are worth: nothing."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.evaluation.retrieval import retrieval_recall


@st.composite
def collections(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
    """Embeddings of small whole numbers, so that there are ties, and captions shared by images."""
    images, texts, size = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    numbers = st.lists(st.integers(-2, 2), min_size=size, max_size=size)
    return (
        np.array([draw(numbers) for _ in range(images)], np.float32),
        np.array([draw(numbers) for _ in range(texts)], np.float32),
        [draw(st.lists(st.integers(0, texts - 1), min_size=1, max_size=3)) for _ in range(images)],
    )


def hits(similarity: np.ndarray, right: set[int], k: int) -> bool | None:
    """Whether a right answer is in front, each tie lost; None if there is no wrong answer."""
    wrong = [value for i, value in enumerate(similarity) if i not in right]
    if not wrong:
        return None
    best = max(similarity[i] for i in right)
    before = len([value for value in wrong if value >= best])
    return before < k and before < len(wrong)


def share(answers: list[bool | None]) -> float | None:
    counted = [answer for answer in answers if answer is not None]
    return 100 * sum(counted) / len(counted) if counted else None


@given(collections())
def test_it_is_the_definition(case: tuple[np.ndarray, np.ndarray, list[list[int]]]) -> None:
    images, texts, texts_of = case
    similarity = images @ texts.T
    expected = []
    for k in (1, 5):
        asked = [text for own in texts_of for text in own]
        holders = [{i for i, own in enumerate(texts_of) if text in own} for text in asked]
        expected.append(
            share([hits(similarity[:, t], r, k) for t, r in zip(asked, holders, strict=True)])
        )
    for k in (1, 5):
        expected.append(share([hits(similarity[i], set(own), k) for i, own in enumerate(texts_of)]))
    image_r1, image_r5, text_r1, text_r5, count, distinct = astuple(
        retrieval_recall(images, texts, texts_of)
    )
    assert [image_r1, image_r5, text_r1, text_r5] == pytest.approx(expected)
    assert (count, distinct) == (len(images), len(texts))


@given(st.integers(2, 12), st.integers(1, 4))
def test_a_constant_similarity_scores_nothing(images: int, captions: int) -> None:
    same = np.full((images, 7), 7**-0.5, np.float32)
    texts_of = np.arange(images * captions).reshape(images, captions).tolist()
    scores = retrieval_recall(same, np.repeat(same, captions, axis=0), texts_of)
    assert astuple(scores)[:4] == (0, 0, 0, 0)


def test_nan_scores_nothing() -> None:
    broken = np.full((8, 3), np.nan, np.float32)
    scores = retrieval_recall(broken, broken, [[i] for i in range(8)])
    assert astuple(scores)[:4] == (0, 0, 0, 0)


def test_perfect_embeddings_score_100() -> None:
    # Three images, five captions; the last caption is that of two images and right for both.
    images = np.eye(3, dtype=np.float32)
    texts = np.array([[1, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 1], [0, 5, 5]], np.float32)
    scores = retrieval_recall(images, texts, [[0, 1], [2, 4], [3, 4]])
    assert astuple(scores) == (100, 100, 100, 100, 3, 5)


def test_first_and_among_five_by_hand() -> None:
    # Image i is most similar to caption i, but the first is beaten by one other, the last by six.
    similarity = np.zeros((8, 8), np.float32)
    np.fill_diagonal(similarity, 1)
    similarity[0, 3] = 2
    similarity[7, :6] = 2
    scores = retrieval_recall(similarity, np.eye(8, dtype=np.float32), [[i] for i in range(8)])
    assert (scores.text_r1, scores.text_r5) == (100 * 6 / 8, 100 * 7 / 8)
    # By columns: captions 0 to 5 see image 7 before their own, caption 3 image 0 too.
    assert (scores.image_r1, scores.image_r5) == (100 * 2 / 8, 100)


def test_a_single_image_asks_nothing() -> None:
    one = np.ones((1, 2), np.float32)
    assert astuple(retrieval_recall(one, one, [[0]])) == (None, None, None, None, 1, 1)
    # Nor do images that all have one caption.
    three = np.ones((3, 2), np.float32)
    assert retrieval_recall(three, one, [[0], [0], [0]]).text_r1 is None


@pytest.mark.parametrize(
    ("images", "texts", "texts_of", "message"),
    [
        ((2, 3), (2, 4), [[0], [1]], r"The images are \(2, 3\), the texts \(2, 4\)"),
        ((2, 3), (2, 3), [[0]], "captions of 1 images"),
        ((2, 3), (2, 3), [[0], []], "without a caption"),
        ((0, 3), (2, 3), [], "no image"),
        ((2, 3), (2, 3), [[0], [2]], "Image 1 has the text 2"),
    ],
)
def test_bad_arguments_are_refused(
    images: tuple[int, int], texts: tuple[int, int], texts_of: list[list[int]], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        retrieval_recall(np.zeros(images), np.zeros(texts), texts_of)
