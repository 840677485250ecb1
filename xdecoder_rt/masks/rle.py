"""COCO's run-length encoding of masks, in NumPy.

A mask is read column by column; the runs of zeros and ones alternate, zeros first. The compressed
form writes each run as the difference from the run two before it, in groups of five bits, lowest
first, as printable characters (``rleToString`` in ``common/maskApi.c`` of
https://github.com/cocodataset/cocoapi).
"""

from __future__ import annotations

import operator
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, quoted

__all__ = ["RunLengths", "decode_mask", "decode_runs", "encode_mask"]

_CHUNK_BITS = 5
_CHUNK_MASK = 0x1F
_SIGN_BIT = 0x10
_MORE_BIT = 0x20
_FIRST_CHARACTER = 48
_RUN_BITS = 35
_PIXELS_LIMIT = 1 << 27
_EXPECTED = 'COCO\'s compressed form: {"size": [height, width], "counts": "..."}'


class RunLengths(TypedDict):
    """A mask in COCO's compressed form: ``size`` is [height, width]."""

    size: list[int]
    counts: str


def encode_mask(mask: npt.NDArray[np.bool_]) -> RunLengths:
    """Encode a boolean mask ``[H, W]``.

    Example:
        >>> encode_mask(np.ones((2, 3), np.bool_))
        {'size': [2, 3], 'counts': '06'}
    """
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts_with_one = flat.size > 0 and bool(flat[0])
    bounds = np.concatenate([[0] * (2 if starts_with_one else 1), changes, [flat.size]])
    counts = np.diff(bounds)
    return {"size": [int(side) for side in mask.shape], "counts": _compress(counts)}


def decode_mask(encoded: RunLengths) -> npt.NDArray[np.bool_]:
    """Return the boolean mask ``[H, W]`` of `encoded`.

    Raises:
        ArgumentError: it is no compressed mask, is larger than 2^27 pixels, or its runs do not add
            up to its size.

    Example:
        >>> decode_mask({"size": [2, 3], "counts": "06"}).tolist()
        [[True, True, True], [True, True, True]]
    """
    counts = decode_runs(encoded)
    height, width = encoded["size"]
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(height, width, order="F")


def decode_runs(encoded: RunLengths) -> npt.NDArray[np.int64]:
    """Return the lengths ``[R]`` of the runs down the columns, of zeros and ones by turns.

    Raises:
        ArgumentError: it is no compressed mask, is larger than 2^27 pixels, or its runs do not add
            up to its size.
    """
    try:
        height, width = (operator.index(side) for side in encoded["size"])
        text = encoded["counts"]
        is_text = isinstance(text, str)
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(f"{quoted(encoded)} is no mask", expected=_EXPECTED) from error
    if not is_text:
        raise ArgumentError(f"The counts of a mask are {quoted(text)}", expected=_EXPECTED)
    if min(height, width) < 0 or height * width > _PIXELS_LIMIT:
        raise ArgumentError(
            f"The size of a mask is {quoted([height, width])}",
            expected=f"[height, width] of at most {_PIXELS_LIMIT:,} pixels",
        )
    counts = _expand(text, height * width)
    if sum(counts) != height * width:
        raise ArgumentError(
            f"The runs of a mask add up to {sum(counts):,} pixels",
            expected=f"{height * width:,} ({height} x {width})",
        )
    return np.array(counts, dtype=np.int64)


def _compress(counts: npt.NDArray[np.int64]) -> str:
    """Compress all runs at once: one pass per five-bit group of the longest."""
    remainder = counts.astype(np.int64)
    remainder[3:] -= counts[1:-2]
    groups: list[npt.NDArray[np.int64]] = []
    is_unfinished = np.ones(len(remainder), dtype=bool)
    while is_unfinished.any():
        group = remainder & _CHUNK_MASK
        remainder = remainder >> _CHUNK_BITS
        # The last group's top bit is the sign of the whole.
        goes_on = np.where(group & _SIGN_BIT, remainder != -1, remainder != 0)
        character = group + np.where(goes_on, _MORE_BIT, 0) + _FIRST_CHARACTER
        groups.append(np.where(is_unfinished, character, 0))
        is_unfinished &= goes_on
    table = np.stack(groups, axis=1) if groups else np.zeros((0, 1), dtype=np.int64)
    return table[table > 0].astype(np.uint8).tobytes().decode("ascii")


def _expand(text: str, pixels: int) -> list[int]:
    """Return the runs of a mask of `pixels`, each between 0 and that."""
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        group = ord(character) - _FIRST_CHARACTER
        if not 0 <= group < 2 * _MORE_BIT or shift >= _RUN_BITS:
            raise ArgumentError(
                f"The counts of a mask hold {quoted(character)} in run {len(counts):,}",
                expected=_EXPECTED,
            )
        value |= (group & _CHUNK_MASK) << shift
        shift += _CHUNK_BITS
        if group & _MORE_BIT:
            continue
        if group & _SIGN_BIT:
            value -= 1 << shift
        count = value + counts[-2] if len(counts) > 2 else value
        if not 0 <= count <= pixels:
            raise ArgumentError(
                f"Run {len(counts):,} of a mask has {count:,} pixels",
                expected=f"the runs of a mask of {pixels:,} pixels",
            )
        counts.append(count)
        value, shift = 0, 0
    return counts
