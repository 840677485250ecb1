"""Two engines of one model on the same images: how far apart they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.engine import Engine
from xdecoder_rt.results import Segmentation

ROW_OUTPUTS = ("class_embedding", "mask_embedding", "caption_embedding", "region_scores")
"""What is compared of decoded rows; the last where regions are named."""


@dataclass
class Apart:
    """How far apart the values of one output are, over everything added.

    Attributes:
        product: sum of the products of both.
        squares: sums of the squares of the one in doubt, of the other, and of the difference.
        largest: absolute difference.
    """

    product: float = 0.0
    squares: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    largest: float = 0.0

    def add(self, tried: npt.NDArray[Any], base: npt.NDArray[Any]) -> None:
        """Add arrays of equal shape."""
        a, b = np.asarray(tried, np.float64).ravel(), np.asarray(base, np.float64).ravel()
        difference = a - b
        self.product += float(a @ b)
        for i, values in enumerate((a, b, difference)):
            self.squares[i] += float(values @ values)
        self.largest = max(self.largest, float(np.abs(difference).max(initial=0.0)))

    @property
    def cosine(self) -> float:
        """Cosine of both as vectors; 1 for two of zeros, 0 where one alone is."""
        tried_squares, base_squares, _ = self.squares
        if tried_squares == 0.0 or base_squares == 0.0:
            return float(tried_squares == base_squares)
        return self.product / float(np.sqrt(tried_squares * base_squares))

    @property
    def relative_rms(self) -> float:
        """Root mean square of the difference over that of the base; infinite over zeros."""
        _, base_squares, difference = self.squares
        if base_squares == 0.0:
            return 0.0 if difference == 0.0 else float("inf")
        return float(np.sqrt(difference / base_squares))


@dataclass(frozen=True)
class Comparison:
    """The agreement of two engines on the same images.

    Attributes:
        outputs: each output of the image graphs and of the latent queries.
        images: how many.
        same_segment: share of the pixels in the same panoptic segment, segments being matched by
            their label and largest overlap.
        same_label: share of the pixels with the same label.
        segments: found by each in all.
        phrase_iou: mean over images and phrases; two empty masks agree. None where a plan cannot
            refer or there are no phrases.
    """

    outputs: dict[str, Apart]
    images: int
    same_segment: float
    same_label: float
    segments: tuple[int, int]
    phrase_iou: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        document = asdict(self)
        document["segments"] = list(self.segments)
        document["outputs"] = {
            name: {
                "cosine": apart.cosine,
                "relative_rms": min(apart.relative_rms, float(np.finfo(np.float64).max)),
                "largest": apart.largest,
            }
            for name, apart in self.outputs.items()
        }
        return document


def compare(
    tried: Engine,
    base: Engine,
    images: Iterable[npt.NDArray[np.uint8]],
    words: Sequence[str],
    phrases: Sequence[str] = (),
) -> Comparison:
    """Ask two engines the same questions and compare their answers.

    Args:
        tried: the one in doubt.
        base: what it is held against; of the same model and input sizes.
        images: RGB uint8, at least one.
        words: the vocabulary.
        phrases: to refer by.
    """
    outputs: dict[str, Apart] = {}
    same_segment, same_label, ious = [], [], []
    segments = [0, 0]
    refers = bool(phrases) and all("refer" in engine.manifest.tasks for engine in (tried, base))
    for image in images:
        states = [engine.decode(image) for engine in (tried, base)]
        for name in states[1].values:
            arrays = [
                engine.backend.to_numpy(state.values[name])
                for engine, state in zip((tried, base), states, strict=True)
            ]
            outputs.setdefault(name, Apart()).add(*arrays)
        for name in ROW_OUTPUTS:
            rows = [getattr(state.latents, name) for state in states]
            if rows[1] is not None:
                outputs.setdefault(name, Apart()).add(*rows)
        segmentations = [
            engine.segment(state, list(words))
            for engine, state in zip((tried, base), states, strict=True)
        ]
        segments = [
            n + len(segmentation.segments_info)
            for n, segmentation in zip(segments, segmentations, strict=True)
        ]
        same_segment.append(_same_segment(*segmentations))
        tried_labels, base_labels = map(_labels, segmentations)
        same_label.append(float((tried_labels == base_labels).mean()))
        if refers:
            references = [
                engine.refer(state, list(phrases), min_score=0)
                for engine, state in zip((tried, base), states, strict=True)
            ]
            ious += [_iou(a.mask, b.mask) for a, b in zip(*references, strict=True)]
    return Comparison(
        outputs,
        len(same_label),
        float(np.mean(same_segment)),
        float(np.mean(same_label)),
        (segments[0], segments[1]),
        float(np.mean(ious)) if ious else None,
    )


def _labels(segmentation: Segmentation) -> npt.NDArray[np.int64]:
    """Return the label of each pixel, -1 for none: segment ids depend on the order of scores."""
    table = np.full(int(segmentation.segmentation.max(initial=0)) + 1, -1, np.int64)
    for segment in segmentation.segments_info:
        table[segment["id"]] = segment["label_id"]
    labels: npt.NDArray[np.int64] = table[segmentation.segmentation]
    return labels


def _same_segment(tried: Segmentation, base: Segmentation) -> float:
    """Return the share of pixels in segments that are counterparts, or in none."""
    a, b = tried.segmentation.ravel().astype(np.int64), base.segmentation.ravel().astype(np.int64)
    width = int(b.max(initial=0)) + 1
    pairs, counts = np.unique(a * width + b, return_counts=True)
    kinds = [{s["id"]: s["label_id"] for s in side.segments_info} for side in (tried, base)]
    agreeing = 0
    paired: tuple[set[int], set[int]] = (set(), set())
    for pair, number in sorted(zip(pairs.tolist(), counts.tolist(), strict=True), key=_most):
        a_id, b_id = divmod(pair, width)
        if (a_id == 0) != (b_id == 0) or a_id in paired[0] or b_id in paired[1]:
            continue
        if kinds[0].get(a_id) == kinds[1].get(b_id):
            agreeing += number
            paired[0].add(a_id)
            paired[1].add(b_id)
    return agreeing / max(1, len(a))


def _most(pair: tuple[int, int]) -> int:
    return -pair[1]


def _iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
