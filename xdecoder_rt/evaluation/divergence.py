"""Measures of how far one array is from another."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def relative_rms(actual: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    """Return the root mean square of the difference over that of the expected values.

    Computed in float64. Two arrays of zeros, or of nothing, differ by 0; any other array differs
    from zeros by infinity.
    """
    reference = np.asarray(expected, np.float64)
    error, size = _rms(np.asarray(actual, np.float64) - reference), _rms(reference)
    if size == 0.0:
        return 0.0 if error == 0.0 else float("inf")
    return error / size


def cosine(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the cosine of two arrays as vectors, computed in float64; 1 for two of zeros."""
    a, b = actual.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    lengths = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / lengths if lengths else float(not a.any() and not b.any())


def _rms(values: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0
