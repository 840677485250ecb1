"""Panoptic maps in Triton: the kernels' source.

A program enlarges one mask after another for a tile of pixels, by two small products with the
bands of the resampling matrices that the tile needs: fewer loads than gathering every pixel's taps.
Products are exact fp32, because ids must be those of a CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _weights(first, weights, line, place, lines, taps):
    """``[lines, places]`` of a banded matrix: zero outside the band."""
    start = tl.load(first + line, mask=line < lines, other=0)
    tap = place[None, :] - start[:, None]
    inside = (tap >= 0) & (tap < taps) & (line < lines)[:, None]
    return tl.load(weights + line[:, None] * taps + tap, mask=inside, other=0.0)


@triton.jit
def own(
    mask_logits,
    row_first,
    row_weights,
    column_first,
    column_weights,
    shifts,
    winners,
    counts,
    masks,
    height,
    width,
    row_taps,
    column_taps,
    out_height,
    out_width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROW_CHUNK: tl.constexpr,
    COLUMN_CHUNK: tl.constexpr,
):
    """Compute the owners of a tile of pixels, and its part of the counts.

    ``winners`` and ``counts`` are as in the reference; ``counts`` is added to. ``shifts`` is
    -log(score): the largest score x probability is the smallest shift + softplus(-logit).
    Grid: tiles along the width, tiles along the height.
    """
    x = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    y = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside = (y < out_height)[:, None] & (x < out_width)[None, :]
    # A band never starts before that of the line above it.
    last_y = tl.minimum(tl.program_id(1) * ROWS + ROWS, out_height) - 1
    last_x = tl.minimum(tl.program_id(0) * COLUMNS + COLUMNS, out_width) - 1
    top = tl.load(row_first + tl.program_id(1) * ROWS)
    bottom = tl.load(row_first + last_y) + row_taps
    left = tl.load(column_first + tl.program_id(0) * COLUMNS)
    right = tl.load(column_first + last_x) + column_taps

    best = tl.full((ROWS, COLUMNS), float("inf"), dtype=tl.float32)
    owner = tl.zeros((ROWS, COLUMNS), dtype=tl.int32)
    owner_inside = tl.zeros((ROWS, COLUMNS), dtype=tl.int32)
    plane = mask_logits
    for mask in range(masks):
        logit = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
        for c in range(left, right, COLUMN_CHUNK):
            column = c + tl.arange(0, COLUMN_CHUNK)
            part = tl.zeros((ROWS, COLUMN_CHUNK), dtype=tl.float32)
            for r in range(top, bottom, ROW_CHUNK):
                row = r + tl.arange(0, ROW_CHUNK)
                source = tl.load(
                    plane + row[:, None] * width + column[None, :],
                    mask=(row < height)[:, None] & (column < width)[None, :],
                    other=0.0,
                ).to(tl.float32)
                vertical = _weights(row_first, row_weights, y, row, out_height, row_taps)
                part = tl.dot(vertical, source, part, input_precision="ieee")
            horizontal = _weights(column_first, column_weights, x, column, out_width, column_taps)
            logit = tl.dot(part, tl.trans(horizontal), logit, input_precision="ieee")
        small = tl.exp(-tl.abs(logit))
        cost = tl.load(shifts + mask) + tl.maximum(-logit, 0.0) + tl.log(1.0 + small)
        is_inside = (logit >= 0).to(tl.int32)
        wins = cost < best
        best = tl.where(wins, cost, best)
        owner = tl.where(wins, mask + 1, owner)
        owner_inside = tl.where(wins, is_inside, owner_inside)
        number = tl.sum(tl.sum(tl.where(inside, is_inside, 0), axis=1), axis=0)
        tl.atomic_add(counts + masks + mask, number, mask=number > 0)
        plane += height * width
    for mask in range(masks):
        owned = tl.where(inside & (owner == mask + 1), 1, 0)
        number = tl.sum(tl.sum(owned, axis=1), axis=0)
        owned_inside = tl.sum(tl.sum(owned * owner_inside, axis=1), axis=0)
        tl.atomic_add(counts + mask, number, mask=number > 0)
        tl.atomic_add(counts + 2 * masks + mask, owned_inside, mask=owned_inside > 0)
    winner = tl.where(owner_inside > 0, owner, 0)
    tl.store(winners + y[:, None] * out_width + x[None, :], winner, mask=inside)


@triton.jit
def relabel(winners, ids, pixels, BLOCK: tl.constexpr):
    """Replace every winner by its entry in ``ids``, in place. Grid: blocks of pixels."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    winner = tl.load(winners + place, mask=place < pixels, other=0)
    tl.store(winners + place, tl.load(ids + winner), mask=place < pixels)
