"""COCO's run-length encoding of masks, in NumPy.

A mask is read column by column; the runs of zeros and ones alternate, zeros first. The compressed
form writes each run as the difference from the run two before it, in groups of five bits, lowest
first, as printable characters (``rleToString`` in ``common/maskApi.c`` of
https://github.com/cocodataset/cocoapi).
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError

__all__ = ["RunLengths", "decode_mask", "decode_runs", "encode_mask"]

_CHUNK_BITS = 5
_CHUNK_MASK = 0x1F
_SIGN_BIT = 0x10
_MORE_BIT = 0x20
_FIRST_CHARACTER = 48


class RunLengths(TypedDict):
    """A mask in COCO's compressed form: ``size`` is [height, width]."""

    size: list[int]
    counts: str


def encode_mask(mask: npt.NDArray[np.bool_]) -> RunLengths:
    """Encode a boolean mask ``[H, W]``."""
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts_with_one = flat.size > 0 and bool(flat[0])
    bounds = np.concatenate([[0] * (2 if starts_with_one else 1), changes, [flat.size]])
    counts = np.diff(bounds)
    return {"size": [int(side) for side in mask.shape], "counts": _compress(counts)}


def decode_mask(encoded: RunLengths) -> npt.NDArray[np.bool_]:
    """Return the boolean mask ``[H, W]`` of `encoded`.

    Raises:
        ArgumentError: the runs do not add up to the size.
    """
    height, width = encoded["size"]
    counts = decode_runs(encoded)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(height, width, order="F")


def decode_runs(encoded: RunLengths) -> npt.NDArray[np.int64]:
    """Return the lengths ``[R]`` of the runs down the columns, of zeros and ones by turns.

    Raises:
        ArgumentError: the runs do not add up to the size.
    """
    height, width = encoded["size"]
    counts = _expand(encoded["counts"])
    # A sum of runs that are longer than the image could wrap around to its size.
    fits = not len(counts) or (counts.min() >= 0 and counts.max() <= height * width)
    if not fits or counts.sum() != height * width:
        raise ArgumentError(
            f"The runs of a mask add up to {sum(counts.tolist()):,} pixels",
            expected=f"{height * width:,} ({height} x {width})",
        )
    return counts


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


def _expand(text: str) -> npt.NDArray[np.int64]:
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        group = ord(character) - _FIRST_CHARACTER
        value |= (group & _CHUNK_MASK) << shift
        shift += _CHUNK_BITS
        if group & _MORE_BIT:
            continue
        if group & _SIGN_BIT:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value, shift = 0, 0
    return np.array(counts, dtype=np.int64)
