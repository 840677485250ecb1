"""A stream that is lost and found again: a camera unplugged, a server restarted."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from xdecoder_rt.errors import ImageError, XDecoderError, printable
from xdecoder_rt.streams.timed import Clock, TimedFrame

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Connection", "LiveStream", "Tell", "in_silence"]

Tell = Callable[[str], None]
"""Told in one line what happens to a stream: that it is lost, that it is back."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_USUAL_FPS = 30.0


def in_silence(text: str) -> None:
    """Tell nobody."""


class Connection(Protocol):
    """A stream that is open until it is lost.

    Attributes:
        fps: frames a second; None where nothing says so.
        is_over: whether its end, once reached, is the end of the stream, and no loss.
    """

    fps: float | None

    @property
    def is_over(self) -> bool: ...  # noqa: D102

    def frames(self) -> Iterator[tuple[npt.NDArray[np.uint8], float | None]]:
        """Yield upright RGB frames with their time stamps, in seconds, where they have some.

        Raises:
            ImageError: the stream is lost.
        """

    def stop(self) -> None:
        """Make a reader that waits for a frame wait no longer, where that can be done."""

    def close(self) -> None:
        """Let go of it."""


class LiveStream:
    """Frames that come when they want to, from a source that is opened again when it is lost.

    Waits half a second before it tries again, then twice as long each time, up to half a minute; a
    frame resets that. Time goes on by the wall clock while the stream is lost, and by the stream's
    own time stamps while it is not.

    Attributes:
        name: for people.
        fps: frames a second that the stream announces, else 30.
        is_live: True.
        announced: None: nobody knows how many frames there will be.
        missing: 0: what was lost on the way is nowhere counted.
        failures: stays empty: a loss is told, and no failure.

    Args:
        name: for people.
        connect: opens the stream; called here and after each loss.
        tell: told when it is lost and when it is back.

    Raises:
        ImageError: it cannot be opened; later losses are told instead.
        MissingExtraError: a package that opens it is not installed.
    """

    is_live = True
    announced: int | None = None
    missing = 0

    def __init__(
        self, name: str, connect: Callable[[], Connection], tell: Tell = in_silence
    ) -> None:
        self.name = name
        self.failures: list[XDecoderError] = []
        self._connect = connect
        self._tell = tell
        self._stopped = threading.Event()
        self._wait = _FIRST_WAIT
        self._connection: Connection | None = connect()
        self.fps = self._connection.fps or _USUAL_FPS

    def __iter__(self) -> Iterator[TimedFrame]:
        """Yield frames until the stream is over or stopped."""
        start, last = None, -math.inf
        while self._connection is not None and not self._stopped.is_set():
            clock, offset = Clock(1.0 / self.fps), None
            reason = "it ended"
            try:
                for pixels, stamp in self._connection.frames():
                    now = time.perf_counter()
                    self._wait = _FIRST_WAIT
                    start = now if start is None else start
                    offset = max(now - start, last + 1.0 / self.fps) if offset is None else offset
                    last = offset + clock.next(stamp)
                    yield TimedFrame(pixels, last)
                    if self._stopped.is_set():
                        return
            except ImageError as error:
                reason = error.what
            finally:
                self._connection.close()
            if self._connection.is_over:
                return
            self._connection = self._reconnected(reason)

    def stop(self) -> None:
        """End the iteration, from any thread, a wait for the stream included."""
        self._stopped.set()
        if self._connection is not None:
            self._connection.stop()

    def close(self) -> None:
        """End it and let go of the source; not while another thread reads."""
        self.stop()
        if self._connection is not None:
            self._connection.close()

    def _reconnected(self, reason: str) -> Connection | None:
        """Return the stream, opened again, or None when it is stopped first."""
        name, since = printable(self.name, 200), time.perf_counter()
        self._tell(f"{name} is lost ({reason}); it is tried again")
        while not self._stopped.wait(self._wait):
            self._wait = min(2 * self._wait, _LONGEST_WAIT)
            try:
                connection = self._connect()
            except ImageError:
                continue
            self._tell(f"{name} is back after {time.perf_counter() - since:.1f} s")
            return connection
        return None
