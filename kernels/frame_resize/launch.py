"""Letterboxes of PyTorch tensors by the Triton kernels."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.kernels.frame_resize import schedule
from xdecoder_rt.kernels.launch import launch
from xdecoder_rt.pixels.axes import FixedAxis, fixed_axis
from xdecoder_rt.pixels.letterbox import Letterbox


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
    box = Letterbox.fit((pixels.shape[0], pixels.shape[1]), size)
    return placed(pixels, box, interpolation), box


def placed(pixels: Tensor, box: Letterbox, interpolation: str = "bilinear") -> Tensor:
    """Scale pixels into a network input by the kernels, zeros beside them.

    Args:
        pixels: uint8 ``[h, w, 3]``; lines may be apart.
        box: where they go.
        interpolation: as of :func:`letterbox`.

    Returns:
        uint8 ``[H, W, 3]`` on the same device.
    """
    height, device = box.source[0], pixels.device
    rows, columns = (fixed_axis(box.source[i], box.valid[i], interpolation) for i in range(2))
    between = torch.empty((height, columns.target, 3), dtype=torch.uint8, device=device)
    frame = torch.empty((*box.target, 3), dtype=torch.uint8, device=device)
    first, weights = _on_device(columns, device)
    launch(schedule.across(pixels, pixels.stride(0), height, columns, first, weights, between))
    first, weights = _on_device(rows, device)
    launch(schedule.down(between, rows, box, first, weights, frame))
    return frame


@lru_cache(maxsize=32)
def _on_device(axis: FixedAxis, device: torch.device) -> tuple[Tensor, Tensor]:
    """What the kernels read of an axis; frames of one size share it."""
    return torch.tensor(axis.first, device=device), torch.tensor(axis.weights, device=device)
