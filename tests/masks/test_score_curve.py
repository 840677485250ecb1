"""The curves from scores to how often they are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xdecoder_rt.masks.score_curve import ScoreCurve, score_problem


def rising(parts: list[float], low: float, high: float) -> tuple[float, ...]:
    """Points from `low` to `high` at distances in proportion to `parts`."""
    sums = np.cumsum([0.0, *parts])
    inner = low + (high - low) * sums[1:-1] / sums[-1]
    return (low, *map(float, inner), high)


@st.composite
def curves(draw: st.DrawFn) -> ScoreCurve:
    parts = draw(st.lists(st.tuples(*[st.floats(0.001, 1.0)] * 2), min_size=1, max_size=12))
    low, high = draw(st.floats(0.0, 0.4)), draw(st.floats(0.5, 1.0))
    xs, ys = zip(*parts, strict=True)
    return ScoreCurve(rising(list(xs), 0.0, 1.0), rising(list(ys), low, high))


@given(curve=curves(), scores=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=9))
def test_order_stays(curve: ScoreCurve, scores: list[float]) -> None:
    rising_scores = np.sort(np.array(scores, np.float32))
    reported = curve.reported(rising_scores)
    assert reported.dtype == np.float32
    assert (np.diff(reported) >= 0).all()
    assert [curve.reported(float(score)) for score in rising_scores] == reported.tolist()


@given(curve=curves(), asked=st.floats(0, 1), score=st.floats(0, 1, width=32))
@example(ScoreCurve((0.0, 1.0), (0.02910746637, 0.5)), 0.02910746640096918, 0.0)
def test_the_least_score_divides_those_that_are_reported_so(
    curve: ScoreCurve, asked: float, score: float
) -> None:
    assert (score >= curve.least(asked)) == (curve.reported(score) >= asked)


def test_what_no_score_reaches_is_infinitely_high() -> None:
    curve = ScoreCurve((0.0, 1.0), (0.1, 0.9))
    assert curve.least(0.95) == math.inf
    assert curve.least(0.05) == curve.least(0.0) == 0.0


@pytest.mark.parametrize(
    ("curve", "problem"),
    [
        (ScoreCurve((0.0, 1.0), (0.1, 0.5, 0.9)), "unequal lists"),
        (ScoreCurve((0.1, 1.0), (0.1, 0.9)), "from 0.1 to 1.0"),
        (ScoreCurve((0.0, 0.5), (0.1, 0.9)), "from 0.0 to 0.5"),
        (ScoreCurve((0.0, 0.5, 0.5, 1.0), (0.1, 0.2, 0.3, 0.9)), "does not rise"),
        (ScoreCurve((0.0, 0.5, 1.0), (0.1, 0.1, 0.9)), "does not rise"),
    ],
)
def test_curves_that_are_none_are_named(curve: ScoreCurve, problem: str) -> None:
    found = score_problem({"refer": curve}, {})
    assert found is not None and problem in found[0]


def test_kinds_of_output_are_known() -> None:
    curve = ScoreCurve((0.0, 1.0), (0.1, 0.9))
    assert score_problem({"panoptic": curve}, {"semantic": 0.1, "refer": 0.3}) is None
    for curves_, least in (({"semantic": curve}, {}), ({}, {"caption": 0.1})):
        found = score_problem(curves_, least)
        assert found is not None and "has scores of" in found[0]
