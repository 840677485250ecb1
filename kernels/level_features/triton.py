"""Level shrink of mask features in Triton: the kernel's source.

One launch serves the three levels. The tiles of a plane are neighbours in the grid, so its second
and third reading come from the L2 cache, and the map leaves memory about once.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def shrink(
    x,
    table,
    weights,
    out_0,
    out_1,
    out_2,
    channels,
    width,
    tiles,
    stride_b,
    stride_c,
    stride_h,
    stride_w,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROW_CHUNK: tl.constexpr,
    COLUMN_CHUNK: tl.constexpr,
    FIELDS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute a tile of one level of one plane: ``R_h X R_w^T`` over the bands that it reads.

    ``table`` and ``weights`` are those of ``tiles.TilePlan``, the weights in the type of ``x``.
    Grid: planes x tiles, the tiles fastest.
    """
    plane = tl.program_id(0) // tiles
    field = table + (tl.program_id(0) % tiles) * FIELDS
    level = tl.load(field)
    row = tl.load(field + 1) + tl.arange(0, ROWS)
    column = tl.load(field + 2) + tl.arange(0, COLUMNS)
    height_out, width_out = tl.load(field + 3), tl.load(field + 4)
    first_row, row_stop = tl.load(field + 5), tl.load(field + 6)
    first_column = tl.multiple_of(tl.load(field + 7), 16)
    column_stop = tl.multiple_of(tl.load(field + 8), 16)
    row_weights = weights + tl.multiple_of(tl.load(field + 9), 16)
    column_weights = weights + tl.multiple_of(tl.load(field + 10), 16)
    row_span = tl.cdiv(row_stop - first_row, ROW_CHUNK) * ROW_CHUNK

    x += (plane // channels).to(tl.int64) * stride_b + (plane % channels).to(tl.int64) * stride_c
    step = tl.arange(0, ROW_CHUNK)
    place = tl.arange(0, COLUMN_CHUNK)
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for column_begin in range(0, column_stop - first_column, COLUMN_CHUNK):
        source_column = first_column + column_begin + place
        is_column = (source_column < column_stop) & (source_column < width)
        tall = tl.zeros((ROWS, COLUMN_CHUNK), dtype=tl.float32)
        for row_begin in range(0, row_span, ROW_CHUNK):
            source_row = first_row + row_begin + step
            values = tl.load(
                x
                + source_row[:, None].to(tl.int64) * stride_h
                + source_column[None, :].to(tl.int64) * stride_w,
                mask=(source_row < row_stop)[:, None] & is_column[None, :],
                other=0.0,
            )
            over_rows = tl.load(
                row_weights + tl.arange(0, ROWS)[:, None] * row_span + (row_begin + step)[None, :]
            )
            tall = tl.dot(over_rows, values, tall, input_precision=PRECISION)
        over_columns = tl.load(
            column_weights
            + (column_begin + place)[:, None] * COLUMNS
            + tl.arange(0, COLUMNS)[None, :]
        )
        total = tl.dot(tall.to(over_columns.dtype), over_columns, total, input_precision=PRECISION)

    out = out_0
    if level == 1:
        out = out_1
    elif level == 2:
        out = out_2
    out += plane.to(tl.int64) * height_out * width_out
    tl.store(
        out + row[:, None] * width_out + column[None, :],
        total.to(out.dtype.element_ty),
        mask=(row < height_out)[:, None] & (column < width_out)[None, :],
    )
