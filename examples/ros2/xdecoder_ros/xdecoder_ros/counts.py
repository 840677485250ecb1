"""Rates, times and errors of the node, for its diagnostics."""

from __future__ import annotations

import threading
import time
from collections import deque
from statistics import median

_KEPT = 100
_ERROR_SECONDS = 5.0


class Counts:
    """What came, what was answered, and what went wrong. For any thread.

    Attributes:
        received: images that came.
        answered: images whose results were published.
        refused: images that could not be read or answered.
    """

    def __init__(self) -> None:
        self.received = self.answered = self.refused = 0
        self._lock = threading.Lock()
        self._ends: deque[float] = deque(maxlen=_KEPT)
        self._latencies: deque[float] = deque(maxlen=_KEPT)
        self._engine: deque[float] = deque(maxlen=_KEPT)
        self._errors: dict[str, tuple[str, float]] = {}

    def answer(self, latency: float, engine: float) -> None:
        """Count an image: seconds from its stamp to its results, and of the engine."""
        with self._lock:
            self.answered += 1
            self._ends.append(time.monotonic())
            self._latencies.append(latency)
            self._engine.append(engine)

    def fail(self, subject: str, text: str) -> None:
        """Note an error; it shows until `subject` is mended or for some seconds."""
        with self._lock:
            self._errors[subject] = (text, time.monotonic())

    def mend(self, subject: str) -> None:
        """Forget the error of a subject."""
        with self._lock:
            self._errors.pop(subject, None)

    def error(self) -> str:
        """Return the errors that hold; empty for none."""
        with self._lock:
            now = time.monotonic()
            texts = [
                text
                for subject, (text, since) in self._errors.items()
                if subject == "plan" or now - since < _ERROR_SECONDS
            ]
        return " ".join(texts)

    def values(self, dropped: int) -> dict[str, str]:
        """Return what diagnostics show, by name."""
        with self._lock:
            ends, latencies, engine = list(self._ends), list(self._latencies), list(self._engine)
        recent = [end for end in ends if end > time.monotonic() - 5.0]
        span = recent[-1] - recent[0] if len(recent) > 1 else 0.0
        return {
            "rate_hz": f"{(len(recent) - 1) / span:.2f}" if span else "0",
            "latency_ms": f"{1000 * median(latencies):.1f}" if latencies else "",
            "engine_ms": f"{1000 * median(engine):.1f}" if engine else "",
            "received": str(self.received),
            "answered": str(self.answered),
            "dropped": str(dropped),
            "refused": str(self.refused),
        }
