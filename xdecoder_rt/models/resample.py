"""Antialiased bicubic resizing as two products with constant matrices.

``R_h X R_w^T`` equals ``torch.nn.functional.interpolate(mode="bicubic", antialias=True)`` up to
rounding, and unlike ONNX's antialiased ``Resize`` every runtime computes it the same. Channels
come last in both products: so runtimes' convolutions leave them, and channels first would be
reached by a transposition that takes longer than the products.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from xdecoder_rt.resample import bicubic_matrix


@lru_cache(maxsize=256)
def _matrix(source: int, target: int) -> Tensor:
    # A plain tensor even when first asked for under inference_mode: training reuses the cache.
    with torch.inference_mode(False):
        return torch.from_numpy(bicubic_matrix(source, target)).to(torch.float32)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``[B, C, h, w]`` to ``[B, C, H, W]``, differentiable in ``x``."""
    rows = _matrix(x.shape[-2], size[0]).to(device=x.device, dtype=x.dtype)
    columns = _matrix(x.shape[-1], size[1]).to(device=x.device, dtype=x.dtype)
    last = x.permute(0, 2, 3, 1)
    shorter = torch.unflatten(torch.matmul(rows, last.flatten(2)), 2, last.shape[2:])
    return torch.matmul(columns, shorter).permute(0, 3, 1, 2)
