"""X-Decoder: backbone, pixel decoder, query decoder and text encoder under one name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from xdecoder_rt.models.backbones import build_backbone
from xdecoder_rt.models.config import ModelConfig
from xdecoder_rt.models.decoder import Decoder, ImageMemory, LayerPrediction, Rows, unit
from xdecoder_rt.models.pixel_decoder import PixelDecoder, PixelFeatures
from xdecoder_rt.models.region import RegionClassifier
from xdecoder_rt.models.resample import shrink
from xdecoder_rt.models.text_encoder import TextEncoder


@dataclass
class Prediction:
    """The model's output for a batch of images.

    Attributes:
        mask_features: ``[B, mask_dim, H/s, W/s]``, ``s`` the configuration's ``mask_stride``.
        layers: one prediction before the first decoder layer and one after each, of all rows.
        caption_embedding: ``[B, R, text width]``; see :meth:`XDecoder.token_logits`.
        backbone_embedding: ``[B, proj_dim]``, the second image embedding of retrieval.
    """

    mask_features: Tensor
    layers: list[LayerPrediction]
    caption_embedding: Tensor
    backbone_embedding: Tensor


class XDecoder(nn.Module):
    """The whole network, in the form that training and export share.

    Args:
        config: sizes; see :func:`~xdecoder_rt.models.compact_config` and
            :func:`~xdecoder_rt.models.published_config`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        backbone = build_backbone(config.backbone)
        self.backbone: Any = backbone
        channels = backbone.out_channels
        self.pixel_decoder = PixelDecoder(config.pixel_decoder, channels)
        self.decoder = Decoder(config)
        self.text_encoder = TextEncoder(config.text, config.proj_dim)
        # Projects the mean of the coarsest backbone map into the space of texts (retrieval).
        self.backbone_proj = nn.Parameter(
            torch.randn(channels[3], config.proj_dim) * channels[3] ** -0.5
        )
        self.region = (
            None
            if config.region is None
            else RegionClassifier(config.region, channels[3], config.proj_dim)
        )

    def drop_regions(self) -> None:
        """Leave the classifier of regions out, if there is one."""
        self.region, self.config = None, replace(self.config, region=None)

    def drop_curves(self) -> None:
        """Report scores as they are: of other weights, or joined otherwise, curves are not true."""
        rules = self.config.postprocess.without_curves()
        self.config = replace(self.config, postprocess=rules)

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """``[T, L]`` int64 to ``[T, proj_dim]``, unnormalised, read at the first end token."""
        return self.text_encoder.pooled(token_ids)

    def remember(self, features: PixelFeatures, mask_features: Tensor) -> ImageMemory:
        """Keys and values of every layer, and mask features shrunk to the decoder's levels."""
        strides = self.decoder.level_strides
        shrunk = [shrink(mask_features, stride // self.config.mask_stride) for stride in strides]
        return self.decoder.remember([features.levels[stride] for stride in strides], shrunk)

    def backbone_embedding(self, maps: list[Tensor]) -> Tensor:
        """Return the mean of the coarsest backbone map in the space of texts: ``[B, proj_dim]``."""
        return maps[3].mean(dim=(2, 3)) @ self.backbone_proj

    def forward(self, images: Tensor, rows: Rows | None = None) -> Prediction:
        """Decode normalised, padded images.

        Args:
            images: ``[B, 3, H, W]``, sides multiples of 32.
            rows: what is decoded; None for the latent queries alone.
        """
        maps = self.backbone(images)
        features: PixelFeatures = self.pixel_decoder(maps)
        mask_features = self.pixel_decoder.mask_features(features.mask_map)
        # The levels' masks are thresholded: nothing of them is differentiable.
        decoded = self.decoder(self.remember(features, mask_features.detach()), rows)
        return Prediction(
            mask_features,
            decoded.layers,
            decoded.caption_embedding,
            self.backbone_embedding(maps),
        )

    def token_logits(self, caption_embedding: Tensor) -> Tensor:
        """Scores of every token to come next: ``[..., text width] -> [..., vocabulary]``."""
        return self.text_encoder.token_embedding.scores(caption_embedding)

    def class_logits(self, class_embedding: Tensor, text_table: Tensor) -> Tensor:
        """Return scaled cosines of queries and names: ``[B, Q, D], [K, D] -> [B, Q, K]``.

        Args:
            class_embedding: unnormalised.
            text_table: rows of unit length.
        """
        scale = self.text_encoder.logit_scale.exp()
        return unit(class_embedding) @ text_table.T * scale

    def parameter_groups(
        self, lr: float, backbone_lr_scale: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Groups for AdamW: the backbone slower; norms, biases and embeddings undecayed."""
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                decays = parameter.ndim >= 2 and not name.endswith(
                    (
                        "query_feat",
                        "query_embed",
                        "level_embed",
                        "caption_position",
                        "token_embedding.weight",
                    )
                )
                groups.setdefault((name.startswith("backbone."), decays), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": lr * (backbone_lr_scale if in_backbone else 1.0),
                "weight_decay": weight_decay if decays else 0.0,
            }
            for (in_backbone, decays), parameters in groups.items()
        ]
