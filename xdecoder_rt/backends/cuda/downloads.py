"""From the device to NumPy, through page-locked memory."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.cuda.context import CudaContext, unpin
from xdecoder_rt.backends.cuda.values import DeviceValue

TOGETHER = 8 << 20
"""Outputs of one call come together up to this size: a wait costs more than the bytes."""


class _Window:
    """A stream, and the page-locked memory that copies on it go through."""

    def __init__(self, cuda: CudaContext, size: int) -> None:
        self.stream = cuda.stream()
        self.pinned = cuda.pinned(size)


class Downloads:
    """Downloader of values to the host, from any thread.

    Args:
        cuda: the context.
    """

    def __init__(self, cuda: CudaContext) -> None:
        self._cuda = cuda
        self._size = 1 << 16
        self._windows: SimpleQueue[_Window] = SimpleQueue()

    def reserve(self, sizes: list[int]) -> None:
        """Make room for the outputs of a graph: bytes of each. The context is current."""
        most = sum(sizes) if sum(sizes) <= TOGETHER else max(sizes)
        self._size = max(self._size, most)
        self._windows.put(self._window())

    def read(self, value: DeviceValue) -> npt.NDArray[Any]:
        """Return a value as an array of its own, when it is written."""
        lease = value.lease
        start, size = value.address - lease.block.address, value.size
        if lease.used > TOGETHER:
            stored = self._copy(value.address, size, lease.block.ready)
        else:
            if lease.host is None:
                lease.host = self._copy(lease.block.address, lease.used, lease.block.ready)
            stored = lease.host[start : start + size]
        typed = stored.view(value.element.stored).reshape(value.shape)
        return value.element.to_host(typed)

    def _copy(self, address: int, size: int, ready: Any) -> npt.NDArray[np.uint8]:
        if not size:
            return np.empty(0, np.uint8)
        with self._cuda:
            self._size = max(self._size, size)
            window = self._window()
            try:
                part = window.pinned[:size]
                window.stream.wait_for_event(ready)
                self._cuda.driver.memcpy_dtoh_async(part, address, window.stream)
                window.stream.synchronize()
                return part.copy()
            finally:
                self._windows.put(window)

    def _window(self) -> _Window:
        """A window of the size reserved; one that was made for less is replaced."""
        try:
            window = self._windows.get_nowait()
        except Empty:
            return _Window(self._cuda, self._size)
        if len(window.pinned) < self._size:
            unpin(window.pinned)
            window.pinned = self._cuda.pinned(self._size)
        return window

    def close(self) -> None:
        """Release the memory. The context is current and no read is under way."""
        while not self._windows.empty():
            unpin(self._windows.get_nowait().pinned)
