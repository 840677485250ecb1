"""The causal text encoder: CLIP's transformer, with a factorised token table where asked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xdecoder_rt.models.attention import Attention, attend
from xdecoder_rt.models.config import TextConfig

END_TOKEN = 49407
NORM_EPS = 1e-12


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


class TextBlock(nn.Module):
    """Pre-norm transformer block with QuickGELU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.ln_1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.ln_2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``[T, L, width] -> [T, L, width]`` with an additive mask ``[L, L]``."""
        normed = self.ln_1(x)
        attention = self.attn
        mixed = attend(
            attention.queries(normed), attention.keys(normed), attention.values(normed), mask
        )
        x = x + attention.merge(mixed)
        hidden = self.c_fc(self.ln_2(x))
        out: Tensor = x + self.c_proj(hidden * torch.sigmoid(1.702 * hidden))
        return out


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
        length = token_ids.shape[1]
        x = self.token_embedding(token_ids) + self.positional_embedding[:length]
        blocked = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        mask = torch.zeros(length, length, dtype=x.dtype, device=x.device)
        mask = mask.masked_fill(blocked, float("-inf"))
        for block in self.blocks:
            x = block(x, mask)
        features: Tensor = self.ln_final(x) @ self.lang_proj
        return features

    def pooled(self, token_ids: Tensor) -> Tensor:
        """The feature at the first end token: ``[T, L]`` int64 to ``[T, proj_dim]``, unnormalised.

        The end token has the largest id, so its first place is the first maximum (the original's
        rule). Padding needs no mask: attention is causal.
        """
        features: Tensor = self(token_ids)
        end = token_ids.argmax(dim=-1)
        index = end[:, None, None].expand(-1, 1, features.shape[2])
        return features.gather(1, index)[:, 0]
