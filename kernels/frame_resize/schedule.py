"""The launches that scale a frame: no Triton, no PyTorch."""

from __future__ import annotations

from typing import Any

from xdecoder_rt.kernels.spec import BlockCount, Call, Constant, Grid
from xdecoder_rt.pixels.axes import PRECISION, FixedAxis
from xdecoder_rt.pixels.letterbox import Letterbox

MODULE = "xdecoder_rt.kernels.frame_resize.triton"
ELEMENT = "u8"
CHANNELS = 3
_BLOCK = 512
CONSTANTS: dict[str, Constant] = {"BLOCK": _BLOCK, "PRECISION": PRECISION}
# Lines along x, which may have more programs than 65,535.
GRID = Grid(((BlockCount("lines"),), (BlockCount("line_bytes", _BLOCK),), ()))


def across(
    pixels: Any, pitch: int, height: int, axis: FixedAxis, first: Any, weights: Any, between: Any
) -> Call:
    """Return the launch that scales every line to its valid width.

    Args:
        pixels: uint8 ``[height, w, 3]``, lines of packed pixels.
        pitch: bytes from a line to the next.
        height: lines.
        axis: from w to the valid width.
        first: its ``first``, where the kernel can read it.
        weights: its ``weights``, likewise.
        between: uint8 ``[height, valid width, 3]``, written.
    """
    values: dict[str, Any] = {
        "pixels": pixels,
        "first": first,
        "weights": weights,
        "between": between,
        "pitch": pitch,
        "width": axis.target,
        "taps": axis.taps,
        **CONSTANTS,
    }
    sizes = {"lines": height, "line_bytes": CHANNELS * axis.target}
    return Call(MODULE, "across", ELEMENT, values, sizes, GRID)


def down(
    between: Any, axis: FixedAxis, box: Letterbox, first: Any, weights: Any, frame: Any
) -> Call:
    """Return the launch that scales every column to its valid height, zeros beside the image.

    Args:
        between: uint8 ``[h, valid width, 3]``.
        axis: from h to the valid height.
        box: where the image lies.
        first: the axis's ``first``, where the kernel can read it.
        weights: its ``weights``, likewise.
        frame: uint8 ``[H, W, 3]``, written.
    """
    values: dict[str, Any] = {
        "between": between,
        "first": first,
        "weights": weights,
        "frame": frame,
        "height": box.valid[0],
        "width": box.valid[1],
        "frame_width": box.target[1],
        "taps": axis.taps,
        **CONSTANTS,
    }
    sizes = {"lines": box.target[0], "line_bytes": CHANNELS * box.target[1]}
    return Call(MODULE, "down", ELEMENT, values, sizes, GRID)
