"""Antialiased bicubic shrinking by a whole number, as two strided convolutions of each channel.

It equals ``torch.nn.functional.interpolate(mode="bicubic", antialias=True)`` up to rounding, and
unlike ONNX's antialiased ``Resize`` every runtime computes it the same. Every output reads the same
taps, and at the borders those that are inside, scaled so that their weights sum to one: zeros
around the image and a product afterwards. Convolutions take the image in the layout that the
convolutions before them leave it in; matrix products would have it moved.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.masks.resample import bicubic_matrix


def shrink(x: Tensor, stride: int) -> Tensor:
    """Shrink ``[B, C, h, w]`` to ``[B, C, h / stride, w / stride]``, differentiable in ``x``.

    Args:
        x: its sides are multiples of the stride.
        stride: an even number, or 1 for `x` as it is.
    """
    if stride == 1:
        return x
    channels, height, width = x.shape[1:]
    taps = _taps(stride).to(device=x.device, dtype=x.dtype)
    # Taps on both sides of an output's centre, less the half stride from there to the border.
    around = (len(taps) - stride) // 2
    rows = taps[:, None].expand(channels, 1, -1, 1)
    columns = taps.expand(channels, 1, 1, -1)
    shorter = F.conv2d(x, rows, stride=(stride, 1), padding=(around, 0), groups=channels)
    small = F.conv2d(shorter, columns, stride=(1, stride), padding=(0, around), groups=channels)
    gain = _gain(height, stride)[:, None] * _gain(width, stride)
    return small * gain.to(device=x.device, dtype=x.dtype)


@lru_cache(maxsize=16)
def _taps(stride: int) -> Tensor:
    """Return the weights of an output far from the borders, ``[4 * stride]``."""
    return _plain(bicubic_matrix(9 * stride, 9)[4, 5 * stride // 2 : 13 * stride // 2])


@lru_cache(maxsize=256)
def _gain(size: int, stride: int) -> Tensor:
    """Return the factors that make weights inside an axis sum to one, ``[size / stride]``."""
    taps = _taps(stride).double()
    inside = torch.ones(1, 1, size, dtype=torch.float64)
    around = (len(taps) - stride) // 2
    sums = F.conv1d(inside, taps[None, None], stride=stride, padding=around)
    return _plain((1 / sums[0, 0]).numpy())


def _plain(values: npt.NDArray[np.float64]) -> Tensor:
    # A plain tensor even when first asked for under inference_mode: training reuses the cache.
    with torch.inference_mode(False):
        return torch.from_numpy(values).to(torch.float32)
