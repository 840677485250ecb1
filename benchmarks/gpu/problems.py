"""The attention problems that are timed: shapes, masks that are blobs, and the floor."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xdecoder_rt.kernels.masked_attention import reference
from xdecoder_rt.kernels.masked_attention.schedule import WIDE, Problem

DENSITIES = (0.10, 0.02, 0.50)
TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
AMPLITUDE = 7
ACTIVE = 8
"""Waves that a query adds up, each at most twice: logits stay exact integers in every type."""
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Shape:
    """A problem of batch 1.

    Attributes:
        model: whose it is, ``compact`` or ``published``.
        heads: attention heads.
        width: of a head.
        channels: of mask embeddings and mask features.
        queries: rows.
        side: of the level; there are ``side ** 2`` keys.
        element: ``fp16`` or ``bf16``.
        sweep: whether every way to run our kernels takes part.
    """

    model: str
    heads: int
    width: int
    channels: int
    queries: int
    side: int
    element: str = "fp16"
    sweep: bool = False

    @property
    def keys(self) -> int:
        """Return the number of positions of the level."""
        return self.side**2

    @property
    def problem(self) -> Problem:
        """Return the problem as the kernels' schedule takes it."""
        sizes = (1, self.heads, self.queries, self.keys, self.width, self.channels)
        return Problem(*sizes, self.element)

    @property
    def least_bytes(self) -> int:
        """Return bytes of all inputs, read once, and of the output, written once."""
        attention = 2 * self.heads * (self.queries + self.keys) * self.width
        mask = (self.queries + self.keys) * self.channels
        return (attention + mask) * TYPES[self.element].itemsize

    @property
    def dense_operations(self) -> int:
        """Return floating-point operations of the mask product and of attention to every key."""
        per_pair = 2 * self.channels + 4 * self.heads * self.width
        return self.queries * self.keys * per_pair

    def as_json(self) -> dict[str, Any]:
        """Return the shape as JSON values."""
        derived = {
            "keys": self.keys,
            "least_bytes": self.least_bytes,
            "dense_operations": self.dense_operations,
        }
        return asdict(self) | derived


def _compact(queries: int, side: int, **options: Any) -> Shape:
    return Shape("compact", 3, 64, 65, queries, side, **options)


def _published(queries: int, side: int, **options: Any) -> Shape:
    return Shape("published", 8, 64, 513, queries, side, **options)


QUICK = (
    _published(101, 64, sweep=True),
    _compact(65, 64, sweep=True),
    _compact(265, 64, sweep=True),
    _compact(65, 32, sweep=True),
    _published(600, 64, sweep=True),
)
SHAPES = (
    *QUICK,
    _published(101, 128),
    _published(101, 32),
    _published(101, 64, element="bf16"),
    _published(600, 128),
    _published(600, 32),
    _compact(265, 32),
    _compact(65, 16),
    _compact(265, 16),
    _published(101, 16),
    _published(600, 16),
)
"""The most telling first: what time does not allow is left out from the end."""
COMPILED = (_published(101, 64), _compact(65, 64), _published(101, 128))
"""Shapes for the ways that PyTorch must compile first."""
TINY = (Shape("tiny", 2, 16, 9, 18, 8, sweep=True),)
"""Shapes for the interpreter."""


@dataclass(frozen=True)
class Inputs:
    """Tensors of a problem; keys and values ``[1, heads, N, d]``, contiguous."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask_embedding: Tensor
    mask_features: Tensor

    @property
    def operands(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the tensors in the order that every form takes."""
        return self.query, self.key, self.value, self.mask_embedding, self.mask_features

    @property
    def as_plans_lay(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the operands with keys as plans lay them out, ``[1, heads, d, N]`` in memory."""
        key = self.key.transpose(-1, -2).contiguous().transpose(-1, -2)
        return self.query, key, self.value, self.mask_embedding, self.mask_features

    def expected(self) -> Tensor:
        """Return the definition's output in float64, some rows at a time."""
        query, key, value, embedding, features = (t.double() for t in self.operands)
        parts = []
        for start in range(0, query.shape[2], ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            part = reference.masked_attention(
                query[:, :, rows], key, value, embedding[:, rows], features
            )
            parts.append(part)
        return torch.cat(parts, dim=2)

    def open_share(self) -> float:
        """Return the share of positions that are open before the row rule."""
        logits = self.mask_embedding.float() @ self.mask_features.float()
        return float((logits >= 0).float().mean())

    def tile_share(self) -> float:
        """Return the share of the shipped kernel's tiles that some query of the block may see."""
        visible = reference.open_positions(self.mask_embedding.float(), self.mask_features.float())
        rows, keys = (-visible.shape[i] % size for i, size in ((1, WIDE.query), (2, WIDE.key)))
        padded = torch.nn.functional.pad(visible, (0, keys, 0, rows))
        tiles = padded.unflatten(2, (-1, WIDE.key)).unflatten(1, (-1, WIDE.query))
        return float(tiles.any(dim=4).any(dim=2).float().mean())


def inputs(shape: Shape, density: float, device: str, seed: int = 0) -> Inputs:
    """Return random attention under masks that are blobs, about ``density`` of them open.

    Mask features are plane waves over the level, rounded to small integers, and a channel of ones;
    an embedding adds up some of the waves and subtracts a threshold. So logits are integers, exact
    in fp16 and bf16 too: rounding decides no position, and every form sees the same mask.
    """
    generator = torch.Generator().manual_seed(seed)
    kind = TYPES[shape.element]

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to(device, kind)

    embedding, features = blobs(shape, density, np.random.default_rng(seed))
    return Inputs(
        normal(1, shape.heads, shape.queries, shape.width),
        normal(1, shape.heads, shape.keys, shape.width),
        normal(1, shape.heads, shape.keys, shape.width),
        torch.from_numpy(embedding)[None].to(device, kind),
        torch.from_numpy(features)[None].to(device, kind),
    )


def blobs(
    shape: Shape, density: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return mask embeddings ``[Q, C]`` and mask features ``[C, N]``, small integers."""
    waves = shape.channels - 1
    place = (np.arange(shape.side) + 0.5) / shape.side
    y, x = (axis.ravel() for axis in np.meshgrid(place, place, indexing="ij"))
    turns = rng.uniform(-3, 3, (2, waves))
    phase = rng.uniform(0, 1, waves)
    angle = 2 * math.pi * (turns[0][:, None] * x + turns[1][:, None] * y + phase[:, None])
    features = np.ones((shape.channels, shape.keys), np.float32)
    features[:-1] = np.round(AMPLITUDE * np.cos(angle))

    embedding = np.zeros((shape.queries, shape.channels), np.float32)
    for row in embedding:
        chosen = rng.choice(waves, min(ACTIVE, waves), replace=False)
        row[chosen] = rng.choice([-2.0, -1.0, 1.0, 2.0], len(chosen))
    fields = (embedding @ features).astype(np.int64)
    shortfall = 0.0
    for row, values in zip(embedding, fields, strict=True):
        # How many positions reach each threshold; what one row misses, the next makes up for.
        levels, counts = np.unique(values, return_counts=True)
        reached = counts[::-1].cumsum()[::-1]
        target_count = density * shape.keys + shortfall
        nearest = int(np.abs(reached - target_count).argmin())
        row[-1] = -levels[nearest]
        shortfall = target_count - reached[nearest]
    return embedding, features
