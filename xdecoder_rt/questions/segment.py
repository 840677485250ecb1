"""Segmentation of an encoded image: classify, keep, form the kept masks, apply the output rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.image import Letterbox
from xdecoder_rt.masks import postprocess
from xdecoder_rt.masks.classification import classify
from xdecoder_rt.masks.postprocess import Panoptic, Selection
from xdecoder_rt.plan.manifest import PostprocessInfo
from xdecoder_rt.questions.segment_rules import instance_pairs, panoptic_queries, semantic_columns
from xdecoder_rt.results import Segmentation
from xdecoder_rt.words.vocabulary import Vocabulary

Floats = npt.NDArray[np.float32]
MaskLogits = Callable[[npt.NDArray[np.int64]], Floats]
"""From query indices ``[K]`` to their mask logits ``[K, h, w]``."""


def word_logits(
    class_embedding: Floats,
    table: Floats,
    scale: float,
    vocabulary: Vocabulary,
    void_offset: float = 0.0,
) -> Floats:
    """Class logits over a vocabulary; the best synonym speaks for its class.

    Args:
        class_embedding: ``[Q, D]``.
        table: ``[texts + 1, D]``, unit rows, the last one void.
        scale: exp(logit_scale).
        vocabulary: which texts belong to which class.
        void_offset: what is taken from void's logits.

    Returns:
        float32 ``[Q, classes + 1]``.
    """
    logits = classify(class_embedding, table, scale)
    logits[:, -1] -= void_offset
    if len(vocabulary.texts) == len(vocabulary.words):
        return logits
    best = np.maximum.reduceat(logits[:, :-1], vocabulary.starts, axis=1)
    return np.concatenate((best, logits[:, -1:]), axis=1)


def panoptic(
    class_logits: Floats,
    masks: MaskLogits,
    letterbox: Letterbox,
    vocabulary: Vocabulary,
    rules: PostprocessInfo,
    threads: int,
) -> Segmentation:
    """Every pixel in at most one segment; the masks of kept queries only are formed."""

    def mapped(kept: Selection) -> Panoptic:
        return postprocess.panoptic(
            kept.scores,
            kept.labels,
            masks(kept.queries),
            letterbox,
            vocabulary.is_thing(),
            rules.overlap_threshold,
            threads=threads,
        )

    return panoptic_by(mapped, class_logits, letterbox, vocabulary, rules)


def panoptic_by(
    mapped: Callable[[Selection], Panoptic],
    class_logits: Floats,
    letterbox: Letterbox,
    vocabulary: Vocabulary,
    rules: PostprocessInfo,
) -> Segmentation:
    """The same, the masks formed and compared by whoever can.

    Args:
        mapped: from the kept queries to their map.
        class_logits: as for the others.
        letterbox: where the image lies in the network input.
        vocabulary: the classes.
        rules: thresholds.
    """
    kept = panoptic_queries(class_logits, vocabulary, rules)
    if not len(kept):
        return Segmentation(np.zeros(letterbox.source, np.int32), [], "panoptic")
    found = mapped(kept)
    segments = [
        _info(s.id, s.label_id, vocabulary, s.score, s.area, s.isthing) for s in found.segments
    ]
    return Segmentation(found.segmentation, segments, "panoptic")


def semantic(
    class_logits: Floats,
    masks: MaskLogits,
    letterbox: Letterbox,
    vocabulary: Vocabulary,
    rules: PostprocessInfo,
    threads: int,
) -> Segmentation:
    """A class for every pixel; a label's score is that of the query which is surest of it."""
    logits = masks(np.arange(len(class_logits), dtype=np.int64))
    columns, means = semantic_columns(class_logits, vocabulary, rules)
    winners = postprocess.most_likely(columns, logits, letterbox, threads=threads)
    best, areas = columns.max(axis=0), np.bincount(winners.ravel(), minlength=len(means))
    ids, things = vocabulary.ids, vocabulary.is_thing()
    found = [(int(means[column]), column) for column in np.flatnonzero(areas) if means[column] >= 0]
    segments = [
        _info(int(ids[label]), label, vocabulary, best[column], areas[column], bool(things[label]))
        for label, column in sorted(found)
    ]
    of_column = np.where(means >= 0, ids[means], -1).astype(np.int32)
    return Segmentation(of_column[winners], segments, "semantic")


def instance(
    class_logits: Floats,
    masks: MaskLogits,
    letterbox: Letterbox,
    vocabulary: Vocabulary,
    rules: PostprocessInfo,
    threads: int,
) -> Segmentation:
    """Scored masks of things, which may overlap, best first; empty masks are left out."""
    selection = instance_pairs(class_logits, vocabulary, rules)
    if not len(selection):
        return _instances([], letterbox, vocabulary, None)
    logits = masks(selection.unique_queries)
    found = postprocess.instance(selection, logits, letterbox, threads=threads)
    shown = found.areas > 0
    if vocabulary.has_rules:
        # A mask's certainty is part of the score that is reported.
        other = None if vocabulary.other is None else vocabulary.other.threshold
        least = np.append(vocabulary.thresholds, np.nan if other is None else other)
        shown &= ~(found.scores <= least[found.label_ids])
    return _instances(np.flatnonzero(shown).tolist(), letterbox, vocabulary, found)


def _instances(
    rows: list[int],
    letterbox: Letterbox,
    vocabulary: Vocabulary,
    found: postprocess.Instances | None,
) -> Segmentation:
    if found is None or not rows:
        return Segmentation(
            np.zeros(letterbox.source, np.int32),
            [],
            "instance",
            np.zeros((0, *letterbox.source), np.bool_),
            np.zeros(0, np.float32),
            np.zeros(0, np.int32),
            np.zeros((0, 4), np.float32),
        )
    segments = [
        _info(
            number,
            int(found.label_ids[row]),
            vocabulary,
            float(found.scores[row]),
            int(found.areas[row]),
            True,
        )
        for number, row in enumerate(rows, start=1)
    ]
    masks, boxes = found.masks[rows], found.boxes[rows]
    return Segmentation(
        postprocess.paint(masks, boxes, letterbox.source),
        segments,
        "instance",
        masks,
        found.scores[rows],
        vocabulary.ids[found.label_ids[rows]].astype(np.int32),
        boxes,
    )


def _info(
    id_: int, label: int, vocabulary: Vocabulary, score: float, area: int, isthing: bool
) -> dict[str, Any]:
    """A segment of the class ``vocabulary.labels[label]``."""
    return {
        "id": id_,
        "label_id": int(vocabulary.ids[label]),
        "label": vocabulary.labels[label],
        "score": float(score),
        "area": int(area),
        "isthing": isthing,
    }


RULES = {"panoptic": panoptic, "semantic": semantic, "instance": instance}
"""The segmentation tasks by name."""
