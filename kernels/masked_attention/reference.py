"""Masked cross-attention in plain PyTorch: the definition that every other form is held to."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def open_positions(mask_embedding: Tensor, mask_features: Tensor) -> Tensor:
    """Return which keys each query may see: ``[B, Q, C], [B, C, N] -> [B, Q, N]`` bool.

    A position is open where its mask logit is not negative (the original's
    ``sigmoid(x) >= 0.5``). A row with no open position is open everywhere.
    """
    logits = mask_embedding @ mask_features
    return (logits >= 0) | (logits.amax(dim=-1, keepdim=True) < 0)


def masked_attention(
    query: Tensor, key: Tensor, value: Tensor, mask_embedding: Tensor, mask_features: Tensor
) -> Tensor:
    """Compute ``softmax(Q K^T / sqrt(d) + M) V`` with one mask for all heads.

    Args:
        query: ``[B, heads, Q, d]``.
        key: ``[B, heads, N, d]``.
        value: ``[B, heads, N, d]``.
        mask_embedding: ``[B, Q, C]``.
        mask_features: ``[B, C, N]``, at the level's own resolution.

    Returns:
        ``[B, heads, Q, d]``.
    """
    visible = open_positions(mask_embedding, mask_features)[:, None]
    scores = (query * (1.0 / math.sqrt(query.shape[-1]))) @ key.transpose(-1, -2)
    weights = torch.softmax(scores.masked_fill(~visible, float("-inf")), dim=-1)
    return weights @ value
