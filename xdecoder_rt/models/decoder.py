"""The query decoder (paper section 3.2): latent queries, masked cross-attention, predictions.

The exact rewrites of this module (each tested against :mod:`xdecoder_rt.models.plain`):

* mask features are shrunk once per level and multiplied at the level's own resolution, because
  resizing and the product with mask embeddings commute;
* a position is blocked where its mask logit is negative: no sigmoid;
* keys and values are projected once an image, with position and level embedding folded in as
  constants of the shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdecoder_rt.kernels.masked_attention import masked_attention
from xdecoder_rt.models.attention import Attention, attend
from xdecoder_rt.models.config import ModelConfig
from xdecoder_rt.models.pixel_decoder import position_of

LEVELS = 3
UNIT_EPS = 1e-7


@dataclass
class ImageMemory:
    """What the decoder needs of an image; it depends on the image alone.

    Attributes:
        keys: one ``[B, heads, head_dim, N]`` a layer, N the size of the level that it reads.
        values: one ``[B, heads, N, head_dim]`` a layer.
        mask_features: one ``[B, mask_dim, N]`` a level, shrunk to the level's size.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask_features: list[Tensor]


@dataclass
class LayerPrediction:
    """What a set of query states says.

    Attributes:
        mask_embedding: ``[B, Q, mask_dim]``.
        class_embedding: ``[B, Q, proj_dim]``, unnormalised, in the space of texts.
    """

    mask_embedding: Tensor
    class_embedding: Tensor


class CrossAttentionLayer(nn.Module):
    """Masked cross-attention with residual and post-norm."""

    def __init__(self, dim: int, heads: int, memory_dim: int) -> None:
        super().__init__()
        self.attn = Attention(dim, heads, memory_dim)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        key: Tensor,
        value: Tensor,
        mask_embedding: Tensor,
        mask_features: Tensor,
    ) -> Tensor:
        """``[B, Q, dim] -> [B, Q, dim]``; heads split as in :class:`ImageMemory`."""
        query = self.attn.queries(x + position)
        mixed = masked_attention(query, key.transpose(-1, -2), value, mask_embedding, mask_features)
        out: Tensor = self.norm(x + self.attn.merge(mixed))
        return out


class SelfAttentionLayer(nn.Module):
    """Self-attention with residual and post-norm; the position joins queries and keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """``[B, Q, dim] -> [B, Q, dim]`` with an additive mask ``[Q, Q]``."""
        placed = x + position
        mixed = attend(self.attn.queries(placed), self.attn.keys(placed), self.attn.values(x), mask)
        out: Tensor = self.norm(x + self.attn.merge(mixed))
        return out


class FeedForwardLayer(nn.Module):
    """Two linear maps around a ReLU, with residual and post-norm."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, Q, dim] -> [B, Q, dim]``."""
        out: Tensor = self.norm(x + self.linear2(F.relu(self.linear1(x))))
        return out


class Decoder(nn.Module):
    """Latent queries in, mask and class embeddings out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        shape = config.decoder
        dim, memory_dim = shape.hidden_dim, config.pixel_decoder.dim
        self.num_queries = shape.num_queries
        self.input_proj = nn.ModuleList(
            nn.Conv2d(memory_dim, dim, 1) if shape.input_projection else nn.Identity()
            for _ in range(LEVELS)
        )
        if shape.input_projection:
            memory_dim = dim
        self.query_feat = nn.Parameter(torch.randn(shape.num_queries, dim))
        self.query_embed = nn.Parameter(torch.randn(shape.num_queries, dim))
        self.level_embed = nn.Parameter(torch.randn(LEVELS, memory_dim))
        self.cross = nn.ModuleList(
            CrossAttentionLayer(dim, shape.heads, memory_dim) for _ in range(shape.layers)
        )
        self.self_attention = nn.ModuleList(
            SelfAttentionLayer(dim, shape.heads) for _ in range(shape.layers)
        )
        self.ffn = nn.ModuleList(
            FeedForwardLayer(dim, shape.feedforward_dim) for _ in range(shape.layers)
        )
        self.decoder_norm = nn.LayerNorm(dim)
        self.mask_embed = nn.ModuleList(
            (nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, config.mask_dim))
        )
        self.class_embed = nn.Parameter(torch.randn(dim, config.proj_dim) * dim**-0.5)
        # Read by captioning: its projection and the positions of its rows.
        self.caption_embed = nn.Parameter(torch.randn(dim, config.proj_dim) * dim**-0.5)
        self.caption_position = nn.Parameter(torch.randn(config.context_length, dim) * 0.02)

    def self_attention_mask(self) -> Tensor:
        """Additive ``[Q, Q]``: objects see objects, the class token sees itself."""
        count = self.num_queries
        is_class = torch.arange(count, device=self.query_feat.device) == count - 1
        blocked = is_class[:, None] != is_class[None, :]
        mask = torch.zeros(count, count, device=self.query_feat.device)
        return mask.masked_fill(blocked, float("-inf"))

    @property
    def cross_layers(self) -> list[CrossAttentionLayer]:
        """The cross-attention layers, as what they are to a type checker."""
        return cast("list[CrossAttentionLayer]", list(self.cross))

    def project(self, levels: list[Tensor]) -> list[Tensor]:
        """The pixel decoder's levels in the width that keys and values are made from."""
        return [proj(level) for proj, level in zip(self.input_proj, levels, strict=True)]

    def remember(self, levels: list[Tensor], mask_features: list[Tensor]) -> ImageMemory:
        """Project keys and values of every layer.

        Args:
            levels: ``[B, C, h, w]`` at strides 32, 16 and 8, as the pixel decoder makes them.
            mask_features: ``[B, mask_dim, h, w]``, shrunk to the same sizes.
        """
        levels = self.project(levels)
        tokens = [level.flatten(2) for level in levels]
        positions = [position_of(level) for level in levels]
        keys, values = [], []
        for i, cross in enumerate(self.cross_layers):
            level, attention = i % LEVELS, cross.attn
            _, key_weight, value_weight = attention.weights()
            _, key_bias, value_bias = attention.biases()
            embed = self.level_embed[level]
            # What depends on the shape alone an exporter folds into a constant.
            key_constant = key_weight @ (positions[level] + embed).T + key_bias[:, None]
            value_constant = value_weight @ embed + value_bias
            heads = (attention.heads, attention.head_dim)
            key = key_weight @ tokens[level] + key_constant
            keys.append(torch.unflatten(key, 1, heads))
            value = tokens[level].transpose(1, 2) @ value_weight.T + value_constant
            values.append(torch.unflatten(value, 2, heads).transpose(1, 2))
        return ImageMemory(keys, values, [m.flatten(2) for m in mask_features])

    def normed(self, x: Tensor) -> Tensor:
        """Normalise states and recompute the class token from the objects.

        Its output is the object outputs' mean, weighted by the softmax of its cosine to each; the
        running state keeps the original.
        """
        x = self.decoder_norm(x)
        objects, token = x[:, :-1], x[:, -1:]
        similarity = unit(token) @ unit(objects).transpose(1, 2)
        recomputed = torch.softmax(similarity, dim=-1) @ objects
        return torch.cat((objects, recomputed), dim=1)

    def mask_embedding(self, normed: Tensor) -> Tensor:
        """``[B, Q, dim] -> [B, Q, mask_dim]``."""
        first, second, third = self.mask_embed
        out: Tensor = third(F.relu(second(F.relu(first(normed)))))
        return out

    def predict(self, x: Tensor) -> LayerPrediction:
        """Read masks and classes off query states ``[B, Q, dim]``."""
        normed = self.normed(x)
        return LayerPrediction(self.mask_embedding(normed), normed @ self.class_embed)

    def forward(self, memory: ImageMemory) -> list[LayerPrediction]:
        """Decode the latent queries: a prediction before the first layer and after each."""
        x = self.query_feat.expand(memory.keys[0].shape[0], -1, -1)
        mask = self.self_attention_mask().to(x.dtype)
        predictions = [self.predict(x)]
        for i, cross in enumerate(self.cross):
            # The threshold passes no gradient, so neither factor of the mask needs one.
            x = cross(
                x,
                self.query_embed,
                memory.keys[i],
                memory.values[i],
                predictions[-1].mask_embedding.detach(),
                memory.mask_features[i % LEVELS].detach(),
            )
            x = self.self_attention[i](x, self.query_embed, mask)
            x = self.ffn[i](x)
            predictions.append(self.predict(x))
        return predictions


def unit(x: Tensor) -> Tensor:
    """Rows of unit length, as the original makes them: ``x / (|x| + 1e-7)``."""
    length: Tensor = x.norm(dim=-1, keepdim=True)
    return x / (length + UNIT_EPS)
