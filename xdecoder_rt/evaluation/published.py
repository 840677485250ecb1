"""An engine measured on a public data set by the protocol of the published figures.

Classes are asked for as published, names that repeat included, and the object threshold is the
protocol's for every class. The plan's own sizes, interpolation, overlap threshold and number of
instances are compared with the protocol's, and every difference is told: a figure measured under
another protocol is another figure.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from xdecoder_rt.datasets.class_lists import ClassList
from xdecoder_rt.datasets.truth import TruthItem, TruthSet
from xdecoder_rt.engine import Engine
from xdecoder_rt.errors import ArgumentError, DatasetError, quoted
from xdecoder_rt.evaluation.captions import CaptionScores, caption_scores, require_scorers
from xdecoder_rt.evaluation.instance_ap import InstancePrecision
from xdecoder_rt.evaluation.panoptic_quality import PanopticQuality
from xdecoder_rt.evaluation.protocols import Protocol
from xdecoder_rt.evaluation.referring import ReferringIoU
from xdecoder_rt.evaluation.report import EvaluationReport
from xdecoder_rt.evaluation.retrieval import RetrievalScores, retrieval_recall
from xdecoder_rt.evaluation.semantic import SemanticIoU
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import Word

_TASK_OF = {
    **dict.fromkeys(("pq", "ap", "miou"), "segment"),
    "ciou": "refer",
    "cider": "caption",
    "image_r1": "embed",
}
_DETECTIONS = 100  # of an image, classes together
_SAME_SIZE = 1  # pixel a side, by which roundings may differ


def evaluate_published(
    engine: Engine,
    data: TruthSet,
    protocol: Protocol,
    *,
    limit: int | None = None,
    progress: bool = True,
    when_stopped: Callable[[EvaluationReport], None] | None = None,
) -> EvaluationReport:
    """Measure an engine by a protocol.

    Args:
        engine: What is measured.
        data: The data set, as :func:`xdecoder_rt.datasets.published.open_published` reads it.
        protocol: How; what it reports and the data set has the truth of is measured.
        limit: Take only so many images, from the first; None takes all.
        progress: Show a progress bar on stderr, if that is a terminal.
        when_stopped: Takes the report of the images done when an exception, Ctrl-C for one, ends
            the evaluation before the last; the image it was at may count in part. Retrieval, which
            is scored after the last, is not in it.

    Raises:
        ArgumentError: if `limit` is less than 1, or the plan lacks the protocol's task.
        DatasetError: if an item is broken, or none has the truth of anything that is reported.
        MissingExtraError: if a package that computes a metric is not installed.
    """
    if limit is not None and limit < 1:
        raise ArgumentError(f"'limit' is {limit}", expected="at least 1, or None")
    task = next(_TASK_OF[metric] for metric in protocol.metrics if metric in _TASK_OF)
    if task not in engine.manifest.tasks:
        raise ArgumentError(
            f"The plan lacks the task {task!r}, which the protocol {protocol.name} measures",
            fix="build a plan with it",
        )
    items = list(islice(data.items, limit))
    notes = list(data.notes)
    measures: Sequence[_Measure]
    if task == "segment":
        if data.classes is None:
            raise DatasetError("The data set has no classes", expected="segments to measure")
        measures = _segment_measures(protocol, data.classes, items)
        notes += _rule_differences(engine, protocol)
    else:
        _check_expressions(engine, items)
        measures = _text_measures(task, items)
    if not measures:
        raise DatasetError(
            f"None of the {len(items)} images has the truth of {', '.join(protocol.metrics)}",
            expected="something to score",
        )
    sizes: list[tuple[int, int]] = []

    def report_of(count: int, *, is_stopped: bool = False) -> EvaluationReport:
        differences = _size_differences(engine, protocol, sizes)
        scores: dict[str, Any] = {}
        for measure in measures:
            if not (is_stopped and isinstance(measure, _Retrieval)):
                scores |= measure.compute(engine)
        return EvaluationReport(
            **scores,
            items=count,
            notes=(*notes, *differences),
            protocol=protocol.name,
            source=data.source,
        )

    done = 0
    try:
        for item in tqdm(items, unit="image", disable=None if progress else True):
            image = item.load_image()
            sizes.append((image.shape[0], image.shape[1]))
            state = engine.encode(image)
            for measure in measures:
                measure.ask(engine, state, item)
            done += 1
    except BaseException:
        if done and when_stopped is not None:
            when_stopped(report_of(done, is_stopped=True))
        raise
    report = report_of(done)
    for text in report.notes:
        warnings.warn(text, stacklevel=2)
    return report


def vocabulary_of(classes: ClassList, threshold: float | None = None) -> Vocabulary:
    """Return the classes to ask for, whose `label_id` is the index; names may repeat.

    Args:
        classes: The classes.
        threshold: Least score of every class; None for the plan's rules.
    """
    words = (
        Word(class_.name, stuff=class_.stuff, threshold=threshold, id=index)
        for index, class_ in enumerate(classes.classes)
    )
    return Vocabulary(tuple(words), None, len(classes))


class _Measure:
    """One metric over a data set."""

    def ask(self, engine: Engine, state: Any, item: TruthItem) -> None:
        """Ask the engine about an item's encoded image, and count the answer."""
        raise NotImplementedError

    def compute(self, engine: Engine) -> dict[str, Any]:
        """Return the sections of the report."""
        raise NotImplementedError


class _Panoptic(_Measure):
    def __init__(self, classes: ClassList, threshold: float) -> None:
        self._vocabulary = vocabulary_of(classes, threshold)
        self._quality = PanopticQuality(classes.labels, classes.stuff)

    def ask(self, engine: Engine, state: Any, item: TruthItem) -> None:
        if item.panoptic is None:
            return
        truth = item.panoptic()
        answer = engine.segment(state, self._vocabulary, task="panoptic", min_score=0)
        predicted = {int(s["id"]): int(s["label_id"]) for s in answer.segments_info}
        self._quality.update(
            truth.ids,
            truth.classes,
            answer.segmentation,
            predicted,
            crowds=truth.crowds,
            areas=truth.areas,
        )

    def compute(self, engine: Engine) -> dict[str, Any]:
        return {"panoptic": self._quality.compute()}


class _Semantic(_Measure):
    def __init__(self, classes: ClassList) -> None:
        self._vocabulary = vocabulary_of(classes)
        self._iou = SemanticIoU(classes.labels)

    def ask(self, engine: Engine, state: Any, item: TruthItem) -> None:
        if item.semantic is not None:
            answer = engine.segment(state, self._vocabulary, task="semantic", min_score=0)
            self._iou.update(item.semantic(), answer.segmentation)

    def compute(self, engine: Engine) -> dict[str, Any]:
        return {"semantic": self._iou.compute()}


class _Instances(_Measure):
    def __init__(self, classes: ClassList) -> None:
        self._vocabulary = vocabulary_of(classes)
        self._precision = InstancePrecision(len(classes))

    def ask(self, engine: Engine, state: Any, item: TruthItem) -> None:
        if item.instances is not None:
            answer = engine.segment(state, self._vocabulary, task="instance", min_score=0)
            self._precision.update(item.instances(), answer.masks, answer.label_ids, answer.scores)

    def compute(self, engine: Engine) -> dict[str, Any]:
        return {"instance": self._precision.compute()}


class _Expressions(_Measure):
    def __init__(self) -> None:
        self._iou = ReferringIoU()

    def ask(self, engine: Engine, state: Any, item: TruthItem) -> None:
        if item.expression_masks is not None:
            answers = engine.refer(state, item.expressions, joint=True, min_score=0)
            for mask, answer in zip(item.expression_masks(), answers, strict=True):
                self._iou.update(mask, answer.mask)

    def compute(self, engine: Engine) -> dict[str, Any]:
        return {"referring": self._iou.compute()}


class _Captions(_Measure):
    def __init__(self) -> None:
        require_scorers()
        self._written: list[str] = []
        self._references: list[tuple[str, ...]] = []

    def ask(self, engine: Engine, state: Any, item: TruthItem) -> None:
        if item.captions:
            self._written.append(engine.caption(state).text)
            self._references.append(item.captions)

    def compute(self, engine: Engine) -> dict[str, Any]:
        scores: CaptionScores = caption_scores(self._written, self._references)
        return {"caption": scores}


class _Retrieval(_Measure):
    def __init__(self) -> None:
        self._images: list[NDArray[np.float32]] = []
        self._texts_of: list[list[int]] = []
        self._index: dict[str, int] = {}

    def ask(self, engine: Engine, state: Any, item: TruthItem) -> None:
        if item.captions:
            self._images.append(engine.embed_image(state))
            self._texts_of.append(
                [self._index.setdefault(text, len(self._index)) for text in item.captions]
            )

    def compute(self, engine: Engine) -> dict[str, Any]:
        texts = engine.embed_text(list(self._index))
        scores: RetrievalScores = retrieval_recall(np.stack(self._images), texts, self._texts_of)
        return {"retrieval": scores}


def _segment_measures(
    protocol: Protocol, classes: ClassList, items: Sequence[TruthItem]
) -> list[_Measure]:
    """Return the measures of segmentation that the protocol reports and an item has truth of."""
    makers: dict[str, tuple[str, Callable[[], _Measure]]] = {
        "pq": ("panoptic", lambda: _Panoptic(classes, protocol.object_threshold)),
        "ap": ("instances", lambda: _Instances(classes)),
        "miou": ("semantic", lambda: _Semantic(classes)),
    }
    return [
        make()
        for metric, (truth, make) in makers.items()
        if metric in protocol.metrics and any(getattr(item, truth) for item in items)
    ]


def _text_measures(task: str, items: Sequence[TruthItem]) -> list[_Measure]:
    """Return the measure of a task, if an item has texts for it."""
    if task == "refer":
        return [_Expressions()] if any(item.expressions for item in items) else []
    if not any(item.captions for item in items):
        return []
    return [_Captions() if task == "caption" else _Retrieval()]


def _check_expressions(engine: Engine, items: Sequence[TruthItem]) -> None:
    """Refuse, before hours of work, a plan that cannot ask for all texts of an image at once.

    Raises:
        ArgumentError: an image has more.
    """
    most = max((len(item.expressions) for item in items), default=0)
    if most > (limit := engine.manifest.decoder.max_phrases):
        raise ArgumentError(
            f"An image has {most} expressions, asked jointly, and the plan takes {limit} a call",
            fix=f"build with --max-phrases {most}",
        )


def _rule_differences(engine: Engine, protocol: Protocol) -> list[str]:
    """Say which rules of a plan are not the protocol's; the object threshold is set by it."""
    rules, metrics = engine.manifest.postprocess, protocol.metrics
    pairs: list[tuple[str, float, float]] = []
    if "pq" in metrics:
        pairs += [
            ("overlap threshold", rules.overlap_threshold, protocol.overlap_threshold),
            ("piece share", rules.piece_share, 0.0),
        ]
    if "ap" in metrics:
        pairs.append(("number of instances", rules.instance_topk, _DETECTIONS))
    return [
        f"the plan's {name} is {own:g}, the protocol's {published:g}"
        for name, own, published in pairs
        if own != published
    ]


def _size_differences(
    engine: Engine, protocol: Protocol, sizes: Collection[tuple[int, int]]
) -> list[str]:
    """Say which share of the protocol's pixels a plan computes, where its sizes are others."""
    rules = engine.manifest.input
    others, own_pixels, published_pixels = 0, 0, 0
    for size in sizes:
        own = rules.place(size).valid
        published = protocol.input_size(*size)
        own_pixels += own[0] * own[1]
        published_pixels += published[0] * published[1]
        others += any(abs(a - b) > _SAME_SIZE for a, b in zip(own, published, strict=True))
    notes = []
    if others:
        notes.append(
            f"{others} of {len(sizes)} images are scaled otherwise than by the protocol: the plan "
            f"computes {100 * own_pixels / published_pixels:.0f} % of its pixels"
        )
    if rules.interpolation != protocol.interpolation:
        notes.append(
            f"the plan scales images {quoted(rules.interpolation)}, the protocol "
            f"{quoted(protocol.interpolation)}"
        )
    return notes
