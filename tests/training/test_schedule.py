"""The schedule ends with its steps, or with its time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.training.schedule import TrainingProgress, rate_factor


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_the_rate_rises_to_its_peak_and_falls_to_zero(schedule: str) -> None:
    progress, rates = TrainingProgress(), []
    while not progress.finished:
        rates.append(rate_factor(progress, 10, schedule))
        progress.advance_to_step_limit(1.0, 200)
    assert progress.step == len(rates) == 200
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == pytest.approx(1, abs=0.06)
    assert rates[-1] < 0.01
    assert sorted(rates[12:], reverse=True) == rates[12:]
    assert rate_factor(progress, 10, schedule) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.1, 5),
    st.floats(20, 300),
    st.floats(0, 8),
    st.floats(0.3, 3),
    st.integers(0, 2**32 - 1),
)
def test_a_time_budget_is_used_up_as_the_rate_reaches_its_end(
    seconds: float, budget: float, reserve: float, change: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    progress, fractions = TrainingProgress(), []
    while not progress.finished:
        fractions.append(progress.fraction)
        # The machine gets slower or faster halfway.
        speed = seconds * (change if progress.seconds > budget / 2 else 1)
        progress.advance_to_time_limit(speed * rng.uniform(0.8, 1.2), budget, reserve)
    assert fractions == sorted(fractions)
    slowest = seconds * max(change, 1) * 1.2
    assert progress.seconds <= max(budget - reserve, 0) + 2 * slowest
    assert progress.seconds >= budget - reserve - 2 * slowest
    if len(fractions) > 60:
        # No jump at the end, though the machine's speed may change by half on the way.
        assert fractions[-1] > 0.85


def test_an_even_machine_gets_the_schedule_of_its_steps() -> None:
    timed, counted = TrainingProgress(), TrainingProgress()
    for _ in range(100):
        assert timed.fraction == pytest.approx(counted.fraction, abs=0.02)
        timed.advance_to_time_limit(1.0, 100.5)
        counted.advance_to_step_limit(1.0, 100)
    assert timed.finished
    assert counted.finished


def test_a_first_slow_step_does_not_end_the_run() -> None:
    progress = TrainingProgress()
    progress.advance_to_time_limit(30.0, 100.0)
    for _ in range(20):
        progress.advance_to_time_limit(1.0, 100.0)
    assert not progress.finished
    assert progress.fraction < 0.9


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
@pytest.mark.parametrize("seconds", [0.5, 7.0, 20.0])
def test_a_short_run_is_out_of_its_warm_up_after_a_tenth_of_it(
    seconds: float, schedule: str
) -> None:
    progress, rates = TrainingProgress(), []
    while not progress.finished:
        rates.append(rate_factor(progress, 1000, schedule))
        progress.advance_to_time_limit(seconds, 60 * 7)
    assert rates[0] < 0.01  # it does warm up
    peak = int(np.argmax(rates))
    assert peak <= max(6, 0.13 * progress.step)
    assert rates[peak] > 0.75
    assert sorted(rates[peak:], reverse=True) == rates[peak:]


def test_a_run_of_few_steps_is_out_of_its_warm_up_too() -> None:
    progress, rates = TrainingProgress(), []
    for _ in range(61):
        rates.append(rate_factor(progress, 100, "cosine"))
        progress.advance_to_step_limit(1.0, 61)
    assert max(rates) > 0.95
    assert int(np.argmax(rates)) <= 7


def test_a_first_slow_step_does_not_end_the_warm_up() -> None:
    progress = TrainingProgress()
    progress.advance_to_time_limit(30.0, 100.0)
    assert rate_factor(progress, 100, "cosine") <= 2 / 6
