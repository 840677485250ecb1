"""How the runbook's time is divided among its sections."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

SHARES = {
    "device": 0.06,
    "loader": 0.16,
    "sanitizer": 0.10,
    "attention": 0.26,
    "compiled": 0.09,
    "steps": 0.06,
    "tests": 0.27,
}
"""Sections in the order in which they run, and the part of the time that each may take."""


class Budget:
    """A time limit with shares.

    What a section leaves goes to those after it, and the last gets all that is left.

    Args:
        seconds: the whole.
        shares: parts of the sections that will run, in order.
        reserve: seconds at the end that no section gets.
        now: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        seconds: float,
        shares: Mapping[str, float],
        reserve: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self._now = now
        self._end = now() + seconds - reserve
        self._shares = dict(shares)

    def remaining(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self._end - self._now())

    def begin(self, section: str) -> float:
        """The seconds that a section may take: its part of what is left, with those after it."""
        waiting = sum(self._shares.values())
        return self.remaining() * self._shares.pop(section) / waiting
