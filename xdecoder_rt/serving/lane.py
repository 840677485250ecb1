"""The way of requests to an engine: a few threads, a bounded queue before them, deadlines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from xdecoder_rt.serving.limits import Limits, RefusedError

__all__ = ["Lane"]

T = TypeVar("T")


class Lane:
    """Runs calls in threads; what finds no place is refused at once.

    Args:
        limits: how many may wait, and for how long.
        threads: how many calls run at a time.
    """

    def __init__(self, limits: Limits, threads: int) -> None:
        self._limits = limits
        self._most = limits.waiting + threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="engine")
        self._lock = threading.Lock()
        self._busy = 0

    @property
    def busy(self) -> int:
        """How many calls run or wait."""
        return self._busy

    async def run(self, call: Callable[[], T]) -> T:
        """Return what a call returns.

        Raises:
            RefusedError: 429 where the queue is full, 504 where the time is up. A call that runs
                then goes on to its end and keeps its place; one that waits is dropped.
        """
        with self._lock:
            if self._busy >= self._most:
                raise RefusedError(
                    429,
                    f"{self._busy} requests run or wait already",
                    expected=f"at most {self._most}",
                    fix="try again in a second",
                )
            self._busy += 1
        future: Future[T] = self._threads.submit(call)
        future.add_done_callback(self._leave)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._limits.seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise RefusedError(
                504,
                f"There was no answer after {self._limits.seconds:g} s",
                fix="ask for less at once, or try again when fewer ask",
            ) from None

    def close(self) -> None:
        """Wait for what runs."""
        self._threads.shutdown(cancel_futures=True)

    def _leave(self, _: object) -> None:
        with self._lock:
            self._busy -= 1
