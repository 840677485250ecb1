"""Masked cross-attention in Triton: the kernels' source.

Two kernels: :func:`open_bits` multiplies mask embeddings with level mask features and keeps the
signs, a bit a position, for all heads; :func:`attend` reads the bits, walks over the key tiles
that some query of its block may see and over no others.

The keys are split over programs where the queries alone cannot fill the chip; :func:`combine` joins
the parts. Scores, sums and outputs are accumulated in fp32 whatever the inputs are.
:mod:`xdecoder_rt.kernels.masked_attention.schedule` says with which tiles they are called.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _packed(visible, QUERY_TILE: tl.constexpr, KEY_TILE: tl.constexpr):
    """``[QUERY_TILE, KEY_TILE]`` bool to ``[QUERY_TILE, KEY_TILE / 32]`` int32."""
    place = tl.arange(0, 32)[None, None, :]
    bit = tl.reshape(visible.to(tl.int32), (QUERY_TILE, KEY_TILE // 32, 32)) << place
    return tl.sum(bit, axis=2)


@triton.jit
def mask_logits(
    mask_embedding,
    mask_features,
    row,
    column,
    queries,
    keys,
    channels,
    stride_eq,
    stride_ec,
    stride_fc,
    stride_fn,
    QUERY_TILE: tl.constexpr,
    KEY_TILE: tl.constexpr,
    CHANNEL_TILE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the mask logits of a tile, fp32 ``[QUERY_TILE, KEY_TILE]``."""
    channel = tl.arange(0, CHANNEL_TILE)
    logits = tl.zeros((QUERY_TILE, KEY_TILE), dtype=tl.float32)
    for start in range(0, channels, CHANNEL_TILE):
        c = start + channel
        embedding = tl.load(
            mask_embedding + row[:, None] * stride_eq + c[None, :] * stride_ec,
            mask=(row < queries)[:, None] & (c < channels)[None, :],
            other=0.0,
        )
        features = tl.load(
            mask_features + c[:, None] * stride_fc + column[None, :] * stride_fn,
            mask=(c < channels)[:, None] & (column < keys)[None, :],
            other=0.0,
        )
        logits = tl.dot(embedding, features, logits, input_precision=PRECISION)
    return logits


@triton.jit
def open_bits(
    mask_embedding,
    mask_features,
    bits,
    queries,
    keys,
    channels,
    words,
    stride_eb,
    stride_eq,
    stride_ec,
    stride_fb,
    stride_fc,
    stride_fn,
    QUERY_TILE: tl.constexpr,
    KEY_TILE: tl.constexpr,
    CHANNEL_TILE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Pack a bit a position: where mask embeddings by mask features are not negative.

    Bit ``n % 32`` of ``bits[b, q, n // 32]`` says that query q may see key n; bits past the last
    key are clear. Grid: key tiles of the padded words, query tiles, batch.
    """
    batch = tl.program_id(2).to(tl.int64)
    row = tl.program_id(1) * QUERY_TILE + tl.arange(0, QUERY_TILE)
    column = tl.program_id(0) * KEY_TILE + tl.arange(0, KEY_TILE)
    logits = mask_logits(
        mask_embedding + batch * stride_eb,
        mask_features + batch * stride_fb,
        row,
        column,
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
    visible = (logits >= 0) & (column < keys)[None, :]
    word = tl.program_id(0) * (KEY_TILE // 32) + tl.arange(0, KEY_TILE // 32)
    tl.store(
        bits + (batch * queries + row[:, None]) * words + word[None, :],
        _packed(visible, QUERY_TILE, KEY_TILE),
        mask=(row < queries)[:, None],
    )


@triton.jit
def pack(
    mask,
    bits,
    queries,
    keys,
    words,
    stride_mb,
    stride_mq,
    stride_mn,
    QUERY_TILE: tl.constexpr,
    KEY_TILE: tl.constexpr,
    LOGITS: tl.constexpr,
):
    """Pack the bits of :func:`open_bits` from a mask that exists: logits, or bytes (0 forbids).

    Grid: key tiles of the padded words, query tiles, batch.
    """
    batch = tl.program_id(2).to(tl.int64)
    row = tl.program_id(1) * QUERY_TILE + tl.arange(0, QUERY_TILE)
    column = tl.program_id(0) * KEY_TILE + tl.arange(0, KEY_TILE)
    inside = (row < queries)[:, None] & (column < keys)[None, :]
    entries = tl.load(
        mask + batch * stride_mb + row[:, None] * stride_mq + column[None, :] * stride_mn,
        mask=inside,
        other=0,
    )
    if LOGITS:
        visible = inside & (entries >= 0)
    else:
        visible = inside & (entries != 0)
    word = tl.program_id(0) * (KEY_TILE // 32) + tl.arange(0, KEY_TILE // 32)
    tl.store(
        bits + (batch * queries + row[:, None]) * words + word[None, :],
        _packed(visible, QUERY_TILE, KEY_TILE),
        mask=(row < queries)[:, None],
    )


@triton.jit
def weighed(scores, top):
    """Return weights of a tile against the new row maxima, and what older sums shrink by."""
    highest = tl.maximum(top, tl.max(scores, axis=-1))
    # A row that has seen nothing yet has a maximum of -inf; the difference must not be NaN.
    base = tl.where(highest == float("-inf"), 0.0, highest)
    return highest, tl.exp2(scores - tl.expand_dims(base, -1)), tl.exp2(top - base)


@triton.jit
def attend(
    query,
    key,
    value,
    bits,
    out,
    tops,
    totals,
    queries,
    keys,
    heads,
    batch_heads,
    words,
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
    WIDTH: tl.constexpr,
    WIDTH_TILE: tl.constexpr,
    QUERY_TILE: tl.constexpr,
    KEY_TILE: tl.constexpr,
    CHUNK: tl.constexpr,
    SPLIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Attend from a block of queries of one head over the key tiles that its bits open.

    ``scale`` is log2(e) / sqrt(width): the softmax is in powers of two. With ``SPLIT`` the program
    handles ``split_tiles`` key tiles, and ``out`` gets fp32 sums ``[splits, B, heads, Q, width]``
    relative to ``tops``, weighing ``totals``, both ``[splits, B, heads, Q]``, for :func:`combine`.
    ``CHUNK`` key tiles are looked through at a time. Grid: query tiles, batch x heads, splits.
    """
    head = tl.program_id(1)
    batch = (head // heads).to(tl.int64)
    row = tl.program_id(0) * QUERY_TILE + tl.arange(0, QUERY_TILE)
    is_row = row < queries
    lane = tl.arange(0, WIDTH_TILE)
    column = tl.arange(0, KEY_TILE)
    WORDS: tl.constexpr = KEY_TILE // 32
    row_bits = bits + (batch * queries + row) * words

    chunk_word = tl.arange(0, CHUNK * WORDS)
    opened = tl.zeros((QUERY_TILE,), dtype=tl.int32)
    for start in range(0, words, CHUNK * WORDS):
        word = start + chunk_word
        chunk_bits = tl.load(
            row_bits[:, None] + word[None, :],
            mask=is_row[:, None] & (word < words)[None, :],
            other=0,
        )
        opened = tl.maximum(opened, tl.max((chunk_bits != 0).to(tl.int32), axis=1))
    # The row rule: with no open position, every position is open.
    empty = is_row & (opened == 0)

    query += batch * stride_qb + (head % heads) * stride_qh
    key += batch * stride_kb + (head % heads) * stride_kh
    value += batch * stride_vb + (head % heads) * stride_vh
    inside = is_row[:, None] & (lane < WIDTH)[None, :]
    q = tl.load(query + row[:, None] * stride_qq + lane[None, :], mask=inside, other=0.0)

    top = tl.full((QUERY_TILE,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((QUERY_TILE,), dtype=tl.float32)
    gathered = tl.zeros((QUERY_TILE, WIDTH_TILE), dtype=tl.float32)
    first = tl.program_id(2) * split_tiles
    last = tl.minimum(first + split_tiles, tl.cdiv(keys, KEY_TILE))
    chunk_tile = tl.arange(0, CHUNK)
    for chunk in range(first, last, CHUNK):
        word = chunk * WORDS + chunk_word
        chunk_bits = tl.load(
            row_bits[:, None] + word[None, :],
            mask=is_row[:, None] & (word < tl.minimum(last * WORDS, words))[None, :],
            other=0,
        )
        used = tl.max(((chunk_bits != 0) | empty[:, None]).to(tl.int32), axis=0)
        used = tl.max(tl.reshape(used, (CHUNK, WORDS)), axis=1)
        used = tl.where(chunk + chunk_tile < last, used, 0)
        # A loop over the used tiles, rather than a branch in a loop over all, so that the
        # compiler overlaps the loads of one tile with the products of another.
        step = -1
        for _ in range(tl.sum(used)):
            step = tl.min(tl.where((used > 0) & (chunk_tile > step), chunk_tile, CHUNK))
            tile = chunk + step
            place = tile * KEY_TILE + column
            is_key = place < keys
            k = tl.load(
                key + place[None, :] * stride_kn + lane[:, None] * stride_kd,
                mask=is_key[None, :] & (lane < WIDTH)[:, None],
                other=0.0,
            )
            scores = tl.dot(q, k, input_precision=PRECISION) * scale
            key_word = tl.zeros((QUERY_TILE, KEY_TILE), dtype=tl.int32)
            for i in tl.static_range(WORDS):
                word_bits = tl.load(row_bits + tile * WORDS + i, mask=is_row, other=0)
                word_bits = tl.where(empty, -1, word_bits)
                key_word = tl.where((column // 32 == i)[None, :], word_bits[:, None], key_word)
            visible = ((key_word >> (column % 32)[None, :]) & 1) != 0
            scores = tl.where(visible & is_key[None, :], scores, float("-inf"))
            top, weights, shrink = weighed(scores, top)
            total = total * shrink + tl.sum(weights, axis=1)
            v = tl.load(
                value + place[:, None] * stride_vn + lane[None, :],
                mask=is_key[:, None] & (lane < WIDTH)[None, :],
                other=0.0,
            )
            gathered = tl.dot(
                weights.to(v.dtype), v, gathered * shrink[:, None], input_precision=PRECISION
            )

    if SPLIT:
        place = (tl.program_id(2).to(tl.int64) * batch_heads + head) * queries + row
        tl.store(tops + place, top, mask=is_row)
        tl.store(totals + place, total, mask=is_row)
        tl.store(out + place[:, None] * WIDTH + lane[None, :], gathered, mask=inside)
    else:
        place = head.to(tl.int64) * queries + row
        mean = gathered / total[:, None]
        tl.store(
            out + place[:, None] * WIDTH + lane[None, :],
            mean.to(out.dtype.element_ty),
            mask=inside,
        )


@triton.jit
def combine(
    parts,
    tops,
    totals,
    out,
    rows,
    splits,
    WIDTH: tl.constexpr,
    WIDTH_TILE: tl.constexpr,
    ROW_TILE: tl.constexpr,
):
    """Join the parts of split keys; ``rows`` is batch x heads x queries. Grid: row tiles."""
    row = tl.program_id(0).to(tl.int64) * ROW_TILE + tl.arange(0, ROW_TILE)
    is_row = row < rows
    lane = tl.arange(0, WIDTH_TILE)
    inside = is_row[:, None] & (lane < WIDTH)[None, :]
    top = tl.full((ROW_TILE,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((ROW_TILE,), dtype=tl.float32)
    gathered = tl.zeros((ROW_TILE, WIDTH_TILE), dtype=tl.float32)
    for split in range(splits):
        place = split * rows + row
        part_top = tl.load(tops + place, mask=is_row, other=float("-inf"))
        part_total = tl.load(totals + place, mask=is_row, other=0.0)
        part = tl.load(parts + place[:, None] * WIDTH + lane[None, :], mask=inside, other=0.0)
        highest = tl.maximum(top, part_top)
        base = tl.where(highest == float("-inf"), 0.0, highest)
        shrink, weight = tl.exp2(top - base), tl.exp2(part_top - base)
        total = total * shrink + part_total * weight
        gathered = gathered * shrink[:, None] + part * weight[:, None]
        top = highest
    mean = gathered / total[:, None]
    tl.store(out + row[:, None] * WIDTH + lane[None, :], mean.to(out.dtype.element_ty), mask=inside)
