"""Images of which only texts are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.image_files import read_rgb, read_size
from xdecoder_rt.datasets.items import AnsweredQuestion, PanopticItem, Phrase, Segment


@dataclass(frozen=True)
class TextItem:
    """An image with captions and questions and no segments; a `PanopticItem`.

    Attributes:
        image: The image file.
        captions: Descriptions of the whole image.
        questions: Questions on the image.
        segments: Always empty.
        phrases: Always empty: there is nothing that they could mean.
    """

    image: Path
    captions: tuple[str, ...] = ()
    questions: tuple[AnsweredQuestion, ...] = ()
    segments: tuple[Segment, ...] = ()
    phrases: tuple[Phrase, ...] = ()

    def load_image(self) -> NDArray[np.uint8]:
        """Decode the image.

        Returns:
            H x W x 3 uint8 RGB, upright.

        Raises:
            DatasetError: if the file is missing or broken.
        """
        return read_rgb(self.image)

    def load_panoptic(self) -> NDArray[np.uint8]:
        """Return the map of an image of which no segment is known.

        Returns:
            H x W uint8 zeros.

        Raises:
            DatasetError: if the image is missing or broken.
        """
        return np.zeros(read_size(self.image), np.uint8)


@dataclass(frozen=True)
class ItemSet:
    """Items and their vocabulary; a `PanopticDataset`.

    Attributes:
        items: The images.
        vocabulary: Every label that a segment may have; empty where there are no segments.
        stuff: The labels of the vocabulary that are stuff.
    """

    items: Sequence[PanopticItem]
    vocabulary: tuple[str, ...] = ()
    stuff: frozenset[str] = frozenset()

    def __len__(self) -> int:
        """The number of images."""
        return len(self.items)
