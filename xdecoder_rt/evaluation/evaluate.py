"""Running an engine over labelled images and scoring what it answers."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from xdecoder_rt.datasets.items import NOTHING, PanopticDataset, PanopticItem
from xdecoder_rt.engine import Engine
from xdecoder_rt.errors import ArgumentError, DatasetError, MissingExtraError, quoted
from xdecoder_rt.evaluation.absent import AbsentWords
from xdecoder_rt.evaluation.captions import CaptionScores, require_scorers
from xdecoder_rt.evaluation.panoptic_quality import PanopticQuality
from xdecoder_rt.evaluation.report import EvaluationReport, Percentiles
from xdecoder_rt.evaluation.semantic import SemanticIoU, class_map
from xdecoder_rt.evaluation.text_tasks import (
    TEXT_TASKS,
    AnsweringTask,
    CaptioningTask,
    RetrievalTask,
    TextTask,
    has_answers,
)
from xdecoder_rt.results import Segmentation
from xdecoder_rt.state import ImageState
from xdecoder_rt.tasks import TASKS
from xdecoder_rt.words.vocabulary import is_void_name

_WARM_UP_RUNS = 3
_SEGMENT = "segment"
_SEGMENT_SECTIONS = ("panoptic", "unscored", "absent", "semantic", "time_ms")


def evaluate(
    engine: Engine,
    dataset: PanopticDataset,
    *,
    tasks: Collection[str] | None = None,
    limit: int | None = None,
    progress: bool = True,
    object_threshold: float | None = None,
    overlap_threshold: float | None = None,
    when_stopped: Callable[[EvaluationReport], None] | None = None,
    when_segmented: Callable[[PanopticQuality], None] | None = None,
) -> EvaluationReport:
    """Score every task that a plan has and a data set has labels or texts for.

    An image is encoded once and all questions reuse its state. For panoptic and semantic
    segmentation the whole vocabulary of the data set is asked for in every image. The time of an
    image is that of its encoding and panoptic segmentation, from decoded pixels to the result, with
    the vocabulary embedded before and a few untimed runs first. A class whose name is the void
    class's ("background") cannot be found: where it is labelled, nothing of the vocabulary is.

    What the data set has texts for and the plan lacks is left without scores, with one warning; so
    are captions without the package that scores them, and questions without choices where the plan
    has no answers of its own.

    Args:
        engine: What is evaluated.
        dataset: A `LabelledFolder`, or anything with its vocabulary, stuff and items.
        tasks: Only these of `xdecoder_rt.tasks.TASKS`; None takes all.
        limit: Take only so many images, from the first; None takes all.
        progress: Show a progress bar on stderr, if that is a terminal.
        object_threshold: Of panoptic output; see :meth:`Engine.segment`.
        overlap_threshold: Of panoptic output; see :meth:`Engine.segment`.
        when_stopped: Takes the report of the images done when an exception, Ctrl-C for one, ends
            the evaluation before the last; the image it was at may count in part. Retrieval, which
            is scored after the last, is not in it.
        when_segmented: Takes each image's own counts of panoptic segmentation.

    Raises:
        ArgumentError: if a threshold is no number from 0 to 1, `limit` is less than 1, or `tasks`
            is empty or names something else.
        DatasetError: if an item is broken, or no item has anything to score.

    Example:
        >>> from xdecoder_rt.datasets.labelled_folder import LabelledFolder
        >>> report = evaluate(engine, LabelledFolder.open("scenes"), tasks=["segment"])
        >>> report.items, 0 <= report.panoptic.pq <= 100
        (2, True)
    """
    if limit is not None and limit < 1:
        raise ArgumentError(f"'limit' is {limit}", expected="at least 1, or None")
    task_names = tuple(TASKS if tasks is None else tasks)
    if not task_names or not set(task_names) <= set(TASKS):
        raise ArgumentError(f"'tasks' is {quoted(tasks)}", expected=f"some of {', '.join(TASKS)}")
    items = dataset.items[:limit]
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        warnings.warn(text, stacklevel=3)

    to_do = _TaskChoice.of(engine, items, task_names, note)
    thresholds = (object_threshold, overlap_threshold)
    segmenting = (
        _Segmenting(dataset, engine, note, thresholds, when_segmented) if to_do.segments else None
    )
    text_tasks = [kind() for kind in to_do.text_tasks]
    if segmenting:
        segmenting.warm_up(engine, items[0])
    for kind in to_do.text_tasks:
        _warm_up(engine, kind(), next(filter(kind.has_texts, items)))

    def report_of(count: int, *, is_stopped: bool = False) -> EvaluationReport:
        asked = [task for task in text_tasks if task.times_ms]
        scores = segmenting.compute() if segmenting else {}
        for task in asked:
            if not (is_stopped and isinstance(task, RetrievalTask)):
                scores[task.section] = task.compute(engine)
        if to_do.unscored_captions:
            scores[CaptioningTask.section] = CaptionScores(None, None, 0)
        elif (captions := scores.get(CaptioningTask.section)) and captions.cider is None:
            note("CIDEr is not defined for a single image")
        if (retrieval := scores.get(RetrievalTask.section)) and retrieval.image_r1 is None:
            note("Retrieval is not scored, because no image has a caption that another lacks")
        return EvaluationReport(
            **scores,
            task_time_ms={task.task: Percentiles.of(task.times_ms) for task in asked},
            items=count,
            lacking=to_do.lacking,
            notes=tuple(notes),
        )

    def ask(item: PanopticItem) -> None:
        item_tasks = [task for task in text_tasks if task.has_texts(item)]
        if not segmenting and not item_tasks:
            return
        image, truth = item.load_image(), functools.cache(item.load_panoptic)
        state = segmenting.ask(engine, image, item, truth) if segmenting else engine.encode(image)
        for task in item_tasks:
            task.ask(engine, state, item, truth)

    done = 0
    try:
        for item in tqdm(items, unit="image", disable=None if progress else True):
            ask(item)
            done += 1
    except BaseException:
        if done and when_stopped is not None:
            when_stopped(report_of(done, is_stopped=True))
        raise
    return report_of(done)


@dataclass(frozen=True)
class _TaskChoice:
    """The tasks to be scored.

    Attributes:
        segments: Whether segmentation is.
        text_tasks: Which other tasks are.
        lacking: The report's sections that the plan cannot be scored for.
        unscored_captions: Whether captions were to be scored and the package is missing.
    """

    segments: bool
    text_tasks: tuple[type[TextTask], ...]
    lacking: tuple[str, ...]
    unscored_captions: bool

    @classmethod
    def of(
        cls,
        engine: Engine,
        items: Sequence[PanopticItem],
        task_names: Collection[str],
        note: Callable[[str], None],
    ) -> _TaskChoice:
        """Choose those of the tasks wanted that the items have something for and the plan can do.

        Raises:
            DatasetError: if the items have nothing for any of the tasks wanted.
        """
        sections: dict[str, tuple[str, ...]] = {}  # of each task that there is something for
        if _SEGMENT in task_names and any(
            segment for item in items for segment in item.segments if not segment.iscrowd
        ):
            sections[_SEGMENT] = _SEGMENT_SECTIONS
        for kind in TEXT_TASKS:
            if kind.task in task_names and any(map(kind.has_texts, items)):
                sections[kind.task] = (kind.section,)
        if not sections:
            needs = ["a labelled segment"] if _SEGMENT in task_names else []
            needs += dict.fromkeys(kind.texts for kind in TEXT_TASKS if kind.task in task_names)
            raise DatasetError(
                f"None of the {len(items)} images has any of: {', '.join(needs)}",
                expected="something to score",
            )
        lacking = [task for task in sections if task not in engine.manifest.tasks]
        for task in lacking:
            note(f"The plan lacks the task {task!r}: no {', '.join(sections[task])}")
        questions = [question for item in items for question in item.questions]
        if AnsweringTask.task in sections.keys() - set(lacking) and not has_answers(engine):
            open_ones = sum(question.choices is None for question in questions)
            if open_ones == len(questions):
                lacking.append(AnsweringTask.task)
            if open_ones:
                note(
                    f"The plan has no answers of its own: {open_ones} of {len(questions)} "
                    "questions, which offer no choices, are not asked"
                )
        scored_tasks = sections.keys() - set(lacking)
        unscored_captions = False
        if CaptioningTask.task in scored_tasks:
            try:
                require_scorers()
            except MissingExtraError as error:
                note(f"Captions are not scored. {error}")
                unscored_captions = True
                scored_tasks.remove(CaptioningTask.task)
        return cls(
            _SEGMENT in scored_tasks,
            tuple(kind for kind in TEXT_TASKS if kind.task in scored_tasks),
            tuple(section for task in lacking for section in sections[task]),
            unscored_captions,
        )


class _Segmenting:
    """Panoptic and semantic segmentation over a data set, and the time of the panoptic."""

    def __init__(
        self,
        dataset: PanopticDataset,
        engine: Engine,
        note: Callable[[str], None],
        thresholds: tuple[float | None, float | None],
        when_segmented: Callable[[PanopticQuality], None] | None,
    ) -> None:
        self._when_segmented = when_segmented
        text = engine.manifest.text
        self._void_labels = {
            label
            for label in dataset.vocabulary
            if is_void_name(label, text.background, text.strip_suffixes)
        }
        self._vocabulary = [word for word in dataset.vocabulary if word not in self._void_labels]
        self._stuff = sorted(dataset.stuff - self._void_labels)
        if self._void_labels:
            names = ", ".join(map(quoted, sorted(self._void_labels)))
            if not self._vocabulary:
                raise DatasetError(
                    f"The data set has no class but {names}", expected="a class to be found"
                )
            note(
                f"The class {names} is the name of what is none of the words: it is not asked for, "
                "and whatever is found where it is labelled is wrong"
            )
        self._object_threshold, self._overlap_threshold = thresholds
        self._index = {label: i for i, label in enumerate(self._vocabulary)}
        self._panoptic = PanopticQuality(self._vocabulary, self._stuff)
        self._absent = AbsentWords()
        self._semantic = SemanticIoU(self._vocabulary)
        self._times_ms: list[float] = []

    def warm_up(self, engine: Engine, item: PanopticItem) -> None:
        """Embed the vocabulary and segment an image a few times."""
        engine.warm(self._vocabulary)
        image = item.load_image()
        for _ in range(_WARM_UP_RUNS):
            self._segment(engine, engine.encode(image))

    def ask(
        self,
        engine: Engine,
        image: NDArray[np.uint8],
        item: PanopticItem,
        truth: Callable[[], NDArray[np.integer[Any]]],
    ) -> Any:
        """Encode an image, count its segments, and give its state."""
        ids, classes = self._labelled(item, truth())
        start = time.perf_counter()
        state = engine.encode(image)
        panoptic = self._segment(engine, state)
        self._times_ms.append(1000 * (time.perf_counter() - start))
        semantic = engine.segment(state, self._vocabulary, task="semantic")

        predicted = {int(s["id"]): int(s["label_id"]) for s in panoptic.segments_info}
        counts = PanopticQuality(self._vocabulary, self._stuff)
        counts.update(
            ids,
            classes,
            panoptic.segmentation,
            predicted,
            crowds=[s.id for s in item.segments if s.iscrowd and s.id in classes],
        )
        self._panoptic.merge(counts)
        if self._when_segmented is not None:
            self._when_segmented(counts)
        self._absent.update(classes.values(), panoptic.segmentation, predicted)
        self._semantic.update(class_map(ids, classes), semantic.segmentation)
        return state

    def _segment(self, engine: Engine, state: ImageState) -> Segmentation:
        return engine.segment(
            state,
            self._vocabulary,
            stuff=self._stuff,
            object_threshold=self._object_threshold,
            overlap_threshold=self._overlap_threshold,
        )

    def _labelled(
        self, item: PanopticItem, ids: NDArray[np.integer[Any]]
    ) -> tuple[NDArray[np.integer[Any]], dict[int, int]]:
        """Return a map, void classes as nothing, and the class of each segment in it."""
        void_ids = [segment.id for segment in item.segments if segment.label in self._void_labels]
        if void_ids:
            ids = np.where(np.isin(ids, void_ids), NOTHING, ids.astype(np.int32))
        others = (segment for segment in item.segments if segment.label in self._index)
        return ids, {segment.id: self._index[segment.label] for segment in others}

    def compute(self) -> dict[str, Any]:
        return {
            "panoptic": self._panoptic.compute(),
            "unscored": self._panoptic.unscored(),
            "absent": self._absent.compute(),
            "semantic": self._semantic.compute(),
            "time_ms": Percentiles.of(self._times_ms),
        }


def _warm_up(engine: Engine, task: TextTask, item: PanopticItem) -> None:
    """Ask about one item, so that what is loaded on first need is not in the times."""
    task.ask(engine, engine.encode(item.load_image()), item, item.load_panoptic)
