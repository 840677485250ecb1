"""Ways to compute masked attention: those of PyTorch, and those to run our kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from gpu.problems import Inputs, Shape
from xdecoder_rt.kernels.masked_attention import launch, reference, schedule
from xdecoder_rt.kernels.masked_attention.schedule import DeviceTraits, Schedule, Tiles

SHIPPED = "two kernels"
TILES = (
    schedule.NARROW,
    Tiles(32, 64),
    schedule.WIDE,
    Tiles(32, 128, warps=8),
    Tiles(64, 64),
    Tiles(64, 64, warps=8),
    Tiles(64, 64, warps=8, stages=3),
    Tiles(64, 128, warps=8),
    Tiles(128, 64, warps=8),
)
"""Shapes of a program of attention that are tried, and of the mask product:"""
BITS = (Tiles(64, 64), Tiles(32, 64, stages=3), Tiles(64, 32, stages=3), Tiles(64, 128, warps=8))
FILLS = (1, 2, 4)
"""Programs a multiprocessor that splits of the keys are to give."""


@dataclass(frozen=True)
class Way:
    """A way to compute it.

    Attributes:
        name: in the tables.
        build: what to call, given the inputs; building is not timed.
        ours: whether it runs our kernels.
        whole: whether it does the whole job: the mask product and the row rule too.
        graph: whether it may be recorded as a CUDA graph.
    """

    name: str
    build: Callable[[Inputs], Callable[[], Tensor]]
    ours: bool = False
    whole: bool = True
    graph: bool = True


def original(x: Inputs) -> Callable[[], Tensor]:
    """Attend as the published model does.

    Logits, a boolean mask repeated for every head, the row rule by indexing, and the arithmetic of
    ``nn.MultiheadAttention`` between its projections.
    """
    heads, width = x.query.shape[1], x.query.shape[3]

    def call() -> Tensor:
        logits = torch.einsum("bqc,bcn->bqn", x.mask_embedding, x.mask_features)
        repeated = logits.sigmoid().unsqueeze(1).repeat(1, heads, 1, 1).flatten(0, 1)
        closed = (repeated < 0.5).bool()
        closed[torch.where(closed.sum(-1) == closed.shape[-1])] = False
        mask = torch.zeros_like(closed, dtype=x.query.dtype).masked_fill_(closed, float("-inf"))
        scaled = x.query.flatten(0, 1) * math.sqrt(1.0 / width)
        scores = torch.baddbmm(mask, scaled, x.key.flatten(0, 1).transpose(-2, -1))
        out = torch.bmm(scores.softmax(dim=-1), x.value.flatten(0, 1))
        return out.unflatten(0, (-1, heads))

    return call


def definition(x: Inputs) -> Callable[[], Tensor]:
    """Attend by our reference, which waits for nothing."""
    return lambda: reference.masked_attention(*x.operands)


def sdpa_boolean(x: Inputs) -> Callable[[], Tensor]:
    """Attend by PyTorch's fused attention under a boolean mask, shared by the heads."""

    def call() -> Tensor:
        visible = reference.open_positions(x.mask_embedding, x.mask_features)[:, None]
        return F.scaled_dot_product_attention(x.query, x.key, x.value, attn_mask=visible)

    return call


def sdpa_additive(x: Inputs) -> Callable[[], Tensor]:
    """Attend by PyTorch's fused attention under an additive mask in the type of the queries."""

    def call() -> Tensor:
        visible = reference.open_positions(x.mask_embedding, x.mask_features)[:, None]
        added = torch.zeros_like(visible, dtype=x.query.dtype)
        added.masked_fill_(~visible, float("-inf"))
        return F.scaled_dot_product_attention(x.query, x.key, x.value, attn_mask=added)

    return call


def compiled_definition(x: Inputs) -> Callable[[], Tensor]:
    """Attend by the reference under ``torch.compile``, for this shape."""
    backend = "inductor" if x.query.is_cuda else "eager"
    compiled_function = torch.compile(reference.masked_attention, dynamic=False, backend=backend)
    return lambda: compiled_function(*x.operands)


def flex(masked_anew: bool) -> Callable[[Inputs], Callable[[], Tensor]]:
    """Attend by FlexAttention; its block mask is made in every call, or beforehand."""

    def build(x: Inputs) -> Callable[[], Tensor]:
        on_gpu = x.query.is_cuda
        # On a CPU it runs uncompiled, to test the runbook.
        attend = torch.compile(flex_attention, dynamic=False) if on_gpu else flex_attention
        make = torch.compile(create_block_mask, dynamic=False) if on_gpu else create_block_mask
        queries, keys = x.query.shape[2], x.key.shape[2]

        def block_mask() -> BlockMask:
            visible = reference.open_positions(x.mask_embedding, x.mask_features)

            def rule(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
                return visible[batch, query, key]

            return make(rule, x.query.shape[0], None, queries, keys, device=str(x.query.device))

        if masked_anew:
            return lambda: attend(x.query, x.key, x.value, block_mask=block_mask())
        fixed_mask = block_mask()
        return lambda: attend(x.query, x.key, x.value, block_mask=fixed_mask)

    return build


PEERS = (
    Way("eager, as the original", original, graph=False),
    Way("eager, the reference", definition),
    Way("SDPA, boolean mask", sdpa_boolean),
    Way("SDPA, additive mask", sdpa_additive),
)
"""Ways of PyTorch that need no compiling."""
COMPILED = (
    Way("torch.compile of the reference", compiled_definition),
    Way("FlexAttention", flex(masked_anew=True)),
    Way("FlexAttention, block mask given", flex(masked_anew=False), whole=False),
)
"""Ways that PyTorch compiles first, which takes seconds."""


def _scheduled(way: Schedule | None) -> Callable[[Inputs], Callable[[], Tensor]]:
    def build(x: Inputs) -> Callable[[], Tensor]:
        laid = x.as_plans_lay
        return lambda: launch.masked_attention(*laid, schedule=way)

    return build


def _keys_by_position(x: Inputs) -> Callable[[], Tensor]:
    return lambda: launch.masked_attention(*x.operands)


def _under_mask(x: Inputs) -> Callable[[], Tensor]:
    query, key, value, embedding, features = x.as_plans_lay
    return lambda: launch.attention_under_mask(query, key, value, embedding @ features)


def our_ways(shape: Shape, device: DeviceTraits) -> list[Way]:
    """Return ways to run our kernels on a shape: the shipped one first, then its alternatives."""
    chosen = schedule.choose(shape.problem, device)
    ways = {SHIPPED: _scheduled(None)}
    if shape.sweep:
        for tiles in TILES:
            for parts in filling_parts(shape, tiles, device):
                name = f"{tiles_name(tiles)}, keys in {parts}"
                ways[name] = _scheduled(replace(chosen, tiles=tiles, splits=parts))
        for tiles in BITS:
            ways[f"mask product {tiles_name(tiles)}"] = _scheduled(replace(chosen, bits=tiles))
        ways["keys [N, d]"] = _keys_by_position
        ways["torch product, then under a given mask"] = _under_mask
    return [Way(name, build, ours=True) for name, build in ways.items()]


def filling_parts(shape: Shape, tiles: Tiles, device: DeviceTraits) -> list[int]:
    """Return numbers of parts of the keys that give every multiprocessor some programs."""
    programs = shape.heads * -(-shape.queries // tiles.query)
    max_parts = -(-shape.keys // tiles.key)
    part_counts = [-(-fill * device.multiprocessors // programs) for fill in FILLS]
    return sorted({min(schedule.power_of_two(parts, least=1), max_parts) for parts in part_counts})


def tiles_name(tiles: Tiles) -> str:
    """Return tiles in words: queries by keys, warps, stages."""
    return f"{tiles.query}x{tiles.key}, {tiles.warps} warps, {tiles.stages} stages"
