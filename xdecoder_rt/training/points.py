"""Points instead of whole masks: where to look, and what the mask features are there.

A mask logit is a product of a mask embedding and a mask feature, and bilinear sampling is linear
in the features: sampling the features and taking the product gives exactly the sampled logits, so
the logits of all queries on all pixels are never formed (PointRend's sampling, as in Mask2Former,
with the order of the two linear steps exchanged).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

FOCUS = 0.5
"""Share of the points drawn around targets; the rest are spread over the square."""
MARGIN = 0.25
"""How far beyond its box a target's points reach, as a share of the box's side."""
MIN_MARGIN = 4.0
"""Least margin in pixels."""


def focused_points(
    boxes: NDArray[np.float32],
    size: int,
    count: int,
    rng: np.random.Generator,
    focus: float = FOCUS,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Random points of a square, half of them around targets, with weights that undo the bias.

    Evenly spread points miss small objects: sixteen pixels of a 320-pixel square get one of six
    thousand. So a share `focus` of the points falls evenly into the targets' enlarged boxes, every
    target drawn equally often. The density has no step at an object's outline, only at box edges,
    so inside and outside of an outline stay comparable even where no weights are used.

    Args:
        boxes: ``[N, 4]`` left, top, right, bottom in pixels; N may be 0.
        size: side of the square in pixels.
        count: number of points P.
        rng: source of randomness.
        focus: share of the points around targets.

    Returns:
        ``[P, 2]`` x, y in pixels, within ``[0, size)``, and ``[P]`` weights: one over the density
        relative to even spreading, so that a weighted mean over the points estimates the mean over
        the square. Any prefix of the points is such a sample too.
    """
    unit = rng.random((count, 2), dtype=np.float32)
    if not len(boxes):
        return _below(unit * size, size), np.ones(count, dtype=np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    margin = np.maximum(MARGIN * sides, MIN_MARGIN)
    low = np.maximum(boxes[:, :2] - margin, 0)
    high = np.minimum(boxes[:, 2:] + margin, size)
    area = (high - low).prod(axis=1)
    box_indices = rng.integers(len(boxes), size=count)
    focused = rng.random(count) < focus
    points = np.where(
        focused[:, None], low[box_indices] + unit * (high - low)[box_indices], unit * size
    ).astype(np.float32)
    points = _below(points, size)
    inside = np.logical_and(points[:, None] >= low, points[:, None] < high).all(axis=2)
    around = inside @ (size * size / area) / len(boxes)
    density = (1 - focus) + focus * around
    return points, (1 / density).astype(np.float32)


def _below(points: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Keep rounding from putting a point on the far edge."""
    return np.minimum(points, np.nextafter(np.float32(size), np.float32(0)))


def sample_features(features: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples of a feature map.

    Equal to ``grid_sample(align_corners=False, padding_mode="border")``, written as a weighted sum
    of four rows: with channels last, a point's channels are one run of memory, which is four times
    as fast forward and backward on a CPU.

    Args:
        features: ``[B, C, h, w]``, fastest in channels-last memory.
        points: ``[B, P, 2]`` x, y as shares of width and height, 0 to 1.

    Returns:
        ``[B, P, C]``.
    """
    batch, channels, height, width = features.shape
    x = (points[..., 0] * width - 0.5).clamp(0, width - 1)
    y = (points[..., 1] * height - 0.5).clamp(0, height - 1)
    # The last cell starts one before the last sample, so that both its corners exist.
    left = x.floor().clamp(max=max(width - 2, 0))
    top = y.floor().clamp(max=max(height - 2, 0))
    right_share, bottom_share = x - left, y - top
    corner = (top * width + left).long()
    corner = corner + torch.arange(batch, device=points.device)[:, None] * (height * width)
    step_x, step_y = min(1, width - 1), min(1, height - 1) * width
    corners = torch.stack(
        (corner, corner + step_x, corner + step_y, corner + step_y + step_x), dim=-1
    )
    shares = torch.stack(
        (
            (1 - bottom_share) * (1 - right_share),
            (1 - bottom_share) * right_share,
            bottom_share * (1 - right_share),
            bottom_share * right_share,
        ),
        dim=-1,
    )
    rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
    sampled = F.embedding_bag(
        corners.view(-1, 4),
        rows,
        per_sample_weights=shares.view(-1, 4).to(rows.dtype),
        mode="sum",
    )
    return sampled.view(batch, -1, channels)


def uncertain_points(logits: Tensor, usable: Tensor, count: int) -> Tensor:
    """Return the points on which each mask is least decided (PointRend's importance sampling).

    Args:
        logits: ``[..., P]`` mask logits.
        usable: broadcastable to it, bool; a point that is not usable is taken last.
        count: how many, at most P.

    Returns:
        ``[..., count]`` int64 indices, in no order.
    """
    undecided = logits.detach().abs().masked_fill(~usable, float("inf"))
    return undecided.topk(count, dim=-1, largest=False, sorted=False).indices
