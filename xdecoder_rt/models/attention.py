"""Multi-head attention with packed projections, and the sine position of image maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention whose tensors are named as ``torch.nn.MultiheadAttention``'s.

    The pieces are separate calls because this model reuses them: keys and values of an image are
    projected once for many layers, and latents' keys and values outlive the call that made them.

    Args:
        dim: width of queries and output.
        heads: number of heads; ``dim`` is a multiple.
        memory_dim: width of what keys and values are made from; ``dim`` by default.
    """

    def __init__(self, dim: int, heads: int, memory_dim: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.dim = dim
        memory_dim = dim if memory_dim is None else memory_dim
        self.packed = memory_dim == dim
        if self.packed:
            self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
            nn.init.xavier_uniform_(self.in_proj_weight)
        else:
            self.q_proj_weight = nn.Parameter(torch.empty(dim, dim))
            self.k_proj_weight = nn.Parameter(torch.empty(dim, memory_dim))
            self.v_proj_weight = nn.Parameter(torch.empty(dim, memory_dim))
            for weight in (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
                nn.init.xavier_uniform_(weight)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.zeros_(self.out_proj.bias)

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value weights, each ``[dim, memory_dim]``."""
        if self.packed:
            q, k, v = self.in_proj_weight.chunk(3)
            return q, k, v
        return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight

    def biases(self) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value biases, each ``[dim]``."""
        q, k, v = self.in_proj_bias.chunk(3)
        return q, k, v

    def queries(self, x: Tensor) -> Tensor:
        """``[B, Q, dim] -> [B, heads, Q, head_dim]``."""
        return self.split(F.linear(x, self.weights()[0], self.biases()[0]))

    def keys(self, x: Tensor) -> Tensor:
        """``[B, N, memory_dim] -> [B, heads, N, head_dim]``."""
        return self.split(F.linear(x, self.weights()[1], self.biases()[1]))

    def values(self, x: Tensor) -> Tensor:
        """``[B, N, memory_dim] -> [B, heads, N, head_dim]``."""
        return self.split(F.linear(x, self.weights()[2], self.biases()[2]))

    def split(self, x: Tensor) -> Tensor:
        """``[B, N, dim] -> [B, heads, N, head_dim]``."""
        return torch.unflatten(x, 2, (self.heads, self.head_dim)).transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        """``[B, heads, Q, head_dim] -> [B, Q, dim]``, through the output projection."""
        merged: Tensor = self.out_proj(x.transpose(1, 2).flatten(2))
        return merged


# Added to scores that may not count: exp of it is zero, and fp16 holds it.
BLOCKED = -10000.0


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute scaled dot-product attention over split heads.

    Written out rather than called from torch so that every exporter sees two products and a
    softmax; ``mask`` is added to the scores.
    """
    scores = (query * (1.0 / math.sqrt(query.shape[-1]))) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    return torch.softmax(scores, dim=-1) @ value


def sine_position(height: int, width: int, dim: int, device: torch.device | None = None) -> Tensor:
    """DETR's sine position of a map: ``[dim, height, width]``, the y half first.

    Coordinates are normalised to 2*pi with eps 1e-6; sine and cosine interleave.
    """
    half = dim // 2
    eps = 1e-6
    ys = torch.arange(1, height + 1, dtype=torch.float32, device=device)
    xs = torch.arange(1, width + 1, dtype=torch.float32, device=device)
    ys = ys / (ys[-1] + eps) * (2 * math.pi)
    xs = xs / (xs[-1] + eps) * (2 * math.pi)
    index = torch.arange(half, dtype=torch.float32, device=device)
    period = 10000.0 ** (2 * torch.div(index, 2, rounding_mode="floor") / half)

    def encode(coordinate: Tensor) -> Tensor:
        angle = coordinate[:, None] / period
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    y = encode(ys)[:, None, :].expand(height, width, half)
    x = encode(xs)[None, :, :].expand(height, width, half)
    return torch.cat((y, x), dim=2).permute(2, 0, 1)
