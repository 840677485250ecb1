"""The rule that makes panoptic segments of masks, by the pixels that they own.

The pixels are counted elsewhere: by compiled loops on a CPU
(:mod:`xdecoder_rt.masks.postprocess`), by a kernel on a GPU
(:mod:`xdecoder_rt.kernels.panoptic_map`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["MapSegment", "panoptic_segments"]


@dataclass(frozen=True)
class MapSegment:
    """One segment of a panoptic, semantic or instance map.

    Attributes:
        id: its value in the map.
        label_id: index into the vocabulary.
        isthing: whether its class is a thing.
        score: class probability of its query; of merged stuff, the highest.
        area: pixels.
        rows: of a panoptic segment, the rows of the mask logits that it was made of, more than one
            for merged stuff.
    """

    id: int
    label_id: int
    isthing: bool
    score: float
    area: int
    rows: tuple[int, ...] = ()


def panoptic_segments(
    counts: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    is_thing: npt.NDArray[np.bool_],
    overlap_threshold: float,
) -> tuple[npt.NDArray[np.int32], tuple[MapSegment, ...]]:
    """Form segments from counts of pixels; stuff of one class is one segment.

    Args:
        counts: ``[3, K]``: pixels that a mask owns, pixels where its probability is at least 0.5,
            pixels of both.
        scores: ``[K]``.
        labels: ``[K]``, indices into the vocabulary.
        is_thing: one entry per class.
        overlap_threshold: least share of its own mask that a mask must own, 0 to 1.

    Returns:
        int32 ``[K + 1]``: the segment id of 1 + each mask, 0 for those that are none; and the
        segments, ascending by id.
    """
    owned_pixels, mask_pixels, kept_pixels = counts
    ids = np.zeros(len(scores) + 1, dtype=np.int32)
    members: list[list[int]] = []
    stuff_ids: dict[int, int] = {}
    for row in np.flatnonzero(kept_pixels):
        if owned_pixels[row] / mask_pixels[row] < overlap_threshold:
            continue
        label = int(labels[row])
        segment_id = len(members) + 1
        if not is_thing[label]:
            segment_id = stuff_ids.setdefault(label, segment_id)
        if segment_id > len(members):
            members.append([])
        members[segment_id - 1].append(int(row))
        ids[row + 1] = segment_id
    segments = tuple(
        MapSegment(
            id=index,
            label_id=int(labels[rows[0]]),
            isthing=bool(is_thing[labels[rows[0]]]),
            score=float(scores[rows].max()),
            area=int(kept_pixels[rows].sum()),
            rows=tuple(rows),
        )
        for index, rows in enumerate(members, start=1)
    )
    return ids, segments
