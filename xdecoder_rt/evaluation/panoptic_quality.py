"""Panoptic quality (PQ, SQ, RQ) by COCO's definition.

Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4, with the treatment of unlabelled
("void") pixels and of crowds of the reference implementation, `panopticapi/evaluation.py`:

- a predicted and a true segment of one class match if their IoU exceeds 0.5, where the union
  leaves out the predicted segment's void pixels; void in the *prediction* is not left out;
- an unmatched prediction is a false positive, unless more than half of it lies on void or on a
  crowd of its class; an unmatched true segment is a false negative, unless it is a crowd;
- the scores are averaged over the classes with a match or an error.

Pixels that a data set declares to show nothing of the vocabulary are not void: whatever is
predicted there is part of the union, and wrong.

The pixels of a stuff class are one segment, as in the paper's section 3: ids that divide them are
ignored (COCO's files never divide them).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.items import NOTHING
from xdecoder_rt.errors import ArgumentError

_VOID = 0
_BAND_PIXELS = 1 << 20  # a pixel of a band takes some 48 bytes


@dataclass(frozen=True)
class _Numbering:
    """The segments of a map by numbers from 1, a stuff class once; 0 stays void, nothing is last.

    Attributes:
        map_name: "true" or "predicted".
        ids: int64, rising, those of no segment first.
        numbers: of each id.
        pixels: of each id, counted by :meth:`number`.
        unlisted: how many ids are of no segment.
        classes: of each number from 1.
        crowds: of each number from 1, whether it is a crowd.
    """

    map_name: str
    ids: NDArray[np.int64]
    numbers: NDArray[np.intp]
    pixels: NDArray[np.int64]
    unlisted: int
    classes: NDArray[np.intp]
    crowds: NDArray[np.bool_]

    def number(self, band: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
        """Return the numbers of a band of the map, and count its pixels.

        Raises:
            ArgumentError: an id has no class.
        """
        place = np.searchsorted(self.ids, band).clip(max=len(self.ids) - 1)
        is_unknown = self.ids[place] != band
        if is_unknown.any():
            unknown = np.unique(band[is_unknown])[:10].tolist()
            raise ArgumentError(f"The {self.map_name} map has ids without a class: {unknown}")
        self.pixels[:] += np.bincount(place.ravel(), minlength=len(self.ids))
        numbers: NDArray[np.intp] = self.numbers[place]
        return numbers

    def listed(self, areas: Mapping[int, int]) -> NDArray[np.int64]:
        """Return the areas of the numbers from 1, given those of ids: their sums over each."""
        sums = np.zeros(len(self.classes), np.int64)
        ids = self.ids[self.unlisted :]
        np.add.at(sums, self.numbers[self.unlisted :] - 1, [areas[int(id_)] for id_ in ids])
        return sums

    def check_present(self) -> None:
        """Check, after all bands, that every segment has a pixel.

        Raises:
            ArgumentError: one has none.
        """
        absent = self.ids[self.unlisted :][self.pixels[self.unlisted :] == 0]
        if len(absent):
            raise ArgumentError(
                f"The {self.map_name} map has no pixel of the segments {absent[:10].tolist()}"
            )


@dataclass(frozen=True)
class ClassQuality:
    """The panoptic quality of one class.

    Attributes:
        pq: Panoptic quality, 0 to 100: `sq * rq / 100`.
        sq: Segmentation quality, 0 to 100: the mean IoU of the matched segments; 0 if none.
        rq: Recognition quality, 0 to 100: the F1 score of detection.
        tp: The number of matched segments.
        fp: The number of false positives.
        fn: The number of false negatives.
        isthing: Whether the class is of things.
    """

    pq: float
    sq: float
    rq: float
    tp: int
    fp: int
    fn: int
    isthing: bool


@dataclass(frozen=True)
class UnscoredShare:
    """What was not scored, because the labels do not say what is there.

    Attributes:
        segments: How many predicted segments are neither right nor wrong: more than half of each
            lies on unlabelled pixels or on a crowd.
        predicted: How many were predicted in all.
        pixels: The share of all pixels that are unlabelled, 0 to 100.
    """

    segments: int
    predicted: int
    pixels: float

    @property
    def share(self) -> float:
        """The share of the predicted segments, 0 to 100; 0 where there are none."""
        return 100 * self.segments / self.predicted if self.predicted else 0.0


@dataclass(frozen=True)
class PanopticScores:
    """Panoptic quality averaged over classes, 0 to 100.

    Attributes:
        pq: Mean panoptic quality.
        sq: Mean segmentation quality.
        rq: Mean recognition quality.
        per_class: The classes averaged, by label, in the vocabulary's order.
    """

    pq: float
    sq: float
    rq: float
    per_class: dict[str, ClassQuality]

    @classmethod
    def average(cls, per_class: Mapping[str, ClassQuality]) -> PanopticScores:
        """Return the scores of some classes, each with the same weight.

        Raises:
            ArgumentError: if there is no class.
        """
        if not per_class:
            raise ArgumentError(
                "There is no segment to score", expected="a true or predicted segment"
            )
        pq, sq, rq = np.mean([(c.pq, c.sq, c.rq) for c in per_class.values()], axis=0).tolist()
        return cls(pq, sq, rq, dict(per_class))

    def by_kind(self) -> dict[str, PanopticScores]:
        """Return the scores of the things and of the stuff, of those that there are."""
        kinds = {}
        for name, isthing in (("things", True), ("stuff", False)):
            kind = {label: c for label, c in self.per_class.items() if c.isthing is isthing}
            if kind:
                kinds[name] = self.average(kind)
        return kinds


class PanopticQuality:
    """Counts matches and errors over images; two of them merge into one.

    Args:
        vocabulary: The labels of the classes.
        stuff: Those of the vocabulary that are stuff.
    """

    def __init__(self, vocabulary: Sequence[str], stuff: Collection[str] = ()) -> None:
        self.vocabulary = tuple(vocabulary)
        self._isthing = np.array([label not in stuff for label in self.vocabulary], dtype=bool)
        classes = len(self.vocabulary)
        self._iou = np.zeros(classes)
        self._tp = np.zeros(classes, dtype=np.int64)
        self._fp = np.zeros(classes, dtype=np.int64)
        self._fn = np.zeros(classes, dtype=np.int64)
        self._unscored = 0
        self._predicted = 0
        self._void_pixels = 0
        self._pixels = 0

    def update(
        self,
        truth: NDArray[np.integer[Any]],
        truth_classes: Mapping[int, int],
        prediction: NDArray[np.integer[Any]],
        predicted_classes: Mapping[int, int],
        *,
        crowds: Collection[int] = (),
        areas: Mapping[int, int] | None = None,
    ) -> None:
        """Count one image.

        Args:
            truth: H x W ids of the true segments, 0 = unlabelled, -1 = none of the vocabulary.
            truth_classes: The index in the vocabulary of each true segment's class, by id.
            prediction: H x W ids of the predicted segments, 0 = none.
            predicted_classes: That of each predicted segment, by id.
            crowds: The ids of the true segments that are crowds.
            areas: The pixels of the true segments as their file lists them, by id. The reference
                implementation takes these for the union, and misses a segment without pixels; None
                counts the pixels of the map, where every segment has some.

        Raises:
            ArgumentError: if the sizes differ, an id of a map has no class or a class no such id,
                or a class is not in the vocabulary.
        """
        if truth.ndim != 2 or truth.shape != prediction.shape:
            raise ArgumentError(
                f"The true map is {truth.shape} and the predicted one {prediction.shape}",
                expected="two maps of one height and width",
            )
        if areas is not None and any(areas.get(id_, -1) < 0 for id_ in truth_classes):
            raise ArgumentError("A true segment has no area", expected="at least 0 for each id")
        true = self._number(truth_classes, crowds, "true")
        predicted = self._number(predicted_classes, (), "predicted")
        true_class, crowd, predicted_class = true.classes, true.crowds, predicted.classes
        # Void, the true segments, and nothing.
        shape = (len(true_class) + 2, len(predicted_class) + 1)
        counts = np.zeros(shape[0] * shape[1], np.int64)
        rows = max(1, max(_BAND_PIXELS, counts.size) // max(1, truth.shape[1]))
        for top in range(0, len(truth), rows):
            band = slice(top, top + rows)
            pairs = true.number(truth[band]) * shape[1]
            pairs += predicted.number(prediction[band])
            counts += np.bincount(pairs.ravel(), minlength=counts.size)
        if areas is None:
            true.check_present()
        predicted.check_present()
        overlap = counts.reshape(shape)

        true_area = overlap.sum(axis=1)[1:-1] if areas is None else true.listed(areas)
        predicted_area = overlap.sum(axis=0)[1:]
        on_void = overlap[0, 1:]
        intersection = overlap[1:-1, 1:]
        union = true_area[:, None] + (predicted_area - on_void)[None, :] - intersection
        iou = intersection / np.maximum(union, 1)  # 0: nothing listed, and a prediction on void
        same_class = true_class[:, None] == predicted_class[None, :]
        # At most one match a row and a column: two would overlap.
        match = (iou > 0.5) & same_class & ~crowd[:, None]
        matched = np.flatnonzero(match.any(axis=1))
        np.add.at(self._iou, true_class[matched], iou[match])
        np.add.at(self._tp, true_class[matched], 1)
        np.add.at(self._fn, true_class[~match.any(axis=1) & ~crowd], 1)
        ignored = on_void + (intersection * (same_class & crowd[:, None])).sum(axis=0)
        false = ~match.any(axis=0) & (ignored / predicted_area <= 0.5)
        np.add.at(self._fp, predicted_class[false], 1)
        self._predicted += len(predicted_class)
        self._unscored += int((~match.any(axis=0) & ~false).sum())
        self._pixels += truth.size
        self._void_pixels += int(overlap[0].sum())

    def merge(self, other: PanopticQuality) -> None:
        """Add the images that another accumulator counted.

        Raises:
            ArgumentError: if its classes are not the same.
        """
        if self.vocabulary != other.vocabulary or (self._isthing != other._isthing).any():
            raise ArgumentError("The two accumulators do not have the same classes")
        self._iou += other._iou
        self._tp += other._tp
        self._fp += other._fp
        self._fn += other._fn
        self._unscored += other._unscored
        self._predicted += other._predicted
        self._void_pixels += other._void_pixels
        self._pixels += other._pixels

    def compute(self) -> PanopticScores:
        """Return the scores over all images counted.

        Raises:
            ArgumentError: if no segment was counted.
        """
        per_class = {}
        for i in np.flatnonzero(self._tp + self._fp + self._fn):
            tp, fp, fn = int(self._tp[i]), int(self._fp[i]), int(self._fn[i])
            sq = 100 * float(self._iou[i]) / tp if tp else 0.0
            rq = 100 * tp / (tp + fp / 2 + fn / 2)
            per_class[self.vocabulary[i]] = ClassQuality(
                sq * rq / 100, sq, rq, tp, fp, fn, bool(self._isthing[i])
            )
        return PanopticScores.average(per_class)

    @property
    def counts(self) -> NDArray[np.float64]:
        """Return what :meth:`compute` scores, ``[3, classes]``: sums of IoU, matches, errors.

        An error is half a false positive or half a false negative: PQ of a class is 100 times its
        sum of IoU over matches and errors.
        """
        return np.stack([self._iou, self._tp, (self._fp + self._fn) / 2])

    def unscored(self) -> UnscoredShare:
        """Return how much of all images counted the labels say nothing of."""
        return UnscoredShare(
            self._unscored,
            self._predicted,
            100 * self._void_pixels / self._pixels if self._pixels else 0.0,
        )

    def _number(
        self, classes: Mapping[int, int], crowds: Collection[int], map_name: str
    ) -> _Numbering:
        """Number the segments of a map.

        Raises:
            ArgumentError: if a class is not in the vocabulary.
        """
        unlisted = [NOTHING, _VOID] if map_name == "true" else [_VOID]
        row_of: dict[tuple[int, int], int] = {}  # (class, id of a thing or crowd, or 0) -> row
        rows, row_class, row_crowd = [_VOID], [], []
        for id_ in sorted(classes):
            class_ = classes[id_]
            if not 0 <= class_ < len(self.vocabulary):
                raise ArgumentError(
                    f"The {map_name} segment {id_} has the class {class_}",
                    expected=f"0 to {len(self.vocabulary) - 1}",
                )
            crowd = id_ in crowds
            key = (class_, id_ if crowd or self._isthing[class_] else _VOID)
            if key not in row_of:
                row_of[key] = len(row_of) + 1
                row_class.append(class_)
                row_crowd.append(crowd)
            rows.append(row_of[key])
        row_of_nothing = [len(row_of) + 1] * (len(unlisted) - 1)
        ids = np.array([*unlisted, *sorted(classes)], dtype=np.int64)
        return _Numbering(
            map_name,
            ids,
            np.array([*row_of_nothing, *rows], dtype=np.intp),
            np.zeros(len(ids), np.int64),
            len(unlisted),
            np.array(row_class, dtype=np.intp),
            np.array(row_crowd, dtype=bool),
        )
