"""Curves from scores to how often they are right, by isotonic regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from xdecoder_rt.errors import ArgumentError, CheckpointError
from xdecoder_rt.export.sources import checkpoint_file, load_model
from xdecoder_rt.masks.score_curve import ScoreCurve
from xdecoder_rt.models import save_checkpoint
from xdecoder_rt.models.checkpoint import read_header
from xdecoder_rt.questions.least_score import usual_min_score
from xdecoder_rt.training.scores.answers import Answers, Judged

_Floats = npt.NDArray[np.float64]
_PARTS = 12
"""Of the answers of a kind, by score: each is a point of the curve."""
_FEWEST = 8 * _PARTS
_SLOPE = 1e-3
"""Least rise of a curve from end to end of every part, so that it can be read backwards."""
_BINS = 10
_OWN_KEYS = ("format", "config")
"""Of a checkpoint's header: written anew."""


@dataclass(frozen=True)
class KindReport:
    """What a curve is worth, of one kind of output.

    Attributes:
        answers: how many were judged.
        right: the share of them that is right.
        error_before: expected calibration error of the scores as they are, 0 to 1.
        error_after: the same of those that a curve gives, each half of the images judged by the
            curve of the other.
        min_score: the least score by default, as it is reported; None for the family's.
        absent: images asked for what is not there.
        silent: the share of them in which nothing is found at that least score.
        kept: the share of the right answers that it keeps.
    """

    answers: int
    right: float
    error_before: float
    error_after: float
    min_score: float | None
    absent: int
    silent: float
    kept: float


def fit_curve(judged: Sequence[Judged]) -> ScoreCurve:
    """Return the rising curve that is nearest to how often answers are right.

    Args:
        judged: at least 96 answers.

    Raises:
        ArgumentError: there are fewer.
    """
    if len(judged) < _FEWEST:
        raise ArgumentError(
            f"There are {len(judged)} answers to fit a curve to",
            expected=f"at least {_FEWEST}",
            fix="give more labelled images",
        )
    scores = np.array([answer.score for answer in judged])
    right = np.array([answer.right for answer in judged], np.float64)
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, _PARTS)
    # One right and one wrong answer more in every part: no score is never or always right.
    shares = np.array([(right[part].sum() + 1) / (len(part) + 2) for part in parts])
    centres = np.array([scores[part].mean() for part in parts])
    weights = np.array([len(part) for part in parts], np.float64)
    rising = isotonic_regression(shares, weights=weights).x
    points = {0.0: rising[0], **dict(zip(centres, rising, strict=True)), 1.0: rising[-1]}
    xs = np.array(sorted(points))
    ys = np.array([points[x] for x in xs])
    # Straight parts get a slope, without leaving 0 to 1.
    ys = _SLOPE * xs + (1 - _SLOPE) * ys
    return ScoreCurve(*(tuple(float(v) for v in np.round(values, 6)) for values in (xs, ys)))


def calibration_error(scores: _Floats, right: _Floats) -> float:
    """Return the expected calibration error over ten bins of equal width (Guo et al., 2017)."""
    if not len(scores):
        return 0.0
    bins = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    gaps = [
        abs(scores[bins == b].mean() - right[bins == b].mean()) * np.count_nonzero(bins == b)
        for b in np.unique(bins)
    ]
    return float(sum(gaps) / len(scores))


def judge_kind(
    judged: Sequence[Judged], absent: Sequence[float], silent_share: float
) -> tuple[ScoreCurve, KindReport]:
    """Return the curve of a kind of output, and what it is worth.

    Args:
        judged: the answers.
        absent: the highest score in each image that was asked for what is not there.
        silent_share: the share of these images in which nothing is to be found by default; 0 for
            no least score.

    Raises:
        ArgumentError: there are too few answers.
    """
    curve = fit_curve(judged)
    scores = np.array([answer.score for answer in judged])
    right = np.array([answer.right for answer in judged], np.float64)
    halves = [np.array([a.image % 2 == half for a in judged]) for half in (0, 1)]
    after = np.zeros(len(scores))
    for half, other in (halves, halves[::-1]):
        fitted = fit_curve([a for a, is_in in zip(judged, other, strict=True) if is_in])
        after[half] = np.interp(scores[half], fitted.scores, fitted.shares)
    highest = np.asarray(absent, np.float64)
    least = None
    if silent_share and len(highest):
        raw = float(np.quantile(highest, silent_share, method="higher"))
        # Just above that score, in steps that people can read.
        least = min(1.0, float(np.floor(curve.reported(raw) * 100 + 1) / 100))
    bound = 0.0 if least is None else curve.least(least)
    return curve, KindReport(
        answers=len(judged),
        right=float(right.mean()),
        error_before=calibration_error(scores, right),
        error_after=calibration_error(after, right),
        min_score=least,
        absent=len(highest),
        silent=float((highest < bound).mean()) if len(highest) else 0.0,
        kept=float((scores[right > 0] >= bound).mean()) if right.any() else 0.0,
    )


def fit_scores(
    checkpoint: Path, out: Path, answers: Answers, silent_shares: Mapping[str, float]
) -> dict[str, Any]:
    """Write a checkpoint with curves, and least scores by default; the weights stay.

    Args:
        checkpoint: what the answers are of.
        out: the checkpoint to write.
        answers: of its plan, without curves.
        silent_shares: see :func:`judge_kind`, by kinds of output.

    Returns:
        The reports by kinds of output, as JSON values.

    Raises:
        ArgumentError: there are too few answers of a kind.
        CheckpointError: a checkpoint cannot be read or written.
    """
    model = load_model(checkpoint)
    curves, reports, least = {}, {}, {}
    has_distractors = model.config.distractors is not None
    for kind, judged in answers.judged.items():
        if not judged:
            continue
        curve, report = judge_kind(judged, answers.absent[kind], silent_shares.get(kind, 0.0))
        curves[kind], reports[kind] = curve, asdict(report)
        usual = usual_min_score(kind, model.config.family, distractors=has_distractors)
        if report.min_score is not None:
            least[kind] = report.min_score
        elif usual:  # the same answers as without the curve, on its scale
            least[kind] = curve.reported(usual)
    rules = replace(model.config.postprocess, curves=curves, min_scores=least)
    model.config = replace(model.config, postprocess=rules)
    kept = {k: v for k, v in read_header(checkpoint_file(checkpoint)).items() if k not in _OWN_KEYS}
    try:
        save_checkpoint(out, model, kept)
    except OSError as error:
        raise CheckpointError(f"{out} cannot be written: {error.strerror or error}") from error
    return reports
