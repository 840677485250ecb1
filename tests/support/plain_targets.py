"""The masks of a training batch's targets, pixel by pixel."""

from __future__ import annotations

from torch import Tensor

from xdecoder_rt.training.dataset import Batch


def target_masks(batch: Batch) -> Tensor:
    """The masks of all targets: ``[B, N, S, S]`` bool."""
    size, side, _ = batch.ids.shape
    flat = batch.ids.long().view(size, 1, -1).expand(-1, batch.membership.shape[1], -1)
    return batch.membership.gather(2, flat).view(size, -1, side, side)
