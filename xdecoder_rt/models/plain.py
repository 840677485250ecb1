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

from xdecoder_rt import tasks
from xdecoder_rt.models.decoder import Decoder, LayerPrediction, Rows
from xdecoder_rt.models.pixel_decoder import PixelFeatures, position_of
from xdecoder_rt.models.region import RegionClassifier
from xdecoder_rt.models.xdecoder import XDecoder


@dataclass
class PlainFeatures:
    """What the original computes of an image before the decoder.

    Attributes:
        images: normalised, ``[B, 3, H, W]``.
        backbone: four maps, finest first.
        pixels: the pixel decoder's output.
        mask_features: ``[B, mask_dim, H/s, W/s]``, ``s`` the model's ``mask_stride``.
    """

    images: Tensor
    backbone: list[Tensor]
    pixels: PixelFeatures
    mask_features: Tensor


@dataclass
class PlainOutput:
    """Everything the original computes on the way.

    Attributes:
        backbone: four maps, finest first.
        features: the pixel decoder's output.
        mask_features: ``[B, mask_dim, H/s, W/s]``, ``s`` the model's ``mask_stride``.
        layers: predictions before the first layer and after each.
        mask_logits: one ``[B, R, H/s, W/s]`` per prediction.
        blocked: one ``[B, R, N]`` bool per layer, before the rule for all-blocked rows.
        decoder_output: ``[B, R, dim]``, states after the last layer.
        caption_embedding: ``[B, R, text width]``.
        backbone_embedding: ``[B, proj_dim]``.
        region_scores: ``[B, R, names]``, or None for a model without a classifier of regions.
    """

    backbone: list[Tensor]
    features: PixelFeatures
    mask_features: Tensor
    layers: list[LayerPrediction]
    mask_logits: list[Tensor]
    blocked: list[Tensor]
    decoder_output: Tensor
    caption_embedding: Tensor
    backbone_embedding: Tensor
    region_scores: Tensor | None


def plain_forward(
    model: XDecoder, images: Tensor, rows: Rows | None = None, region: Tensor | None = None
) -> PlainOutput:
    """Run the original's forward pass: everything anew, for all rows.

    Args:
        model: in eval mode.
        images: normalised, padded, ``[B, 3, H, W]``.
        rows: what is decoded; None for the latents alone.
        region: bool ``[B, H, W]``, what rows that see all of the image are confined to, or None.
    """
    return plain_decode(model, plain_features(model, images), rows, region)


def plain_features(model: XDecoder, images: Tensor) -> PlainFeatures:
    """The original's pass before the decoder, over normalised, padded ``[B, 3, H, W]``."""
    backbone = model.backbone(images)
    pixels: PixelFeatures = model.pixel_decoder(backbone)
    return PlainFeatures(
        images, backbone, pixels, model.pixel_decoder.mask_features(pixels.mask_map)
    )


def plain_decode(
    model: XDecoder,
    seen: PlainFeatures,
    rows: Rows | None = None,
    region: Tensor | None = None,
) -> PlainOutput:
    """The original's decoder over an image's features; see :func:`plain_forward`."""
    decoder, mask_features = model.decoder, seen.mask_features
    levels = decoder.project([seen.pixels.levels[stride] for stride in decoder.level_strides])
    rows = decoder.latent_rows(mask_features.shape[0]) if rows is None else rows
    x, position = decoder.start(rows)
    self_mask = torch.zeros(rows.visible.shape, dtype=x.dtype)
    self_mask = self_mask.masked_fill(~rows.visible, float("-inf"))[:, None]
    attends, masked = (_among(rows.kind, kinds) for kinds in (_ATTENDING, _MASKED))
    normed = decoder.normed(x, rows.kind)
    layers = [decoder.predict(normed)]
    mask_logits = [_mask_logits(layers[-1], mask_features)]
    blocked = []
    for i in range(len(decoder.cross)):
        level = levels[i % len(levels)]
        shrunk = F.interpolate(
            mask_logits[-1], level.shape[-2:], mode="bicubic", antialias=True, align_corners=False
        )
        blocked.append((shrunk.flatten(2).sigmoid() < 0.5) & masked)
        if region is not None:
            inside = F.interpolate(region[:, None].float(), level.shape[-2:], mode="nearest")
            blocked[-1] = torch.where(masked, blocked[-1], inside.flatten(2) == 0)
        x = torch.where(attends, _cross_attention(decoder, i, x, position, level, blocked[-1]), x)
        x, _, _ = decoder.self_attention[i](x, position, self_mask)
        x = decoder.ffn[i](x)
        normed = decoder.normed(x, rows.kind)
        layers.append(decoder.predict(normed))
        mask_logits.append(_mask_logits(layers[-1], mask_features))
    return PlainOutput(
        seen.backbone,
        seen.pixels,
        mask_features,
        layers,
        mask_logits,
        blocked,
        x,
        normed @ decoder.caption_embed,
        model.backbone_embedding(seen.backbone),
        None if model.region is None else _region_scores(model.region, rows, seen, mask_logits),
    )


def _region_scores(
    classifier: RegionClassifier, rows: Rows, seen: PlainFeatures, mask_logits: list[Tensor]
) -> Tensor:
    """The classifier's own order: its features averaged under each mask, then its scores."""
    features = classifier.features(seen.images, seen.backbone[3])
    logits = F.interpolate(
        mask_logits[-1], features.shape[-2:], mode="bicubic", antialias=True, align_corners=False
    )
    is_class = (rows.kind == tasks.Row.CLASS)[..., None, None]
    weight = torch.where(is_class, torch.ones(()), torch.sigmoid(logits)).flatten(2)
    average = weight @ features.flatten(2).transpose(1, 2) / weight.sum(-1, keepdim=True)
    matrix = classifier.names.weight.T
    if classifier.reduce is not None:
        matrix = classifier.reduce @ matrix
    return torch.softmax(average @ matrix + classifier.names.bias, dim=-1)


def plain_caption(
    model: XDecoder, images: Tensor, steps: int, region: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Caption one image as the original does: the whole decoder anew for every token.

    Args:
        model: in eval mode.
        images: normalised, padded, ``[1, 3, H, W]``.
        steps: tokens to write, after the start token.
        region: bool ``[1, H, W]``, what the caption is about, or None.

    Returns:
        Token ids, int64 ``[L]`` with start ids where nothing was written, and the caption
        embedding that chose each token, ``[steps, text width]``.
    """
    length = model.config.context_length
    queries = model.config.num_queries
    layout = tasks.side_by_side(
        [tasks.latents(queries), tasks.group("caption", queries, length)], tasks.LATENT_GROUP
    )
    # The vocabulary ends with the start token and the end token.
    start = model.config.text.vocabulary_size - 2
    token_ids = torch.full((1, length), start)
    chosen = []
    seen = plain_features(model, images)
    for step in range(steps):
        text = F.pad(model.text_encoder(token_ids), (0, 0, queries, 0))
        output = plain_decode(model, seen, Rows.of([layout], text), region)
        chosen.append(output.caption_embedding[0, queries + step])
        token_ids[0, step + 1] = model.token_logits(chosen[-1]).argmax()
    return token_ids[0], torch.stack(chosen)


_ATTENDING = [row for row in tasks.Row if tasks.ROWS[row].pixels is not tasks.VisiblePixels.NONE]
_MASKED = [row for row in tasks.Row if tasks.ROWS[row].pixels is tasks.VisiblePixels.OWN_MASK]


def _among(kind: Tensor, kinds: list[tasks.Row]) -> Tensor:
    """Whether each row is of one of some kinds: ``[B, R, 1]`` bool."""
    return torch.isin(kind, torch.tensor([int(row) for row in kinds]))[..., None]


def _mask_logits(prediction: LayerPrediction, mask_features: Tensor) -> Tensor:
    return torch.einsum("bqc,bchw->bqhw", prediction.mask_embedding, mask_features)


def _cross_attention(
    decoder: Decoder, layer: int, x: Tensor, position: Tensor, level: Tensor, blocked: Tensor
) -> Tensor:
    """One cross-attention, its keys and values projected on the spot."""
    cross = decoder.cross_layers[layer]
    tokens = (
        level.flatten(2).transpose(1, 2) + decoder.level_embed[layer % len(decoder.level_embed)]
    )
    key = cross.attn.keys(tokens + position_of(level))
    value = cross.attn.values(tokens)
    query = cross.attn.queries(x + position)
    # A query that may see nothing sees everything.
    blocked = blocked & ~blocked.all(dim=-1, keepdim=True)
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    weights = torch.softmax(scores.masked_fill(blocked[:, None], float("-inf")), dim=-1)
    out: Tensor = cross.norm(x + cross.attn.merge(weights @ value))
    return out
