"""The whole training objective as one module: batch and texts in, named losses out.

One module so that gradients of every parameter it uses meet in one backward pass, which is what
DistributedDataParallel synchronises. All tasks share one pass over the images and one decode. An
image takes part in the tasks that it has labels or texts for. A further task adds a loss here and
a weight in :class:`~xdecoder_rt.training.config.LossWeights`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdecoder_rt.models import Prediction, XDecoder
from xdecoder_rt.training.config import LossWeights
from xdecoder_rt.training.dataset import Batch
from xdecoder_rt.training.distillation.lesson import distillation_loss
from xdecoder_rt.training.distributed import mean_over_processes
from xdecoder_rt.training.losses import class_loss, image_loss
from xdecoder_rt.training.mask_learning import TargetMasks
from xdecoder_rt.training.matching import CostWeights, class_costs
from xdecoder_rt.training.points import sample_features
from xdecoder_rt.training.step import Step
from xdecoder_rt.training.step_text import StepText
from xdecoder_rt.training.text_losses import (
    answer_loss,
    caption_loss,
    phrase_loss,
    retrieval_loss,
)


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
    """Predictions of all L layers, stacked.

    Attributes:
        mask: ``[L, B, R, C]`` mask embeddings of all rows.
        embedding: ``[L, B, R, D]`` class embeddings of all rows.
    """

    mask: Tensor
    embedding: Tensor


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

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Losses of one step.

        Args:
            step: images, targets and texts on the model's device.

        Returns:
            Unweighted scalars by the names of :data:`~xdecoder_rt.training.metrics.LOSSES`, each
            its layers' mean, zero for what the batch has nothing of; and ``total``, their weighted
            sum times the number of layers.
        """
        config, batch, text, lesson = self.model.config, step.batch, step.text, step.lesson
        images = batch.normalised_images(config.pixel_mean, config.pixel_std)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.settings.bf16):
            encoded = [self.model.text_encoder(ids).flatten(0, 1) for ids in text.buckets]
            features = torch.cat(encoded)
            prediction = self.model(images, text.rows(features))
            learnt = None if lesson is None else self.model.encode_text(lesson.token_ids)
        with torch.autocast(images.device.type, enabled=False):
            losses = self.losses(prediction, features.float(), batch, text)
            losses["distillation"] = (
                features.new_zeros((), dtype=torch.float32)
                if lesson is None or learnt is None
                else distillation_loss(learnt.float(), lesson.targets)
            )
        weights = self.settings.losses
        weighted = {
            "classification": weights.classification,
            "mask": weights.mask,
            "dice": weights.dice,
            "image": weights.image,
            "grounding": weights.grounding,
            "phrase_mask": weights.mask,
            "phrase_dice": weights.dice,
            "retrieval": weights.retrieval,
            "caption": weights.caption,
            "answer": weights.answer,
            "distillation": weights.distillation,
        }
        parts = (weight * losses[name] for name, weight in weighted.items())
        total = sum(parts, torch.zeros((), device=images.device))
        return {"total": len(prediction.layers) * total, **losses}

    def losses(
        self, prediction: Prediction, features: Tensor, batch: Batch, text: StepText
    ) -> dict[str, Tensor]:
        """Losses of a prediction; see :meth:`forward`.

        Args:
            prediction: the model's output.
            features: ``[places, D]`` float32, the text encoder's output.
            batch: targets.
            text: the batch's texts.
        """
        layers = _Layers(
            torch.stack([layer.mask_embedding for layer in prediction.layers]).float(),
            torch.stack([layer.class_embedding for layer in prediction.layers]).float(),
        )
        points = sample_features(prediction.mask_features.float(), batch.points)
        # Sums over targets are divided by what the average process has of them.
        counts = torch.tensor(
            [float(sum(map(len, batch.labels))), float(sum(map(len, batch.phrases)))],
            device=features.device,
        )
        num_targets, num_phrases = mean_over_processes(counts).clamp(min=1)
        return {
            **self._segmentation(layers, points, features, batch, text, num_targets),
            **self._grounding(layers, points, features, batch, text, num_phrases),
            "retrieval": self._retrieval(layers, prediction, features, text),
            "caption": self._captioning(prediction, text),
            "answer": self._answering(layers, features, text),
        }

    def _segmentation(
        self,
        layers: _Layers,
        points: Tensor,
        features: Tensor,
        batch: Batch,
        text: StepText,
        num_targets: Tensor,
    ) -> dict[str, Tensor]:
        """Losses of the latents against the segments, and of the class token against the names."""
        config, settings = self.model.config, self.settings
        token = config.num_queries - 1
        objects = config.num_queries if config.decoder.class_token_is_mask else token
        logits = self._logits(layers.embedding[:, :, : token + 1], features[text.names])
        masks, classes = layers.mask[:, :, :objects], logits[:, :, :objects]
        counts = [len(names) for names in batch.labels]
        wanted = TargetMasks(points, batch.point_targets(), batch.known_weights(), counts)
        costs = class_costs(classes.flatten(0, 1), text.class_ids.repeat(len(classes), 1))
        costs = settings.costs.classification * costs.view(*classes.shape[:3], costs.shape[-1])
        assigned = wanted.match(masks, costs, settings.costs, settings.matching_points)
        mask, dice = wanted.losses(masks, assigned, settings.points, num_targets)
        return {
            "classification": class_loss(
                classes, text.class_ids, assigned, batch.segmented, settings.losses.void
            ),
            "mask": mask,
            "dice": dice,
            "image": image_loss(logits[:, :, token, :-1], text.class_ids),
        }

    def _grounding(
        self,
        layers: _Layers,
        points: Tensor,
        features: Tensor,
        batch: Batch,
        text: StepText,
        num_phrases: Tensor,
    ) -> dict[str, Tensor]:
        """Losses of the copies of the object queries against what the phrases mean."""
        if not len(text.phrases):
            nothing = points.sum() * 0
            return {"grounding": nothing, "phrase_mask": nothing, "phrase_dice": nothing}
        settings = self.settings
        queries = self.model.config.num_queries
        copies = slice(queries, 2 * queries - 1)
        masks = layers.mask[:, :, copies]
        logits = self._logits(layers.embedding[:, :, copies], features[text.phrases])
        counts = [len(phrases) for phrases in batch.phrases]
        # Unlike a segment's, a phrase's outside is all else, unlabelled pixels too.
        wanted = TargetMasks(points, batch.phrase_targets(), batch.point_weights, counts)
        index = text.phrase_ids.clamp(min=0)[None, :, None].expand(*logits.shape[:3], -1)
        costs = -logits.detach().gather(3, index).softmax(dim=2)
        costs = settings.costs.classification * costs
        assigned = wanted.match(masks, costs, settings.costs, settings.matching_points)
        mask, dice = wanted.losses(masks, assigned, settings.points, num_phrases)
        over_phrases = class_loss(
            logits,
            text.phrase_ids,
            assigned,
            text.asked,
            settings.losses.void,
        )
        return {
            "grounding": phrase_loss(logits[..., :-1], text.phrase_ids, assigned) + over_phrases,
            "phrase_mask": mask,
            "phrase_dice": dice,
        }

    def _retrieval(
        self, layers: _Layers, prediction: Prediction, features: Tensor, text: StepText
    ) -> Tensor:
        """The class token against the captions; the backbone's embedding too where it is used."""
        config = self.model.config
        present = text.captions >= 0
        captions = features[text.captions.clamp(min=0)]
        # Before the first layer the class token has not seen the image.
        images = layers.embedding[1:, :, config.num_queries - 1]
        scale = self.model.text_encoder.logit_scale.exp()
        loss = retrieval_loss(images, captions, text.caption_keys, present, scale)
        if config.retrieval_ensemble:
            backbone = prediction.backbone_embedding.float()[None]
            loss = loss + retrieval_loss(backbone, captions, text.caption_keys, present, scale)
        return loss

    def _captioning(self, prediction: Prediction, text: StepText) -> Tensor:
        """The caption rows against the tokens that follow them."""
        rows = prediction.caption_embedding.float().flatten(0, 1)[text.caption_rows]
        return caption_loss(self.model.token_logits(rows), text.caption_next)

    def _answering(self, layers: _Layers, features: Tensor, text: StepText) -> Tensor:
        """The questions' last rows against the answers."""
        # Before the first layer a question's row has not seen the image.
        rows = layers.embedding[1:].flatten(1, 2)[:, text.question_rows]
        return answer_loss(self._logits(rows, features[text.answers]), text.accepted)

    def _logits(self, embedding: Tensor, text: Tensor) -> Tensor:
        """Scaled cosines: ``[..., D], [K, D] -> [..., K]``."""
        table = F.normalize(text, dim=-1)
        # One batch of predictions for the product with the table.
        logits = self.model.class_logits(embedding.flatten(0, -3), table)
        return logits.view(*embedding.shape[:-1], len(table))
