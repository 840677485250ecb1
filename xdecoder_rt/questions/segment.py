"""Segmentation over a vocabulary: classify the latents, keep, form the kept masks, apply a rule."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.masks import postprocess
from xdecoder_rt.masks.panoptic_rule import MapSegment
from xdecoder_rt.masks.postprocess import Panoptic, Selection
from xdecoder_rt.masks.votes import without_duplicates
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.plan.manifest import PostprocessInfo
from xdecoder_rt.questions.example import check_examples
from xdecoder_rt.questions.least_score import ScoreScale, check_thresholds, is_sure, least_score
from xdecoder_rt.questions.object_words import object_logits, voted_logits
from xdecoder_rt.questions.segment_rules import instance_pairs, panoptic_queries, semantic_columns
from xdecoder_rt.results import Segmentation
from xdecoder_rt.rows import RowGroup
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import DecodedRows, Floats, ImageState
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import Entry

Classes: TypeAlias = "Vocabulary | Sequence[Entry]"
"""A vocabulary, or what :meth:`Vocabulary.parse` makes one of."""
MaskLogits = Callable[[npt.NDArray[np.int64]], Floats]
"""From query indices ``[K]`` to their mask logits ``[K, h, w]``."""
SEGMENT_RULES = ("panoptic", "semantic", "instance")


@dataclass(frozen=True)
class SegmentQuestion:
    """Segments of a vocabulary.

    Attributes:
        vocabulary: the classes, without the void class's name.
        rule: one of `SEGMENT_RULES`.
        names_void: whether the caller named the void class, which then has pixels of its own in
            semantic output too.
        min_score: least score of what is reported.
        thresholds: those of panoptic output that go before the plan's, by the names of
            :meth:`Engine.segment`.
    """

    is_textual: ClassVar[bool] = False
    vocabulary: Vocabulary
    rule: str
    names_void: bool = False
    min_score: float = 0.0
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def ask(
        cls,
        runtime: Runtime,
        vocabulary: Classes,
        rule: str,
        stuff: Collection[str],
        min_score: float | None,
        object_threshold: float | None = None,
        overlap_threshold: float | None = None,
    ) -> SegmentQuestion:
        """Check a vocabulary and a rule; the arguments are those of :meth:`Engine.segment`.

        Raises:
            ArgumentError: there is no such rule, `min_score` or a threshold is no number from 0 to
                1, the rule has no thresholds, the plan lacks this task, or the runtime is closed.
            VocabularyError: as for :meth:`Vocabulary.parse`.
        """
        runtime.require("segment")
        if not isinstance(rule, str) or rule not in SEGMENT_RULES:
            raise ArgumentError(
                f"There is no segmentation task {quoted(rule)}",
                expected=", ".join(repr(name) for name in SEGMENT_RULES),
            )
        least = least_score(
            min_score,
            rule,
            runtime.manifest.model.family,
            runtime.manifest.postprocess.min_scores,
        )
        thresholds = check_thresholds(
            rule, object_threshold=object_threshold, overlap_threshold=overlap_threshold
        )
        parsed = Vocabulary.parse(vocabulary, stuff)
        check_examples(runtime.manifest, parsed)
        text = runtime.manifest.text
        words = parsed.without_void(text.background, text.strip_suffixes)
        return cls(words, rule, words is not parsed, least, thresholds)

    def groups(self, state: ImageState) -> Sequence[RowGroup]:
        """Return none: the latents are read alone."""
        return ()

    def read(
        self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]
    ) -> Segmentation:
        """Classify the latents, form the masks of those kept, and apply the output rule."""
        vocabulary, rules, box = self.vocabulary, runtime.manifest.postprocess, state.letterbox
        latents = runtime.rows.latents(state)
        _, mask_embedding = latents.answer("segment")
        # Semantic output has no void to give a region to.
        logits = object_logits(runtime, latents, vocabulary, self.rule != "semantic")
        if self.rule == "panoptic":
            logits, overlaps = voted_logits(runtime, latents, logits)
            is_thing = vocabulary.is_thing()
            rules = replace(
                rules,
                object_mask_threshold=self.thresholds.get(
                    "object_threshold", rules.object_mask_threshold
                ),
                overlap_threshold=self.thresholds.get("overlap_threshold", rules.overlap_threshold),
            )
            return panoptic_result(
                logits,
                lambda selection: runtime.panoptic(
                    state, selection, mask_embedding, is_thing, rules.overlap_threshold
                ),
                box,
                vocabulary,
                rules,
                self.min_score,
                overlaps,
            )
        if self.names_void:
            rules = replace(rules, keep_semantic_background=True)
        form = semantic_result if self.rule == "semantic" else instance_result
        return form(
            logits,
            lambda indices: runtime.masks(state, mask_embedding[indices]),
            box,
            vocabulary,
            rules,
            runtime.threads,
            self.min_score,
        )


def panoptic_result(
    class_logits: Floats,
    form: Callable[[Selection], Panoptic],
    letterbox: Letterbox,
    vocabulary: Vocabulary,
    rules: PostprocessInfo,
    min_score: float = 0.0,
    overlaps: Floats | None = None,
) -> Segmentation:
    """Put every pixel in at most one segment; only the masks of kept queries are formed.

    Args:
        class_logits: ``[Q, classes + 1]``.
        form: from the kept queries to their map, formed where the masks are.
        letterbox: where the image lies in the network input.
        vocabulary: the classes.
        rules: thresholds.
        min_score: least score of a segment.
        overlaps: ``[Q, Q]``, by which queries with nearly the same mask are left out; or None.
    """
    scale = ScoreScale.of(rules, "panoptic")
    selection = panoptic_queries(
        class_logits, scale.inside(vocabulary), rules, scale.least(min_score)
    )
    if overlaps is not None:
        selection = without_duplicates(selection, overlaps)
    if not len(selection):
        return Segmentation(np.zeros(letterbox.source, np.int32), [], "panoptic")
    panoptic_map = form(selection)
    segments = _infos(panoptic_map.segments, vocabulary, scale)
    return Segmentation(panoptic_map.segmentation, segments, "panoptic")


def semantic_result(
    class_logits: Floats,
    masks: MaskLogits,
    letterbox: Letterbox,
    vocabulary: Vocabulary,
    rules: PostprocessInfo,
    threads: int,
    min_score: float = 0.0,
) -> Segmentation:
    """Give every pixel a class; a label's score is that of the query which is surest of it."""
    logits = masks(np.arange(len(class_logits), dtype=np.int64))
    scale = ScoreScale.of(rules, "semantic")
    columns, column_labels = semantic_columns(
        class_logits, scale.inside(vocabulary), rules, scale.least(min_score)
    )
    winners = postprocess.most_likely(columns, logits, letterbox, threads=threads)
    best, areas = columns.max(axis=0), np.bincount(winners.ravel(), minlength=len(column_labels))
    ids, things = vocabulary.ids, vocabulary.is_thing()
    present = [column for column in np.flatnonzero(areas) if column_labels[column] >= 0]
    segments = [
        MapSegment(
            int(ids[label]), label, bool(things[label]), float(best[column]), int(areas[column])
        )
        for label, column in sorted((int(column_labels[column]), column) for column in present)
    ]
    of_column = np.where(column_labels >= 0, ids[column_labels], -1).astype(np.int32)
    return Segmentation(of_column[winners], _infos(segments, vocabulary, scale), "semantic")


def instance_result(
    class_logits: Floats,
    masks: MaskLogits,
    letterbox: Letterbox,
    vocabulary: Vocabulary,
    rules: PostprocessInfo,
    threads: int,
    min_score: float = 0.0,
) -> Segmentation:
    """Return scored masks of things, which may overlap, best first, without empty masks."""
    scale = ScoreScale.of(rules, "instance")
    inside, least = scale.inside(vocabulary), scale.least(min_score)
    selection = instance_pairs(class_logits, inside, rules, least)
    if not len(selection):
        return _no_instances(letterbox)
    logits = masks(selection.unique_queries)
    instances = postprocess.instance(
        selection, logits, letterbox, piece_share=rules.piece_share, threads=threads
    )
    reported = (instances.areas > 0) & is_sure(instances.scores, least)
    if vocabulary.has_rules:
        # A mask's certainty is part of the score that is reported.
        other = None if inside.other is None else inside.other.threshold
        thresholds = np.append(inside.thresholds, np.nan if other is None else other)
        reported &= ~(instances.scores <= thresholds[instances.label_ids])
    rows = np.flatnonzero(reported)
    if not len(rows):
        return _no_instances(letterbox)
    scores, labels, areas = instances.scores[rows], instances.label_ids[rows], instances.areas[rows]
    columns = zip(labels.tolist(), scores.tolist(), areas.tolist(), strict=True)
    segments = [
        MapSegment(number, label, True, score, area)
        for number, (label, score, area) in enumerate(columns, start=1)
    ]
    kept_masks, boxes = instances.masks[rows], instances.boxes[rows]
    return Segmentation(
        postprocess.paint_masks(kept_masks, boxes, letterbox.source),
        _infos(segments, vocabulary, scale),
        "instance",
        kept_masks,
        scale.reported(scores),
        vocabulary.ids[labels].astype(np.int32),
        boxes,
    )


def _no_instances(letterbox: Letterbox) -> Segmentation:
    return Segmentation(
        np.zeros(letterbox.source, np.int32),
        [],
        "instance",
        np.zeros((0, *letterbox.source), np.bool_),
        np.zeros(0, np.float32),
        np.zeros(0, np.int32),
        np.zeros((0, 4), np.float32),
    )


def _infos(
    segments: Sequence[MapSegment], vocabulary: Vocabulary, scale: ScoreScale
) -> list[dict[str, Any]]:
    """Return segments as users read them, labels by name and by the vocabulary's ids."""
    return [
        {
            "id": segment.id,
            "label_id": int(vocabulary.ids[segment.label_id]),
            "label": vocabulary.labels[segment.label_id],
            "score": scale.reported(float(segment.score)),
            "area": segment.area,
            "isthing": segment.isthing,
        }
        for segment in segments
    ]
