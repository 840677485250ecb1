"""Masks to be predicted, of segments or of phrases: matching, and losses on points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xdecoder_rt.training.losses import OVERSAMPLE, mask_losses, random_points
from xdecoder_rt.training.matching import CostWeights, assign, mask_costs
from xdecoder_rt.training.points import uncertain_points


@dataclass
class TargetMasks:
    """Masks of a batch, seen at points.

    Attributes:
        features: ``[B, P, C]`` mask features at the points.
        targets: ``[B, N, P]`` 0 or 1.
        weights: ``[B, P]``, 0 for points that do not count.
        counts: number of masks of each image, at most N.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor
    counts: list[int]

    @torch.no_grad()
    def match(
        self, embedding: Tensor, other_costs: Tensor, costs: CostWeights, points: int
    ) -> Tensor:
        """Return the query of each mask in each layer.

        Args:
            embedding: ``[L, B, Q, C]`` mask embeddings.
            other_costs: ``[L, B, Q, N]``, added to the masks' costs.
            costs: weights of the terms.
            points: how many points are looked at.

        Returns:
            ``[L, B, N]`` int64 on the embeddings' device, -1 for none.
        """
        count, batch, queries, _ = embedding.shape
        # Any prefix of the points is a fair sample.
        used = slice(points)
        logits = embedding.transpose(0, 1).flatten(1, 2) @ self.features[:, used].transpose(1, 2)
        cost = mask_costs(logits, self.targets[..., used], self.weights[:, used], costs)
        cost = cost.view(batch, count, queries, cost.shape[-1]).transpose(0, 1)
        return assign(cost + other_costs, self.counts).to(embedding.device)

    def losses(
        self, embedding: Tensor, assigned: Tensor, points: int, num_targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mask and dice loss of the matched queries.

        Args:
            embedding: ``[L, B, Q, C]`` mask embeddings.
            assigned: ``[L, B, N]`` int64, -1 for none.
            points: points a mask's losses are taken on.
            num_targets: scalar, by which each layer's sum is divided.

        Returns:
            Two scalars, means of the layers.
        """
        layers = assigned.shape[0]
        index = assigned.clamp(min=0)[..., None].expand(-1, -1, -1, embedding.shape[-1])
        matched = embedding.gather(2, index).transpose(0, 1)  # [B, L, N, C]
        logits = matched.flatten(1, 2) @ self.features.transpose(1, 2)
        logits = logits.view(*matched.shape[:3], logits.shape[-1])  # [B, L, N, P]
        usable = (self.weights > 0)[:, None, None]
        # Three quarters of a target's points are its least decided candidates, the rest are the
        # points after the candidates, which are as good as random.
        extra = random_points(points)
        last = OVERSAMPLE * points
        uncertain = uncertain_points(logits[..., :last], usable[..., :last], points - extra)

        def at_points(values: Tensor) -> Tensor:
            values = values.expand_as(logits)
            drawn = values[..., last : last + extra]
            return torch.cat((values.gather(3, uncertain), drawn), dim=3).flatten(0, 2)

        return mask_losses(
            at_points(logits),
            at_points(self.targets[:, None]),
            at_points(usable.float()),
            (assigned >= 0).transpose(0, 1).flatten().float(),
            layers * num_targets,
        )
