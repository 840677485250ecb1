"""The least score of what is reported: what a call says, or a default for each kind of output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.words.checks import is_share

__all__ = ["MIN_SCORES", "check_min_score", "check_thresholds", "is_sure", "least_score"]

MIN_SCORES: Mapping[str, float] = {
    "panoptic": 0.0,
    "semantic": 0.0,
    "instance": 0.25,
    "refer": 0.25,
}
"""Defaults of compact plans, chosen on held-out scenes (docs/measured/words.md).

Published plans have 0. Panoptic output has the plan's own threshold, and semantic output gives
every pixel a class.
"""


def least_score(min_score: object, kind: str, family: str) -> float:
    """Return the least score of what is reported.

    Args:
        min_score: as asked for; None for the default.
        kind: a segmentation task or ``"refer"``.
        family: of the plan's model; published plans keep the published rules.

    Raises:
        ArgumentError: it is no number from 0 to 1.
    """
    if min_score is None:
        return MIN_SCORES[kind] if family == "compact" else 0.0
    return check_min_score(min_score)


def check_min_score(min_score: object) -> float:
    """Return a least score, NumPy's numbers included.

    Raises:
        ArgumentError: it is no number from 0 to 1.
    """
    if not is_share(min_score):
        raise ArgumentError(
            f"min_score is {quoted(min_score)}",
            expected="a number from 0 (everything that the plan's rules give) to 1, or None",
        )
    return float(min_score)  # type: ignore[arg-type]


def check_thresholds(kind: str, **thresholds: object) -> dict[str, float]:
    """Return those of some thresholds of panoptic output that are not None, as numbers.

    Args:
        kind: of output.
        thresholds: by the names that they are asked for by.

    Raises:
        ArgumentError: one is no number from 0 to 1, or is asked of another kind of output.
    """
    given = {name: value for name, value in thresholds.items() if value is not None}
    for name, value in given.items():
        if not is_share(value):
            raise ArgumentError(
                f"{name} is {quoted(value)}",
                expected="a number from 0 to 1, or None for the plan's",
            )
        if kind != "panoptic":
            raise ArgumentError(
                f"{name} was given for {kind} output",
                expected="it for panoptic output, the only one that has this threshold",
                fix="leave it out, or ask for min_score",
            )
    return {name: float(value) for name, value in given.items()}  # type: ignore[arg-type]


def is_sure(scores: Any, min_score: float) -> Any:
    """Return where scores are at least `min_score`, compared as they are reported: in float64."""
    return np.asarray(scores) >= np.float64(min_score)
