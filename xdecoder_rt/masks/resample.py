"""PyTorch's antialiased bicubic resize as banded matrices, one per axis.

The resize is linear and separable, so along one axis it is a matrix with a few weights a row, and
one resize after another is the product of two such matrices. Mask logits go from stride 4 to the
padded size, lose the padding, and go on to the size of the source image; here that is a single
band per axis (`mask_axis`), computed once per pair of sizes.

The matrix is that of ``torch.nn.functional.interpolate(mode="bicubic", antialias=True,
align_corners=False)``: Keys' kernel with a = -0.5, half-pixel centres, a support that widens with
the reduction, weights renormalised where the border cuts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError

__all__ = [
    "LEVEL_STRIDES",
    "REGION_STRIDE",
    "Axis",
    "bicubic_axis",
    "bicubic_matrix",
    "mask_axis",
    "resample",
]

LEVEL_STRIDES = (32, 16, 8)
"""Pixels of the input per position of each level that mask features are shrunk to for a decoder,
along each axis; the published decoders attend to them in this order."""

REGION_STRIDE = 32
"""The same of the map that a classifier of regions averages, under masks of that level."""


@dataclass(frozen=True, eq=False)
class Axis:
    """A banded resampling matrix: ``out[i] = sum_t weights[i, t] * x[first[i] + t]``.

    Attributes:
        source: length of what goes in.
        first: int32 ``[target]``, the first source index each output reads; never decreasing.
        weights: float64 ``[target, taps]``, rows that sum to 1. ``first + taps <= source``.
    """

    source: int
    first: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float64]

    @property
    def target(self) -> int:
        """Length of the output."""
        return len(self.first)

    @property
    def taps(self) -> int:
        """Number of source values that one output reads."""
        return int(self.weights.shape[1])

    @cached_property
    def tap_rows(self) -> npt.NDArray[np.float32]:
        """The weights as contiguous float32 ``[taps, target]``, for loops along the output."""
        return np.ascontiguousarray(self.weights.T, dtype=np.float32)

    @cached_property
    def tap_columns(self) -> npt.NDArray[np.float32]:
        """The weights as contiguous float32 ``[target, taps]``, for loops along the taps."""
        return np.ascontiguousarray(self.weights, dtype=np.float32)

    @cached_property
    def negative(self) -> float:
        """The largest sum of negative weights in a row, as a positive number.

        It bounds the overshoot: an output lies within ``negative * (max - min)`` of the range of
        the values it reads.
        """
        return float(-np.minimum(self.weights, 0.0).sum(axis=1).min())

    def matrix(self) -> npt.NDArray[np.float64]:
        """Return the full matrix ``[target, source]``."""
        full = np.zeros((self.target, self.source))
        columns = self.first[:, None] + np.arange(self.taps)
        full[np.arange(self.target)[:, None], columns] = self.weights
        return full


def _banded(source: int, first: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> Axis:
    """Return the narrowest band that holds all non-zero weights and never steps back."""
    used = weights != 0
    start = first + used.argmax(axis=1)
    stop = first + weights.shape[1] - used[:, ::-1].argmax(axis=1)
    # A row that falls on a sample has one weight, and its neighbours may begin before it.
    start = np.minimum.accumulate(start[::-1])[::-1]
    taps = int((stop - start).max())
    narrow = np.minimum(start, source - taps)
    offsets = narrow[:, None] + np.arange(taps) - first[:, None]
    inside = (offsets >= 0) & (offsets < weights.shape[1])
    rows = np.arange(len(first))[:, None]
    band = np.where(inside, weights[rows, offsets.clip(0, weights.shape[1] - 1)], 0.0)
    first32 = narrow.astype(np.int32)
    for array in (band, first32):
        array.flags.writeable = False
    return Axis(source, first32, band)


def _keys_kernel(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Evaluate Keys' cubic convolution kernel with a = -0.5 (Keys 1981, eq. 15)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _check_length(name: str, value: int) -> None:
    if value < 1:
        raise ArgumentError(f"{name} is {value}", expected="a length of at least 1")


@lru_cache(maxsize=256)
def bicubic_axis(source: int, target: int) -> Axis:
    """Return the antialiased bicubic resize of one axis from `source` to `target` values.

    Raises:
        ArgumentError: a length is below 1.
    """
    _check_length("source", source)
    _check_length("target", target)
    # Sizes and centres are rounded to float32 where PyTorch rounds them: at index 1000 that moves a
    # centre by up to 3e-5 and a weight by as much, far more than the rounding of the sums.
    scale = float(np.float32(source) / np.float32(target))
    stretch = max(scale, 1.0)
    support = 2.0 * stretch
    centre = (scale * (np.arange(target) + 0.5)).astype(np.float32).astype(np.float64)
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support + 0.5).astype(np.int64), source)
    indices = first[:, None] + np.arange(int((stop - first).max()))
    weights = _keys_kernel((indices - centre[:, None] + 0.5) / stretch)
    weights[indices >= stop[:, None]] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    return _banded(source, first, weights)


def bicubic_matrix(source: int, target: int) -> npt.NDArray[np.float64]:
    """Return the antialiased bicubic resize of one axis as a full matrix ``[target, source]``.

    Raises:
        ArgumentError: a length is below 1.
    """
    return bicubic_axis(source, target).matrix()


def _compose(then: Axis, before: Axis) -> Axis:
    """Return the axis that applies `before`, then `then`, which may read a prefix of its output."""
    first = before.first[then.first].astype(np.int64)
    last = before.first[then.first + then.taps - 1] + before.taps
    weights = np.zeros((then.target, int((last - first).max())))
    rows = np.arange(then.target)
    for tap in range(then.taps):
        inner = then.first + tap
        offset = before.first[inner] - first
        for inner_tap in range(before.taps):
            product = then.weights[:, tap] * before.weights[inner, inner_tap]
            weights[rows, offset + inner_tap] += product
    return _banded(before.source, first, weights)


@lru_cache(maxsize=256)
def mask_axis(logits: int, padded: int, valid: int, source: int) -> Axis:
    """Return one axis of the way of mask logits to the source image.

    Antialiased bicubic from `logits` to `padded` values, the first `valid` of them, antialiased
    bicubic from those to `source` values. Where ``valid == source`` the second is the identity.

    Raises:
        ArgumentError: a length is below 1, or `valid` exceeds `padded`.
    """
    _check_length("valid", valid)
    if valid > padded:
        raise ArgumentError(
            f"the valid length {valid} exceeds the padded length {padded}",
            expected="the image inside the padded frame",
        )
    return _compose(bicubic_axis(valid, source), bicubic_axis(logits, padded))


def resample(maps: npt.ArrayLike, rows: Axis, columns: Axis) -> npt.NDArray[np.float64]:
    """Resample the last two axes of `maps` ``[..., rows.source, columns.source]`` in float64.

    The plain form, for references and small arrays.

    Raises:
        ArgumentError: the last two axes do not have the lengths that the axes read.
    """
    values = np.asarray(maps, dtype=np.float64)
    if values.ndim < 2 or values.shape[-2:] != (rows.source, columns.source):
        raise ArgumentError(
            f"the maps have shape {values.shape}",
            expected=f"last axes of {rows.source} x {columns.source}",
        )
    return rows.matrix() @ values @ columns.matrix().T
