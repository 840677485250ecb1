"""Range estimators against brute force over the values themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.calibration.ranges import (
    BINS,
    ESTIMATORS,
    Histogram,
    divergence,
    entropy_range,
    max_range,
    mse_range,
    percentile_range,
    squared_error,
)

Values = npt.NDArray[np.float32]


def histogram_of(*parts: Values) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


def drawn(seed: int, kind: str, scale: float, size: int = 20000) -> Values:
    generator = np.random.default_rng(seed)
    values = {
        "normal": lambda: generator.normal(0, 1, size),
        "relu": lambda: generator.normal(0, 1, size).clip(0, None),
        "heavy": lambda: generator.standard_t(2, size),
        "uniform": lambda: generator.uniform(-1, 3, size),
    }[kind]()
    return (scale * values).astype(np.float32)


cases = st.tuples(
    st.integers(0, 1000),
    st.sampled_from(["normal", "relu", "heavy", "uniform"]),
    st.sampled_from([1e-3, 0.7, 40.0]),
)


@given(cases, st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_a_histogram_of_parts_is_that_of_the_whole(
    case: tuple[int, str, float], pieces: int
) -> None:
    values = drawn(*case)
    whole = histogram_of(values)
    # The smallest first: the interval has to grow on the way.
    parts = np.array_split(values[np.argsort(np.abs(values))], pieces)
    grown = histogram_of(*parts)
    assert grown.limit == whole.limit
    assert (grown.low, grown.high) == (whole.low, whole.high)
    assert grown.counts.sum() == whole.counts.sum() == values.size
    # Values on an edge of a bin may fall to either side.
    assert np.abs(np.cumsum(grown.counts) - np.cumsum(whole.counts)).max() <= values.size // 100


@given(cases, st.booleans(), st.sampled_from(list(ESTIMATORS)))
@settings(max_examples=40, deadline=None)
def test_every_range_holds_zero_and_lies_within_what_was_seen(
    case: tuple[int, str, float], symmetric: bool, name: str
) -> None:
    histogram = histogram_of(drawn(*case))
    low, high = ESTIMATORS[name](histogram, symmetric)
    assert low <= 0 <= high and high > low
    widest = max(-histogram.low, histogram.high)
    assert max(-low, high) <= widest * (1 + 1e-6) + 1e-6
    if symmetric:
        assert low == -high


@given(cases)
@settings(max_examples=20, deadline=None)
def test_max_is_exact(case: tuple[int, str, float]) -> None:
    values = drawn(*case)
    low, high = max_range(histogram_of(values), symmetric=False)
    assert low == min(0.0, float(values.min())) and high == max(0.0, float(values.max()))


@given(cases)
@settings(max_examples=20, deadline=None)
def test_percentile_is_numpys(case: tuple[int, str, float]) -> None:
    values = drawn(*case)
    histogram = histogram_of(values)
    bin_width = 2 * histogram.limit / BINS
    _, high = percentile_range(histogram, symmetric=True)
    ordered = np.sort(np.abs(values))
    wanted = float(ordered[int(np.ceil(0.9999 * values.size)) - 1])
    assert abs(high - wanted) <= 2 * bin_width


@given(cases, st.booleans())
@settings(max_examples=15, deadline=None)
def test_mse_is_the_best_of_the_shrunken_intervals_on_the_values_themselves(
    case: tuple[int, str, float], symmetric: bool
) -> None:
    values = drawn(*case).astype(np.float64)

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        rounded = np.round((values.clip(low, high) - low) / step) * step + low
        return float(((rounded - values) ** 2).mean())

    histogram = histogram_of(values.astype(np.float32))
    low, high = max_range(histogram, symmetric)
    best = min(error(s * low, s * high) for s in np.linspace(1, 1 / 64, 64))
    assert error(*mse_range(histogram, symmetric)) <= 1.1 * best
    # Values are taken to fill their bins evenly, which exact zeros do not.
    assert 0.7 < squared_error(histogram, low, high) / error(low, high) < 2.5


def test_entropy_clips_an_outlier_that_max_keeps() -> None:
    values = np.concatenate((drawn(0, "normal", 1.0), np.float32([100.0])))
    histogram = histogram_of(values)
    assert max_range(histogram, True)[1] == 100.0
    assert entropy_range(histogram, True)[1] < 20.0
    low, high = entropy_range(histogram, True)
    assert divergence(histogram, low, high) <= divergence(histogram, -100.0, 100.0)


def test_a_histogram_that_256_levels_hold_exactly_loses_nothing() -> None:
    levels = np.linspace(-1, 1, 256, dtype=np.float32).repeat(40)
    assert divergence(histogram_of(levels), -1.0, 1.0) == pytest.approx(0.0, abs=1e-2)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_nothing_but_zeros_has_a_range(name: str) -> None:
    low, high = ESTIMATORS[name](histogram_of(np.zeros(10, np.float32)), False)
    assert low <= 0 <= high and high > low


def test_what_is_not_finite_is_not_counted() -> None:
    histogram = histogram_of(np.ones(4, np.float32))
    histogram.add(np.float32([np.inf, 1.0]))
    assert histogram.limit == 1.0 and histogram.counts.sum() == 4
