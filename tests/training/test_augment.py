"""Augmentation keeps image and labels together, and follows from its generator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cv2", reason="augmentation needs opencv-python-headless")

from xdecoder_rt.datasets.items import NOTHING
from xdecoder_rt.training.augment import (
    View,
    augmented,
    jitter_colour,
    random_view,
    truthful_view,
    whole_view,
)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(40, 90), st.integers(40, 130), st.sampled_from([32, 64]), st.integers(0, 2**32 - 1)
)
def test_image_and_ids_show_the_same_view(height: int, width: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Left and right, top and bottom differ, in large areas: only borders may be mixed.
    ids = np.zeros((height, width), np.uint8)
    ids[: height // 2, : width // 2] = 60
    ids[height // 2 :, width // 2 :] = 180
    image = np.repeat(ids[..., None], 3, axis=2)
    view = random_view(ids, size, rng)
    shown, labels = view.of_image(image), view.of_ids(ids)
    assert shown.shape[:2] == labels.shape == view.size
    assert max(view.size) <= size
    border = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for shift in (-2, -1, 1, 2):
            border |= np.roll(labels, shift, axis) != labels
    assert np.abs(shown[..., 0].astype(int) - labels)[~border].max(initial=0) <= 1


def test_the_same_generator_gives_the_same_view_and_colours() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (50, 80, 3), dtype=np.uint8)
    ids = rng.integers(0, 3, (50, 80), dtype=np.uint8)

    def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        return augmented(image, ids, random_view(ids, 64, rng), rng)

    first, second, other = drawn(5), drawn(5), drawn(6)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert first[0].shape != other[0].shape or not np.array_equal(first[0], other[0])


def test_scales_lie_in_their_range_and_both_flips_occur() -> None:
    ids = np.ones((480, 640), np.uint8)
    views = [random_view(ids, 320, np.random.default_rng(i)) for i in range(200)]
    scales = [view.size[1] / view.width * 640 / 320 for view in views]
    assert 0.74 < min(scales) < 0.8
    assert 1.4 < max(scales) < 1.52
    assert 60 < sum(view.flipped for view in views) < 140


def test_crops_look_for_labels() -> None:
    ids = np.zeros((640, 640), np.uint8)
    ids[:250, :250] = 1
    views = [random_view(ids, 320, np.random.default_rng(i)) for i in range(200)]
    hits = [ids[v.top : v.top + v.height, v.left : v.left + v.width].any() for v in views]
    assert np.mean(hits) > 0.95


def test_pixels_known_to_show_nothing_named_are_no_labels_to_look_for() -> None:
    ids = np.full((640, 640), NOTHING, np.int16)
    ids[:250, :250] = 1
    views = [random_view(ids, 320, np.random.default_rng(i)) for i in range(200)]
    hits = [(ids[v.top : v.top + v.height, v.left : v.left + v.width] > 0).any() for v in views]
    assert np.mean(hits) > 0.95


def boxes(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A map of up to four boxes, 1 to 4, on stuff, 9."""
    ids = np.full((height, width), 9)
    for number in range(1, 5):
        y, x = rng.integers(height), rng.integers(width)
        ids[y : y + rng.integers(1, height), x : x + rng.integers(1, width)] = number
    return ids


@settings(max_examples=100, deadline=None)
@given(st.integers(20, 120), st.integers(20, 120), st.integers(0, 2**32 - 1))
def test_a_truthful_view_keeps_things_whole_and_the_middle_in_the_middle(
    height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ids = boxes(height, width, rng)
    things = [number for number in range(1, 5) if (ids == number).any()]
    view = truthful_view(ids, things, 64, rng)
    part = ids[view.top : view.top + view.height, view.left : view.left + view.width]
    for number in things:
        assert (part == number).sum() == (ids == number).sum()
    assert set(np.unique(part)) == set(np.unique(ids))
    assert 2 * view.top + view.height == height
    assert 2 * view.left + view.width == width
    assert max(view.size) <= 64


def test_truthful_views_differ_in_scale_side_and_zoom() -> None:
    ids = np.full((100, 100), 9)
    ids[40:60, 40:60] = 1
    views = [truthful_view(ids, [1], 64, np.random.default_rng(i)) for i in range(100)]
    assert min(v.size[0] for v in views) < 52
    assert max(v.size[0] for v in views) > 60
    assert min(v.height for v in views) < 75
    assert 25 < sum(v.flipped for v in views) < 75


def test_without_things_a_truthful_view_is_the_whole_image() -> None:
    view = truthful_view(np.full((40, 60), 9), [], 64, np.random.default_rng(0))
    assert (view.top, view.left, view.height, view.width) == (0, 0, 40, 60)


def test_a_flipped_view_is_the_view_mirrored() -> None:
    rng = np.random.default_rng(0)
    image, ids = rng.integers(0, 256, (10, 20, 3), dtype=np.uint8), rng.integers(0, 9, (10, 20))
    plain, flipped = (View(2, 3, 8, 12, (4, 6), flipped=side) for side in (False, True))
    assert np.array_equal(flipped.of_image(image), plain.of_image(image)[:, ::-1])
    assert np.array_equal(flipped.of_ids(ids), plain.of_ids(ids)[:, ::-1])


def test_colour_words_stay_true() -> None:
    red = np.full((8, 8, 3), (220, 30, 30), np.uint8)
    for seed in range(50):
        r, g, b = jitter_colour(red, np.random.default_rng(seed))[0, 0].astype(int)
        assert r > g + 50
        assert r > b + 50


def test_the_whole_image_fits() -> None:
    view = whole_view((480, 640), 320)
    assert view.size == (240, 320)
    assert (view.height, view.width) == (480, 640)
    assert whole_view((1, 5000), 320).size == (1, 320)
