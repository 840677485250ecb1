"""Letterboxes of PyTorch tensors by the Triton kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.image import Letterbox
from xdecoder_rt.kernels.frame_resize import schedule
from xdecoder_rt.kernels.launch import launch
from xdecoder_rt.pixels.axes import fixed_axis


def letterbox(
    pixels: Tensor, size: tuple[int, int], interpolation: str = "bilinear"
) -> tuple[Tensor, Letterbox]:
    """Compute :func:`xdecoder_rt.image.letterbox` by the kernels.

    Args:
        pixels: uint8 ``[h, w, 3]``; lines may be apart.
        size: height and width of the network input.
        interpolation: ``"bilinear"`` or ``"bicubic"``.

    Returns:
        uint8 ``[*size, 3]`` on the same device, and its geometry.

    Raises:
        ArgumentError: it is no such image, or the interpolation is unknown.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.stride()[1:] != (3, 1):
        raise ArgumentError(
            f"the frame is {pixels.dtype} of shape {tuple(pixels.shape)}",
            expected="uint8 [h, w, 3], pixels packed",
        )
    height, width = pixels.shape[:2]
    box = Letterbox.fit((height, width), size)
    device = pixels.device
    rows, columns = (fixed_axis(box.source[i], box.valid[i], interpolation) for i in range(2))
    between = torch.empty((height, columns.target, 3), dtype=torch.uint8, device=device)
    frame = torch.empty((*size, 3), dtype=torch.uint8, device=device)
    first, weights = (torch.tensor(a, device=device) for a in (columns.first, columns.weights))
    launch(schedule.across(pixels, pixels.stride(0), height, columns, first, weights, between))
    first, weights = (torch.tensor(a, device=device) for a in (rows.first, rows.weights))
    launch(schedule.down(between, rows, box, first, weights, frame))
    return frame, box
