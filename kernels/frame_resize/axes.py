"""Pillow's resize as integers, one axis at a time: no Triton, no PyTorch.

Pillow resizes 8-bit images with weights in fixed point and rounds to 8 bits after each axis
(Pillow, ``src/libImaging/Resample.c``). The same integers give the same bytes anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, quoted

PRECISION = 22
"""Bits of a weight's fraction: 32, less 8 of a pixel, less 2 for sums beyond 255."""
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}


@dataclass(frozen=True, eq=False)
class FixedAxis:
    """``out[i] = clip((sum_t weights[t, i] * x[first[i] + t] + half) >> PRECISION)``.

    Attributes:
        source: length of what goes in.
        first: int32 ``[target]``, the first pixel that each output reads.
        weights: int32 ``[taps, target]``; zero where ``first + t`` is beyond the end.
    """

    source: int
    first: npt.NDArray[np.int32]
    weights: npt.NDArray[np.int32]

    @property
    def target(self) -> int:
        """Return the length of what comes out."""
        return len(self.first)

    @property
    def taps(self) -> int:
        """Return how many pixels one output reads."""
        return len(self.weights)


@lru_cache(maxsize=64)
def fixed_axis(source: int, target: int, interpolation: str) -> FixedAxis:
    """Return one axis of a resize from `source` to `target` pixels.

    Args:
        source: pixels before, at least 1.
        target: pixels after, at least 1.
        interpolation: ``"bilinear"`` or ``"bicubic"`` (a = -0.5), antialiased.

    Raises:
        ArgumentError: a length is below 1 or the interpolation is unknown.
    """
    if min(source, target) < 1:
        raise ArgumentError(
            f"{source} pixels cannot be scaled to {target}", expected="lengths of at least 1"
        )
    if interpolation not in _SUPPORT:
        raise ArgumentError(
            f"The interpolation {quoted(interpolation)} is unknown",
            expected="one of " + ", ".join(map(repr, _SUPPORT)),
        )
    scale = source / target
    stretch = max(scale, 1.0)
    support = _SUPPORT[interpolation] * stretch
    centre = (np.arange(target) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support + 0.5).astype(np.int64), source)
    taps = int((stop - first).max())
    index = first + np.arange(taps)[:, None]
    weights = _filter(np.abs((index - centre + 0.5) * (1.0 / stretch)), interpolation)
    weights[index >= stop] = 0.0
    total = np.zeros(target)
    for row in weights:  # in Pillow's order: the last bit of a sum is part of the result
        total += row
    fixed = weights / total * (1 << PRECISION)
    rounded = np.trunc(fixed + np.where(fixed < 0, -0.5, 0.5)).astype(np.int32)
    first32 = first.astype(np.int32)
    for array in (rounded, first32):
        array.flags.writeable = False
    return FixedAxis(source, first32, rounded)


def _filter(x: npt.NDArray[np.float64], interpolation: str) -> npt.NDArray[np.float64]:
    """A filter at distances of 0 and more."""
    if interpolation == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
