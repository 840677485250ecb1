"""Masked cross-attention in one kernel, in Triton: compared with two kernels, and not shipped.

The mask is formed tile by tile beside the scores. Whether a row is empty is known only at its end,
so a row begins as if it were empty and forgets what it gathered at its first open key: one
accumulator carries both outcomes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from xdecoder_rt.kernels.masked_attention.triton import mask_logits, weighed


@triton.jit
def fused(
    query,
    key,
    value,
    mask_embedding,
    mask_features,
    out,
    tops,
    totals,
    opened,
    queries,
    keys,
    channels,
    heads,
    batch_heads,
    split_tiles,
    scale,
    stride_qb,
    stride_qh,
    stride_qq,
    stride_kb,
    stride_kh,
    stride_kn,
    stride_kd,
    stride_vb,
    stride_vh,
    stride_vn,
    stride_eb,
    stride_eq,
    stride_ec,
    stride_fb,
    stride_fc,
    stride_fn,
    WIDTH: tl.constexpr,
    WIDTH_TILE: tl.constexpr,
    QUERY_TILE: tl.constexpr,
    KEY_TILE: tl.constexpr,
    CHANNEL_TILE: tl.constexpr,
    HEADS: tl.constexpr,
    SPLIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Mask and attention in one: a program owns a block of queries and ``HEADS`` heads.

    The heads of a program share the mask logits. Arguments as in :func:`open_bits` and
    :func:`attend`; ``opened``, int32 ``[splits, B, heads, Q]``, is for :func:`combine`. Grid: query
    tiles, batch x head groups, splits.
    """
    groups = tl.cdiv(heads, HEADS)
    batch = (tl.program_id(1) // groups).to(tl.int64)
    head = (tl.program_id(1) % groups) * HEADS + tl.arange(0, HEADS)
    row = tl.program_id(0) * QUERY_TILE + tl.arange(0, QUERY_TILE)
    lane = tl.arange(0, WIDTH_TILE)
    column = tl.arange(0, KEY_TILE)
    is_row, is_lane = row < queries, lane < WIDTH
    is_head = (head < heads)[:, None, None]

    inside = is_head & is_row[None, :, None] & is_lane[None, None, :]
    head_row = head[:, None, None] * stride_qh + row[None, :, None] * stride_qq
    q = tl.load(query + batch * stride_qb + head_row + lane[None, None, :], mask=inside, other=0.0)
    key += batch * stride_kb
    value += batch * stride_vb
    mask_embedding += batch * stride_eb
    mask_features += batch * stride_fb

    top = tl.full((HEADS, QUERY_TILE), float("-inf"), dtype=tl.float32)
    total = tl.zeros((HEADS, QUERY_TILE), dtype=tl.float32)
    gathered = tl.zeros((HEADS, QUERY_TILE, WIDTH_TILE), dtype=tl.float32)
    has_opened = tl.zeros((QUERY_TILE,), dtype=tl.int32)
    first = tl.program_id(2) * split_tiles
    last = tl.minimum(first + split_tiles, tl.cdiv(keys, KEY_TILE))
    for tile in range(first, last):
        place = tile * KEY_TILE + column
        is_key = place < keys
        logits = mask_logits(
            mask_embedding,
            mask_features,
            row,
            place,
            queries,
            keys,
            channels,
            stride_eq,
            stride_ec,
            stride_fc,
            stride_fn,
            QUERY_TILE,
            KEY_TILE,
            CHANNEL_TILE,
            PRECISION,
        )
        is_open = (logits >= 0) & is_key[None, :] & is_row[:, None]
        any_open = tl.max(is_open.to(tl.int32), axis=1)
        forget = (any_open > has_opened)[None, :]
        has_opened = tl.maximum(has_opened, any_open)
        top = tl.where(forget, float("-inf"), top)
        total = tl.where(forget, 0.0, total)
        gathered = tl.where(forget[:, :, None], 0.0, gathered)
        waiting = is_row & (has_opened == 0)
        visible = is_open | (waiting[:, None] & is_key[None, :])
        if tl.max(tl.max(visible.to(tl.int32), axis=1), axis=0) > 0:
            k = tl.load(
                key
                + head[:, None, None] * stride_kh
                + lane[None, :, None] * stride_kd
                + place[None, None, :] * stride_kn,
                mask=is_head & is_lane[None, :, None] & is_key[None, None, :],
                other=0.0,
            )
            scores = tl.dot(q, k, input_precision=PRECISION) * scale
            scores = tl.where(visible[None, :, :], scores, float("-inf"))
            top, weights, shrink = weighed(scores, top)
            total = total * shrink + tl.sum(weights, axis=2)
            v = tl.load(
                value
                + head[:, None, None] * stride_vh
                + place[None, :, None] * stride_vn
                + lane[None, None, :],
                mask=is_head & is_key[None, :, None] & is_lane[None, None, :],
                other=0.0,
            )
            gathered = tl.dot(
                weights.to(v.dtype), v, gathered * shrink[:, :, None], input_precision=PRECISION
            )

    block = batch * heads + head
    if SPLIT:
        line = (tl.program_id(2).to(tl.int64) * batch_heads + block)[:, None] * queries + row
        is_line = (head < heads)[:, None] & is_row[None, :]
        tl.store(tops + line, top, mask=is_line)
        tl.store(totals + line, total, mask=is_line)
        flags = tl.broadcast_to(has_opened[None, :], (HEADS, QUERY_TILE))
        tl.store(opened + line, flags, mask=is_line)
        tl.store(
            out + line[:, :, None] * WIDTH + lane[None, None, :],
            gathered,
            mask=inside,
        )
    else:
        line = block[:, None] * queries + row[None, :]
        mean = gathered / total[:, :, None]
        tl.store(
            out + line[:, :, None] * WIDTH + lane[None, None, :],
            mean.to(out.dtype.element_ty),
            mask=inside,
        )
