"""The launches that make a panoptic map: no Triton, no PyTorch."""

from __future__ import annotations

from typing import Any

from xdecoder_rt.kernels.spec import BlockCount, Call, Constant, Grid

MODULE = "xdecoder_rt.kernels.panoptic_map.triton"
# At the usual enlargement of four a tile reads one chunk.
OWN_CONSTANTS: dict[str, Constant] = {
    "ROWS": 16,
    "COLUMNS": 64,
    "ROW_CHUNK": 16,
    "COLUMN_CHUNK": 32,
}
OWN_GRID = Grid(((BlockCount("out_width", 64),), (BlockCount("out_height", 16),), ()))
OWN_WARPS = 8
BLOCK = 1024
RELABEL_GRID = Grid(((BlockCount("pixels", BLOCK),), (), ()))


def own(
    element: str,
    mask_logits: Any,
    axes: tuple[Any, Any, Any, Any],
    shifts: Any,
    winners: Any,
    counts: Any,
    sizes: dict[str, int],
) -> Call:
    """Return the launch that finds the owners of pixels.

    Args:
        element: type of the mask logits.
        mask_logits: ``[K, h, w]``, contiguous.
        axes: int32 ``[H]`` and float32 ``[H, taps]`` of the rows, and the same of the columns
            (:class:`xdecoder_rt.masks.resample.Axis`, ``first`` and ``weights``).
        shifts: float32 ``[K]``, -log(score).
        winners: int32 ``[H, W]``, written.
        counts: int32 ``[3, K]``, zero before.
        sizes: ``masks``, ``height``, ``width`` (of the logits), ``row_taps``, ``column_taps``,
            ``out_height`` and ``out_width``.
    """
    names = ("row_first", "row_weights", "column_first", "column_weights")
    values: dict[str, Any] = {
        "mask_logits": mask_logits,
        **dict(zip(names, axes, strict=True)),
        "shifts": shifts,
        "winners": winners,
        "counts": counts,
    }
    return Call(MODULE, "own", element, values | sizes | OWN_CONSTANTS, sizes, OWN_GRID, OWN_WARPS)


def relabel(winners: Any, ids: Any, pixels: int) -> Call:
    """Return the launch that puts ids in place of owners.

    Args:
        winners: int32, ``pixels`` of them, overwritten.
        ids: int32 ``[K + 1]``.
        pixels: of the map.
    """
    values = {"winners": winners, "ids": ids, "pixels": pixels, "BLOCK": BLOCK}
    return Call(MODULE, "relabel", "i32", values, {"pixels": pixels}, RELABEL_GRID)
