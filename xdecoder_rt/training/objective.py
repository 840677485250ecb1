"""The whole training objective as one module: batch in, named losses out.

One module so that gradients of every parameter it uses meet in one backward pass, which is what
DistributedDataParallel synchronises. A further task adds a loss here and a weight in
:class:`~xdecoder_rt.training.config.LossWeights`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdecoder_rt.models import Prediction, XDecoder
from xdecoder_rt.training.config import LossWeights
from xdecoder_rt.training.dataset import Batch
from xdecoder_rt.training.distributed import mean_over_processes
from xdecoder_rt.training.losses import (
    OVERSAMPLE,
    class_loss,
    image_loss,
    mask_losses,
    random_points,
)
from xdecoder_rt.training.matching import CostWeights, assign, class_costs, mask_costs
from xdecoder_rt.training.points import sample_features, uncertain_points


@dataclass(frozen=True)
class ObjectiveSettings:
    """Numbers that the objective needs.

    Attributes:
        losses: weights of the losses.
        costs: weights of the matching costs.
        points: points a target's mask losses are taken on.
        matching_points: points the matching looks at.
        bf16: whether the network runs in bfloat16 autocast; losses stay in float32.
    """

    losses: LossWeights = LossWeights()
    costs: CostWeights = CostWeights()
    points: int = 768
    matching_points: int = 1024
    bf16: bool = False


@dataclass
class _Layers:
    """Predictions of all layers, stacked.

    Attributes:
        mask_embedding: ``[L, B, Q, C]``, object queries only.
        class_logits: ``[L, B, Q, K + 1]``, object queries only.
        image_logits: ``[L, B, K + 1]``, the class token's.
    """

    mask_embedding: Tensor
    class_logits: Tensor
    image_logits: Tensor


class Objective(nn.Module):
    """Runs the model and takes every loss of it.

    Args:
        model: the network to train.
        settings: weights and numbers of points.
    """

    def __init__(self, model: XDecoder, settings: ObjectiveSettings) -> None:
        super().__init__()
        self.model = model
        self.settings = settings

    def forward(self, batch: Batch, token_ids: Tensor, class_ids: Tensor) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            batch: images and targets on the model's device.
            token_ids: ``[K + 1, L]`` int64, the batch's vocabulary, void last.
            class_ids: ``[B, N]`` int64 vocabulary index of each target, -1 for none.

        Returns:
            Unweighted scalars ``classification``, ``mask``, ``dice`` and ``image``, each its
            layers' mean, and ``total``, their weighted sum times the number of layers.
        """
        config = self.model.config
        images = batch.normalised_images(config.pixel_mean, config.pixel_std)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.settings.bf16):
            text = self.model.encode_text(token_ids)
            prediction = self.model(images)
        with torch.autocast(images.device.type, enabled=False):
            losses = self.losses(prediction, text.float(), batch, class_ids)
        weights = self.settings.losses
        losses["total"] = len(prediction.layers) * (
            weights.classification * losses["classification"]
            + weights.mask * losses["mask"]
            + weights.dice * losses["dice"]
            + weights.image * losses["image"]
        )
        return losses

    def losses(
        self, prediction: Prediction, text: Tensor, batch: Batch, class_ids: Tensor
    ) -> dict[str, Tensor]:
        """Losses of a prediction; see :meth:`forward`.

        Args:
            prediction: the model's output.
            text: ``[K + 1, D]`` float32, unnormalised.
            batch: targets.
            class_ids: ``[B, N]`` int64.
        """
        weights = self.settings.losses
        layers = self._stack(prediction, F.normalize(text, dim=-1))
        features = sample_features(prediction.mask_features.float(), batch.points)
        targets = batch.point_targets()
        counts = [len(names) for names in batch.labels]
        assigned = self._match(layers, features, targets, batch.point_weights, class_ids, counts)
        assigned = assigned.to(text.device)
        num_targets = mean_over_processes(
            torch.tensor(float(sum(counts)), device=text.device)
        ).clamp(min=1)
        mask, dice = self._mask_losses(
            layers.mask_embedding, features, targets, batch.point_weights, assigned, num_targets
        )
        return {
            "classification": class_loss(layers.class_logits, class_ids, assigned, weights.void),
            "mask": mask,
            "dice": dice,
            "image": image_loss(layers.image_logits[..., :-1], class_ids),
        }

    def _stack(self, prediction: Prediction, table: Tensor) -> _Layers:
        mask = torch.stack([layer.mask_embedding for layer in prediction.layers]).float()
        embedding = torch.stack([layer.class_embedding for layer in prediction.layers]).float()
        # [L, B, ...] are one batch of predictions for the product with the table.
        logits = self.model.class_logits(embedding.flatten(0, 1), table)
        logits = logits.view(*embedding.shape[:3], logits.shape[-1])
        objects = mask.shape[2]
        if not self.model.config.decoder.class_token_is_mask:
            objects -= 1
        return _Layers(mask[:, :, :objects], logits[:, :, :objects], logits[:, :, -1])

    @torch.no_grad()
    def _match(
        self,
        layers: _Layers,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        class_ids: Tensor,
        counts: list[int],
    ) -> Tensor:
        """Query of each target in each layer, ``[L, B, N]`` on the CPU."""
        count, batch, queries, _ = layers.mask_embedding.shape
        # Any prefix of the points is a fair sample.
        used = slice(self.settings.matching_points)
        embedding = layers.mask_embedding.transpose(0, 1).flatten(1, 2)
        logits = embedding @ features[:, used].transpose(1, 2)
        cost = mask_costs(logits, targets[..., used], weights[:, used], self.settings.costs)
        cost = cost.view(batch, count, queries, cost.shape[-1]).transpose(0, 1)
        classes = class_costs(layers.class_logits.flatten(0, 1), class_ids.repeat(count, 1))
        cost = cost + self.settings.costs.classification * classes.view(cost.shape)
        return assign(cost, counts)

    def _mask_losses(
        self,
        embedding: Tensor,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        assigned: Tensor,
        num_targets: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Mask and dice loss of the matched queries of all layers."""
        layers = assigned.shape[0]
        index = assigned.clamp(min=0)[..., None].expand(-1, -1, -1, embedding.shape[-1])
        matched = embedding.gather(2, index).transpose(0, 1)  # [B, L, N, C]
        logits = matched.flatten(1, 2) @ features.transpose(1, 2)
        logits = logits.view(*matched.shape[:3], logits.shape[-1])  # [B, L, N, P]
        usable = (weights > 0)[:, None, None]
        # Three quarters of a target's points are its least decided candidates, the rest are the
        # points after the candidates, which are as good as random.
        points = self.settings.points
        extra = random_points(points)
        last = OVERSAMPLE * points
        chosen = uncertain_points(logits[..., :last], usable[..., :last], points - extra)

        def at_points(values: Tensor) -> Tensor:
            values = values.expand_as(logits)
            drawn = values[..., last : last + extra]
            return torch.cat((values.gather(3, chosen), drawn), dim=3).flatten(0, 2)

        return mask_losses(
            at_points(logits),
            at_points(targets[:, None]),
            at_points(usable.float()),
            (assigned >= 0).transpose(0, 1).flatten().float(),
            layers * num_targets,
        )
