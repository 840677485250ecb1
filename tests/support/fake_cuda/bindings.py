"""A context, memory and streams by ``cuda-bindings``, for tests of what runs without pycuda.

Memory and streams have pycuda's names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xdecoder_rt.kernels.cuda_driver import call_driver


@contextmanager
def current_context() -> Iterator[None]:
    """Keep the primary context of the first device current."""
    call_driver("cuInit", 0)
    device = call_driver("cuDeviceGet", 0)
    call_driver("cuCtxPushCurrent", call_driver("cuDevicePrimaryCtxRetain", device))
    try:
        yield
    finally:
        call_driver("cuCtxPopCurrent")
        call_driver("cuDevicePrimaryCtxRelease", device)


class Memory:
    """Device memory; ``int`` of it is its address."""

    def __init__(self, size: int) -> None:
        self._address = int(call_driver("cuMemAlloc", size))

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        call_driver("cuMemFree", self._address)


def mem_alloc(size: int) -> Memory:
    """Allocate device memory."""
    return Memory(size)


def memcpy_htod(memory: Memory, array: Any) -> None:
    """Copy a contiguous array to the device."""
    call_driver("cuMemcpyHtoD", int(memory), array.ctypes.data, array.nbytes)


class Stream:
    """A stream; ``handle`` is the driver's."""

    def __init__(self) -> None:
        self.handle = int(call_driver("cuStreamCreate", 0))

    def synchronize(self) -> None:
        call_driver("cuStreamSynchronize", self.handle)

    def close(self) -> None:
        call_driver("cuStreamDestroy", self.handle)
