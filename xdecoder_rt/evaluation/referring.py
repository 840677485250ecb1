"""Referring segmentation: cumulative IoU, mean IoU and precision at IoU 0.5.

The three figures of the RefCOCO literature (Yu et al., "Modeling Context in Referring Expressions",
ECCV 2016; Hu et al., "Segmentation from Natural Language Expressions", ECCV 2016), in the form of
X-Decoder's own evaluator: an IoU of exactly 0.5 is precise.

Unlabelled pixels are treated as the panoptic metric treats them: nobody knows what is there, so a
prediction on them neither helps nor costs. Where every pixel is labelled, and only there, the
figures are those of evaluators that count every pixel.
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

    def update(
        self,
        truth: NDArray[np.bool_],
        prediction: NDArray[np.bool_],
        labelled: NDArray[np.bool_] | None = None,
    ) -> None:
        """Count one phrase.

        Args:
            truth: H x W bool, what the phrase means; may be empty.
            prediction: H x W bool; may be empty.
            labelled: H x W bool, the pixels that count; None counts all.

        Raises:
            ArgumentError: if a mask is not bool or the sizes differ.
        """
        masks = [truth, prediction, *([] if labelled is None else [labelled])]
        shapes = [mask.shape for mask in masks]
        if truth.ndim != 2 or len(set(shapes)) > 1 or any(mask.dtype != bool for mask in masks):
            raise ArgumentError(
                f"The true mask is {truth.dtype} {truth.shape}, the predicted one "
                f"{prediction.dtype} {prediction.shape}",
                expected="bool masks of one height and width",
            )
        union, intersection = truth | prediction, truth & prediction
        if labelled is not None:
            union, intersection = union & labelled, intersection & labelled
        self._intersections.append(int(np.count_nonzero(intersection)))
        self._unions.append(int(np.count_nonzero(union)))

    def compute(self) -> ReferringScores:
        """The scores over all phrases counted; an empty mask that is rightly empty has IoU 1.

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
