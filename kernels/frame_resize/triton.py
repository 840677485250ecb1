"""Scaled frames in Triton: the kernels' source.

Two passes, as the CPU makes them: along the lines, then along the columns, each rounded to bytes.
A thread makes one byte; neighbours read neighbouring bytes, which the caches serve.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def across(
    pixels,
    first,
    weights,
    between,
    pitch,
    width,
    taps,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Scale lines: ``[lines, w, 3]`` to ``[lines, width, 3]``. Grid: lines, blocks of bytes."""
    line = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < 3 * width
    x = place // 3
    start = tl.load(first + x, mask=inside, other=0)
    source = pixels + line * pitch + 3 * start + place % 3
    total = tl.full((BLOCK,), 1 << (PRECISION - 1), dtype=tl.int32)
    for tap in range(taps):
        weight = tl.load(weights + tap * width + x, mask=inside, other=0)
        # No weight, no pixel: the band may reach over the end of the line.
        pixel = tl.load(source + 3 * tap, mask=inside & (weight != 0), other=0)
        total += weight * pixel.to(tl.int32)
    value = tl.minimum(tl.maximum(total >> PRECISION, 0), 255)
    tl.store(between + line * (3 * width) + place, value.to(tl.uint8), mask=inside)


@triton.jit
def down(
    between,
    first,
    weights,
    frame,
    height,
    width,
    frame_width,
    taps,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Scale columns to ``height`` and lay them into a frame. Grid: its lines, blocks of bytes."""
    y = tl.program_id(0)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    content = tl.where(y < height, 3 * width, 0)
    line = tl.minimum(y, height - 1)  # below the image, anything: nothing of it is read
    start = tl.load(first + line)
    total = tl.full((BLOCK,), 1 << (PRECISION - 1), dtype=tl.int32)
    for tap in range(taps):
        weight = tl.load(weights + tap * height + line)
        source = between + (start + tap).to(tl.int64) * (3 * width) + place
        reach = tl.where(weight != 0, content, 0)
        pixel = tl.load(source, mask=place < reach, other=0)
        total += weight * pixel.to(tl.int32)
    value = tl.minimum(tl.maximum(total >> PRECISION, 0), 255)
    target = frame + y.to(tl.int64) * (3 * frame_width) + place
    tl.store(target, value.to(tl.uint8), mask=place < 3 * frame_width)
