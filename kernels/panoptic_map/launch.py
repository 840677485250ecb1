"""Panoptic maps of PyTorch tensors by the Triton kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xdecoder_rt.kernels.launch import ELEMENT_OF, launch
from xdecoder_rt.kernels.panoptic_map import schedule
from xdecoder_rt.masks.panoptic_rule import MapSegment, panoptic_segments
from xdecoder_rt.masks.resample import Axis, mask_axis
from xdecoder_rt.pixels.letterbox import Letterbox


def owners(mask_logits: Tensor, rows: Axis, columns: Axis, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Compute :func:`reference.owners` by the kernel.

    Args:
        mask_logits: ``[K, h, w]``.
        rows: from h to H.
        columns: from w to W.
        scores: ``[K]``, positive.

    Returns:
        int32 ``[H, W]`` and int32 ``[3, K]``.
    """
    device = mask_logits.device
    size = (rows.target, columns.target)
    counts = torch.zeros((3, len(scores)), dtype=torch.int32, device=device)
    if not len(scores):
        return torch.zeros(size, dtype=torch.int32, device=device), counts
    winners = torch.empty(size, dtype=torch.int32, device=device)
    arrays = (rows.first, rows.tap_columns, columns.first, columns.tap_columns)
    row_first, row_weights, column_first, column_weights = (
        torch.tensor(array, device=device) for array in arrays
    )
    call = schedule.own(
        ELEMENT_OF[mask_logits.dtype],
        mask_logits.contiguous(),
        (row_first, row_weights, column_first, column_weights),
        -scores.float().log(),
        winners,
        counts,
        {
            "masks": len(scores),
            "height": rows.source,
            "width": columns.source,
            "row_taps": rows.taps,
            "column_taps": columns.taps,
            "out_height": rows.target,
            "out_width": columns.target,
        },
    )
    launch(call)
    return winners, counts


def panoptic(
    scores: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    mask_logits: Tensor,
    letterbox: Letterbox,
    is_thing: npt.NDArray[np.bool_],
    overlap_threshold: float,
) -> tuple[Tensor, tuple[MapSegment, ...]]:
    """Compute :func:`xdecoder_rt.masks.postprocess.panoptic`, the map on the device.

    Only the counts, three integers a mask, come to the host between the two kernels.

    Args:
        scores: ``[K]``, positive.
        labels: ``[K]``, indices into the vocabulary.
        mask_logits: ``[K, h, w]``, of the whole padded input.
        letterbox: where the image lies in it.
        is_thing: one entry per class.
        overlap_threshold: 0 to 1.

    Returns:
        int32 ``[H, W]`` segment ids, and the segments.
    """
    rows, columns = (
        mask_axis(size, letterbox.target[i], letterbox.valid[i], letterbox.source[i])
        for i, size in enumerate(mask_logits.shape[1:])
    )
    device = mask_logits.device
    winners, counts = owners(mask_logits, rows, columns, torch.from_numpy(scores).to(device))
    ids, segments = panoptic_segments(
        counts.cpu().numpy().astype(np.int64), scores, labels, is_thing, overlap_threshold
    )
    launch(schedule.relabel(winners, torch.from_numpy(ids).to(device), winners.numel()))
    return winners, segments
