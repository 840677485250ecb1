"""The order of training samples: infinite, seeded, and a pure function of the position.

Because the sample at position ``p`` follows from the seed and ``p`` alone, a run that stops after
``n`` samples goes on with sample ``n``: the position is all that has to be saved, and neither the
number of workers nor how far they had read ahead matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from xdecoder_rt.errors import ArgumentError

# Sources are drawn in blocks, so that a late position is found without walking every sample.
_BLOCK = 4096
# First word of each generator's seed, so that the streams are unrelated.
_SOURCE_STREAM, _ORDER_STREAM = 1, 2


class SampleKey(NamedTuple):
    """The identity of one training sample.

    Attributes:
        source: index of the data set.
        item: index of the item in it.
        position: place in the order; seeds the sample's augmentation.
    """

    source: int
    item: int
    position: int


class SampleOrder:
    """Draws sources by weight and walks each source in a new random order every pass.

    Every item of a source is drawn once before any is drawn again.

    Args:
        lengths: items of each source.
        weights: positive relative share of each source.
        seed: seed of the order.

    Raises:
        ArgumentError: a source is empty, or the counts do not agree.
    """

    def __init__(self, lengths: Sequence[int], weights: Sequence[float], seed: int) -> None:
        if not lengths or len(lengths) != len(weights) or min(lengths) < 1 or min(weights) <= 0:
            raise ArgumentError(
                f"Sources of {list(lengths)} items with weights {list(weights)} cannot be sampled",
                expected="one positive weight for each source, and no empty source",
            )
        self.lengths = tuple(lengths)
        self.seed = seed
        shares = np.asarray(weights, dtype=np.float64)
        self._shares = shares / shares.sum()

    def starting_at(self, position: int) -> Iterator[SampleKey]:
        """Yield the samples from `position` on, without end."""
        block = position // _BLOCK
        drawn = [0] * len(self.lengths)
        for earlier in range(block):
            for source, count in enumerate(np.bincount(self._sources(earlier))):
                drawn[source] += int(count)
        passes = [-1] * len(self.lengths)
        orders = [np.empty(0, dtype=np.int64)] * len(self.lengths)
        while True:
            for offset, source in enumerate(self._sources(block).tolist()):
                current, place = divmod(drawn[source], self.lengths[source])
                drawn[source] += 1
                if passes[source] != current:
                    passes[source] = current
                    orders[source] = self._order(source, current)
                here = block * _BLOCK + offset
                if here >= position:
                    yield SampleKey(source, int(orders[source][place]), here)
            block += 1

    def batches(
        self, position: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[list[SampleKey]]:
        """Batches of one process, from `position` on, without end.

        All processes together take ``world_size * batch_size`` consecutive samples a step.

        Args:
            position: first sample of the first step, over all processes.
            batch_size: samples of one process.
            rank: this process.
            world_size: number of processes.
        """
        samples = self.starting_at(position)
        while step := list(islice(samples, batch_size * world_size)):
            yield step[rank * batch_size : (rank + 1) * batch_size]

    def _sources(self, block: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        rng = np.random.default_rng((_SOURCE_STREAM, self.seed, block))
        return rng.choice(len(self.lengths), size=_BLOCK, p=self._shares)

    def _order(self, source: int, current: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        rng = np.random.default_rng((_ORDER_STREAM, self.seed, source, current))
        return rng.permutation(self.lengths[source])
