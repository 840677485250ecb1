"""The launch of the level shrink: no Triton, no PyTorch."""

from __future__ import annotations

from typing import Any

from xdecoder_rt.kernels.level_features.tiles import (
    COLUMN_CHUNK,
    FIELDS,
    LAUNCH_LEVELS,
    ROW_CHUNK,
    TILE_COLUMNS,
    TILE_ROWS,
)
from xdecoder_rt.kernels.spec import BlockCount, Call, Constant, Grid

MODULE = "xdecoder_rt.kernels.level_features.triton"
GRID = Grid(((BlockCount("planes"), BlockCount("tiles")), (), ()))
"""``planes`` is batch x channels, ``tiles`` the length of the tile table."""
WARPS = 4
PIPELINE_STAGES = 3


def constants(element: str) -> dict[str, Constant]:
    """Return the constants of the kernel for an element type: ``fp16``, ``bf16`` or ``fp32``."""
    return {
        "ROWS": TILE_ROWS,
        "COLUMNS": TILE_COLUMNS,
        "ROW_CHUNK": ROW_CHUNK,
        "COLUMN_CHUNK": COLUMN_CHUNK,
        "FIELDS": len(FIELDS),
        "PRECISION": "ieee" if element == "fp32" else "tf32",
    }


def call(
    element: str,
    x: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    table: Any,
    tiles: int,
    weights: Any,
    outs: list[Any],
) -> Call:
    """Return the launch, over tensors or device addresses.

    Args:
        element: ``fp16``, ``bf16`` or ``fp32``: the type of the map, the weights and the outputs.
        x: the map.
        shape: of the map, ``(B, C, h, w)``.
        strides: of the map, in elements.
        table: int32, :attr:`~xdecoder_rt.kernels.level_features.tiles.TilePlan.table`.
        tiles: its length.
        weights: :attr:`~xdecoder_rt.kernels.level_features.tiles.TilePlan.weights`.
        outs: for each of the three levels ``[B, C, N]``, contiguous.
    """
    batch, channels, _, width = shape
    values = {
        "x": x,
        "table": table,
        "weights": weights,
        **{f"out_{level}": outs[level] for level in range(LAUNCH_LEVELS)},
        "channels": channels,
        "width": width,
        "tiles": tiles,
        **{f"stride_{axis}": stride for axis, stride in zip("bchw", strides, strict=True)},
        **constants(element),
    }
    sizes = {"planes": batch * channels, "tiles": tiles}
    return Call(MODULE, "shrink", element, values, sizes, GRID, WARPS, PIPELINE_STAGES)
