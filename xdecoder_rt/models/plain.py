"""The network in the original's order of operations, without rewrites.

What every rewritten form is tested against, and what *eager* means in benchmarks. It uses the
same modules and weights as :class:`~xdecoder_rt.models.XDecoder`, and shows every intermediate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.models.decoder import LEVELS, Decoder, LayerPrediction
from xdecoder_rt.models.pixel_decoder import PixelFeatures, position_of
from xdecoder_rt.models.xdecoder import XDecoder


@dataclass
class PlainOutput:
    """Everything the original computes on the way.

    Attributes:
        backbone: four maps, finest first.
        features: the pixel decoder's output.
        mask_features: ``[B, mask_dim, H/4, W/4]``.
        layers: predictions before the first layer and after each.
        mask_logits: one ``[B, Q, H/4, W/4]`` per prediction.
        blocked: one ``[B, Q, N]`` bool per layer, before the rule for all-blocked rows.
        decoder_output: ``[B, Q, dim]``, states after the last layer.
    """

    backbone: list[Tensor]
    features: PixelFeatures
    mask_features: Tensor
    layers: list[LayerPrediction]
    mask_logits: list[Tensor]
    blocked: list[Tensor]
    decoder_output: Tensor


def plain_forward(model: XDecoder, images: Tensor) -> PlainOutput:
    """Run the original's forward pass on normalised, padded images ``[B, 3, H, W]``."""
    backbone = model.backbone(images)
    features: PixelFeatures = model.pixel_decoder(backbone)
    mask_features = model.pixel_decoder.mask_features(features.mask_map)
    decoder = model.decoder
    levels = decoder.project(features.levels)
    x = decoder.query_feat.expand(images.shape[0], -1, -1)
    self_mask = decoder.self_attention_mask()
    layers = [decoder.predict(x)]
    mask_logits = [_mask_logits(layers[-1], mask_features)]
    blocked = []
    for i in range(len(decoder.cross)):
        level = levels[i % LEVELS]
        shrunk = F.interpolate(
            mask_logits[-1], level.shape[-2:], mode="bicubic", antialias=True, align_corners=False
        )
        blocked.append(shrunk.flatten(2).sigmoid() < 0.5)
        x = _cross_attention(decoder, i, x, level, blocked[-1])
        x = decoder.self_attention[i](x, decoder.query_embed, self_mask)
        x = decoder.ffn[i](x)
        layers.append(decoder.predict(x))
        mask_logits.append(_mask_logits(layers[-1], mask_features))
    return PlainOutput(backbone, features, mask_features, layers, mask_logits, blocked, x)


def _mask_logits(prediction: LayerPrediction, mask_features: Tensor) -> Tensor:
    return torch.einsum("bqc,bchw->bqhw", prediction.mask_embedding, mask_features)


def _cross_attention(
    decoder: Decoder, layer: int, x: Tensor, level: Tensor, blocked: Tensor
) -> Tensor:
    """One cross-attention, its keys and values projected on the spot."""
    cross = decoder.cross_layers[layer]
    tokens = level.flatten(2).transpose(1, 2) + decoder.level_embed[layer % LEVELS]
    key = cross.attn.keys(tokens + position_of(level))
    value = cross.attn.values(tokens)
    query = cross.attn.queries(x + decoder.query_embed)
    # A query that may see nothing sees everything.
    blocked = blocked & ~blocked.all(dim=-1, keepdim=True)
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    weights = torch.softmax(scores.masked_fill(blocked[:, None], float("-inf")), dim=-1)
    out: Tensor = cross.norm(x + cross.attn.merge(weights @ value))
    return out
