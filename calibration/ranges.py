"""Range estimators: from the histogram of a tensor to the interval that 8 bits are spread over.

======================  =====================================================================
``max``                 all that was seen
``percentile``          all but the outermost 0.01 % (each side where the range is not symmetric)
``entropy``             the interval whose quantized histogram is nearest to the clipped one in
                        Kullback-Leibler divergence (Migacz, "8-bit inference with TensorRT", 2017)
``mse``                 the interval with the least expected squared rounding and clipping error
======================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

BINS = 4096
PERCENTILE = 99.99
_LEVELS = 256
_CANDIDATES = 64
_LEAST = 1e-6
_MIDDLE = slice(BINS // 2 - 1, BINS // 2 + 1)
_BESIDE = [BINS // 2 - 2, BINS // 2 + 1]

Range = tuple[float, float]


@dataclass
class Histogram:
    """How often values of a tensor were seen, over an interval around zero that doubles as needed.

    Attributes:
        counts: int64 ``[4096]``, of equal bins over ``[-limit, limit]``.
        limit: a power of two, 0 before anything but zeros was seen.
        low: the smallest value seen, at most 0.
        high: the largest, at least 0.
    """

    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    limit: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @property
    def is_possible(self) -> bool:
        """Whether counting values can have led to this."""
        return bool(
            self.counts.shape == (BINS,)
            and self.counts.dtype == np.int64
            and self.counts.min() >= 0
            and np.isfinite([self.limit, self.low, self.high]).all()
            and self.low <= 0.0 <= self.high
            and max(-self.low, self.high) <= self.limit
        )

    def add(self, values: npt.NDArray[np.float32], most: int = 1 << 16) -> None:
        """Count values: the extremes of all, of the rest an even choice of at most `most`."""
        if values.size == 0:
            return
        low, high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        largest = max(-low, high)
        if not np.isfinite(largest):
            return
        self.low, self.high = low, high
        flat = values.reshape(-1)
        chosen = flat[:: max(1, flat.size // most)]
        if largest == 0.0:
            self.counts[BINS // 2] += chosen.size
            return
        if self.limit == 0.0:
            self.limit = float(2.0 ** np.ceil(np.log2(largest)))
        while self.limit < largest:
            self._double()
        places = (chosen * (BINS / 2 / self.limit) + BINS / 2).astype(np.int64)
        self.counts += np.bincount(places.clip(0, BINS - 1), minlength=BINS)

    def range(self, estimator: str, symmetric: bool) -> Range:
        """Return the interval that one of :data:`ESTIMATORS` finds.

        Args:
            estimator: its name.
            symmetric: whether the interval is one around zero.
        """
        return ESTIMATORS[estimator](self, symmetric)

    def merge(self, other: Histogram) -> None:
        """Count what another histogram counted."""
        if other.limit == 0.0:
            self.counts += other.counts
            return
        added = Histogram(other.counts.copy(), other.limit, other.low, other.high)
        if self.limit == 0.0:
            self.limit = added.limit
        while self.limit < added.limit:
            self._double()
        while added.limit < self.limit:
            added._double()
        self.counts += added.counts
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def _double(self) -> None:
        quarter = BINS // 4
        folded = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.zeros(BINS, np.int64)
        self.counts[quarter : quarter + len(folded)] = folded
        self.limit *= 2

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Return the middle of each bin."""
        middles: npt.NDArray[np.float64] = np.arange(BINS, dtype=np.float64) + 0.5
        return middles * (2 * self.limit / BINS) - self.limit


Estimator = Callable[[Histogram, bool], Range]
"""From a histogram, and whether the interval must be symmetric, to (low, high) around zero."""


def max_range(histogram: Histogram, symmetric: bool) -> Range:
    """Return the range of all that was seen."""
    return _valid(histogram.low, histogram.high, symmetric)


def percentile_range(histogram: Histogram, symmetric: bool) -> Range:
    """Return the range of all but the outermost ten-thousandth."""
    counts, centres = histogram.counts, histogram.centres
    total = counts.sum()
    if total == 0:
        return max_range(histogram, symmetric)
    outside = 1 - PERCENTILE / 100
    if symmetric:
        order = np.argsort(np.abs(centres), kind="stable")
        reached = np.cumsum(counts[order]) >= (1 - outside) * total
        edge = float(np.abs(centres[order])[np.argmax(reached)])
        low, high = -edge, edge
    else:
        below = np.cumsum(counts)
        low = float(centres[np.argmax(below > outside * total)])
        high = float(centres[np.argmax(below >= (1 - outside) * total)])
    half_bin = histogram.limit / BINS
    return _inside(histogram, low - half_bin, high + half_bin, symmetric)


def mse_range(histogram: Histogram, symmetric: bool) -> Range:
    """Return the shrunken form of the whole interval with the least expected squared error."""
    return _best(histogram, symmetric, squared_error)


def entropy_range(histogram: Histogram, symmetric: bool) -> Range:
    """Return the range whose quantized histogram diverges least (KL) from the clipped one."""
    return _best(histogram, symmetric, divergence)


ESTIMATORS: dict[str, Estimator] = {
    "max": max_range,
    "percentile": percentile_range,
    "entropy": entropy_range,
    "mse": mse_range,
}


def squared_error(histogram: Histogram, low: float, high: float) -> float:
    """Return the expected squared error of 8-bit values, rounding and clipping included."""
    step = (high - low) / (_LEVELS - 1)
    centres = histogram.centres
    clipped = centres.clip(low, high)
    rounded = np.round((clipped - low) / step) * step + low
    # Values fill a bin evenly: where bins are wide the centre alone would hide the rounding.
    inside = min(step, 2 * histogram.limit / BINS) ** 2 / 12
    error = (rounded - centres) ** 2 + np.where(clipped == centres, inside, 0.0)
    return float((histogram.counts * error).sum() / max(1, histogram.counts.sum()))


def divergence(histogram: Histogram, low: float, high: float) -> float:
    """Return the KL divergence (nats) of a histogram clipped to an interval from its 256 levels."""
    centres = histogram.centres
    inside = (centres >= low) & (centres <= high)
    if inside.sum() < 2:
        return float("inf")
    counts = histogram.counts.astype(np.float64)
    # Exact zeros, half of what a ReLU leaves, are exact in any range: they would outweigh the rest.
    counts[_MIDDLE] = np.minimum(counts[_MIDDLE], counts[_BESIDE].max())
    clipped = counts[inside].copy()
    first, last = np.flatnonzero(inside)[[0, -1]]
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last + 1 :].sum()
    level = ((centres[inside] - low) * (_LEVELS / (high - low))).astype(np.int64)
    level = level.clip(0, _LEVELS - 1)
    # The quantized form knows nothing of what was clipped.
    original = counts[inside]
    filled = original > 0
    sums = np.bincount(level, original, _LEVELS)
    bins = np.bincount(level, filled, _LEVELS)
    spread = np.where(filled, (sums / np.maximum(bins, 1))[level], 0.0)
    if spread.sum() == 0 or clipped.sum() == 0:
        return float("inf")
    p, q = clipped / clipped.sum(), spread / spread.sum()
    occupied = p > 0
    return float((p[occupied] * np.log(p[occupied] / np.maximum(q[occupied], 1e-12))).sum())


def _best(
    histogram: Histogram, symmetric: bool, cost: Callable[[Histogram, float, float], float]
) -> Range:
    low, high = max_range(histogram, symmetric)
    if histogram.counts.sum() == 0:
        return low, high
    shares = np.linspace(1.0, 1 / _CANDIDATES, _CANDIDATES)
    costs = [cost(histogram, share * low, share * high) for share in shares]
    share = float(shares[int(np.argmin(costs))])
    return _valid(share * low, share * high, symmetric)


def _inside(histogram: Histogram, low: float, high: float, symmetric: bool) -> Range:
    return _valid(max(low, histogram.low), min(high, histogram.high), symmetric)


def _valid(low: float, high: float, symmetric: bool) -> Range:
    """An interval that holds zero and is not empty."""
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        high = max(-low, high)
        low = -high
    return (low, high) if high - low > _LEAST else (low, low + _LEAST)
