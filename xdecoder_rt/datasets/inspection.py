"""What a data set holds, before anyone trains on it: counts, oddities, pictures that are twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xdecoder_rt.datasets.items import PanopticDataset, PanopticItem
from xdecoder_rt.errors import DatasetError

__all__ = ["Duplicates", "ClassCount", "Duplicate", "Inspection", "inspect_dataset", "likeness"]

SMALL_PIXELS = 16
SMALL_SHARE = 1e-4
_HASH_SIDE = 8
_HASH_APART = 6  # bits of 128: what compression changes
_HASH_FLAT = 4  # grey levels between which an image has nothing to be recognised by


@dataclass
class ClassCount:
    """How often a class is there.

    Attributes:
        images: with the class.
        segments: of the class.
        shares: the part of its image that each covers.
    """

    images: int = 0
    segments: int = 0
    shares: list[float] = field(default_factory=list)

    @property
    def median_share(self) -> float:
        """The median part of an image; 0 where there is none."""
        return median(self.shares) if self.shares else 0.0


@dataclass(frozen=True)
class Duplicate:
    """Two images that look the same: the source and the file of each."""

    first: tuple[str, Path]
    second: tuple[str, Path]

    @property
    def is_across(self) -> bool:
        """Whether they are of two sources: what is learnt is then not held out."""
        return self.first[0] != self.second[0]


@dataclass
class Inspection:
    """What one data set holds.

    Attributes:
        images: how many.
        classes: counts by label, of every label of the vocabulary.
        sizes: how many images have each (height, width).
        empty: images without a segment.
        small: images with segments of under 16 pixels or 0.01 % of the image, and how many.
        broken: what cannot be read, and why.
        texts: phrases, captions and questions.
        unlabelled: the mean part of an image that no segment has.
    """

    images: int = 0
    classes: dict[str, ClassCount] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    empty: list[Path] = field(default_factory=list)
    small: dict[Path, int] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    texts: Counter[str] = field(default_factory=Counter)
    unlabelled: float = 0.0

    @property
    def unused(self) -> list[str]:
        """Labels of the vocabulary that no segment has."""
        return [label for label, count in self.classes.items() if not count.segments]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "images": self.images,
            "classes": {
                label: {
                    "images": count.images,
                    "segments": count.segments,
                    "median_share": count.median_share,
                }
                for label, count in self.classes.items()
            },
            "sizes": [[*size, count] for size, count in self.sizes.most_common()],
            "empty": [str(path) for path in self.empty],
            "small_segments": {str(path): count for path, count in self.small.items()},
            "broken": self.broken,
            "texts": dict(self.texts),
            "unlabelled": self.unlabelled,
        }


class Duplicates:
    """Finds images that look the same, in one source or over several."""

    def __init__(self) -> None:
        self._bits = np.zeros((0, 2 * _HASH_SIDE**2), np.bool_)
        self._images: list[tuple[str, Path]] = []
        self.found: list[Duplicate] = []

    def add(self, source: str, path: Path, pixels: NDArray[np.uint8]) -> None:
        """Compare an image with those before it."""
        bits = likeness(pixels)
        if bits is None:
            return
        count = len(self._images)
        if count == len(self._bits):
            self._bits = np.vstack([self._bits, np.zeros((max(256, count), len(bits)), np.bool_)])
        apart = (self._bits[:count] != bits).sum(axis=1)
        if count and apart.min() <= _HASH_APART:
            self.found.append(Duplicate(self._images[int(apart.argmin())], (source, path)))
        self._bits[count] = bits
        self._images.append((source, path))


def inspect_dataset(
    source: str,
    dataset: PanopticDataset,
    duplicates: Duplicates,
    progress: Callable[[int, int], None] = lambda done, total: None,
    limit: int | None = None,
) -> Inspection:
    """Look at every image and map of a data set; what is broken is noted and passed over.

    Args:
        source: the data set's name.
        dataset: what to look at.
        duplicates: takes note of every image.
        progress: called with the number of images done and of all.
        limit: how many images, from the first; None for all.
    """
    total = len(dataset.items) if limit is None else min(limit, len(dataset.items))
    result = Inspection(classes={label: ClassCount() for label in dataset.vocabulary})
    shares = []
    for number, item in enumerate(islice(dataset.items, total)):
        try:
            pixels, ids = item.load_image(), item.load_panoptic()
            _count(result, item, ids)
            shares.append(float((ids <= 0).mean()))
            duplicates.add(source, item.image, pixels)
        except DatasetError as error:
            result.broken[str(item.image)] = str(error)
        result.images += 1
        progress(number + 1, total)
    result.unlabelled = float(np.mean(shares)) if shares else 0.0
    return result


def likeness(pixels: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Return bits that hardly differ between images which differ in size or compression alone.

    It says of 8 x 9 places of each of two reductions whether one is lighter than its neighbour
    (difference hash, rows and columns); None for an image without structure.

    Args:
        pixels: H x W x 3 uint8.
    """
    grey = Image.fromarray(pixels).convert("L")
    side = _HASH_SIDE
    across = np.asarray(grey.resize((side + 1, side), Image.Resampling.BOX), np.int16)
    down = np.asarray(grey.resize((side, side + 1), Image.Resampling.BOX), np.int16)
    if np.ptp(across) <= _HASH_FLAT:
        return None
    lighter = np.diff(across, axis=1) > 0, np.diff(down, axis=0) > 0
    return np.concatenate([part.ravel() for part in lighter])


def _count(result: Inspection, item: PanopticItem, ids: NDArray[np.integer[Any]]) -> None:
    height, width = ids.shape
    result.sizes[height, width] += 1
    segments = [segment for segment in item.segments if not segment.iscrowd]
    if not segments:
        result.empty.append(item.image)
    least = max(SMALL_PIXELS, SMALL_SHARE * ids.size)
    if small := sum(segment.area < least for segment in segments):
        result.small[item.image] = small
    for segment in segments:
        count = result.classes[segment.label]
        count.segments += 1
        count.shares.append(segment.area / ids.size)
    for label in {segment.label for segment in segments}:
        result.classes[label].images += 1
    texts: Mapping[str, int] = {
        "phrases": len(item.phrases),
        "captions": len(item.captions),
        "questions": len(item.questions),
    }
    result.texts.update({name: count for name, count in texts.items() if count})
