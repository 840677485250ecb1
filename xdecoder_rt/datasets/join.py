"""Several data sets of the same images as one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.items import (
    AnsweredQuestion,
    PanopticDataset,
    PanopticItem,
    Phrase,
    Segment,
)
from xdecoder_rt.datasets.text_items import ItemSet, TextItem
from xdecoder_rt.errors import DatasetError


@dataclass(frozen=True)
class JoinedItem:
    """A labelled image with texts from elsewhere; a `PanopticItem`.

    Attributes:
        labelled: Where the segments, their map and their phrases come from.
        captions: Descriptions of the whole image, from every data set.
        questions: Questions on the image, from every data set.
    """

    labelled: PanopticItem
    captions: tuple[str, ...]
    questions: tuple[AnsweredQuestion, ...]

    @property
    def image(self) -> Path:
        """The image file."""
        return self.labelled.image

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments."""
        return self.labelled.segments

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """Referring expressions."""
        return self.labelled.phrases

    def load_image(self) -> NDArray[np.uint8]:
        """Decode the image: H x W x 3 uint8 RGB. Raises DatasetError if it is broken."""
        return self.labelled.load_image()

    def load_panoptic(self) -> NDArray[np.integer[Any]]:
        """Decode the map: H x W segment ids, 0 = unlabelled. Raises DatasetError if it is wrong."""
        return self.labelled.load_panoptic()


def join_by_image(datasets: Sequence[PanopticDataset]) -> ItemSet:
    """Join data sets to one item for each image file, with the texts that all data sets have of it.

    Segments and phrases come from the one data set that has labels; images that it lacks stay
    without. Images come in the order in which they first occur.

    Args:
        datasets: At most one has a vocabulary: labels of several maps could not be told which
            hides which, and phrases name ids of their own map.

    Raises:
        DatasetError: if several have, or one has the same image twice, with labels.
    """
    labelled = [dataset for dataset in datasets if dataset.vocabulary]
    if len(labelled) > 1:
        raise DatasetError(
            f"{len(labelled)} of the data sets to join have labels",
            expected="at most one with labels; the others with captions or questions alone",
            fix="train on them as separate sources",
        )
    maps: dict[str, PanopticItem] = {}
    captions: dict[str, list[str]] = {}
    questions: dict[str, list[AnsweredQuestion]] = {}
    images: dict[str, Path] = {}
    for dataset in datasets:
        for item in dataset.items:
            key = os.path.abspath(item.image)
            images.setdefault(key, item.image)
            captions.setdefault(key, []).extend(item.captions)
            questions.setdefault(key, []).extend(item.questions)
            if dataset.vocabulary and maps.setdefault(key, item) is not item:
                raise DatasetError(f"{item.image} occurs twice in a data set to be joined")
    items: list[PanopticItem] = []
    for key, image in images.items():
        texts = tuple(captions[key]), tuple(questions[key])
        items.append(JoinedItem(maps[key], *texts) if key in maps else TextItem(image, *texts))
    if not labelled:
        return ItemSet(tuple(items))
    return ItemSet(tuple(items), labelled[0].vocabulary, labelled[0].stuff)
