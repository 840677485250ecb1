"""Training targets of one image: which names and phrases are on it, and where.

Panoptic segments do not overlap, so all masks of an image fit into one id map; a target is a set
of ids of it. That makes stuff (one target of many segments) and phrases (any union) rows of a
small table instead of masks, and a target's value at a point one look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.items import NOTHING as UNNAMED
from xdecoder_rt.datasets.items import Phrase, Segment
from xdecoder_rt.words.templates import BACKGROUND
from xdecoder_rt.words.vocabulary import is_void_name

IGNORE = 0
"""Id of pixels that nothing is known of: no loss is taken there."""
NO_TARGET = 1
"""Id of pixels known to belong to no target: padding, and slivers of objects."""
FIRST_SEGMENT = 2
MIN_TARGET_PIXELS = 16


@dataclass(frozen=True)
class Targets:
    """The right answers of one image.

    Attributes:
        ids: ``[S, S]`` int16: `IGNORE`, `NO_TARGET`, or a segment's number from `FIRST_SEGMENT` on.
        labels: the name of each of the N targets.
        phrases: the text of each of the M phrases.
        membership: ``[N + M, I]`` bool, whether the pixels of an id belong to a target, or to what
            a phrase means; I exceeds every id.
        known_ids: ``[I]`` bool, whether it is known which names an id's pixels belong to; not
            of unlabelled pixels, and not of crowds, though a phrase may mean them.
        boxes: ``[N + M, 4]`` float32, their boxes in pixels: left, top, right, bottom, the last
            two exclusive.
    """

    ids: NDArray[np.int16]
    labels: tuple[str, ...]
    phrases: tuple[str, ...]
    membership: NDArray[np.bool_]
    known_ids: NDArray[np.bool_]
    boxes: NDArray[np.float32]


def make_targets(
    ids: NDArray[np.integer[Any]],
    segments: Sequence[Segment],
    size: int,
    phrases: Sequence[Phrase] = (),
    min_pixels: int = MIN_TARGET_PIXELS,
) -> Targets:
    """Turn the id map of a view into targets on a square of `size` pixels.

    Stuff segments of one name become one target; things stay apart. Crowds are ignored, and what
    is labelled with the void class's name ("background") is known to be part of no target. A target
    of fewer than `min_pixels` visible pixels is dropped: its pixels are still known not to be part
    of any other. A phrase means what is visible of its segments, and is dropped by the same rule.

    Args:
        ids: ``[h, w]`` segment ids, 0 = unlabelled, -1 = nothing that is named, ``h, w <= size``;
            the view's top left corner is the square's.
        segments: the image's segments, those not in the view included.
        size: side of the square; what the view does not cover is `NO_TARGET`.
        phrases: what is asked for in words.
        min_pixels: least visible pixels of a target or phrase.
    """
    height, width = ids.shape
    present, local, areas = np.unique(ids, return_inverse=True, return_counts=True)
    place = {int(value): index for index, value in enumerate(present)}
    groups: dict[tuple[str, int], list[int]] = {}
    number = np.full(len(present), IGNORE, dtype=np.int16)
    number[present == UNNAMED] = NO_TARGET
    for segment in segments:
        if segment.id in place and is_void_name(segment.label, BACKGROUND):
            number[place[segment.id]] = NO_TARGET
        elif segment.id in place and not segment.iscrowd:
            # A thing is a group of its own, all stuff of one name is one group.
            key = (segment.label, segment.id if segment.isthing else 0)
            groups.setdefault(key, []).append(place[segment.id])

    labels: list[str] = []
    members: list[list[int]] = []
    following = FIRST_SEGMENT
    for (label, _), places in groups.items():
        if int(areas[places].sum()) < min_pixels:
            number[places] = NO_TARGET
            continue
        number[places] = range(following, following + len(places))
        labels.append(label)
        members.append(list(range(following, following + len(places))))
        following += len(places)

    meant: dict[str, list[int]] = {}
    for phrase in phrases:
        places = [place[id_] for id_ in phrase.ids if id_ in place]
        if int(areas[places].sum()) >= min_pixels:
            meant[phrase.text] = places
    is_known = number != IGNORE
    # What only phrases mean has no target of its own, so no number yet.
    for index in sorted({index for places in meant.values() for index in places}):
        if number[index] < FIRST_SEGMENT:
            number[index] = following
            following += 1
    members += [number[places].tolist() for places in meant.values()]

    square = np.full((size, size), NO_TARGET, dtype=np.int16)
    square[:height, :width] = number[local.reshape(height, width)]
    membership = np.zeros((len(members), following), dtype=np.bool_)
    for row, group in zip(membership, members, strict=True):
        row[group] = True
    known_ids = np.zeros(following, dtype=np.bool_)
    known_ids[NO_TARGET] = True
    known_ids[number[is_known]] = True
    boxes = _boxes(square, membership)
    return Targets(square, tuple(labels), tuple(meant), membership, known_ids, boxes)


def _boxes(ids: NDArray[np.int16], membership: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Boxes of the targets, by marking which ids occur in each row and column."""
    size = ids.shape[0]
    count = membership.shape[1]
    in_row = np.zeros((size, count), dtype=np.bool_)
    in_column = np.zeros((size, count), dtype=np.bool_)
    in_row[np.arange(size)[:, None], ids] = True
    in_column[np.arange(size)[None, :], ids] = True
    boxes = np.empty((len(membership), 4), dtype=np.float32)
    for box, row in zip(boxes, membership, strict=True):
        x = np.flatnonzero(in_column[:, row].any(axis=1))
        y = np.flatnonzero(in_row[:, row].any(axis=1))
        box[:] = x[0], y[0], x[-1] + 1, y[-1] + 1
    return boxes
