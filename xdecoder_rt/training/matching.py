"""Hungarian matching of queries to targets, for all layers and images at once.

Costs as in Mask2Former and X-Decoder (class 2, mask 5, dice 5), estimated on points that all
queries of an image share. One batched computation on the device, one copy to the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.errors import require

UNMATCHED = -1


@dataclass(frozen=True)
class CostWeights:
    """How much each term of the matching cost counts.

    Attributes:
        classification: times minus the probability of the target's name.
        mask: times the binary cross-entropy on points.
        dice: times the dice loss on points.
    """

    classification: float = 2.0
    mask: float = 5.0
    dice: float = 5.0


def mask_costs(logits: Tensor, targets: Tensor, weights: Tensor, costs: CostWeights) -> Tensor:
    """Mask and dice cost of every query for every target.

    Args:
        logits: ``[B, Q, P]`` mask logits at points; Q may run over layers and queries.
        targets: ``[B, N, P]`` 0 or 1.
        weights: ``[B, P]``, 0 for points that do not count.
        costs: weights of the terms.

    Returns:
        ``[B, Q, N]``.
    """
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
    counted = (targets * weights[:, None]).transpose(1, 2)
    # Cross-entropy is softplus(x) - t x: the first term does not depend on the target.
    softplus = F.softplus(logits) @ weights[:, :, None]
    cross_entropy = softplus - logits @ counted
    probability = logits.sigmoid()
    overlap = probability @ counted
    # The usual +1 of dice is one point's worth of area.
    point_area = 1 / weights.shape[1]
    total = probability @ weights[:, :, None] + counted.sum(dim=1)[:, None]
    dice = 1 - (2 * overlap + point_area) / (total + point_area)
    return costs.mask * cross_entropy + costs.dice * dice


def class_costs(logits: Tensor, class_ids: Tensor) -> Tensor:
    """Minus the probability of each target's name, for every query.

    Args:
        logits: ``[B, Q, K + 1]``, the last column void.
        class_ids: ``[B, N]`` int64, -1 for no target.

    Returns:
        ``[B, Q, N]``.
    """
    index = class_ids.clamp(min=0)[:, None].expand(-1, logits.shape[1], -1)
    return -logits.softmax(dim=-1).gather(2, index)


def assign(cost: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the assignment of least total cost, image by image and layer by layer.

    Args:
        cost: ``[L, B, Q, N]``.
        counts: number of targets of each image, at most N.

    Returns:
        ``[L, B, N]`` int64 on the CPU: the query of each target; `UNMATCHED` beyond an image's
        targets, and for the worst targets where an image has more targets than queries.
    """
    solve = require("scipy.optimize", "train").linear_sum_assignment
    layers, _, _, width = cost.shape
    # A diverged model must reach the trainer's check of the loss, not fail here.
    table = np.nan_to_num(cost.detach().cpu().numpy(), nan=1e9, posinf=1e9, neginf=-1e9)
    assigned = np.full((layers, len(counts), width), UNMATCHED, dtype=np.int64)
    for image, count in enumerate(counts):
        for layer in range(layers if count else 0):
            queries, targets = solve(table[layer, image, :, :count])
            assigned[layer, image, targets] = queries
    return torch.from_numpy(assigned)
