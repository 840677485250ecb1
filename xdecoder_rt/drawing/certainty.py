"""How strongly something is drawn for its score: what is unsure must not look sure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["dashes", "faded", "is_unsure", "presence"]

_SURE = 0.5
_GREY = 128
_GREYEST = 0.75


def is_unsure(score: float) -> bool:
    """Whether something of that score is drawn as unsure: dashed, and its texts quietly."""
    return not score >= _SURE


def presence(score: float) -> float:
    """Return how much of its strength is left to what has that score: 1 from 50 % on, 0 at 0 %."""
    return min(max(score / _SURE, 0.0), 1.0) if is_unsure(score) else 1.0


def faded(colour: tuple[int, int, int], score: float) -> tuple[int, int, int]:
    """Return a colour (sRGB) for that score, the greyer the less sure."""
    grey = _GREYEST * (1 - presence(score))
    red, green, blue = (round(channel + grey * (_GREY - channel)) for channel in colour)
    return red, green, blue


def dashes(size: tuple[int, int], width: int, top: int = 0) -> npt.NDArray[np.bool_]:
    """Mark where a dashed line is drawn: bool of that size.

    Args:
        size: (height, width) of a band of rows of the picture.
        width: of the line.
        top: first row of the band.
    """
    down, across = np.ogrid[top : top + size[0], : size[1]]
    drawn: npt.NDArray[np.bool_] = (down + across) // (5 * width) % 2 == 0
    return drawn
