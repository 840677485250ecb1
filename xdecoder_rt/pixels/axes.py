"""Pillow's resize as integers, one axis at a time.

Pillow resizes 8-bit images with weights in fixed point and rounds to 8 bits after each axis
(Pillow, ``src/libImaging/Resample.c``). The same integers give the same bytes anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, quoted

__all__ = ["PRECISION", "FixedAxis", "check_interpolation", "fixed_axis"]

PRECISION = 22
"""Bits of a weight's fraction: 32, less 8 of a pixel, less 2 for sums beyond 255."""
TAPS_MULTIPLE = 4
"""The compiled loops take the pixels of an output in fours."""
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
_LONGEST_KEPT = 1 << 15  # of an axis: at most 1 MB of weights each


@dataclass(frozen=True, eq=False)
class FixedAxis:
    """``out[i] = clip((sum_t rows[i, t] * x[first[i] + t] + half) >> PRECISION)``.

    Attributes:
        source: length of what goes in.
        taps: how many pixels one output reads, at most.
        first: int32 ``[target]``, the first pixel that each output reads; it never decreases.
        rows: int32 ``[target, taps or a few more]``, zero from `taps` on and where ``first + t`` is
            beyond the end.
    """

    source: int
    taps: int
    first: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]

    @property
    def target(self) -> int:
        """Return the length of what comes out."""
        return len(self.first)

    @cached_property
    def weights(self) -> npt.NDArray[np.int32]:
        """Return the weights as GPU kernels read them: int32 ``[taps, target]``."""
        weights = np.ascontiguousarray(self.rows[:, : self.taps].T)
        weights.flags.writeable = False
        return weights


def check_interpolation(interpolation: str) -> None:
    """Refuse an interpolation that there is not.

    Raises:
        ArgumentError: it is neither ``"bilinear"`` nor ``"bicubic"``.
    """
    if interpolation not in _SUPPORT:
        raise ArgumentError(
            f"The interpolation {quoted(interpolation)} is unknown",
            expected="one of " + ", ".join(map(repr, _SUPPORT)),
        )


def fixed_axis(source: int, target: int, interpolation: str) -> FixedAxis:
    """Return one axis of a resize from `source` to `target` pixels.

    Args:
        source: pixels before, at least 1.
        target: pixels after, at least 1.
        interpolation: ``"bilinear"`` or ``"bicubic"`` (a = -0.5), antialiased: the filter grows
            with the down-scaling.

    Raises:
        ArgumentError: a length is below 1 or the interpolation is unknown.
    """
    if min(source, target) < 1:
        raise ArgumentError(
            f"{source} pixels cannot be scaled to {target}", expected="lengths of at least 1"
        )
    check_interpolation(interpolation)
    make = _kept_axis if max(source, target) <= _LONGEST_KEPT else _axis
    return make(source, target, interpolation)


def _axis(source: int, target: int, interpolation: str) -> FixedAxis:
    scale = source / target
    stretch = max(scale, 1.0)
    support = _SUPPORT[interpolation] * stretch
    centre = (np.arange(target) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support + 0.5).astype(np.int64), source)
    taps = int((stop - first).max())
    index = first + np.arange(-(-taps // TAPS_MULTIPLE) * TAPS_MULTIPLE)[:, None]
    weights = _filter(np.abs((index - centre + 0.5) * (1.0 / stretch)), interpolation)
    weights[index >= stop] = 0.0
    total = np.zeros(target)
    for row in weights:  # in Pillow's order: the last bit of a sum is part of the result
        total += row
    weights *= 1 << PRECISION
    fixed = weights / total
    rounded = np.trunc(fixed + np.copysign(0.5, fixed)).astype(np.int32)
    rows, first32 = np.ascontiguousarray(rounded.T), first.astype(np.int32)
    for array in (rows, first32):
        array.flags.writeable = False
    return FixedAxis(source, taps, first32, rows)


def _filter(x: npt.NDArray[np.float64], interpolation: str) -> npt.NDArray[np.float64]:
    """Return a filter's height at distances of 0 and more."""
    if interpolation == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_kept_axis = lru_cache(maxsize=64)(_axis)
