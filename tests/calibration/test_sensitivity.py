"""The search takes as much as the budget allows, and says what it measured."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from xdecoder_rt.calibration.sensitivity import Search, Trial, largest_within

effects = st.lists(st.floats(0, 10), min_size=1, max_size=24)


def searched(losses: list[float], budget: float) -> Search[int]:
    """Candidates whose losses add up."""

    def measure(chosen: Sequence[int]) -> Trial:
        return Trial(len(chosen), sum(losses[i] for i in chosen))

    return largest_within(range(len(losses)), lambda i: losses[i], measure, budget)


@given(effects, st.floats(0, 50))
def test_the_budget_holds_and_nothing_more_fits(losses: list[float], budget: float) -> None:
    found = searched(losses, budget)
    assert sum(losses[i] for i in found.lowered) <= budget + 1e-9
    assert sorted((*found.lowered, *found.kept)) == list(range(len(losses)))
    if found.kept:
        # The least harmful of those kept would break it.
        assert sum(losses[i] for i in found.lowered) + losses[found.kept[0]] > budget - 1e-9
        assert list(found.effects) == sorted(losses)


@given(effects, st.floats(0, 50), st.floats(0, 50))
def test_a_larger_budget_takes_no_less(losses: list[float], one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert len(searched(losses, less).lowered) <= len(searched(losses, more).lowered)


@given(effects, st.floats(0, 50))
def test_the_drop_was_measured(losses: list[float], budget: float) -> None:
    found = searched(losses, budget)
    measured = {trial.lowered: trial.drop for trial in found.trials}
    assert found.drop == measured.get(len(found.lowered), 0.0)
    assert len(found.trials) <= 2 + len(losses).bit_length()


def test_no_effect_is_measured_where_everything_fits() -> None:
    def refuse(_: int) -> float:
        raise AssertionError("not needed")

    found = largest_within([1, 2], refuse, lambda chosen: Trial(len(chosen), 0.5), 1.0)
    assert found.lowered == (1, 2) and found.effects == () and found.drop == 0.5


def test_where_nothing_fits_nothing_is_taken() -> None:
    found = searched([3.0, 4.0], 1.0)
    assert found.lowered == () and found.drop == 0.0
