"""What another model loses on the same images, and how far that number can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.evaluation.panoptic_quality import PanopticQuality

_RESAMPLES = 2000
_TAILS = (2.5, 97.5)


@dataclass(frozen=True)
class PanopticLoss:
    """What PQ loses between two models.

    Attributes:
        images: how many both have segmented.
        before: PQ of the first, 0 to 100.
        after: PQ of the second.
        low: where the loss begins with a certainty of 95 %; a gain is below 0.
        high: where it ends.
    """

    images: int
    before: float
    after: float
    low: float
    high: float

    @property
    def loss(self) -> float:
        """Return what was lost, in PQ; a gain is below 0."""
        return self.before - self.after


def panoptic_loss(
    before: Sequence[PanopticQuality], after: Sequence[PanopticQuality], seed: int = 0
) -> PanopticLoss:
    """Compare two models image by image.

    The interval is a paired bootstrap's: images are drawn again and again, with both models'
    segments in them (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).

    Args:
        before: counts of each image.
        after: those of the same images in the same order.
        seed: of the drawing.

    Raises:
        ArgumentError: the images are not as many, or there is none.
    """
    if len(before) != len(after) or not before:
        raise ArgumentError(
            f"{len(before)} images are compared with {len(after)}",
            expected="the same images, one at least",
        )
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(before), np.full(len(before), 1 / len(before)), _RESAMPLES)
    weights = np.concatenate([np.ones((1, len(before)), np.int64), drawn])
    (pq, *pqs), (other_pq, *other_pqs) = (
        _panoptic_quality(weights, np.stack([image.counts for image in images])).tolist()
        for images in (before, after)
    )
    low, high = np.percentile(np.subtract(pqs, other_pqs), _TAILS).tolist()
    return PanopticLoss(len(before), pq, other_pq, low, high)


def _panoptic_quality(
    weights: NDArray[np.int64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return PQ of each row of weights: images ``[rows, N]``, counts ``[N, 3, classes]``."""
    sums = np.einsum("rn,nkc->krc", weights, counts, optimize=True)
    scored = sums[1] + sums[2]
    qualities = np.divide(sums[0], scored, out=np.zeros_like(scored), where=scored > 0)
    classes = np.maximum(1, (scored > 0).sum(axis=1))
    means: NDArray[np.float64] = 100 * qualities.sum(axis=1) / classes
    return means
