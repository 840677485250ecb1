"""One logger for each library of TensorRT in a process.

The library keeps the first logger that it is given and leaves later ones out, so that a second
engine, or a builder after an engine, would hear nothing. What the one logger hears goes to everyone
who listens.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol
from weakref import WeakSet


class Listener(Protocol):
    """Hears what a library logs, on any thread, as long as somebody holds it."""

    def hear(self, severity: str, message: str) -> None:
        """Take a message; `severity` is the name of one of ``ILogger.Severity``."""


def listen(module: Any, listener: Listener) -> Any:
    """Return the library's logger, which `listener` hears from now on.

    Args:
        module: the library's.
        listener: not held.
    """
    logger, listeners = _logger(module.ILogger)
    listeners.add(listener)
    return logger


@cache
def _logger(base: Any) -> tuple[Any, WeakSet[Any]]:
    listeners: WeakSet[Any] = WeakSet()

    class Log(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            for listener in list(listeners):
                listener.hear(severity.name, msg)

    return Log(), listeners
