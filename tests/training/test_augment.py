"""Augmentation keeps image and labels together, and follows from its generator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cv2", reason="augmentation needs opencv-python-headless")

from xdecoder_rt.training.augment import augment, jitter_colour, random_view, whole_view


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
    seen, labels = view.of_image(image), view.of_ids(ids)
    assert seen.shape[:2] == labels.shape == view.size
    assert max(view.size) <= size
    border = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for shift in (-2, -1, 1, 2):
            border |= np.roll(labels, shift, axis) != labels
    assert np.abs(seen[..., 0].astype(int) - labels)[~border].max(initial=0) <= 1


def test_the_same_generator_gives_the_same_view_and_colours() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (50, 80, 3), dtype=np.uint8)
    ids = rng.integers(0, 3, (50, 80), dtype=np.uint8)
    first = augment(image, ids, 64, np.random.default_rng(5))
    second = augment(image, ids, 64, np.random.default_rng(5))
    other = augment(image, ids, 64, np.random.default_rng(6))
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
