"""How much of their masks queries share.

Several queries often find the same thing and are each unsure what it is. Post-processing lets them
vote (:func:`xdecoder_rt.masks.votes.join_votes`), for which it needs to know which those are. Their
masks are compared at one of the decoder's own levels: a few percent more or less do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_FINE_ENOUGH = 16


def overlap_stride(level_strides: Sequence[int]) -> int:
    """Return the stride of the level that masks are compared at, of those of the decoder."""
    return min((stride for stride in level_strides if stride >= _FINE_ENOUGH), default=8)


def overlaps(mask_embedding: Tensor, mask_features: Tensor) -> Tensor:
    """Return the intersection over union of the masks of all pairs of rows.

    Args:
        mask_embedding: ``[B, R, mask_dim]``.
        mask_features: ``[B, N, mask_dim]``.

    Returns:
        ``[B, R, R]``, 0 to 1; 0 for masks without a position.
    """
    inside = (mask_embedding @ mask_features.transpose(1, 2) > 0).to(mask_embedding.dtype)
    shared = inside @ inside.transpose(1, 2)
    area = inside.sum(dim=2)
    union = area[:, :, None] + area[:, None, :] - shared
    return shared / torch.clamp(union, min=1.0)
