"""Which of a plan's answers to labelled images are right, and what it finds of what is not there.

Right is what the kind of output is judged by: a segment that panoptic quality matches (IoU above
0.5 with a true one of its class), an instance of IoU 0.5 or more with a true one that no surer
instance has, a phrase's mask of IoU 0.5 or more. What lies mostly where labels say nothing is
neither right nor wrong. Names that no segment of an image has stand for what is not there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.datasets.items import PanopticDataset, PanopticItem
from xdecoder_rt.engine import Engine
from xdecoder_rt.masks.score_curve import CURVE_KINDS
from xdecoder_rt.results import Segmentation

_Bools = npt.NDArray[np.bool_]
_LEAST_IOU = 0.5
_PHRASES = 4
_ABSENT_WORDS = 5


@dataclass(frozen=True)
class Judged:
    """An answer: the image that it is of, its score, and whether it is right."""

    image: int
    score: float
    right: bool


@dataclass
class Answers:
    """What was answered, by kinds of output.

    Attributes:
        judged: answers that are right or wrong.
        absent: of every image asked for what is not there, the highest score of what was found; 0
            where nothing was.
    """

    judged: dict[str, list[Judged]] = field(default_factory=lambda: {k: [] for k in CURVE_KINDS})
    absent: dict[str, list[float]] = field(default_factory=lambda: {k: [] for k in CURVE_KINDS})


def collect_answers(
    engine: Engine,
    datasets: Sequence[PanopticDataset],
    limit: int | None,
    seed: int,
    watch: Callable[[Sequence[Any]], Iterable[Any]],
) -> Answers:
    """Ask an engine without curves about every image of data sets.

    Args:
        engine: of a plan without curves.
        datasets: with labels; phrases where they have them.
        limit: of images of a data set.
        seed: decides which phrases and absent names are asked.
        watch: is given the images, and gives them one by one.
    """
    answers, chance = Answers(), random.Random(seed)
    images = [(dataset, item) for dataset in datasets for item in dataset.items[:limit]]
    for number, (dataset, item) in enumerate(watch(images)):
        _ask(engine, dataset, item, number, chance, answers)
    return answers


def _ask(
    engine: Engine,
    dataset: PanopticDataset,
    item: PanopticItem,
    number: int,
    chance: random.Random,
    answers: Answers,
) -> None:
    truth = item.load_panoptic()
    state = engine.encode(item.load_image())
    labels = {segment.label for segment in item.segments}
    missing = [label for label in dataset.vocabulary if label not in labels]
    absent = chance.sample(missing, min(_ABSENT_WORDS, len(missing)))
    for kind, judge in (("panoptic", judge_panoptic), ("instance", judge_instances)):
        task: Any = kind
        found = engine.segment(
            state, dataset.vocabulary, task=task, stuff=dataset.stuff, min_score=0
        )
        answers.judged[kind] += [
            Judged(number, score, right) for score, right in judge(found, item, truth)
        ]
        if absent:
            stuff = dataset.stuff.intersection(absent)
            found = engine.segment(state, absent, task=task, stuff=stuff, min_score=0)
            scores = [info["score"] for info in found.segments_info]
            answers.absent[kind].append(max(scores, default=0.0))
    phrases = chance.sample(item.phrases, min(_PHRASES, len(item.phrases)))
    for phrase in phrases:
        (reference,) = engine.refer(state, [phrase.text], min_score=0)
        right = overlap(reference.mask, np.isin(truth, phrase.ids)) >= _LEAST_IOU
        answers.judged["refer"].append(Judged(number, reference.score, right))
    if absent:
        (reference,) = engine.refer(state, [absent[0]], min_score=0)
        answers.judged["refer"].append(Judged(number, reference.score, False))
        answers.absent["refer"].append(reference.score)


def overlap(mask: _Bools, true: _Bools) -> float:
    """Return the intersection over union of two masks, 0 for empty ones."""
    union = np.count_nonzero(mask | true)
    return np.count_nonzero(mask & true) / union if union else 0.0


def judge_panoptic(
    found: Segmentation, item: PanopticItem, truth: npt.NDArray[np.integer[Any]]
) -> list[tuple[float, bool]]:
    """Return score and rightness of every segment that panoptic quality counts."""
    judged, unlabelled = [], truth == 0
    for info in found.segments_info:
        mask = found.segmentation == info["id"]
        if _is_unscored(mask, unlabelled):
            continue
        true = _true_masks(item, truth, info["label"], merged=not info["isthing"])
        right = any(overlap(mask & ~unlabelled, other) > _LEAST_IOU for other in true)
        judged.append((float(info["score"]), right))
    return judged


def judge_instances(
    found: Segmentation, item: PanopticItem, truth: npt.NDArray[np.integer[Any]]
) -> list[tuple[float, bool]]:
    """Return score and rightness of every instance; of several on one object the surest is."""
    judged, unlabelled = [], truth == 0
    free: dict[str, list[_Bools]] = {}
    assert found.masks is not None  # instance output has them
    for mask, info in zip(found.masks, found.segments_info, strict=True):  # best first
        if _is_unscored(mask, unlabelled):
            continue
        label = info["label"]
        if label not in free:
            free[label] = _true_masks(item, truth, label, merged=False)
        ious = [overlap(mask & ~unlabelled, other) for other in free[label]]
        best = int(np.argmax(ious)) if ious else -1
        right = best >= 0 and ious[best] >= _LEAST_IOU
        if right:
            free[label].pop(best)
        judged.append((float(info["score"]), right))
    return judged


def _is_unscored(mask: _Bools, unlabelled: _Bools) -> bool:
    area = np.count_nonzero(mask)
    return bool(not area or 2 * np.count_nonzero(mask & unlabelled) > area)


def _true_masks(
    item: PanopticItem, truth: npt.NDArray[np.integer[Any]], label: str, *, merged: bool
) -> list[_Bools]:
    ids = [s.id for s in item.segments if s.label == label and not s.iscrowd]
    if merged:
        return [np.isin(truth, ids)] if ids else []
    return [truth == number for number in ids]
