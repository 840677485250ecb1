"""The causal text encoder: CLIP's transformer, with a factorised token table where asked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xdecoder_rt.models.attention import BLOCKED, Attention, attend
from xdecoder_rt.models.config import TextConfig

NORM_EPS = 1e-12


@dataclass
class TextStep:
    """The state after encoding some tokens.

    Attributes:
        features: ``[T, L, proj_dim]``, projected, unnormalised.
        keys: the tokens' own, one ``[T, heads, L, head_dim]`` a layer.
        values: the same.
    """

    features: Tensor
    keys: list[Tensor]
    values: list[Tensor]


class TokenEmbedding(nn.Module):
    """Token table, plain (``rank`` 0) or as the product of two thin ones."""

    def __init__(self, vocabulary_size: int, width: int, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.weight = nn.Parameter(torch.randn(vocabulary_size, rank or width) * 0.02)
        if rank:
            self.expand = nn.Linear(rank, width, bias=False)
            # The product of table and expansion should start at CLIP's scale, 0.02.
            nn.init.normal_(self.expand.weight, std=rank**-0.5)

    def forward(self, token_ids: Tensor) -> Tensor:
        """``[T, L]`` int64 to ``[T, L, width]``."""
        rows = self.weight[token_ids]
        if not self.rank:
            return rows
        expanded: Tensor = self.expand(rows)
        return expanded

    def scores(self, features: Tensor) -> Tensor:
        """Product with every row of the table: ``[..., width] -> [..., vocabulary]``."""
        if self.rank:
            features = features @ self.expand.weight
        return features @ self.weight.T


class TextBlock(nn.Module):
    """Pre-norm transformer block with QuickGELU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.ln_1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.ln_2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(
        self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend to these and earlier tokens.

        Args:
            x: ``[T, L, width]``.
            mask: added to the scores, broadcast to ``[T, heads, L, P + L]``.
            past: keys and values of P earlier tokens, ``[T, heads, P, head_dim]``.

        Returns:
            ``[T, L, width]``, and the tokens' own keys and values, ``[T, heads, L, head_dim]``.
        """
        normed = self.ln_1(x)
        attention = self.attn
        key, value = attention.keys(normed), attention.values(normed)
        keys, values = key, value
        if past is not None:
            keys, values = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
        x = x + attention.merge(attend(attention.queries(normed), keys, values, mask))
        hidden = self.c_fc(self.ln_2(x))
        out: Tensor = x + self.c_proj(hidden * torch.sigmoid(1.702 * hidden))
        return out, key, value


class TextEncoder(nn.Module):
    """Token ids to features in the space that images and texts share.

    Args:
        config: sizes.
        proj_dim: width of the shared space.
    """

    def __init__(self, config: TextConfig, proj_dim: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.token_embedding = TokenEmbedding(config.vocabulary_size, width, config.token_rank)
        self.positional_embedding = nn.Parameter(torch.randn(config.context_length, width) * 0.01)
        self.blocks = nn.ModuleList(TextBlock(width, config.heads) for _ in range(config.layers))
        self.ln_final = nn.LayerNorm(width, eps=NORM_EPS)
        self.lang_proj = nn.Parameter(torch.randn(width, proj_dim) * width**-0.5)
        # exp(logit_scale) multiplies cosines; CLIP starts it at 1 / 0.07.
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))

    def forward(self, token_ids: Tensor) -> Tensor:
        """Project every position: ``[T, L]`` int64 to ``[T, L, proj_dim]``."""
        places = torch.arange(token_ids.shape[1], device=token_ids.device)
        return self.proceed(token_ids, places[None], (places <= places[:, None])[None]).features

    def proceed(
        self,
        token_ids: Tensor,
        places: Tensor,
        visible: Tensor,
        past: list[tuple[Tensor, Tensor]] | None = None,
    ) -> TextStep:
        """Encode rows of tokens, after others whose keys and values are kept.

        A row may hold several texts that share a beginning: a token sees itself and the tokens
        before it in its text, wherever in the row they are.

        Args:
            token_ids: ``[T, L]`` int64.
            places: ``[1 or T, L]`` int64, each token's place in its text.
            visible: ``[1 or T, L, P + L]`` bool, which earlier tokens and which of these a token
                sees.
            past: keys and values of P earlier tokens a layer, ``[T, heads, P, head_dim]``.
        """
        x = self.token_embedding(token_ids) + self.positional_embedding[places]
        mask = torch.where(visible, 0.0, BLOCKED).to(x.dtype)[:, None]
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            x, key, value = block(x, mask, None if past is None else past[i])
            keys.append(key)
            values.append(value)
        return TextStep(self.ln_final(x) @ self.lang_proj, keys, values)

    def pooled(self, token_ids: Tensor) -> Tensor:
        """Return features at first end tokens: ``[T, L]`` int64 to ``[T, proj_dim]``, unnormalised.

        The end token has the largest id, so its first place is the first maximum (the original's
        rule). Padding needs no mask: attention is causal.
        """
        features: Tensor = self(token_ids)
        end = token_ids.argmax(dim=-1)
        index = end[:, None, None].expand(-1, 1, features.shape[2])
        return features.gather(1, index)[:, 0]
