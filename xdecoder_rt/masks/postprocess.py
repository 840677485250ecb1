"""From class and mask logits to segmentation maps: X-Decoder's rules.

Class logits have one column per name of the vocabulary and a last one for *void* (no object). Mask
logits come at stride 4 of the padded network input; every map here has the size of the source
image, and the way there (`xdecoder_rt.masks.resample.mask_axis`) is part of the rules.
Probabilities are the softmax of class logits and the sigmoid of mask logits. All queries take part,
the class token too.

Nothing of queries x height x width or classes x height x width is built unless it is what was
asked for (`instance`, `binary_masks`, `semantic_scores`, `full_size_logits`). The loops are
compiled; the same rules in plain NumPy are in `tests/support/plain_postprocess.py`, which the tests
compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.masks.classification import (
    Selection,
    class_probabilities,
    classify,
    keep_panoptic,
    top_instances,
)
from xdecoder_rt.masks.grid import TILE_HEIGHT, kernels, place_logits
from xdecoder_rt.masks.panoptic_rule import MapSegment, panoptic_segments
from xdecoder_rt.masks.pieces import clean_masks
from xdecoder_rt.pixels.bands import in_bands
from xdecoder_rt.pixels.letterbox import Letterbox

__all__ = [
    "BinaryMasks",
    "Instances",
    "Panoptic",
    "MapSegment",
    "Selection",
    "binary_masks",
    "class_probabilities",
    "classify",
    "full_size_logits",
    "instance",
    "keep_panoptic",
    "most_likely",
    "paint_masks",
    "panoptic",
    "semantic",
    "semantic_scores",
    "top_instances",
]


@dataclass(frozen=True, eq=False)
class Panoptic:
    """A panoptic map.

    Attributes:
        segmentation: int32 ``[H, W]``, segment ids; 0 where there is none.
        segments: ascending by id.
    """

    segmentation: npt.NDArray[np.int32]
    segments: tuple[MapSegment, ...]


@dataclass(frozen=True, eq=False)
class BinaryMasks:
    """Masks of single queries.

    Attributes:
        masks: bool ``[K, H, W]``, where the logit is positive.
        areas: int64 ``[K]``, pixels.
        boxes: float32 ``[K, 4]``: left, top, right, bottom (exclusive), zeros for an empty mask.
        certainty: float32 ``[K]``: mean probability inside the mask, 0 for an empty one.
    """

    masks: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    certainty: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Instances:
    """Instances, best first. They may overlap, and a mask may be empty (its score is 0 then).

    Attributes:
        masks: bool ``[N, H, W]``.
        scores: float32 ``[N]``: class probability x mean probability inside the mask.
        label_ids: int32 ``[N]``, indices into the vocabulary.
        boxes: float32 ``[N, 4]``: left, top, right, bottom (exclusive), zeros for an empty mask.
        areas: int64 ``[N]``, pixels.
        queries: int64 ``[N]``, the query of each.
    """

    masks: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float32]
    label_ids: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.float32]
    areas: npt.NDArray[np.int64]
    queries: npt.NDArray[np.int64]


def _check_count(name: str, count: int, masks: int) -> None:
    if count != masks:
        raise ArgumentError(
            f"there are {count} {name} and {masks} masks", expected="one for each mask"
        )


def panoptic(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    mask_logits: npt.ArrayLike,
    letterbox: Letterbox,
    is_thing: npt.ArrayLike,
    overlap_threshold: float,
    *,
    threads: int = 1,
) -> Panoptic:
    """Form the panoptic map of the kept queries (`keep_panoptic`).

    A pixel is owned by the query with the largest score x mask probability. A query becomes a
    segment, in the order given, if it owns pixels, its own mask (probability at least 0.5) has
    pixels, both together have pixels, and owned / own mask is at least `overlap_threshold`; the
    segment is where it owns the pixel and the pixel is in its mask. Stuff of one class is one
    segment.

    Args:
        scores: ``[K]``, class probabilities, positive.
        labels: ``[K]``, indices into the vocabulary.
        mask_logits: ``[K, h, w]``, in the order of `scores`.
        letterbox: where the image lies in the network input.
        is_thing: bool, one entry per class.
        overlap_threshold: 0 to 1 (the original's ``OVERLAP_THRESHOLD``, 0.8).
        threads: at most so many bands of rows are worked on at once.

    Raises:
        ArgumentError: wrong shapes, a score that is not positive, or a label outside `is_thing`.
    """
    logits, grid = place_logits(mask_logits, letterbox)
    weights = np.asarray(scores, dtype=np.float32).reshape(-1)
    classes = np.asarray(labels, dtype=np.int64).reshape(-1)
    things = np.asarray(is_thing, dtype=bool).reshape(-1)
    _check_count("scores", len(weights), len(logits))
    _check_count("labels", len(classes), len(logits))
    if not (weights > 0).all():
        raise ArgumentError("a score is not positive", expected="class probabilities above 0")
    if len(classes) and not (classes.min() >= 0 and classes.max() < len(things)):
        raise ArgumentError(
            "a label is outside the vocabulary", expected=f"labels from 0 to {len(things) - 1}"
        )
    winners = np.zeros(grid.size, dtype=np.int32)
    if not len(logits):
        return Panoptic(winners, ())

    counts: list[npt.NDArray[np.int64]] = []
    offsets = 1 / np.maximum(weights, np.float32(1e-30))
    shifts = np.log(offsets)

    def work(start: int, stop: int) -> None:
        band = np.zeros((3, len(logits)), dtype=np.int64)
        counts.append(band)
        kernels.panoptic_rows(logits, *grid.arguments, offsets, shifts, start, stop, winners, band)

    in_bands(grid.size[0], TILE_HEIGHT, threads, work)
    ids, segments = panoptic_segments(
        np.sum(counts, axis=0), weights, classes, things, overlap_threshold
    )
    kernels.relabel(winners, ids)
    return Panoptic(winners, segments)


def _semantic_probabilities(
    class_logits: npt.ArrayLike, masks: int, keep_void: bool
) -> npt.NDArray[np.float32]:
    """Return class probabilities ``[Q, K]``, or ``[Q, K + 1]`` with void."""
    probabilities = class_probabilities(np.asarray(class_logits, dtype=np.float32))
    _check_count("rows of class logits", len(probabilities), masks)
    return np.ascontiguousarray(probabilities if keep_void else probabilities[:, :-1])


def semantic(
    class_logits: npt.ArrayLike,
    mask_logits: npt.ArrayLike,
    letterbox: Letterbox,
    *,
    keep_void: bool = False,
    threads: int = 1,
) -> npt.NDArray[np.int32]:
    """Form the semantic map: for each pixel the class with the largest score.

    The score of a class is the sum over all queries of class probability x mask probability.

    Args:
        class_logits: ``[Q, K + 1]``, the last column void.
        mask_logits: ``[Q, h, w]``.
        letterbox: where the image lies in the network input.
        keep_void: whether void takes part (the original's ``keep_sem_bgd``); where it wins, the
            map is -1. Else every pixel has a class.
        threads: at most so many bands of rows are worked on at once.

    Returns:
        int32 ``[H, W]``, indices into the vocabulary.

    Raises:
        ArgumentError: wrong shapes.
    """
    probabilities = _semantic_probabilities(class_logits, len(np.asarray(mask_logits)), keep_void)
    classes = most_likely(probabilities, mask_logits, letterbox, threads=threads)
    if keep_void:
        classes[classes == probabilities.shape[1] - 1] = -1
    return classes


def most_likely(
    probabilities: npt.NDArray[np.float32],
    mask_logits: npt.ArrayLike,
    letterbox: Letterbox,
    *,
    threads: int = 1,
) -> npt.NDArray[np.int32]:
    """Find for each pixel the column with the largest sum of probability x mask probability.

    The first column wins among equal sums.

    Args:
        probabilities: float32 ``[Q, C]``.
        mask_logits: ``[Q, h, w]``.
        letterbox: where the image lies in the network input.
        threads: at most so many bands of rows are worked on at once.

    Returns:
        int32 ``[H, W]``, indices of columns.

    Raises:
        ArgumentError: wrong shapes.
    """
    logits, grid = place_logits(mask_logits, letterbox)
    _check_count("rows of probabilities", len(probabilities), len(logits))
    columns = np.zeros(grid.size, dtype=np.int32)
    if not len(logits):
        return columns

    def work(start: int, stop: int) -> None:
        kernels.semantic_rows(logits, *grid.arguments, probabilities, start, stop, columns)

    in_bands(grid.size[0], TILE_HEIGHT, threads, work)
    return columns


def semantic_scores(
    class_logits: npt.ArrayLike,
    mask_logits: npt.ArrayLike,
    letterbox: Letterbox,
    *,
    keep_void: bool = False,
    threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Return the scores that `semantic` compares, in full.

    Args and errors are those of `semantic`.

    Returns:
        float32 ``[K, H, W]``, or ``[K + 1, H, W]`` with void.
    """
    logits, grid = place_logits(mask_logits, letterbox)
    probabilities = _semantic_probabilities(class_logits, len(logits), keep_void)
    height, width = grid.size
    scores = np.zeros((probabilities.shape[1], height, width), dtype=np.float32)
    if not len(logits):
        return scores

    def work(start: int, stop: int) -> None:
        for top in range(start, stop, TILE_HEIGHT):
            bottom = min(top + TILE_HEIGHT, stop)
            masks = np.empty((len(logits), bottom - top, width), dtype=np.float32)
            kernels.upsample_rows(logits, *grid.arguments, True, top, bottom, masks)
            scores[:, top:bottom] = np.tensordot(probabilities, masks, axes=(0, 0))

    in_bands(height, TILE_HEIGHT, threads, work)
    return scores


def binary_masks(
    mask_logits: npt.ArrayLike, letterbox: Letterbox, *, piece_share: float = 0.0, threads: int = 1
) -> BinaryMasks:
    """Form the masks ``logit > 0`` at the source image's size, as referring output reads them.

    Areas and boxes are those of the cleaned masks; the certainty is that of the masks before.

    Args:
        mask_logits: ``[K, h, w]``.
        letterbox: where the image lies in the network input.
        piece_share: pieces of a mask smaller than this share of its largest are left out of it
            (:mod:`xdecoder_rt.masks.pieces`); 0 for none.
        threads: at most so many bands of rows are worked on at once.

    Raises:
        ArgumentError: wrong shapes.
    """
    logits, grid = place_logits(mask_logits, letterbox)
    height, width = grid.size
    count = len(logits)
    masks = np.zeros((count, height, width), dtype=np.bool_)
    parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = []

    def work(start: int, stop: int) -> None:
        extents = np.tile(np.array([0, width, height, 0, 0], dtype=np.int64), (count, 1))
        sums = np.zeros(count)
        parts.append((extents, sums))
        if count:
            kernels.binary_rows(
                logits,
                *grid.arguments,
                start,
                stop,
                masks.view(np.uint8),
                extents,
                sums,
            )

    in_bands(height, TILE_HEIGHT, threads, work)
    extents = np.stack([extent for extent, _ in parts])
    areas = extents[..., 0].sum(axis=0)
    boxes = np.concatenate([extents[..., 1:3].min(axis=0), extents[..., 3:5].max(axis=0)], axis=1)
    boxes[areas == 0] = 0
    # The original divides by area + 1e-6.
    certainty = np.sum([total for _, total in parts], axis=0) / (areas + 1e-6)
    if piece_share:
        areas, boxes = clean_masks(masks, boxes, piece_share, threads=threads)
    return BinaryMasks(masks, areas, boxes.astype(np.float32), certainty.astype(np.float32))


def instance(
    selection: Selection,
    mask_logits: npt.ArrayLike,
    letterbox: Letterbox,
    *,
    piece_share: float = 0.0,
    threads: int = 1,
) -> Instances:
    """Form instances of the chosen (query, class) pairs (`top_instances`).

    Args:
        selection: N pairs of U queries.
        mask_logits: ``[U, h, w]``, of ``selection.unique_queries`` in that order.
        letterbox: where the image lies in the network input.
        piece_share: as for `binary_masks`.
        threads: at most so many bands of rows are worked on at once.

    Raises:
        ArgumentError: wrong shapes.
    """
    logits = np.asarray(mask_logits)
    _check_count("selected queries", len(selection.unique_queries), len(logits))
    binary = binary_masks(logits, letterbox, piece_share=piece_share, threads=threads)
    scores = selection.scores * binary.certainty[selection.rows]
    order = np.argsort(-scores, kind="stable")
    rows = selection.rows[order]
    is_in_order = len(rows) == len(binary.masks) and bool((rows == np.arange(len(rows))).all())
    return Instances(
        masks=binary.masks if is_in_order else binary.masks[rows],
        scores=scores[order],
        label_ids=selection.labels[order].astype(np.int32),
        boxes=binary.boxes[rows],
        areas=binary.areas[rows],
        queries=selection.queries[order],
    )


def paint_masks(
    masks: npt.NDArray[np.bool_] | Sequence[npt.NDArray[np.bool_]],
    boxes: npt.NDArray[np.floating],
    size: tuple[int, int],
) -> npt.NDArray[np.int32]:
    """Paint overlapping masks into one map: where several cover a pixel, the first is seen.

    Args:
        masks: N masks, bool ``[H, W]``, best first.
        boxes: ``[N, 4]``, left, top, right, bottom (exclusive) of each mask.
        size: (H, W).

    Returns:
        int32 ``[H, W]``: 1 + the index of the mask, 0 where there is none.
    """
    painted = np.zeros(size, dtype=np.int32)
    for index in range(len(masks) - 1, -1, -1):
        left, top, right, bottom = (int(edge) for edge in boxes[index])
        window = (slice(top, bottom), slice(left, right))
        np.copyto(painted[window], index + 1, where=masks[index][window])
    return painted


def full_size_logits(
    mask_logits: npt.ArrayLike, letterbox: Letterbox, *, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Resize mask logits to the source image's size, ``[K, h, w]`` to float32 ``[K, H, W]``.

    Raises:
        ArgumentError: wrong shapes.
    """
    logits, grid = place_logits(mask_logits, letterbox)
    height, width = grid.size
    out = np.empty((len(logits), height, width), dtype=np.float32)

    def work(start: int, stop: int) -> None:
        band = np.empty((len(logits), stop - start, width), dtype=np.float32)
        kernels.upsample_rows(logits, *grid.arguments, False, start, stop, band)
        out[:, start:stop] = band

    if len(logits):
        in_bands(height, TILE_HEIGHT, threads, work)
    return out
