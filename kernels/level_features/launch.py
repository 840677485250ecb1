"""Level shrink on PyTorch tensors by the Triton kernel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.kernels.launch import ELEMENT_OF, launch
from xdecoder_rt.kernels.level_features.schedule import call
from xdecoder_rt.kernels.level_features.tiles import tile_plan

Sizes = tuple[tuple[int, int], ...]


def level_features(x: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Compute :func:`reference.level_features` by one launch.

    Accumulates in fp32; the weights and what lies between the two products are rounded to the
    type of ``x``.

    Args:
        x: ``[B, C, h, w]`` of any strides, fp16, bf16 or fp32.
        sizes: height and width of the three levels.

    Returns:
        For each level ``[B, C, height * width]``, contiguous, of the type of ``x``.

    Raises:
        ArgumentError: the map, its type or the sizes are not of this form.
    """
    if x.ndim != 4 or x.dtype not in ELEMENT_OF:
        raise ArgumentError(
            f"the mask features are {x.dtype} of shape {tuple(x.shape)}",
            expected="[B, C, h, w] of " + ", ".join(str(dtype) for dtype in ELEMENT_OF),
        )
    batch, channels, height, width = x.shape
    levels = tuple((int(rows), int(columns)) for rows, columns in sizes)
    table, weights = _tables((height, width), levels, x.dtype, x.device)
    outs = [x.new_empty((batch, channels, rows * columns)) for rows, columns in levels]
    if batch * channels:
        element, tiles = ELEMENT_OF[x.dtype], len(table)
        launch(call(element, x, x.shape, x.stride(), table, tiles, weights, outs))
    return outs


@lru_cache(maxsize=64)
def _tables(
    size: tuple[int, int], sizes: Sizes, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The tile table and the weights on a device."""
    plan = tile_plan(size, sizes)
    # Plain tensors even when first asked for under inference_mode: other calls reuse them.
    with torch.inference_mode(False):
        table = torch.tensor(plan.table, device=device)
        return table, torch.tensor(plan.weights).to(device=device, dtype=dtype)
