"""Sampling commutes with the product, and focused points estimate without bias."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from xdecoder_rt.training.points import focused_points, sample_features, uncertain_points


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.booleans(), st.integers(0, 2**31)
)
def test_samples_are_those_of_grid_sample(
    batch: int, height: int, width: int, channels_last: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, 5, height, width, generator=generator)
    if channels_last:
        features = features.contiguous(memory_format=torch.channels_last)
    points = torch.rand(batch, 11, 2, generator=generator)
    points[:, :2] = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    wanted = F.grid_sample(
        features, (2 * points - 1)[:, :, None], padding_mode="border", align_corners=False
    )
    torch.testing.assert_close(
        sample_features(features, points), wanted[..., 0].transpose(1, 2), rtol=1e-5, atol=1e-5
    )


def test_gradients_are_those_of_grid_sample() -> None:
    torch.manual_seed(0)
    points = torch.rand(2, 40, 2)
    upstream = torch.randn(2, 40, 5)
    ours, theirs = (torch.randn(2, 5, 6, 8).requires_grad_() for _ in range(2))
    theirs.data = ours.data.clone()
    sample_features(ours, points).backward(upstream)
    grid = (2 * points - 1)[:, :, None]
    sampled = F.grid_sample(theirs, grid, padding_mode="border", align_corners=False)
    sampled[..., 0].transpose(1, 2).backward(upstream)
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_the_product_of_samples_is_the_sample_of_the_product() -> None:
    torch.manual_seed(0)
    embedding, features = torch.randn(2, 7, 16), torch.randn(2, 16, 10, 12)
    points = torch.rand(2, 50, 2)
    full = torch.einsum("bqc,bchw->bqhw", embedding, features)
    grid = (2 * points - 1)[:, :, None]
    wanted = F.grid_sample(full, grid, padding_mode="border", align_corners=False)[..., 0]
    ours = embedding @ sample_features(features, points).transpose(1, 2)
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


boxes = st.lists(
    st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(1, 10), st.integers(1, 10)),
    max_size=5,
).map(
    lambda found: np.array([(x, y, x + w, y + h) for x, y, w, h in found], np.float32).reshape(
        -1, 4
    )
)


@settings(max_examples=50, deadline=None)
@given(boxes, st.integers(0, 2**32 - 1))
def test_points_lie_in_the_square_with_bounded_weights(boxes: np.ndarray, seed: int) -> None:
    points, weights = focused_points(boxes, 100, 200, np.random.default_rng(seed))
    assert points.dtype == weights.dtype == np.float32
    assert (points >= 0).all()
    assert (points < 100).all()
    assert (weights > 0).all()
    assert (weights <= 2.001).all()


@settings(max_examples=20, deadline=None)
@given(boxes, st.integers(0, 2**32 - 1))
def test_weighted_means_estimate_means_over_the_square(boxes: np.ndarray, seed: int) -> None:
    points, weights = focused_points(boxes, 100, 40_000, np.random.default_rng(seed))
    assert weights.mean() == pytest.approx(1, abs=0.05)
    left = points[:, 0] < 30
    assert (weights * left).mean() == pytest.approx(0.3, abs=0.03)
    for x0, y0, x1, y1 in boxes:
        inside = ((points >= (x0, y0)) & (points < (x1, y1))).all(axis=1)
        area = (x1 - x0) * (y1 - y0) / 100**2
        assert (weights * inside).mean() == pytest.approx(area, rel=0.35, abs=0.0005)


def test_small_targets_are_not_missed() -> None:
    box = np.array([[50, 50, 54, 54]], np.float32)
    points, _ = focused_points(box, 320, 1000, np.random.default_rng(0))
    inside = ((points >= 50) & (points < 54)).all(axis=1)
    assert inside.sum() > 30  # evenly spread, a fifth of a point


def test_the_least_decided_usable_points_are_taken() -> None:
    logits = torch.tensor([[5.0, -0.1, 0.2, -7.0, 0.0, 1.0]])
    usable = torch.tensor([True, True, True, True, False, True])
    chosen = uncertain_points(logits, usable, 3)
    assert sorted(chosen[0].tolist()) == [1, 2, 5]
    assert 4 not in uncertain_points(logits, usable, 5)[0].tolist()
