"""What a second model loses on the same images, with its interval."""

from __future__ import annotations

import numpy as np
import pytest

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.evaluation.paired import panoptic_loss
from xdecoder_rt.evaluation.panoptic_quality import PanopticQuality

VOCABULARY = ("mug", "screw", "table")


def image(rng: np.random.Generator, misses: float) -> PanopticQuality:
    """Three segments, of which some are predicted as something else."""
    truth = np.repeat(np.array([[1, 2, 3]], np.int32), 4, axis=0).repeat(4, axis=1)
    classes = {1: 0, 2: 1, 3: 2}
    predicted = {id_: (c + (rng.random() < misses)) % 3 for id_, c in classes.items()}
    counts = PanopticQuality(VOCABULARY)
    counts.update(truth, classes, truth, predicted)
    return counts


def images(seed: int, misses: float, count: int = 60) -> list[PanopticQuality]:
    rng = np.random.default_rng(seed)
    return [image(rng, misses) for _ in range(count)]


def whole(counts: list[PanopticQuality]) -> float:
    together = PanopticQuality(VOCABULARY)
    for one in counts:
        together.merge(one)
    return together.compute().pq


def test_both_qualities_are_those_of_all_images_together() -> None:
    before, after = images(0, 0.1), images(1, 0.3)
    found = panoptic_loss(before, after)
    assert found.before == pytest.approx(whole(before))
    assert found.after == pytest.approx(whole(after))
    assert found.loss == pytest.approx(whole(before) - whole(after))
    assert found.images == 60
    assert 0 < found.low < found.loss < found.high


def test_the_same_answers_lose_nothing_for_certain() -> None:
    before = images(0, 0.2)
    found = panoptic_loss(before, before)
    assert (found.loss, found.low, found.high) == (0.0, 0.0, 0.0)


def test_more_images_make_the_interval_narrower() -> None:
    few = panoptic_loss(images(0, 0.2, 20), images(1, 0.2, 20))
    many = panoptic_loss(images(0, 0.2, 500), images(1, 0.2, 500))
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    losses = [
        panoptic_loss(images(2 * seed, 0.2, 30), images(2 * seed + 1, 0.2, 30), seed)
        for seed in range(100)
    ]
    held = sum(found.low <= 0.0 <= found.high for found in losses)
    assert 88 <= held <= 99


def test_a_class_that_is_nowhere_is_no_class() -> None:
    counts = PanopticQuality((*VOCABULARY, "wall"))
    counts.update(np.ones((2, 2), np.int32), {1: 0}, np.ones((2, 2), np.int32), {1: 0})
    assert panoptic_loss([counts], [counts]).before == 100.0


@pytest.mark.parametrize("counts", [(0, 0), (2, 3)])
def test_other_images_are_refused(counts: tuple[int, int]) -> None:
    before, after = (images(0, 0.1, count) for count in counts)
    with pytest.raises(ArgumentError, match="images are compared with"):
        panoptic_loss(before, after)
