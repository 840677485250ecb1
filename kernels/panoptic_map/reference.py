"""Owners of pixels and the counts that decide who stays, in plain PyTorch: the definition."""

from __future__ import annotations

import torch
from torch import Tensor


def owners(
    mask_logits: Tensor, rows: Tensor, columns: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor]:
    """Apply :func:`xdecoder_rt.masks.postprocess.panoptic` up to the choice of segments.

    Args:
        mask_logits: ``[K, h, w]``.
        rows: ``[H, h]``, the matrix that enlarges one axis.
        columns: ``[W, w]``.
        scores: ``[K]``, positive.

    Returns:
        int32 ``[H, W]``: 1 + the mask with the largest score x probability (of equals the first)
        where its own probability is at least 0.5, else 0. And int32 ``[3, K]``: pixels that a mask
        owns, pixels where its probability is at least 0.5, and pixels of both.
    """
    logits = rows @ mask_logits @ columns.T
    owner = (scores[:, None, None] * logits.sigmoid()).argmax(dim=0)
    masks = logits >= 0
    owned = owner == torch.arange(len(scores), device=owner.device)[:, None, None]
    owned_inside = owned & masks
    winners = torch.where(owned_inside.any(dim=0), owner + 1, 0)
    counts = torch.stack([count.sum(dim=(1, 2)) for count in (owned, masks, owned_inside)])
    return winners.to(torch.int32), counts.to(torch.int32)
