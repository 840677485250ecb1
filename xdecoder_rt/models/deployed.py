"""The query decoder as a plan holds it: fewer and larger steps than training's, with one result.

The exact rewrites of this module, each tested against :class:`~xdecoder_rt.models.decoder.Decoder`:

* rows lie flat, ``[B * R, dim]``, between attentions, so that a linear map is one product;
* self-attention's queries and keys, which have one input, are one product;
* masks before the first layer depend on a row's content alone: they are a table;
* classes and captions are read after the last layer alone;
* cosines to the class token are products divided by two lengths, not products of unit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdecoder_rt import tasks
from xdecoder_rt.kernels.masked_attention.op import masked_attention
from xdecoder_rt.models.attention import BLOCKED, attend
from xdecoder_rt.models.decoder import (
    UNIT_EPS,
    CrossAttentionLayer,
    Decoder,
    ImageMemory,
    LayerPrediction,
    Past,
    Rows,
    SelfAttentionLayer,
)


@dataclass
class DeployedOutput:
    """What a decode leaves, all of it after the last layer.

    Attributes:
        prediction: masks and classes.
        caption_embedding: ``[B, R, text width]``.
        rows: the rows' own self-attention keys and values.
    """

    prediction: LayerPrediction
    caption_embedding: Tensor
    rows: Past


@dataclass
class _Kinds:
    """What a decode knows of its rows by their kinds.

    Attributes:
        attends: ``[B * R, 1]`` bool, whether a row takes part in cross-attention.
        masked: ``[B, R, 1]``, 1 where it sees its own mask's inside.
        is_class: ``[B, R, 1]`` bool.
        class_row: ``[B, 1, R]``, 1 at the class token.
        elsewhere: ``[B, 1, R]``, added to what the class token is no mean of.
    """

    attends: Tensor
    masked: Tensor
    is_class: Tensor
    class_row: Tensor
    elsewhere: Tensor

    @classmethod
    def of(cls, kind: Tensor, dtype: torch.dtype) -> _Kinds:
        def told(flags: list[float]) -> Tensor:
            return F.embedding(kind, torch.tensor(flags, dtype=dtype, device=kind.device)[:, None])

        pixels = [tasks.ROWS[row].pixels for row in tasks.Row]
        blind, own = tasks.VisiblePixels.NONE, tasks.VisiblePixels.OWN_MASK
        is_class = told([float(row == tasks.Row.CLASS) for row in tasks.Row])
        elsewhere = told([BLOCKED * (row != tasks.Row.OBJECT) for row in tasks.Row])
        return cls(
            attends=told([float(seen != blind) for seen in pixels]).flatten(0, 1) > 0,
            masked=told([float(seen == own) for seen in pixels]),
            is_class=is_class > 0,
            class_row=is_class.transpose(1, 2),
            elsewhere=elsewhere.transpose(1, 2),
        )


class DeployedDecoder(nn.Module):
    """A :class:`Decoder` for inference; it keeps no weights of its own.

    Rows are those of :mod:`xdecoder_rt.tasks`: the class token comes with all object queries, and
    rows that see their own mask start as the latent that is their content, without a text.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, memory: ImageMemory, rows: Rows, past: Past) -> DeployedOutput:
        """Decode rows; the arguments are those of :meth:`Decoder.forward`, all of them given."""
        assert rows.text is not None and rows.region_weight is not None
        assert rows.regions is not None  # the graph's inputs
        decoder = self.decoder
        batch, length = rows.kind.shape
        x, position = (each.flatten(0, 1) for each in self._start(rows, rows.text))
        kinds = _Kinds.of(rows.kind, x.dtype)
        mask = torch.where(rows.visible, 0.0, BLOCKED).to(x.dtype)[:, None]
        features = [
            torch.cat((level.transpose(1, 2), regions), 1)
            for level, regions in zip(memory.mask_features, rows.regions, strict=True)
        ]
        shape = (batch, length)
        masks = F.embedding(rows.content, self._first_masks())
        kept = Past([], [])
        for i in range(len(decoder.cross)):
            embedding = torch.cat((masks * kinds.masked, rows.region_weight), -1)
            crossed = self._cross(
                decoder.cross_layers[i],
                x,
                position,
                (memory.keys[i], memory.values[i]),
                (embedding, features[i % len(features)]),
            )
            x = torch.where(kinds.attends, crossed, x)
            before = (past.keys[i], past.values[i])
            x, key, value = self._attend_rows(
                decoder.self_layers[i], x, position, mask, before, shape
            )
            kept.keys.append(key)
            kept.values.append(value)
            x = decoder.ffn[i](x)
            normed = self._normed(torch.unflatten(decoder.decoder_norm(x), 0, shape), kinds)
            masks = torch.unflatten(decoder.mask_embedding(normed.flatten(0, 1)), 0, shape)
        return DeployedOutput(
            LayerPrediction(masks, normed @ decoder.class_embed),
            normed @ decoder.caption_embed,
            kept,
        )

    def _start(self, rows: Rows, text: Tensor) -> tuple[Tensor, Tensor]:
        """Contents and positions that rows begin with, ``[B, R, dim]`` each."""
        contents, positions = self.decoder.start_tables()
        content = F.embedding(rows.content, contents) + text
        return content, F.embedding(rows.position, positions) + text

    def _first_masks(self) -> Tensor:
        """Mask embeddings before the first layer, by content: ``[queries + 1, mask_dim]``.

        The last is of rows that start as no latent, which see no mask of theirs.
        """
        decoder = self.decoder
        rows = decoder.latent_rows(1)
        masks = decoder.mask_embedding(decoder.normed(decoder.query_feat[None], rows.kind))[0]
        return F.pad(masks, (0, 0, 0, 1))

    @staticmethod
    def _cross(
        layer: CrossAttentionLayer,
        x: Tensor,
        position: Tensor,
        image: tuple[Tensor, Tensor],
        masks: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Cross-attention of flat rows; keys and masks as in :class:`ImageMemory`."""
        attention, (key, value) = layer.attn, image
        query = F.linear(x + position, attention.weights()[0], attention.biases()[0])
        split = query.view(*masks[0].shape[:2], attention.heads, attention.head_dim)
        mixed = masked_attention(split.transpose(1, 2), key.transpose(-1, -2), value, *masks)
        out: Tensor = layer.norm(x + attention.out_proj(mixed.transpose(1, 2).reshape(x.shape)))
        return out

    @staticmethod
    def _attend_rows(
        layer: SelfAttentionLayer,
        x: Tensor,
        position: Tensor,
        mask: Tensor,
        past: tuple[Tensor, Tensor],
        shape: tuple[int, int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Self-attention of flat rows, otherwise as :meth:`SelfAttentionLayer.forward`."""
        attention, dim = layer.attn, layer.attn.dim
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        both = F.linear(x + position, weight[: 2 * dim], bias[: 2 * dim])
        heads = (*shape, 2, attention.heads, attention.head_dim)
        query, key = both.view(heads).permute(2, 0, 3, 1, 4).unbind()
        value = F.linear(x, weight[2 * dim :], bias[2 * dim :])
        value = value.view(*shape, attention.heads, attention.head_dim).transpose(1, 2)
        keys, values = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
        mixed = attend(query, keys, values, mask).transpose(1, 2).reshape(x.shape)
        return layer.norm(x + attention.out_proj(mixed)), key, value

    @staticmethod
    def _normed(x: Tensor, kinds: _Kinds) -> Tensor:
        """Recompute the class token of normalised states, as :meth:`Decoder.normed` does."""
        inverse = (1.0 / (x.norm(dim=-1, keepdim=True) + UNIT_EPS)).transpose(1, 2)
        own = (kinds.class_row * inverse).sum(-1, keepdim=True)
        likeness = (kinds.class_row @ x) @ x.transpose(1, 2) * (inverse * own)
        recomputed = torch.softmax(likeness + kinds.elsewhere, dim=-1) @ x
        return torch.where(kinds.is_class, recomputed, x)
