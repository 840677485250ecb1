"""Level shrink of mask features in plain PyTorch: the definition the kernel is held to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xdecoder_rt.masks.resample import bicubic_matrix


def level_features(x: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Compute ``R_h X R_w^T`` for each level, with the antialiased bicubic matrices of its size.

    Args:
        x: ``[B, C, h, w]``, floating point.
        sizes: height and width of each level.

    Returns:
        For each level ``[B, C, height * width]`` of the type of ``x``.
    """
    levels = []
    for height, width in sizes:
        rows = torch.from_numpy(bicubic_matrix(x.shape[-2], height)).to(x)
        columns = torch.from_numpy(bicubic_matrix(x.shape[-1], width)).to(x)
        levels.append((rows @ x @ columns.T).flatten(2))
    return levels
