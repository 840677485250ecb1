"""Running an engine over labelled images and scoring what it answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from xdecoder_rt.errors import ArgumentError, DatasetError
from xdecoder_rt.evaluation.items import PanopticDataset
from xdecoder_rt.evaluation.panoptic_quality import PanopticQuality
from xdecoder_rt.evaluation.report import Percentiles, Report
from xdecoder_rt.evaluation.semantic import SemanticIoU, class_map

_WARM_UP_RUNS = 3


class Segmentation(Protocol):
    """What evaluation reads of a segmentation result."""

    @property
    def segmentation(self) -> NDArray[np.int32]:
        """H x W: segment ids, 0 = none; for the semantic task vocabulary indices, -1 = none."""

    @property
    def segments_info(self) -> Sequence[Mapping[str, Any]]:
        """One mapping a segment, with at least `id` and `label_id`."""


class Segmenter(Protocol):
    """What evaluation asks of an engine; `xdecoder_rt.Engine` is one."""

    def warm(self, vocabulary: Sequence[str], /) -> Any:
        """Embed the vocabulary ahead."""

    def encode(self, image: NDArray[np.uint8], /) -> Any:
        """The state of one image, for several questions on it."""

    def segment(
        self,
        state: Any,
        vocabulary: Sequence[str],
        /,
        *,
        task: Literal["panoptic", "semantic"] = ...,
        stuff: Sequence[str] = ...,
    ) -> Any:
        """A `Segmentation` of an encoded image, panoptic by default."""


def evaluate(
    engine: Segmenter, dataset: PanopticDataset, *, limit: int | None = None, progress: bool = True
) -> Report:
    """Score panoptic and semantic segmentation over a data set, and time the panoptic.

    The whole vocabulary of the data set is asked for in every image. The time of an image is that
    of its encoding and panoptic segmentation, from decoded pixels to the result, with the
    vocabulary embedded before and a few untimed runs first.

    Args:
        engine: What is evaluated.
        dataset: A `LabelledFolder`, or anything with its vocabulary, stuff and items.
        limit: Take only so many images, from the first; None takes all.
        progress: Show a progress bar on stderr, if that is a terminal.

    Raises:
        ArgumentError: if `limit` is less than 1.
        DatasetError: if an item is broken, or no item has a segment to score.
    """
    if limit is not None and limit < 1:
        raise ArgumentError(f"'limit' is {limit}", expected="at least 1, or None")
    items = dataset.items[:limit]
    if not any(segment for item in items for segment in item.segments if not segment.iscrowd):
        raise DatasetError(
            f"None of the {len(items)} images has a labelled segment", expected="labels to score"
        )
    vocabulary, stuff = dataset.vocabulary, sorted(dataset.stuff)
    index = {label: i for i, label in enumerate(vocabulary)}
    panoptic_quality = PanopticQuality(vocabulary, stuff)
    semantic_iou = SemanticIoU(vocabulary)
    times_ms = []

    engine.warm(vocabulary)
    first = items[0].load_image()
    for _ in range(_WARM_UP_RUNS):
        engine.segment(engine.encode(first), vocabulary, stuff=stuff)
    for item in tqdm(items, unit="image", disable=None if progress else True):
        image, truth = item.load_image(), item.load_panoptic()
        start = time.perf_counter()
        state = engine.encode(image)
        panoptic: Segmentation = engine.segment(state, vocabulary, stuff=stuff)
        times_ms.append(1000 * (time.perf_counter() - start))
        semantic: Segmentation = engine.segment(state, vocabulary, task="semantic")

        classes = {segment.id: index[segment.label] for segment in item.segments}
        panoptic_quality.update(
            truth,
            classes,
            panoptic.segmentation,
            {int(s["id"]): int(s["label_id"]) for s in panoptic.segments_info},
            crowds=[segment.id for segment in item.segments if segment.iscrowd],
        )
        semantic_iou.update(class_map(truth, classes), semantic.segmentation)
    return Report(
        panoptic=panoptic_quality.compute(),
        semantic=semantic_iou.compute(),
        time_ms=Percentiles.of(times_ms),
        items=len(items),
    )
