"""From the scores of the output rules to how often answers of such a score are right.

The rules compare probabilities of a softmax, which rise with certainty but say little of how often
an answer is right. A curve per kind of output, fitted on labelled images, says that; what is
reported, and what callers ask for, is on its scale. It rises, so that nothing changes places.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import quoted
from xdecoder_rt.json_reader import Rule

__all__ = ["CURVE_KINDS", "SCORE_KINDS", "ScoreCurve", "score_problem"]

CURVE_KINDS = ("panoptic", "instance", "refer")
"""Kinds of output whose scores may have a curve; semantic output's are panoptic output's."""
SCORE_KINDS = ("panoptic", "semantic", "instance", "refer")
"""Kinds of output that have a least score."""
MOST_POINTS = 64
_Points: TypeAlias = Annotated[
    tuple[Annotated[float, Rule(low=0.0, high=1.0)], ...], Rule(least=2, most=MOST_POINTS)
]
_Scores = TypeVar("_Scores", float, npt.NDArray[np.float32])


@dataclass(frozen=True)
class ScoreCurve:
    """Points of a curve, straight between them.

    Attributes:
        scores: of the output rules, rising from 0 to 1.
        shares: how often an answer of that score is right, rising, 0 to 1.
    """

    scores: _Points
    shares: _Points

    def reported(self, scores: _Scores) -> _Scores:
        """Return what is reported for scores of the rules, of the same type, rounded to float32."""
        shares = np.interp(scores, self.scores, self.shares).astype(np.float32)
        return shares if isinstance(scores, np.ndarray) else float(shares)

    def least(self, reported: float) -> float:
        """Return the least score of the rules for which `reported` or more is reported.

        Returns:
            0 where every score is; infinity where none is.
        """
        return _least(self, reported)


@lru_cache(maxsize=256)  # asked for in every frame
def _least(curve: ScoreCurve, reported: float) -> float:
    """Return :meth:`ScoreCurve.least`."""
    # NumPy would round a number that it compares with one of its own.
    lowest, highest = (float(np.float32(share)) for share in (curve.shares[0], curve.shares[-1]))
    if reported <= lowest:
        return 0.0
    if reported > highest:
        return math.inf
    # Among all float32: those above 0 are in the order of their bits.
    low, high = 0, int(np.float32(1.0).view(np.int32))
    while low < high:
        middle = (low + high) // 2
        if curve.reported(float(np.int32(middle).view(np.float32))) >= reported:
            high = middle
        else:
            low = middle + 1
    return float(np.int32(low).view(np.float32))


def score_problem(
    curves: Mapping[str, ScoreCurve], min_scores: Mapping[str, float]
) -> tuple[str, str] | None:
    """Return what is wrong with the curves and least scores of a model, and what is expected.

    A curve leads from a score of 0 to one of 1 and rises everywhere.
    """
    for name in (*curves, *min_scores):
        if name not in SCORE_KINDS or (name in curves and name not in CURVE_KINDS):
            return f"has scores of {quoted(name)}", f"kinds of output: {', '.join(SCORE_KINDS)}"
    for name, curve in curves.items():
        if len(curve.scores) != len(curve.shares):
            return f"has a curve of {name} with unequal lists", "a share for each score"
        if (curve.scores[0], curve.scores[-1]) != (0.0, 1.0):
            return f"has a curve of {name} from {curve.scores[0]} to {curve.scores[-1]}", "0 to 1"
        for points in (curve.scores, curve.shares):
            if any(after <= before for before, after in pairwise(points)):
                return f"has a curve of {name} that does not rise", "rising scores and shares"
    return None
