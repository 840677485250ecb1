"""Average precision of instances, computed by the package `pycocotools`, the code of COCO.

Ranked by score, at most 100 detections of a class in an image, mask IoU from 0.5 to 0.95, crowds
ignored: its own defaults, which X-Decoder's figures are measured with.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.truth import TrueInstance
from xdecoder_rt.errors import ArgumentError, require
from xdecoder_rt.masks.rle import encode_mask


@dataclass(frozen=True)
class InstanceScores:
    """Average precision, 0 to 100.

    Attributes:
        ap: The mean over classes and over the IoUs 0.5, 0.55, ... 0.95.
        ap50: At the IoU 0.5.
        ap75: At the IoU 0.75.
        instances: The number of true instances, crowds left out.
    """

    ap: float
    ap50: float
    ap75: float
    instances: int


class InstancePrecision:
    """Collects true and detected instances of images.

    Args:
        classes: The number of classes.

    Raises:
        MissingExtraError: if pycocotools is not installed.
    """

    def __init__(self, classes: int) -> None:
        require("pycocotools.cocoeval", "eval")
        self._classes = classes
        self._images: list[dict[str, int]] = []
        self._true: list[dict[str, Any]] = []
        self._detected: list[dict[str, Any]] = []

    def update(
        self,
        truth: Sequence[TrueInstance],
        masks: NDArray[np.bool_],
        classes: NDArray[np.integer[Any]],
        scores: NDArray[np.floating[Any]],
    ) -> None:
        """Count one image.

        Args:
            truth: Its true instances.
            masks: N x H x W bool, the detections; there may be none.
            classes: N class indices.
            scores: N scores.

        Raises:
            ArgumentError: if the numbers differ, or a class is none.
        """
        if not len(masks) == len(classes) == len(scores):
            raise ArgumentError(
                f"There are {len(masks)} masks, {len(classes)} classes and {len(scores)} scores",
                expected="one class and one score a mask",
            )
        indices = [*map(int, classes), *(instance.class_index for instance in truth)]
        if indices and not 0 <= min(indices) <= max(indices) < self._classes:
            raise ArgumentError(
                f"There are classes from {min(indices)} to {max(indices)}",
                expected=f"0 to {self._classes - 1}",
            )
        image_id, (height, width) = len(self._images) + 1, masks.shape[1:]
        self._images.append({"id": image_id, "height": height, "width": width})
        for instance in truth:
            self._true.append(
                {
                    "id": len(self._true) + 1,
                    "image_id": image_id,
                    "category_id": instance.class_index + 1,
                    "segmentation": dict(instance.runs),
                    "area": instance.area,
                    "bbox": [0, 0, 0, 0],  # COCO's format has one; IoUs of masks do not read it
                    "iscrowd": int(instance.iscrowd),
                }
            )
        for index in range(len(masks)):
            self._detected.append(
                {
                    "id": len(self._detected) + 1,
                    "image_id": image_id,
                    "category_id": int(classes[index]) + 1,
                    "segmentation": {**encode_mask(masks[index])},
                    "score": float(scores[index]),
                    "area": float(np.count_nonzero(masks[index])),
                    "bbox": [0, 0, 0, 0],
                    "iscrowd": 0,
                }
            )

    def compute(self) -> InstanceScores:
        """Return the scores over all images counted.

        Raises:
            ArgumentError: if there is no true instance beside crowds.
        """
        instances = sum(not annotation["iscrowd"] for annotation in self._true)
        if not instances:
            raise ArgumentError("There is no instance to score", expected="at least one")
        evaluation = require("pycocotools.cocoeval", "eval").COCOeval(
            self._as_coco(self._true), self._as_coco(self._detected), "segm"
        )
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        ap, ap50, ap75 = (100 * float(value) for value in evaluation.stats[:3])
        return InstanceScores(ap, ap50, ap75, instances)

    def _as_coco(self, annotations: list[dict[str, Any]]) -> Any:
        coco = require("pycocotools.coco", "eval").COCO()
        coco.dataset = {
            "images": self._images,
            "categories": [{"id": number + 1} for number in range(self._classes)],
            "annotations": annotations,
        }
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return coco
