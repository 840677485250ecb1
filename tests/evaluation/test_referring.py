"""IoU of phrases against its definition, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.evaluation.referring import ReferringIoU

HALF = np.array([[True, True, False, False]])


@st.composite
def phrases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=4))
    masks = hnp.arrays(bool, shape)
    return draw(masks), draw(masks)


def scored(*phrases: tuple[np.ndarray, ...]) -> tuple[float, float, float]:
    metric = ReferringIoU()
    for phrase in phrases:
        metric.update(*phrase)
    scores = metric.compute()
    assert scores.phrases == len(phrases)
    return scores.ciou, scores.miou, scores.p_at_50


@given(st.lists(phrases(), min_size=1, max_size=4))
def test_it_is_the_definition(asked: list[tuple[np.ndarray, np.ndarray]]) -> None:
    pairs = []
    for truth, prediction in asked:
        t = {tuple(p) for p in np.argwhere(truth)}
        p = {tuple(p) for p in np.argwhere(prediction)}
        pairs.append((len(t & p), len(t | p)))
    each = [i / u if u else 1.0 for i, u in pairs]
    total = sum(u for _, u in pairs)
    assert scored(*asked) == pytest.approx(
        (
            100 * sum(i for i, _ in pairs) / total if total else 100,
            100 * np.mean(each),
            100 * np.mean([iou >= 0.5 for iou in each]),
        )
    )


def test_cumulative_and_mean_differ_by_the_size_of_the_masks() -> None:
    large = np.ones((10, 10), bool)
    small = np.zeros((10, 10), bool)
    small[0, 0] = True
    # IoU 1 with a union of 100 pixels, and IoU 0 with one of 2.
    assert scored((large, large), (small, np.roll(small, 1))) == pytest.approx(
        (10000 / 102, 50, 50)
    )


def test_exactly_half_is_precise() -> None:
    assert scored((HALF, np.ones_like(HALF))) == (50, 50, 100)


def test_empty_masks() -> None:
    empty = np.zeros_like(HALF)
    assert scored((HALF, empty)) == (0, 0, 0)
    assert scored((empty, HALF)) == (0, 0, 0)
    assert scored((empty, empty)) == (100, 100, 100)
    assert scored((empty, empty), (HALF, empty)) == (0, 50, 50)


@pytest.mark.parametrize(
    ("truth", "prediction"),
    [(HALF, HALF[:, :3]), (HALF, HALF.astype(np.uint8)), (HALF[0], HALF[0])],
    ids=["sizes differ", "not bool", "not two-dimensional"],
)
def test_bad_masks_are_refused(truth: np.ndarray, prediction: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="The true mask is bool"):
        ReferringIoU().update(truth, prediction)


def test_no_phrase_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no phrase"):
        ReferringIoU().compute()
