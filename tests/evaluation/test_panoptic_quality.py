"""Panoptic quality against its definition, written out pixel by pixel, and against torchmetrics."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.evaluation import panoptic_quality
from xdecoder_rt.evaluation.panoptic_quality import PanopticQuality

VOCABULARY = ("mug", "screw", "table", "wall")
STUFF = frozenset({"table", "wall"})
THINGS = [0, 1]


@dataclass
class Labels:
    """A map with the class of each id, and the ids that are crowds."""

    ids: np.ndarray
    classes: dict[int, int]
    crowds: frozenset[int] = field(default_factory=frozenset)


@st.composite
def labels(draw: st.DrawFn, base: Labels, *, void: bool, crowds: bool) -> Labels:
    """Rectangles over a base; at most one segment of a stuff class or a class's crowd."""
    ids = base.ids.copy()
    if not void:
        ids[ids == 0] = 20
    height, width = ids.shape
    for id_ in range(10, 10 + draw(st.integers(0, 5))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        bottom, right = draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width))
        value = 0 if void and draw(st.integers(0, 3)) == 3 else id_ + 10 * bool(base.classes)
        ids[top:bottom, left:right] = value
    present = [int(i) for i in np.unique(ids) if i]
    classes = {id_: base.classes.get(id_, draw(st.integers(0, 3))) for id_ in present}
    crowd_ids = {id_ for id_ in present if crowds and draw(st.integers(0, 3)) == 0}
    first: dict[tuple[int, bool], int] = {}
    for id_ in present:
        crowd = id_ in crowd_ids
        if not crowd and classes[id_] in THINGS:
            continue
        kept = first.setdefault((classes[id_], crowd), id_)
        if kept != id_:
            ids[ids == id_] = kept
            del classes[id_]
    return Labels(ids, classes, frozenset(crowd_ids & classes.keys()))


@st.composite
def pairs(
    draw: st.DrawFn, *, predicted_void: bool = True, crowds: bool = True
) -> list[tuple[Labels, Labels]]:
    """A few images' true and predicted labels; half of the predictions start from the truth."""
    images = []
    for _ in range(draw(st.integers(1, 3))):
        empty = Labels(np.zeros((draw(st.integers(1, 9)), draw(st.integers(1, 9))), np.int32), {})
        truth = draw(labels(empty, void=True, crowds=crowds))
        base = truth if draw(st.booleans()) else empty
        images.append((truth, draw(labels(base, void=predicted_void, crowds=False))))
    return images


def by_definition(images: list[tuple[Labels, Labels]]) -> dict[str, tuple[float, int, int, int]]:
    """Sum of IoU, TP, FP and FN of each class: the paper and panopticapi, in sets of pixels."""
    counts: dict[str, tuple[float, int, int, int]] = {}

    def count(class_: int, iou: float = 0.0, tp: int = 0, fp: int = 0, fn: int = 0) -> None:
        old = counts.get(VOCABULARY[class_], (0.0, 0, 0, 0))
        counts[VOCABULARY[class_]] = (old[0] + iou, old[1] + tp, old[2] + fp, old[3] + fn)

    def pixels(ids: np.ndarray, id_: int) -> set[tuple[int, ...]]:
        return {tuple(p) for p in np.argwhere(ids == id_).tolist()}

    for truth, prediction in images:
        void = pixels(truth.ids, 0)
        matched_truth, matched_prediction = set(), set()
        for true_id, true_class in truth.classes.items():
            for predicted_id, predicted_class in prediction.classes.items():
                if true_id in truth.crowds or true_class != predicted_class:
                    continue
                true = pixels(truth.ids, true_id)
                predicted = pixels(prediction.ids, predicted_id) - void
                iou = len(true & predicted) / len(true | predicted)
                if iou > 0.5:
                    count(true_class, iou=iou, tp=1)
                    matched_truth.add(true_id)
                    matched_prediction.add(predicted_id)
        for true_id, true_class in truth.classes.items():
            if true_id not in matched_truth and true_id not in truth.crowds:
                count(true_class, fn=1)
        for predicted_id, predicted_class in prediction.classes.items():
            if predicted_id in matched_prediction:
                continue
            ignored = set(void)
            for crowd in truth.crowds:
                if truth.classes[crowd] == predicted_class:
                    ignored |= pixels(truth.ids, crowd)
            predicted = pixels(prediction.ids, predicted_id)
            if len(predicted & ignored) / len(predicted) <= 0.5:
                count(predicted_class, fp=1)
    return counts


def accumulate(images: list[tuple[Labels, Labels]]) -> PanopticQuality:
    metric = PanopticQuality(VOCABULARY, STUFF)
    for truth, prediction in images:
        metric.update(
            truth.ids, truth.classes, prediction.ids, prediction.classes, crowds=truth.crowds
        )
    return metric


@settings(max_examples=300, deadline=None)
@given(pairs())
def test_it_is_the_definition(images: list[tuple[Labels, Labels]]) -> None:
    expected = by_definition(images)
    metric = accumulate(images)
    if not expected:
        with pytest.raises(ArgumentError, match="no segment to score"):
            metric.compute()
        return
    scores = metric.compute()
    assert scores.per_class.keys() == expected.keys()
    for label, (iou, tp, fp, fn) in expected.items():
        found = scores.per_class[label]
        assert (found.tp, found.fp, found.fn) == (tp, fp, fn)
        assert found.pq == pytest.approx(100 * iou / (tp + fp / 2 + fn / 2))
        assert found.sq == pytest.approx(100 * iou / tp if tp else 0.0)
        assert found.rq == pytest.approx(100 * tp / (tp + fp / 2 + fn / 2))
        assert found.isthing == (label not in STUFF)
    for name in ("pq", "sq", "rq"):
        mean = np.mean([getattr(c, name) for c in scores.per_class.values()])
        assert getattr(scores, name) == pytest.approx(mean)


@settings(max_examples=60, deadline=None)
@given(pairs(predicted_void=False, crowds=False))
def test_torchmetrics_agrees_when_the_prediction_has_no_void(
    images: list[tuple[Labels, Labels]],
) -> None:
    # torchmetrics treats void in the prediction like void in the truth: it leaves such pixels out
    # of the union and forgives a missed segment that lies mostly on them. panopticapi does not,
    # and neither do we; and torchmetrics knows no crowds. The rest is the same.
    torch = pytest.importorskip("torch", reason="lacks torch")
    detection = pytest.importorskip(
        "torchmetrics.detection", reason="lacks torchmetrics (and its lightning-utilities)"
    )
    images = [(truth, prediction) for truth, prediction in images if truth.classes]
    if not by_definition(images):
        return
    void_class = len(VOCABULARY)
    metric = detection.PanopticQuality(
        things={0, 1}, stuffs={2, 3}, return_sq_and_rq=True, return_per_class=False
    )

    def pixels(side: Labels) -> object:
        classes = np.vectorize(lambda i: side.classes.get(i, void_class))(side.ids)
        return torch.from_numpy(np.stack([classes, side.ids], axis=-1)[None].astype(np.int64))

    for truth, prediction in images:
        metric.update(pixels(prediction), pixels(truth))
    expected = [100 * float(score) for score in metric.compute()]
    scores = accumulate(images).compute()
    assert [scores.pq, scores.sq, scores.rq] == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(pairs(), st.data())
def test_accumulators_merge(images: list[tuple[Labels, Labels]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(images)))
    merged = accumulate(images[:cut])
    merged.merge(accumulate(images[cut:]))
    if by_definition(images):
        whole, parts = accumulate(images).compute(), merged.compute()
        assert parts.pq == pytest.approx(whole.pq)
        assert {k: (c.tp, c.fp, c.fn) for k, c in parts.per_class.items()} == {
            k: (c.tp, c.fp, c.fn) for k, c in whole.per_class.items()
        }


@settings(max_examples=50, deadline=None)
@given(pairs(), st.integers(1, 2**24 - 20))
def test_only_the_partition_matters_and_not_the_ids(
    images: list[tuple[Labels, Labels]], shift: int
) -> None:
    def renamed(side: Labels) -> Labels:
        ids = np.where(side.ids == 0, 0, side.ids + shift)
        classes = {i + shift: c for i, c in side.classes.items()}
        return Labels(ids, classes, frozenset(i + shift for i in side.crowds))

    if by_definition(images):
        assert (
            accumulate(images).compute()
            == accumulate(
                [(renamed(truth), renamed(prediction)) for truth, prediction in images]
            ).compute()
        )


def _score(
    truth: list[int], truth_classes: Mapping[int, int], pred: list[int], classes: Mapping[int, int]
) -> dict[str, tuple[int, int, int]]:
    metric = PanopticQuality(VOCABULARY, STUFF)
    metric.update(np.array([truth]), truth_classes, np.array([pred]), classes)
    return {k: (c.tp, c.fp, c.fn) for k, c in metric.compute().per_class.items()}


def test_an_iou_of_one_half_is_no_match() -> None:
    assert _score([1, 1, 2, 2], {1: 0, 2: 1}, [1, 1, 1, 1], {1: 0}) == {
        "mug": (0, 1, 1),
        "screw": (0, 0, 1),
    }


def test_void_under_a_prediction_is_left_out_of_the_union() -> None:
    assert _score([1, 1, 0, 0], {1: 0}, [1, 1, 1, 1], {1: 0}) == {"mug": (1, 0, 0)}


def test_void_in_the_prediction_is_not() -> None:
    assert _score([1, 1, 1, 1], {1: 0}, [1, 0, 0, 0], {1: 0}) == {"mug": (0, 1, 1)}


def test_a_prediction_is_ignored_if_more_than_half_is_void() -> None:
    more, half = [0, 0, 0, 1], [0, 0, 1, 1]
    assert _score(more, {1: 0}, [1, 1, 1, 1], {1: 1}) == {"mug": (0, 0, 1)}
    assert _score(half, {1: 0}, [1, 1, 1, 1], {1: 1}) == {"mug": (0, 0, 1), "screw": (0, 1, 0)}


def test_a_stuff_class_is_one_segment() -> None:
    divided = [1, 1, 2, 2]
    assert _score(divided, {1: 2, 2: 2}, [5, 6, 6, 6], {5: 2, 6: 2}) == {"table": (1, 0, 0)}
    assert _score(divided, {1: 0, 2: 0}, [5, 6, 6, 6], {5: 0, 6: 0})["mug"] == (1, 1, 1)


def test_a_crowd_is_neither_missed_nor_matched_and_forgives_its_class() -> None:
    metric = PanopticQuality(VOCABULARY, STUFF)
    truth = np.array([[1, 1, 1, 2]])
    metric.update(truth, {1: 0, 2: 1}, np.array([[7, 7, 8, 9]]), {7: 0, 8: 1, 9: 1}, crowds=[1])
    scores = metric.compute()
    assert list(scores.per_class) == ["screw"]
    assert (scores.per_class["screw"].tp, scores.per_class["screw"].fp) == (1, 1)


@pytest.mark.parametrize(
    ("truth", "classes", "message"),
    [
        ([[1, 2]], {1: 0}, r"true map has ids without a class: \[2\]"),
        ([[1, -2]], {1: 0}, r"without a class: \[-2\]"),
        ([[1, 1]], {1: 0, 2: 0}, r"no pixel of the segments \[2\]"),
        ([[1, 1]], {1: 4}, "segment 1 has the class 4. Expected 0 to 3"),
        ([[1], [1]], {1: 0}, r"\(2, 1\) and the predicted one \(1, 2\)"),
    ],
)
def test_maps_that_contradict_their_segments_are_refused(
    truth: list[list[int]], classes: dict[int, int], message: str
) -> None:
    metric = PanopticQuality(VOCABULARY, STUFF)
    with pytest.raises(ArgumentError, match=message):
        metric.update(np.array(truth), classes, np.array([[1, 1]]), {1: 0})


@settings(deadline=None, max_examples=50)
@given(pairs())
def test_bands_of_any_height_count_what_the_whole_map_counts(
    images: list[tuple[Labels, Labels]],
) -> None:
    counts = []
    for pixels in (1, 20, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(panoptic_quality, "_BAND_PIXELS", pixels)
            counts.append(vars(accumulate(images)))
    for other in counts[1:]:
        for name, value in counts[0].items():
            np.testing.assert_array_equal(other[name], value)


def test_a_large_map_takes_no_memory_of_its_size() -> None:
    ids = np.repeat(np.arange(4_000, dtype=np.int32) // 1_000, 2_000).reshape(4_000, 2_000)
    quality = PanopticQuality(VOCABULARY, STUFF)
    tracemalloc.start()
    quality.update(ids, {1: 0, 2: 2, 3: 3}, ids, {1: 0, 2: 2, 3: 3})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert quality.compute().pq == 100
    assert peak < 80 << 20, f"{peak >> 20} MiB for {ids.size / 1e6:.0f} million pixels"


def test_accumulators_of_other_classes_do_not_merge() -> None:
    with pytest.raises(ArgumentError, match="same classes"):
        PanopticQuality(VOCABULARY).merge(PanopticQuality(VOCABULARY, STUFF))


@given(pairs())
@settings(max_examples=50, deadline=None)
def test_pixels_of_nothing_count_as_those_of_a_class_that_is_never_predicted(
    images: list[tuple[Labels, Labels]],
) -> None:
    declared = PanopticQuality(VOCABULARY, STUFF)
    labelled = PanopticQuality((*VOCABULARY, "rest"), STUFF | {"rest"})
    for truth, prediction in images:
        arguments = (prediction.ids, prediction.classes)
        ids = truth.ids.astype(np.int64)
        nothing = np.where(ids == 0, -1, ids)
        declared.update(nothing, truth.classes, *arguments, crowds=truth.crowds)
        rest = dict.fromkeys([1 << 20] if (ids == 0).any() else [], len(VOCABULARY))
        labelled.update(
            np.where(ids == 0, 1 << 20, ids),
            {**truth.classes, **rest},
            *arguments,
            crowds=truth.crowds,
        )
    try:
        expected = labelled.compute().per_class
    except ArgumentError:
        expected = {}
    expected.pop("rest", None)
    if expected:
        assert declared.compute().per_class == expected
    assert declared.unscored().pixels == 0


def test_a_prediction_has_no_pixels_of_nothing() -> None:
    ids = np.array([[1, -1]])
    with pytest.raises(ArgumentError, match=r"predicted map has ids without a class: \[-1\]"):
        PanopticQuality(VOCABULARY).update(np.ones((1, 2), int), {1: 0}, ids, {1: 0})
