"""Run lengths of masks: what is broken is told, and takes no memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.masks.rle import decode_mask, encode_mask


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_comes_back(seed: int) -> None:
    mask = np.random.default_rng(seed).random((17, 23)) < 0.3 * seed
    np.testing.assert_array_equal(decode_mask(encode_mask(mask)), mask)


@pytest.mark.parametrize(
    "encoded",
    [
        {"size": [4, 4], "counts": "o" * 1_000_000},  # a number that never ends
        {"size": [4, 4], "counts": "oooooooooooo0"},  # one of 60 bits
        {"size": [4, 4], "counts": "A"},  # a negative one
        {"size": [4, 4], "counts": "0\u20ac"},
        {"size": [4, 4], "counts": "0 0"},
        {"size": [4, 4], "counts": "11"},
        {"size": [4, 4], "counts": [8, 8]},
        {"size": [4, 4], "counts": None},
        {"size": [1 << 40, 1 << 40], "counts": "0"},
        {"size": [-4, -4], "counts": "0"},
        {"size": [4], "counts": "0"},
        {"size": [4.5, 4], "counts": "0"},
        {"size": "44", "counts": "0"},
        {"counts": "0"},
        {},
        None,
        [],
    ],
    ids=lambda encoded: str(encoded)[:40],
)
def test_what_is_no_mask_is_refused(encoded: Any) -> None:
    with pytest.raises(ArgumentError) as refusal:
        decode_mask(encoded)
    assert len(str(refusal.value)) < 500
