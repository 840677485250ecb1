"""The rules of `xdecoder_rt.masks.postprocess` in plain NumPy: full size, float64, no shortcut.

Each function takes the arguments of its namesake there (without `threads`) and means the same.
The tests compare the two; nothing else should need this module.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xdecoder_rt.masks.classification import Selection, class_probabilities
from xdecoder_rt.masks.postprocess import (
    BinaryMasks,
    Instances,
    MapSegment,
    Panoptic,
)
from xdecoder_rt.masks.resample import bicubic_axis, resample
from xdecoder_rt.pixels.letterbox import Letterbox

__all__ = [
    "binary_masks",
    "full_size_logits",
    "instance",
    "panoptic",
    "semantic",
    "semantic_scores",
    "sigmoid",
]

Array = npt.NDArray[np.float64]


def sigmoid(x: npt.ArrayLike) -> Array:
    """1 / (1 + exp(-x)) in float64, without overflow."""
    values = np.asarray(x, dtype=np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def full_size_logits(mask_logits: npt.ArrayLike, letterbox: Letterbox) -> Array:
    """float64 ``[K, H, W]``: two resizes with the crop between them."""
    logits = np.asarray(mask_logits, dtype=np.float64)
    padded = resample(
        logits,
        bicubic_axis(logits.shape[1], letterbox.target[0]),
        bicubic_axis(logits.shape[2], letterbox.target[1]),
    )
    valid = padded[:, : letterbox.valid[0], : letterbox.valid[1]]
    return resample(
        valid,
        bicubic_axis(letterbox.valid[0], letterbox.source[0]),
        bicubic_axis(letterbox.valid[1], letterbox.source[1]),
    )


def panoptic(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    mask_logits: npt.ArrayLike,
    letterbox: Letterbox,
    is_thing: npt.ArrayLike,
    overlap_threshold: float,
) -> Panoptic:
    """See `xdecoder_rt.masks.postprocess.panoptic`."""
    weights = np.asarray(scores, dtype=np.float64)
    things = np.asarray(is_thing, dtype=bool)
    probabilities = sigmoid(full_size_logits(mask_logits, letterbox))
    segmentation = np.zeros(letterbox.source, dtype=np.int32)
    if not len(weights):
        return Panoptic(segmentation, ())
    owner = (weights[:, None, None] * probabilities).argmax(axis=0)
    segments: list[MapSegment] = []
    for row, label in enumerate(np.asarray(labels).tolist()):
        owned = owner == row
        inside = probabilities[row] >= 0.5
        mask = owned & inside
        if not mask.any() or owned.sum() / inside.sum() < overlap_threshold:
            continue
        score, area = float(weights[row]), int(mask.sum())
        merged = None
        if not things[label]:
            merged = next((s for s in segments if s.label_id == label and not s.isthing), None)
        if merged is None:
            segment = MapSegment(len(segments) + 1, label, bool(things[label]), score, area, (row,))
            segments.append(segment)
        else:
            segment = MapSegment(
                merged.id,
                label,
                False,
                max(merged.score, score),
                merged.area + area,
                (*merged.rows, row),
            )
            segments[merged.id - 1] = segment
        segmentation[mask] = segment.id
    return Panoptic(segmentation, tuple(segments))


def semantic_scores(
    class_logits: npt.ArrayLike,
    mask_logits: npt.ArrayLike,
    letterbox: Letterbox,
    *,
    keep_void: bool = False,
) -> Array:
    """See `xdecoder_rt.masks.postprocess.semantic_scores`."""
    probabilities = class_probabilities(np.asarray(class_logits)).astype(np.float64)
    if not keep_void:
        probabilities = probabilities[:, :-1]
    masks = sigmoid(full_size_logits(mask_logits, letterbox))
    scores: Array = np.einsum("qk,qhw->khw", probabilities, masks)
    return scores


def semantic(
    class_logits: npt.ArrayLike,
    mask_logits: npt.ArrayLike,
    letterbox: Letterbox,
    *,
    keep_void: bool = False,
) -> npt.NDArray[np.int32]:
    """See `xdecoder_rt.masks.postprocess.semantic`."""
    scores = semantic_scores(class_logits, mask_logits, letterbox, keep_void=keep_void)
    classes: npt.NDArray[np.int32] = scores.argmax(axis=0).astype(np.int32)
    if keep_void:
        classes[classes == len(scores) - 1] = -1
    return classes


def binary_masks(mask_logits: npt.ArrayLike, letterbox: Letterbox) -> BinaryMasks:
    """See `xdecoder_rt.masks.postprocess.binary_masks`."""
    logits = full_size_logits(mask_logits, letterbox)
    masks = logits > 0
    areas = masks.sum(axis=(1, 2))
    certainty = (sigmoid(logits) * masks).sum(axis=(1, 2)) / (areas + 1e-6)
    boxes = np.zeros((len(masks), 4), dtype=np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        y, x = np.nonzero(mask)
        if len(y):
            box[:] = x.min(), y.min(), x.max() + 1, y.max() + 1
    return BinaryMasks(masks, areas, boxes, certainty.astype(np.float32))


def instance(selection: Selection, mask_logits: npt.ArrayLike, letterbox: Letterbox) -> Instances:
    """See `xdecoder_rt.masks.postprocess.instance`."""
    binary = binary_masks(mask_logits, letterbox)
    scores = selection.scores * binary.certainty[selection.rows]
    order = np.argsort(-scores, kind="stable")
    rows = selection.rows[order]
    return Instances(
        binary.masks[rows],
        scores[order],
        selection.labels[order].astype(np.int32),
        binary.boxes[rows],
        binary.areas[rows],
        selection.queries[order],
    )
