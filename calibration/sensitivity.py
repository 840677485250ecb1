"""The sensitivity search: the largest set of operators in low precision within a budget.

Each candidate's effect is measured with it alone in low precision; then candidates are taken in the
order of their effects for as long as the whole stays within the budget, found by bisection and
measured each time. The effect is a divergence of outputs: it is smooth, where a task metric over a
few dozen images would order candidates by its noise. The budget is of the task metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Trial:
    """A set that was measured.

    Attributes:
        lowered: how many candidates were in low precision, in the order of their effects.
        drop: what it lost, in the unit of the budget.
        latency_ms: of a frame, where it was measured.
    """

    lowered: int
    drop: float
    latency_ms: float | None = None


@dataclass(frozen=True)
class Search(Generic[T]):
    """What a search found.

    Attributes:
        lowered: the candidates to put into low precision, the least harmful first.
        kept: the others, in the same order.
        effects: of each candidate, in the same order: `lowered`, then `kept`.
        drop: what the chosen set loses, as measured.
        trials: everything that was measured on the way.
    """

    lowered: tuple[T, ...]
    kept: tuple[T, ...]
    effects: tuple[float, ...]
    drop: float
    trials: tuple[Trial, ...]


def largest_within(
    candidates: Sequence[T],
    effect: Callable[[T], float],
    measure: Callable[[Sequence[T]], Trial],
    budget: float,
) -> Search[T]:
    """Choose candidates.

    Args:
        candidates: what may be put into low precision.
        effect: of one alone; only compared. It is not asked for where all fit the budget.
        measure: what a set loses; the empty set loses nothing by definition.
        budget: the most that may be lost.

    Returns:
        A set whose measured loss is within the budget; empty where none of those tried is.
    """
    if not candidates:
        return Search((), (), (), 0.0, ())
    everything = measure(candidates)
    trials = [everything]
    if everything.drop <= budget:
        return Search(tuple(candidates), (), (), everything.drop, tuple(trials))
    effects = {i: effect(candidate) for i, candidate in enumerate(candidates)}
    order = sorted(effects, key=lambda i: (effects[i], i))
    ranked = [candidates[i] for i in order]
    least, most, drop = 0, len(ranked), 0.0
    while most - least > 1:
        middle = (least + most) // 2
        trial = measure(ranked[:middle])
        trials.append(trial)
        if trial.drop <= budget:
            least, drop = middle, trial.drop
        else:
            most = middle
    return Search(
        tuple(ranked[:least]),
        tuple(ranked[least:]),
        tuple(effects[i] for i in order),
        drop,
        tuple(trials),
    )
