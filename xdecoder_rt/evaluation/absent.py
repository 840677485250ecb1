"""How much of an image goes to words for what is not in it.

A vocabulary that is asked for in every image mostly names what this image does not show. Panoptic
quality counts a false segment once, whatever its size, against the true ones of its class; this is
the area that a person sees painted wrongly, over all words at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.errors import ArgumentError


@dataclass(frozen=True)
class AbsentScores:
    """The pixels given to absent words; less is better.

    Attributes:
        area: The share of an image's pixels, 0 to 100, the mean over images.
        words: How many of them had a segment, the mean over images.
    """

    area: float
    words: float


class AbsentWords:
    """Counts, image by image, what panoptic maps give to words that the image has no segment of.

    All pixels count, unlabelled ones too: a word that nothing in the image is labelled with is
    taken to be absent. Where labels are incomplete the area is an upper bound.
    """

    def __init__(self) -> None:
        self._areas: list[float] = []
        self._words: list[int] = []

    def update(
        self,
        true_classes: Collection[int],
        prediction: NDArray[np.integer[Any]],
        predicted_classes: Mapping[int, int],
    ) -> None:
        """Count one image.

        Args:
            true_classes: Indices in the vocabulary of what the image shows.
            prediction: H x W ids of the predicted segments, 0 = none; at least one pixel.
            predicted_classes: The index in the vocabulary of each predicted segment, by id.
        """
        present = set(true_classes)
        false = [id_ for id_, class_ in predicted_classes.items() if class_ not in present]
        area = np.count_nonzero(np.isin(prediction, false))
        self._areas.append(100 * area / prediction.size)
        self._words.append(len({predicted_classes[id_] for id_ in false}))

    def compute(self) -> AbsentScores:
        """Return the means over all images counted.

        Raises:
            ArgumentError: if no image was counted.
        """
        if not self._areas:
            raise ArgumentError("There is no image to score")
        return AbsentScores(float(np.mean(self._areas)), float(np.mean(self._words)))
