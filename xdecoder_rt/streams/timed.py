"""A frame with its time, and the clock that gives it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# A longer step between two frames is a damaged or restarted clock, and no pause.
_LONGEST_STEP = 600.0


@dataclass(frozen=True, eq=False)
class TimedFrame:
    """A frame and when it was.

    Attributes:
        pixels (uint8 [H, W, 3]): RGB, upright.
        seconds (float; seconds): since the first frame of the stream.
    """

    pixels: npt.NDArray[np.uint8]
    seconds: float


class Clock:
    """Times of frames from time stamps that may be absent, stand still or jump.

    Args:
        interval: seconds between two frames where the stamps do not tell.
    """

    def __init__(self, interval: float) -> None:
        self._interval = self.longest_step = interval
        self._stamp: float | None = None
        self._first: float = 0.0
        self._seconds = 0.0

    def next(self, stamp: float | None) -> float:
        """Return the seconds from the first frame to the one of `stamp`."""
        if stamp is not None and not math.isfinite(stamp):
            stamp = None
        if self._stamp is None:
            self._first = self._stamp = stamp or 0.0
            return 0.0
        step = self._interval if stamp is None else stamp - self._stamp
        self._stamp = self._stamp + step if stamp is None else stamp
        if not 0 < step <= _LONGEST_STEP:
            step = self._interval
        self.longest_step = max(self.longest_step, step)
        self._seconds += step
        return self._seconds

    def end(self, *, since_zero: bool) -> float:
        """Return when the last frame ends, from the first frame or from the time stamp 0."""
        if self._stamp is None:
            return 0.0
        return self._seconds + self._interval + (max(self._first, 0.0) if since_zero else 0.0)
