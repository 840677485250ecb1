"""The newest frame, handed from the thread that reads frames to the one that answers them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class StreamFrame(Generic[T]):
    """A frame with its place in the stream.

    Attributes:
        index: frames that came before it, dropped ones included.
        time: when it came, by ``time.perf_counter``.
        content: the frame itself.
    """

    index: int
    time: float
    content: T


class LatestFrame(Generic[T]):
    """A box for one frame: a newer frame replaces one that nobody has taken, which is counted.

    A detector that is slower than its camera thus always works on the present, and never on a queue
    of the past. One thread puts and one thread takes.

    Attributes:
        received: frames put so far.
        dropped: frames that were replaced before they were taken.

    Example:
        >>> box = LatestFrame()
        >>> for frame in ("old", "new"):
        ...     _ = box.put(frame)
        >>> box.take().content, box.dropped
        ('new', 1)
    """

    def __init__(self) -> None:
        self.received = 0
        self.dropped = 0
        self._frame: StreamFrame[T] | None = None
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, content: T, *, wait: bool = False) -> bool:
        """Leave a frame.

        Args:
            content: the frame.
            wait: wait until the frame before it has been taken, so that none is dropped.

        Returns:
            False when the box is closed and the frame was not accepted.

        Example:
            >>> LatestFrame().put("a frame")
            True
        """
        arrived = time.perf_counter()
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._frame is None or self._closed)
            if self._closed:
                return False
            if self._frame is not None:
                self.dropped += 1
            self._frame = StreamFrame(self.received, arrived, content)
            self.received += 1
            self._changed.notify_all()
            return True

    def take(self, timeout: float | None = None) -> StreamFrame[T] | None:
        """Take the newest frame, waiting for one.

        Args:
            timeout: seconds to wait at most; None waits for a frame or the end.

        Returns:
            The frame; None at the end, or when the time is over: `ended` tells which.

        Raises:
            BaseException: what ended the stream, if it was an error; once.

        Example:
            >>> box = LatestFrame()
            >>> box.take(timeout=0.01) is None, box.ended
            (True, False)
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._closed, timeout)
            frame, self._frame = self._frame, None
            if frame is None and self._error is not None:
                error, self._error = self._error, None
                raise error
            self._changed.notify_all()
            return frame

    def close(self, error: BaseException | None = None) -> None:
        """End the stream. A frame that has not been taken still can be; later ones are refused.

        Example:
            >>> box = LatestFrame()
            >>> box.close()
            >>> box.put("a frame"), box.ended
            (False, True)
        """
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the stream has ended and its last frame has been taken."""
        with self._changed:
            return self._closed and self._frame is None


class FrameReader(Generic[T]):
    """A thread that reads a stream into a `LatestFrame`; a context manager that ends it.

    Args:
        frames: the stream.
        fps: frames a second at most, for a stream that could be read faster than it happened; None
            reads as fast as frames come.
        due: gives the seconds from the start at which a frame may be left, instead of `fps`.
        every: wait for each frame to be taken instead of dropping; neither `fps` nor `due` counts.
        on_stop: called when the reading is to end before the stream does; makes a read that waits
            return.
        on_end: called by the thread when it has read its last frame; what closes a camera belongs
            here, as no other thread knows when the last read is over.

    Attributes:
        box: where the frames are left.

    Example:
        >>> with FrameReader(["first", "second"], every=True) as reader:
        ...     [reader.box.take().content for _ in range(2)]
        ['first', 'second']
    """

    def __init__(
        self,
        frames: Iterable[T],
        *,
        fps: float | None = None,
        due: Callable[[T], float] | None = None,
        every: bool = False,
        on_stop: Callable[[], None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.box: LatestFrame[T] = LatestFrame()
        self._frames = frames
        self._interval = 0.0 if fps is None or every else 1.0 / fps
        self._due = None if every else due
        self._every = every
        self._on_stop = on_stop
        self._on_end = on_end
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="frame reader", daemon=True)

    def __enter__(self) -> FrameReader[T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.box.close()
        self._on_stop()
        # A camera that hangs in its driver must not keep the program from ending.
        self._thread.join(timeout=2.0)

    def _read(self) -> None:
        try:
            for content in self._paced():
                if not self.box.put(content, wait=self._every):
                    return
        except BaseException as error:
            self.box.close(error)
        finally:
            self.box.close()
            self._on_end()

    def _paced(self) -> Iterator[T]:
        """Yield the frames, each not before its time; a late one moves no later one."""
        start = time.perf_counter()
        for index, content in enumerate(self._frames):
            moment = index * self._interval if self._due is None else self._due(content)
            early = start + moment - time.perf_counter()
            if early > 0:
                self._stop.wait(early)
            if self._stop.is_set():
                return
            yield content
