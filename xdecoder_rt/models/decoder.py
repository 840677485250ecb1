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
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdecoder_rt import tasks
from xdecoder_rt.kernels.masked_attention.op import masked_attention, trained
from xdecoder_rt.models.attention import BLOCKED, Attention, attend
from xdecoder_rt.models.config import ModelConfig
from xdecoder_rt.models.pixel_decoder import position_of

UNIT_EPS = 1e-7


@dataclass
class ImageMemory:
    """What the decoder needs of an image; it depends on the image alone.

    Attributes:
        keys: one ``[B, heads, head_dim, N]`` a layer, N the size of the level that it reads.
        values: one ``[B, heads, N, head_dim]`` a layer.
        mask_features: one ``[B, N, mask_dim]`` a level, shrunk to the level's size.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask_features: list[Tensor]


@dataclass
class Rows:
    """The rows of a decode: a :class:`~xdecoder_rt.tasks.RowLayout` each, as tensors of a batch.

    Attributes:
        kind: ``[B, R]`` int64, a :class:`~xdecoder_rt.tasks.Row` each.
        content: ``[B, R]`` int64.
        position: ``[B, R]`` int64.
        visible: ``[B, R, P + R]`` bool, the past's columns first.
        text: ``[B, R, dim]`` text features, zero for rows that have none; None where no row has.
        region_weight: ``[B, R, E]``, 1 where a row is confined to a region; None for none.
        regions: one ``[B, E, N]`` a level, 1 inside a region and -1 outside; None for none.
    """

    kind: Tensor
    content: Tensor
    position: Tensor
    visible: Tensor
    text: Tensor | None = None
    region_weight: Tensor | None = None
    regions: list[Tensor] | None = None

    @classmethod
    def of(
        cls,
        layouts: list[tasks.RowLayout],
        text: Tensor | None = None,
        past: tasks.RowLayout | None = None,
        device: torch.device | None = None,
    ) -> Rows:
        """Rows of equally long layouts, one an image, all over the same past."""

        def stacked(arrays: list[npt.NDArray[Any]]) -> Tensor:
            return torch.from_numpy(np.stack(arrays)).to(device)

        return cls(
            kind=stacked([layout.kind for layout in layouts]),
            content=stacked([layout.content for layout in layouts]),
            position=stacked([layout.position for layout in layouts]),
            visible=stacked([tasks.visible(layout, past) for layout in layouts]),
            text=text,
        )


@dataclass
class Past:
    """Self-attention keys and values of rows decoded before.

    Attributes:
        keys: one ``[B, heads, P, head_dim]`` a layer.
        values: the same.
    """

    keys: list[Tensor]
    values: list[Tensor]


@dataclass
class LayerPrediction:
    """What a set of row states says.

    Attributes:
        mask_embedding: ``[B, Q, mask_dim]``.
        class_embedding: ``[B, Q, proj_dim]``, unnormalised, in the space of texts.
    """

    mask_embedding: Tensor
    class_embedding: Tensor


@dataclass
class Decoded:
    """What a decode leaves.

    Attributes:
        layers: predictions before the first layer and after each.
        caption_embedding: ``[B, R, text width]``, whose product with the token table scores the
            token that follows a caption row.
        states: ``[B, R, dim]`` after the last layer, before the norm of predictions.
        rows: the rows' own self-attention keys and values.
    """

    layers: list[LayerPrediction]
    caption_embedding: Tensor
    states: Tensor
    rows: Past


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
        is_trained = torch.is_grad_enabled() and query.requires_grad
        attention = trained if is_trained else masked_attention
        mixed = attention(query, key.transpose(-1, -2), value, mask_embedding, mask_features)
        out: Tensor = self.norm(x + self.attn.merge(mixed))
        return out


class SelfAttentionLayer(nn.Module):
    """Self-attention with residual and post-norm; the position joins queries and keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        mask: Tensor,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend among rows and to those decoded before.

        Args:
            x: ``[B, R, dim]``.
            position: the same.
            mask: ``[B, 1, R, P + R]``, added to the scores.
            past: keys and values of P rows, ``[B, heads, P, head_dim]``.

        Returns:
            ``[B, R, dim]``, and the rows' own keys and values, ``[B, heads, R, head_dim]``.
        """
        placed = x + position
        key, value = self.attn.keys(placed), self.attn.values(x)
        keys, values = key, value
        if past is not None:
            keys, values = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
        mixed = attend(self.attn.queries(placed), keys, values, mask)
        out: Tensor = self.norm(x + self.attn.merge(mixed))
        return out, key, value


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
        self.level_strides = shape.level_strides
        self.input_proj = nn.ModuleList(
            nn.Conv2d(memory_dim, dim, 1) if shape.input_projection else nn.Identity()
            for _ in shape.level_strides
        )
        if shape.input_projection:
            memory_dim = dim
        self.query_feat = nn.Parameter(torch.randn(shape.num_queries, dim))
        self.query_embed = nn.Parameter(torch.randn(shape.num_queries, dim))
        self.level_embed = nn.Parameter(torch.randn(len(shape.level_strides), memory_dim))
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
        # Read by text rows: the next token's projection, and the places of a text.
        self.caption_embed = nn.Parameter(torch.randn(dim, config.text.width) * dim**-0.5)
        self.caption_position = nn.Parameter(torch.randn(config.context_length, dim) * 0.02)

    @property
    def cross_layers(self) -> list[CrossAttentionLayer]:
        """The cross-attention layers, as what they are to a type checker."""
        return cast("list[CrossAttentionLayer]", list(self.cross))

    @property
    def self_layers(self) -> list[SelfAttentionLayer]:
        """The self-attention layers, likewise."""
        return cast("list[SelfAttentionLayer]", list(self.self_attention))

    def project(self, levels: list[Tensor]) -> list[Tensor]:
        """The pixel decoder's levels in the width that keys and values are made from."""
        return [proj(level) for proj, level in zip(self.input_proj, levels, strict=True)]

    def remember(self, levels: list[Tensor], mask_features: list[Tensor]) -> ImageMemory:
        """Project keys and values of every layer.

        Args:
            levels: ``[B, C, h, w]`` at the strides of `level_strides`, from the pixel decoder.
            mask_features: ``[B, mask_dim, h, w]``, shrunk to the same sizes.
        """
        levels = self.project(levels)
        tokens = [level.flatten(2) for level in levels]
        positions = [position_of(level) for level in levels]
        keys, values = [], []
        for i, cross in enumerate(self.cross_layers):
            level, attention = i % len(levels), cross.attn
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
        # Channels last before the sides are joined: so it is no work after convolutions.
        shrunk = [m.permute(0, 2, 3, 1).flatten(1, 2) for m in mask_features]
        return ImageMemory(keys, values, shrunk)

    def normed(self, x: Tensor, kind: Tensor) -> Tensor:
        """Normalise states and recompute the class token from the objects.

        Its output is the object outputs' mean, weighted by the softmax of its cosine to each; the
        running state keeps the original.

        Args:
            x: ``[B, R, dim]``.
            kind: ``[B, R]``.
        """
        x = self.decoder_norm(x)
        is_class = kind == tasks.Row.CLASS
        token = is_class[:, None].to(x.dtype) @ x
        similarity = unit(token) @ unit(x).transpose(1, 2)
        elsewhere = (kind != tasks.Row.OBJECT)[:, None].to(x.dtype) * BLOCKED
        recomputed = torch.softmax(similarity + elsewhere, dim=-1) @ x
        return torch.where(is_class[..., None], recomputed, x)

    def mask_embedding(self, normed: Tensor) -> Tensor:
        """``[B, R, dim] -> [B, R, mask_dim]``."""
        first, second, third = self.mask_embed
        out: Tensor = third(F.relu(second(F.relu(first(normed)))))
        return out

    def predict(self, normed: Tensor) -> LayerPrediction:
        """Read masks and classes off normalised states ``[B, R, dim]``."""
        return LayerPrediction(self.mask_embedding(normed), normed @ self.class_embed)

    def latent_rows(self, batch: int) -> Rows:
        """The latent queries alone."""
        layout = tasks.latents(self.num_queries)
        rows = Rows.of([layout], device=self.query_feat.device)
        return Rows(
            rows.kind.expand(batch, -1),
            rows.content.expand(batch, -1),
            rows.position.expand(batch, -1),
            rows.visible.expand(batch, -1, -1),
        )

    def start_tables(self) -> tuple[Tensor, Tensor]:
        """Features by a row's content and by its position; see :class:`tasks.RowLayout`."""
        nothing = self.query_feat.new_zeros(1, self.query_feat.shape[1])
        contents = torch.cat((self.query_feat, nothing))
        return contents, torch.cat((self.query_embed, nothing, self.caption_position))

    def start(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Contents and positions that rows begin with, ``[B, R, dim]`` each."""
        contents, positions = self.start_tables()
        content, position = contents[rows.content], positions[rows.position]
        if rows.text is None:
            return content, position
        return content + rows.text, position + rows.text

    def forward(
        self, memory: ImageMemory, rows: Rows | None = None, past: Past | None = None
    ) -> Decoded:
        """Decode rows: a prediction before the first layer and after each.

        Args:
            memory: of the images.
            rows: what is decoded; None for the latents alone.
            past: keys and values of rows that these see and that do not see them.
        """
        if rows is None:
            rows = self.latent_rows(memory.keys[0].shape[0])
        x, position = self.start(rows)
        attends, masked = (self._pixels(rows.kind, p) for p in _SEEING)
        mask = torch.where(rows.visible, 0.0, BLOCKED).to(x.dtype)[:, None]
        # The threshold passes no gradient, so neither factor of the mask needs one.
        features = [level.detach().transpose(1, 2) for level in memory.mask_features]
        if rows.regions is not None:
            pairs = zip(features, rows.regions, strict=True)
            features = [torch.cat(pair, 1) for pair in pairs]
        normed = self.normed(x, rows.kind)
        predictions = [self.predict(normed)]
        kept = Past([], [])
        for i, cross in enumerate(self.cross):
            embedding = predictions[-1].mask_embedding.detach() * masked.to(x.dtype)
            if rows.region_weight is not None:
                embedding = torch.cat((embedding, rows.region_weight), -1)
            crossed = cross(
                x,
                position,
                memory.keys[i],
                memory.values[i],
                embedding,
                features[i % len(features)],
            )
            x = torch.where(attends, crossed, x)
            before = None if past is None else (past.keys[i], past.values[i])
            x, key, value = self.self_attention[i](x, position, mask, before)
            kept.keys.append(key)
            kept.values.append(value)
            x = self.ffn[i](x)
            normed = self.normed(x, rows.kind)
            predictions.append(self.predict(normed))
        return Decoded(predictions, normed @ self.caption_embed, x, kept)

    @staticmethod
    def _pixels(kind: Tensor, which: tuple[tasks.VisiblePixels, ...]) -> Tensor:
        """Whether each row's cross-attention is of one of some sorts: ``[B, R, 1]`` bool."""
        table = torch.tensor([tasks.ROWS[row].pixels in which for row in tasks.Row])
        return table.to(kind.device)[kind][..., None]


# Rows with cross-attention, and among them those that see their own mask's inside.
_SEEING = ((tasks.VisiblePixels.OWN_MASK, tasks.VisiblePixels.ALL), (tasks.VisiblePixels.OWN_MASK,))


def unit(x: Tensor) -> Tensor:
    """Rows of unit length, as the original makes them: ``x / (|x| + 1e-7)``."""
    length: Tensor = x.norm(dim=-1, keepdim=True)
    return x / (length + UNIT_EPS)
