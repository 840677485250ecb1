"""Small random choices that words are made with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from xdecoder_rt.scenes.scene import Rng

__all__ = ["Rng", "pick", "shuffled"]

_T = TypeVar("_T")

MOST_CONSIDERED: Final = 14


def pick(rng: Rng, options: Sequence[_T]) -> _T:
    """Return one of the options."""
    return options[int(rng.integers(len(options)))]


def shuffled(rng: Rng, options: Sequence[_T], most: int = MOST_CONSIDERED) -> list[_T]:
    """Return the options in random order; no more than `most` of them."""
    return [options[i] for i in rng.permutation(len(options))[:most].tolist()]
