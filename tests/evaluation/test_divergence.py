"""The distance of one array from another."""

from __future__ import annotations

import numpy as np
import pytest

from xdecoder_rt.evaluation.divergence import cosine, relative_rms


@pytest.mark.parametrize(
    ("actual", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.0], [0.0], 0.0),
        ([1.0], [0.0], float("inf")),
        ([3.0, 3.0], [2.0, 2.0], 0.5),
    ],
)
def test_relative_rms(actual: list[float], expected: list[float], error: float) -> None:
    assert relative_rms(actual, expected) == error


@pytest.mark.parametrize(
    ("actual", "expected", "value"),
    [
        ([3.0, 4.0], [6.0, 8.0], 1.0),
        ([1.0, 0.0], [0.0, 2.0], 0.0),
        ([1.0], [-1.0], -1.0),
        ([0.0], [0.0], 1.0),
        ([1.0], [0.0], 0.0),
    ],
)
def test_cosine(actual: list[float], expected: list[float], value: float) -> None:
    assert cosine(np.array(actual), np.array(expected)) == value
