"""Rules of agreement between an array of ours and the original's."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from xdecoder_rt.backends.base import Array
from xdecoder_rt.evaluation.divergence import relative_rms

RELATIVE_RMS = 1e-4
AGREEING_SHARE = 0.999


class Verdict(enum.Enum):
    """The verdict on one expected array."""

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


AgreementRule = Callable[[Array, Array], Outcome]


def continuous(actual: Array, expected: Array) -> Outcome:
    """Require a relative RMS error of at most 1e-4 and finite values."""
    if problem := _incomparable(actual, expected):
        return problem
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return Outcome(False, "not finite")
    error = relative_rms(actual, expected)
    return Outcome(error <= RELATIVE_RMS, "relative_rms", error)


def exact(actual: Array, expected: Array) -> Outcome:
    """Require that no value differs."""
    if problem := _incomparable(actual, expected):
        return problem
    mismatches = int(np.count_nonzero(actual != expected))
    return Outcome(mismatches == 0, "mismatches", mismatches)


def pixels(actual: Array, expected: Array) -> Outcome:
    """Require that at least 99.9 % of the pixels agree, in each of several maps."""
    if problem := _incomparable(actual, expected):
        return problem
    if expected.size == 0:
        return exact(actual, expected)
    agree = float((actual == expected).mean(axis=(-2, -1)).min())
    return Outcome(agree >= AGREEING_SHARE, "agreement", agree)


def table_rows(actual: Array, expected: Array) -> Outcome:
    """Require equal rows in equal order; two tables without rows are equal."""
    if expected.size == 0 and actual.size == 0:
        return Outcome(True, "mismatches", 0)
    return exact(actual, expected)


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Return one comparison that did not pass, or else the one of the largest error."""

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
