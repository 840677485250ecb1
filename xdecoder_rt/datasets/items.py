"""The items of a data set: an image with segments, a map of their ids, and texts.

Training and evaluation take these from a labelled folder or from COCO's files alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.errors import DatasetError, quoted

_T = TypeVar("_T")
_COUNTED = 1 << 24  # pixels

NOTHING = -1
"""Value of pixels in a map that are known to show nothing of the vocabulary. Labelled data leave
such pixels out or cannot tell them from unlabelled ones; composed scenes know them."""


@dataclass(frozen=True)
class Segment:
    """A labelled region of an image.

    Attributes:
        id: Its value in the map; not 0, which is unlabelled.
        label: A name of the vocabulary.
        isthing: Whether the label is of a countable thing (not in `stuff`).
        area: Its number of pixels in the map.
        iscrowd: Whether it is a group of things not told apart (COCO only; never in a labelled
            folder). Neither a training target nor counted as missed.
    """

    id: int
    label: str
    isthing: bool
    area: int
    iscrowd: bool = False


@dataclass(frozen=True)
class Phrase:
    """A referring expression and the ids of the segments that it means (their union)."""

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question, the answers accepted, and the choices offered (None: an open question)."""

    text: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] | None = None


class PanopticItem(Protocol):
    """One image with its panoptic labels and texts, from whatever format it was read."""

    @property
    def image(self) -> Path:
        """The image file."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments; their ids are exactly the non-zero values of the map."""

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """Referring expressions; may be empty."""

    @property
    def captions(self) -> tuple[str, ...]:
        """Descriptions of the whole image; may be empty."""

    @property
    def questions(self) -> tuple[AnsweredQuestion, ...]:
        """Questions on the image; may be empty."""

    def load_image(self) -> NDArray[np.uint8]:
        """Decode the image: H x W x 3 uint8 RGB. Raises DatasetError if it is broken."""

    def load_panoptic(self) -> NDArray[np.integer[Any]]:
        """Decode the map: H x W segment ids, 0 = unlabelled. Raises DatasetError if it is wrong."""


class PanopticDataset(Protocol):
    """Items that share a vocabulary."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every label that a segment may have, without repetition."""

    @property
    def stuff(self) -> frozenset[str]:
        """The labels of the vocabulary that are stuff; the others are things."""

    @property
    def items(self) -> Sequence[PanopticItem]:
        """The labelled images."""


def check_vocabulary(
    vocabulary: Sequence[str], stuff: Sequence[str], where: str
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Check a data set's vocabulary and which of it is stuff.

    Raises:
        DatasetError: if the vocabulary is empty or repeats a label, or `stuff` has a label that
            the vocabulary lacks, or one twice.
    """
    if not vocabulary:
        raise DatasetError(f"{where}: 'vocabulary' is empty", expected="at least one label")
    if (label := repeated(vocabulary)) is not None:
        raise DatasetError(
            f"{where}: 'vocabulary' has {quoted(label)} twice", expected="distinct labels"
        )
    if (label := repeated(stuff)) is not None:
        raise DatasetError(
            f"{where}: 'stuff' has {quoted(label)} twice", expected="distinct labels"
        )
    known_labels = set(vocabulary)
    for label in stuff:
        if label not in known_labels:
            raise DatasetError(
                f"{where}: 'stuff' has {quoted(label)}, which is not in 'vocabulary'",
                fix="add it to 'vocabulary' or take it from 'stuff'",
            )
    return tuple(vocabulary), frozenset(stuff)


def check_ids(ids: NDArray[np.integer[Any]], segments: Sequence[Segment], where: str) -> None:
    """Check that the non-zero ids of a map are exactly those of the segments listed for it.

    Args:
        ids: H x W segment ids, 0 = unlabelled.
        segments: The segments listed.
        where: The map, for the error.

    Raises:
        DatasetError: if an id is in one and not in the other.
    """
    present, listed = areas_of(ids).keys(), {segment.id for segment in segments}
    if unlisted := sorted(present - listed):
        raise DatasetError(
            f"{where} has ids that its item does not list as segments: {quoted(unlisted)}",
            expected=f"0 (unlabelled) or one of {quoted(sorted(listed))}",
        )
    if absent := sorted(listed - present):
        raise DatasetError(f"{where} has no pixel of the segments listed: {quoted(absent)}")


def check_areas(ids: NDArray[np.integer[Any]], segments: Sequence[Segment], where: str) -> None:
    """Check that each segment has as many pixels in a map as its area says.

    Args:
        ids: H x W segment ids, 0 = unlabelled.
        segments: The segments listed.
        where: The map, for the error.

    Raises:
        DatasetError: if one has not.
    """
    areas = areas_of(ids)
    for segment in segments:
        area = areas.get(segment.id, 0)
        if area != segment.area:
            raise DatasetError(
                f"{where}: segment {segment.id} has {area} pixels and is listed with the area "
                f"{segment.area}"
            )


def areas_of(ids: NDArray[np.integer[Any]]) -> dict[int, int]:
    """Return the number of pixels of each non-zero id of a map; no id is negative."""
    flat = ids.ravel()
    largest = int(flat.max(initial=0))
    if largest < max(256, flat.size):
        # In parts, because `bincount` copies what it counts to 64 bits.
        parts = (flat[i : i + _COUNTED] for i in range(0, flat.size, _COUNTED))
        counts = np.zeros(largest + 1, np.int64)
        for part in parts:
            counts += np.bincount(part, minlength=len(counts))
        present = np.flatnonzero(counts)
        counts = counts[present]
    else:  # COCO's ids have 24 bits, more than most images have pixels
        present, counts = np.unique(flat, return_counts=True)
    return {int(i): int(n) for i, n in zip(present, counts, strict=True) if i}


def repeated(values: Sequence[_T]) -> _T | None:
    """Return the first value seen twice, or None."""
    distinct = set()
    for value in values:
        if value in distinct:
            return value
        distinct.add(value)
    return None
