"""Ctrl-C, SIGTERM and SIGHUP: each ends a command after it has written what there is."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

__all__ = [
    "Interruption",
    "Terminated",
    "ignore_interruptions",
    "interruptible",
]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
# A closing terminal sends SIGHUP twice, and wrappers pass on a Ctrl-C that the command has had.
_REPEAT_SECONDS = 1.0


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: somebody else ends the command, not its user by Ctrl-C."""


class Interruption:
    """Whether a signal has asked for the end.

    Attributes:
        time: when the first came, by ``time.monotonic``; None before.
    """

    time: float | None = None

    @property
    def has_come(self) -> bool:
        """Whether one has."""
        return self.time is not None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Raise KeyboardInterrupt for SIGINT, `Terminated` for SIGTERM and SIGHUP, in the main thread.

    The first lets a command write what it has. More of them within a second count as the same one;
    a later one interrupts the writing, too. A signal that is ignored, as SIGHUP is under nohup,
    stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Interruption()
        return
    interruption = Interruption()

    def interrupt(number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if interruption.time is not None and now - interruption.time < _REPEAT_SECONDS:
            return
        interruption.time = interruption.time or now
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    before: dict[int, Any] = {}
    try:
        for number in _numbers():
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, interrupt)
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interruptions() -> None:
    """Ignore Ctrl-C and SIGHUP from now on: the process is ending."""
    with suppress(ValueError):  # not in the main thread
        for number in _numbers():
            if number != signal.SIGTERM:
                signal.signal(number, signal.SIG_IGN)


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
