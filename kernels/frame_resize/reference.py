"""The scaled frame in plain PyTorch: the definition, in integers."""

from __future__ import annotations

import torch
from torch import Tensor

from xdecoder_rt.pixels.axes import PRECISION, FixedAxis


def letterboxed(
    pixels: Tensor, rows: FixedAxis, columns: FixedAxis, size: tuple[int, int]
) -> Tensor:
    """Compute the pixels of :func:`xdecoder_rt.image.letterbox`.

    Args:
        pixels: uint8 ``[h, w, 3]``.
        rows: from h to the valid height.
        columns: from w to the valid width.
        size: height and width of the network input.

    Returns:
        uint8 ``[H, W, 3]``, zeros right of the image and below it.
    """
    scaled = _scaled(_scaled(pixels, columns, 1), rows, 0)
    frame = torch.zeros((*size, 3), dtype=torch.uint8, device=pixels.device)
    frame[: rows.target, : columns.target] = scaled
    return frame


def _scaled(pixels: Tensor, axis: FixedAxis, dim: int) -> Tensor:
    lines = pixels.movedim(dim, 0).int()
    first, weights = (
        torch.tensor(array, device=pixels.device) for array in (axis.first, axis.weights)
    )
    total = torch.full((axis.target, *lines.shape[1:]), 1 << (PRECISION - 1), device=pixels.device)
    for tap, weight in enumerate(weights):
        # Beyond the end the weight is zero, whatever is read.
        read = lines[(first + tap).clamp(max=axis.source - 1)]
        total += read * weight[:, None, None]
    return (total >> PRECISION).clamp(0, 255).byte().movedim(0, dim)
