"""Rules of agreement between an array of ours and the original's."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.evaluation.divergence import relative_rms

Array = npt.NDArray[Any]

RELATIVE_RMS = 1e-4
AGREEING_SHARE = 0.999


class Verdict(enum.Enum):
    """What became of one expected array."""

    PASS = "pass"
    FAIL = "FAIL"
    NOT_BUILT = "not built"
    NOT_EXPOSED = "not exposed"


@dataclass(frozen=True)
class Outcome:
    """The result of one comparison.

    Attributes:
        passed: whether the array is within its bound.
        measure: ``relative_rms``, ``mismatches``, ``agreement``; or why there is nothing to
            measure.
        value: the measured number, None where there is nothing to measure.
    """

    passed: bool
    measure: str
    value: float | None = None

    def __str__(self) -> str:
        """The measured number as people read it."""
        if self.value is None:
            return self.measure
        if self.measure == "relative_rms":
            return f"relative RMS {self.value:.1e}"
        if self.measure == "agreement":
            return f"{100 * self.value:.4g} % agree"
        return f"{self.value:.0f} differ" if self.value else "exact"


Rule = Callable[[Array, Array], Outcome]


def continuous(actual: Array, expected: Array) -> Outcome:
    """Relative RMS error of at most 1e-4, and every value finite."""
    if problem := _incomparable(actual, expected):
        return problem
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return Outcome(False, "not finite")
    error = relative_rms(actual, expected)
    return Outcome(error <= RELATIVE_RMS, "relative_rms", error)


def exact(actual: Array, expected: Array) -> Outcome:
    """No value differs."""
    if problem := _incomparable(actual, expected):
        return problem
    mismatches = int(np.count_nonzero(actual != expected))
    return Outcome(mismatches == 0, "mismatches", mismatches)


def pixels(actual: Array, expected: Array) -> Outcome:
    """At least 99.9 % of the pixels agree; of several maps, in every one."""
    if problem := _incomparable(actual, expected):
        return problem
    if expected.size == 0:
        return exact(actual, expected)
    agree = float((actual == expected).mean(axis=(-2, -1)).min())
    return Outcome(agree >= AGREEING_SHARE, "agreement", agree)


def rows(actual: Array, expected: Array) -> Outcome:
    """The same table: rows and their order; two tables without rows are equal."""
    if expected.size == 0 and actual.size == 0:
        return Outcome(True, "mismatches", 0)
    return exact(actual, expected)


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Of comparisons that must all pass: one that did not, or else the largest error."""

    def badness(outcome: Outcome) -> tuple[bool, float]:
        value = outcome.value or 0.0
        return not outcome.passed, 1.0 - value if outcome.measure == "agreement" else value

    return max(outcomes, key=badness)


def _incomparable(actual: Array, expected: Array) -> Outcome | None:
    if expected.dtype.kind not in "biuf":
        return Outcome(False, f"expected values of type {expected.dtype}")
    if actual.shape != expected.shape:
        return Outcome(False, f"ours is {shape_text(actual)}")
    return None


def shape_text(array: Array) -> str:
    """A shape as people write it: ``1x81x64``, ``scalar``."""
    return "x".join(map(str, array.shape)) or "scalar"
