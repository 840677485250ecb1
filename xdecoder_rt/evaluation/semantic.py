"""Mean intersection over union of semantic maps.

Per class, intersection and union are counted over all images (the diagonal and the margins of the
confusion matrix, which itself would be large for a large vocabulary). Unlabelled pixels are left
out; a labelled pixel predicted as nothing is missed. On pixels that are declared to show nothing of
the vocabulary every class is wrong. The mean is over the classes that occur in
the truth or in the prediction, as usual (mmsegmentation, torchmetrics).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.items import NOTHING
from xdecoder_rt.errors import ArgumentError

NO_CLASS = -2
"""Of pixels that show nothing of the vocabulary."""

_BAND_PIXELS = 1 << 20  # a pixel of a band takes some 30 bytes


@dataclass(frozen=True)
class SemanticScores:
    """Semantic segmentation quality, 0 to 100.

    Attributes:
        miou: The mean of `per_class`.
        per_class: IoU by label, in the vocabulary's order, of the classes that occur.
    """

    miou: float
    per_class: dict[str, float]


class SemanticIoU:
    """Counts intersections and unions over images; two of them merge into one.

    Args:
        vocabulary: The labels of the classes.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        classes = len(self.vocabulary)
        self._intersection = np.zeros(classes, dtype=np.int64)
        self._true = np.zeros(classes, dtype=np.int64)
        self._predicted = np.zeros(classes, dtype=np.int64)

    def update(self, truth: NDArray[np.integer[Any]], prediction: NDArray[np.integer[Any]]) -> None:
        """Count one image.

        Args:
            truth: H x W indices in the vocabulary, -1 = unlabelled, -2 = none of it.
            prediction: H x W indices in the vocabulary, -1 = none.

        Raises:
            ArgumentError: if the sizes differ or an index is not in the vocabulary.
        """
        if truth.ndim != 2 or truth.shape != prediction.shape:
            raise ArgumentError(
                f"The true map is {truth.shape} and the predicted one {prediction.shape}",
                expected="two maps of one height and width",
            )
        classes = len(self.vocabulary)
        for name, indices, least in (("true", truth, NO_CLASS), ("predicted", prediction, -1)):
            if indices.size and (indices.min() < least or indices.max() >= classes):
                raise ArgumentError(
                    f"The {name} map has indices from {indices.min()} to {indices.max()}",
                    expected=f"{least} to {classes - 1}",
                )
        rows = max(1, _BAND_PIXELS // max(1, truth.shape[1]))
        for top in range(0, len(truth), rows):
            band = slice(top, top + rows)
            labelled = truth[band] != -1
            true, predicted = truth[band][labelled], prediction[band][labelled]
            self._true += np.bincount(true[true >= 0], minlength=classes)
            self._predicted += np.bincount(predicted[predicted >= 0], minlength=classes)
            self._intersection += np.bincount(true[true == predicted], minlength=classes)

    def merge(self, other: SemanticIoU) -> None:
        """Add the images that another accumulator counted.

        Raises:
            ArgumentError: if its classes are not the same.
        """
        if self.vocabulary != other.vocabulary:
            raise ArgumentError("The two accumulators do not have the same classes")
        self._intersection += other._intersection
        self._true += other._true
        self._predicted += other._predicted

    def compute(self) -> SemanticScores:
        """Return the scores over all images counted.

        Raises:
            ArgumentError: if no labelled pixel was counted.
        """
        union = self._true + self._predicted - self._intersection
        occurring = np.flatnonzero(union)
        if not len(occurring):
            raise ArgumentError("There is no labelled pixel to score")
        iou = 100 * self._intersection[occurring] / union[occurring]
        labels = [self.vocabulary[i] for i in occurring]
        return SemanticScores(float(iou.mean()), dict(zip(labels, iou.tolist(), strict=True)))


def class_map(ids: NDArray[np.integer[Any]], classes: Mapping[int, int]) -> NDArray[np.int32]:
    """A semantic map from a map of segments.

    Args:
        ids: H x W segment ids, 0 = unlabelled, -1 = nothing of the vocabulary.
        classes: The index in the vocabulary of each segment's class, by id; of every id in the
            map.

    Returns:
        H x W int32 indices in the vocabulary, -1 = unlabelled, -2 = none of it.
    """
    segment_ids = sorted(classes)
    class_of = np.array([NO_CLASS, -1, *(classes[i] for i in segment_ids)], dtype=np.int32)
    return class_of[np.searchsorted(np.array([NOTHING, 0, *segment_ids]), ids)]
