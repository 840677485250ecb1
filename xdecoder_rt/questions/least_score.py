"""The scale of scores that are reported, and the least of them: what a call says, or a default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.masks.score_curve import ScoreCurve
from xdecoder_rt.plan.manifest import PostprocessInfo
from xdecoder_rt.words.checks import is_share
from xdecoder_rt.words.vocabulary import Vocabulary

__all__ = ["AS_THEY_ARE", "MIN_SCORES", "ScoreScale", "check_min_score", "check_thresholds"]
__all__ += ["is_sure", "least_score", "usual_min_score"]

_Scores = TypeVar("_Scores", float, npt.NDArray[np.float32])

MIN_SCORES: Mapping[str, float] = {
    "panoptic": 0.0,
    "semantic": 0.0,
    "instance": 0.25,
    "refer": 0.25,
}
"""Defaults of compact plans that have none of their own, chosen on held-out scenes.

docs/measured/words.md has the figures; published plans have 0. Panoptic output has the plan's own
threshold, and semantic output gives every pixel a class.
"""


@dataclass(frozen=True)
class ScoreScale:
    """How the scores of a plan's rules are reported: by its curve, or as they are.

    Attributes:
        curve: None for the latter.
    """

    curve: ScoreCurve | None

    @classmethod
    def of(cls, rules: PostprocessInfo, kind: str) -> ScoreScale:
        """Return the scale of a segmentation task or ``"refer"``."""
        return cls(rules.curves.get("panoptic" if kind == "semantic" else kind))

    def reported(self, scores: _Scores) -> _Scores:
        """Return scores of the rules as they are reported."""
        return scores if self.curve is None else self.curve.reported(scores)

    def least(self, min_score: float) -> float:
        """Return the least score of the rules that is reported as `min_score` or more."""
        return min_score if self.curve is None else self.curve.least(min_score)

    def inside(self, vocabulary: Vocabulary) -> Vocabulary:
        """Return a vocabulary whose words' thresholds are scores of the rules."""
        if self.curve is None or not vocabulary.has_rules:
            return vocabulary
        return vocabulary.with_thresholds(lambda threshold: min(1.0, self.least(threshold)))


AS_THEY_ARE = ScoreScale(None)
"""The scale of plans without curves."""


_NOUN_MIN_SCORE = 0.05
"""Default of phrases in plans with distractors, which ask for nouns too: on held-out scenes 94 % of
the phrases that are found are above it."""


def usual_min_score(kind: str, family: str, *, distractors: bool) -> float:
    """Return the default of plans that have none of their own.

    Args:
        kind: a segmentation task or ``"refer"``.
        family: of the plan's model; published plans keep the published rules.
        distractors: whether the plan brings words that compete unasked.
    """
    if kind == "refer" and distractors:
        return _NOUN_MIN_SCORE
    return MIN_SCORES[kind] if family == "compact" else 0.0


def least_score(
    min_score: object,
    kind: str,
    family: str,
    defaults: Mapping[str, float] | None = None,
    *,
    distractors: bool = False,
) -> float:
    """Return the least score of what is reported.

    Args:
        min_score: as asked for; None for the default.
        kind: a segmentation task or ``"refer"``.
        family: of the plan's model; published plans keep the published rules.
        defaults: the plan's own, by kinds of output.
        distractors: as :func:`usual_min_score` takes it.

    Raises:
        ArgumentError: it is no number from 0 to 1.
    """
    if min_score is None:
        usual = usual_min_score(kind, family, distractors=distractors)
        return (defaults or {}).get(kind, usual)
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
