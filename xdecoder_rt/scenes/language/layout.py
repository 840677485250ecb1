"""The layout of a labelled picture, and the statements on it that are true without doubt."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.scenes.language.colour import COLOURS, colour_shares, colour_word
from xdecoder_rt.scenes.language.kinds import covers
from xdecoder_rt.scenes.names import canonical

__all__ = [
    "ABOVE",
    "BELOW",
    "LEFT",
    "NEXT",
    "RELATIONS",
    "RIGHT",
    "PictureLayout",
    "PictureRegion",
    "Relation",
    "gap",
    "measure_layout",
]

APART: Final = 0.12
"""Centres of things left of, right of, above or below one another are this far apart at least."""
OVERLAP: Final = 0.02
"""... their boxes overlap along that axis by no more than this ..."""
SLOPE: Final = 1.0
"""... and along the other axis their centres are at most this times as far apart."""
CLEARLY_NOT: Final = 0.03
"""A thing is not left of another without doubt if its centre is this far to the right of it."""
NEAR_GAP: Final = 0.05
"""Boxes of things next to one another have at most this gap ..."""
NEAR_FOOT: Final = 0.08
"""... and their lower edges differ by no more than this."""
FAR_GAP: Final = 0.2
"""A thing is not next to another without doubt if the gap between their boxes is this wide."""
OTHER_TINT: Final = 0.08
"""A thing is not of a colour without doubt if at most this share of it clearly has the colour."""

_SURFACES: Final = frozenset({
    "table", "floor", "checkered floor", "carpet", "grass", "sand", "snow", "road", "soil",
    "gravel",
})  # fmt: skip
_MOUNTED: Final = frozenset({"robot arm", "gripper"})  # these stand on nothing that is seen
_FOOT_SHARE: Final = 0.8
_FOOT_DISTANCE: Final = 3  # pixels between a thing's edge and where its surroundings are looked at


@dataclass(frozen=True)
class PictureRegion:
    """A segment as measured. Lengths are fractions of the picture's width and height.

    Attributes:
        id: Its value in the map.
        label: Its label.
        area: Share of the picture's pixels.
        centre: (x, y) of its pixels' mean.
        low: (x, y) of its box's left upper corner.
        high: (x, y) of its box's right lower corner.
        tints: Share of its pixels without a clear colour, then with each of `COLOURS`.
        colour: Its colour word; "" where it is not certain or in its name already.
        on: Label of the surface that it certainly stands or lies on, or "".
    """

    id: int
    label: str
    area: float
    centre: tuple[float, float]
    low: tuple[float, float]
    high: tuple[float, float]
    tints: tuple[float, ...]
    colour: str
    on: str

    @property
    def touches_edge(self) -> bool:
        """Whether the picture's edge may cut it off."""
        return min(self.low) <= 0.01 or max(self.high) >= 0.99

    def is_not(self, colour: str) -> bool:
        """Return whether it is certainly not of the colour."""
        share = self.tints[COLOURS.index(colour) + 1]
        return share <= OTHER_TINT and (bool(self.colour) or self.tints[0] < 0.5)

    def encloses(self, other: PictureRegion) -> bool:
        """Return whether its box holds the other's centre: that is on, in or before it."""
        return all(self.low[k] <= other.centre[k] <= self.high[k] for k in (0, 1))


@dataclass(frozen=True)
class PictureLayout:
    """A measured picture.

    Attributes:
        things: Regions of things, by id.
        stuff: Regions of stuff, by id.
        vocabulary: Every name that a thing of the folder may have.
    """

    things: tuple[PictureRegion, ...]
    stuff: tuple[PictureRegion, ...]
    vocabulary: tuple[str, ...]

    def of(self, label: str) -> list[PictureRegion]:
        """Return the regions with a label."""
        return [region for region in (*self.things, *self.stuff) if region.label == label]

    def kinds(self) -> list[str]:
        """Return the things' labels, each once."""
        return list(dict.fromkeys(thing.label for thing in self.things))

    def is_clear(self, label: str) -> bool:
        """Return whether no other label in the picture could be called so too."""
        present = {region.label for region in (*self.things, *self.stuff)}
        return not any(other != label and covers(label, other) for other in present)

    def is_only(self, region: PictureRegion) -> bool:
        """Return whether the label alone, with "the", means this region without doubt."""
        return len(self.of(region.label)) == 1 and self.is_clear(region.label)

    def is_told_by_colour(self, region: PictureRegion) -> bool:
        """Return whether its colour and label mean this region and nothing else without doubt."""
        return bool(region.colour) and all(
            other is region or other.is_not(region.colour)
            for other in self.things
            if covers(region.label, other.label)
        )


@dataclass(frozen=True)
class Relation:
    """How one thing lies to another.

    Attributes:
        words: The ways to say it, before the name of the other.
        holds: Whether it is true without doubt of (region, other).
        fails: Whether it is false without doubt.
    """

    words: tuple[str, ...]
    holds: Callable[[PictureRegion, PictureRegion], bool]
    fails: Callable[[PictureRegion, PictureRegion], bool]


def _directed(words: tuple[str, ...], axis: int, before: bool) -> Relation:
    def holds(region: PictureRegion, other: PictureRegion) -> bool:
        first, second = (region, other) if before else (other, region)
        distance = second.centre[axis] - first.centre[axis]
        aside = abs(second.centre[1 - axis] - first.centre[1 - axis])
        return (
            distance >= APART
            and aside <= SLOPE * distance
            and first.high[axis] <= second.low[axis] + OVERLAP
        )

    def fails(region: PictureRegion, other: PictureRegion) -> bool:
        first, second = (region, other) if before else (other, region)
        return first.centre[axis] >= second.centre[axis] + CLEARLY_NOT

    return Relation(words, holds, fails)


def gap(region: PictureRegion, other: PictureRegion) -> float:
    """Return the distance between two regions' boxes; 0 if they touch or overlap."""
    across, down = (
        max(region.low[k] - other.high[k], other.low[k] - region.high[k], 0.0) for k in (0, 1)
    )
    return math.hypot(across, down)


def _is_next(region: PictureRegion, other: PictureRegion) -> bool:
    beside = min(region.high[0], other.high[0]) - max(region.low[0], other.low[0]) <= OVERLAP
    level = abs(region.high[1] - other.high[1]) <= NEAR_FOOT
    return beside and level and gap(region, other) <= NEAR_GAP


LEFT: Final = _directed(("left of", "to the left of", "on the left side of"), 0, True)
RIGHT: Final = _directed(("right of", "to the right of", "on the right side of"), 0, False)
ABOVE: Final = _directed(("above",), 1, True)
BELOW: Final = _directed(("below",), 1, False)
NEXT: Final = Relation(
    ("next to", "beside"), _is_next, lambda region, other: gap(region, other) >= FAR_GAP
)
RELATIONS: Final = (LEFT, RIGHT, ABOVE, BELOW, NEXT)


def measure_layout(
    image: NDArray[np.uint8],
    ids: NDArray[np.uint8],
    labels: Mapping[int, str],
    vocabulary: Sequence[str],
    stuff: Collection[str],
) -> PictureLayout:
    """Measure a labelled picture.

    Args:
        image: H x W x 3 uint8 RGB.
        ids: H x W uint8 segment ids, 0 = unlabelled.
        labels: The label of each id; those that the map lacks are passed over.
        vocabulary: Every label of the folder.
        stuff: Those of the vocabulary that are stuff.
    """
    height, width = ids.shape
    spread = ids.astype(np.intp)
    columns = np.bincount((spread * width + np.arange(width)).ravel(), minlength=256 * width)
    rows = np.bincount(
        (spread * height + np.arange(height)[:, None]).ravel(), minlength=256 * height
    )
    columns, rows = columns.reshape(256, width), rows.reshape(256, height)
    areas = columns.sum(1)
    tints = colour_shares(image, ids, 256)
    regions = []
    for identity in sorted(labels):
        if not areas[identity]:
            continue
        label = labels[identity]
        centre, low, high = [], [], []
        for counts in (columns[identity], rows[identity]):
            present = np.flatnonzero(counts)
            low.append(int(present[0]))
            high.append(int(present[-1]) + 1)
            centre.append(float(counts @ np.arange(counts.size)) / float(areas[identity]) + 0.5)
        colour = colour_word(tints[identity])
        regions.append(
            PictureRegion(
                identity,
                label,
                float(areas[identity]) / ids.size,
                (centre[0] / width, centre[1] / height),
                (low[0] / width, low[1] / height),
                (high[0] / width, high[1] / height),
                tuple(tints[identity].tolist()),
                "" if set(label.split()) & set(COLOURS) else colour,
                "" if label in stuff else _surface(ids, labels, label, low, high),
            )
        )
    return PictureLayout(
        tuple(region for region in regions if region.label not in stuff),
        tuple(region for region in regions if region.label in stuff),
        tuple(name for name in vocabulary if name not in stuff),
    )


def _surface(
    ids: NDArray[np.uint8],
    labels: Mapping[int, str],
    label: str,
    low: Sequence[int],
    high: Sequence[int],
) -> str:
    """Return the one surface below a box and, a little higher, on both its sides.

    What stands behind a table has the table below it, but not on both sides; what stands before
    it has the table on both sides, but not below.
    """
    height, width = ids.shape
    foot = high[1] - 1 + _FOOT_DISTANCE
    left, right = low[0] - _FOOT_DISTANCE, high[0] - 1 + _FOOT_DISTANCE
    if canonical(label) in _MOUNTED or foot >= height or left < 0 or right >= width:
        return ""
    side = high[1] - 1 - (high[1] - low[1]) // 4
    surface = int(ids[side, left])
    if surface != int(ids[side, right]) or labels.get(surface) not in _SURFACES:
        return ""
    below = ids[foot, low[0] : high[0]]
    return labels[surface] if float((below == surface).mean()) >= _FOOT_SHARE else ""
