"""Referring segmentation: cumulative IoU, mean IoU and precision at IoU 0.5.

The three figures of the RefCOCO literature (Yu et al., "Modeling Context in Referring Expressions",
ECCV 2016; Hu et al., "Segmentation from Natural Language Expressions", ECCV 2016), in the form of
X-Decoder's own evaluator: an IoU of exactly 0.5 is precise.

Every pixel counts, unlabelled ones too: what a phrase means is stated in full, so all the rest is
known to be something else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.errors import ArgumentError


@dataclass(frozen=True)
class ReferringScores:
    """Quality of the masks of phrases, 0 to 100.

    Attributes:
        ciou: Cumulative IoU: the sum of the intersections over the sum of the unions.
        miou: The mean over the phrases of their IoU.
        p_at_50: The share of phrases with an IoU of at least 0.5.
        phrases: The number of phrases.
    """

    ciou: float
    miou: float
    p_at_50: float
    phrases: int


class ReferringIoU:
    """Counts the intersection and the union of each phrase's masks."""

    def __init__(self) -> None:
        self._intersections: list[int] = []
        self._unions: list[int] = []

    def update(self, truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> None:
        """Count one phrase.

        Args:
            truth: H x W bool, what the phrase means; may be empty.
            prediction: H x W bool; may be empty.

        Raises:
            ArgumentError: if a mask is not bool or the sizes differ.
        """
        masks = (truth, prediction)
        if (
            any(mask.shape != truth.shape or mask.dtype != bool for mask in masks)
            or truth.ndim != 2
        ):
            raise ArgumentError(
                f"The true mask is {truth.dtype} {truth.shape}, the predicted one "
                f"{prediction.dtype} {prediction.shape}",
                expected="bool masks of one height and width",
            )
        self._intersections.append(int(np.count_nonzero(truth & prediction)))
        self._unions.append(int(np.count_nonzero(truth | prediction)))

    def compute(self) -> ReferringScores:
        """Return the scores over all phrases; an empty mask that is rightly empty has IoU 1.

        Raises:
            ArgumentError: if no phrase was counted.
        """
        if not self._unions:
            raise ArgumentError("There is no phrase to score")
        intersections = np.array(self._intersections, dtype=np.int64)
        unions = np.array(self._unions, dtype=np.int64)
        iou = np.where(unions > 0, intersections / np.maximum(unions, 1), 1.0)
        union = int(unions.sum())
        return ReferringScores(
            ciou=100 * int(intersections.sum()) / union if union else 100.0,
            miou=100 * float(iou.mean()),
            p_at_50=100 * float((2 * intersections >= unions).mean()),
            phrases=len(unions),
        )
