"""What the runbook uses of ``pycuda.driver``: the loader's part of it by ctypes, and memory.

A machine with a GPU has the driver; few have pycuda. Where it is missing, :func:`driver` puts this
module in its place, so that the loader runs as it is.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from ctypes import byref, c_int, c_size_t, c_uint, c_void_p
from types import ModuleType
from typing import Any

import numpy as np

from xdecoder_rt.kernels import cuda_driver
from xdecoder_rt.kernels.cuda_driver import (
    LIBRARY,
    Error,
    Function,
    Module,
    call,
    device_attribute,
    function_attribute,
    get_driver_version,
    module_from_buffer,
)

__all__ = [
    "Allocation",
    "Context",
    "Device",
    "Error",
    "Function",
    "Module",
    "Stream",
    "device_attribute",
    "driver",
    "function_attribute",
    "get_driver_version",
    "init",
    "mem_alloc",
    "memcpy_dtoh",
    "memcpy_htod",
    "module_from_buffer",
]


def init() -> None:
    """Must come first."""
    call("cuInit", c_uint(0))


class Device(cuda_driver.Device):
    """A device by its number."""

    def retain_primary_context(self) -> Context:
        """The context that everything of a process shares."""
        context = c_void_p()
        call("cuDevicePrimaryCtxRetain", byref(context), self._handle)
        return Context(context, self._handle)


class Context(cuda_driver.Context):
    """A context, to be pushed."""

    def __init__(self, handle: c_void_p, device: c_int) -> None:
        self._handle, self._device = handle, device

    def push(self) -> None:
        """Make it current."""
        call("cuCtxPushCurrent_v2", self._handle)

    def pop(self) -> None:
        """Make what was current before it current again."""
        call("cuCtxPopCurrent_v2", byref(c_void_p()))

    def detach(self) -> None:
        """Give it back."""
        call("cuDevicePrimaryCtxRelease_v2", self._device)

    @staticmethod
    def synchronize() -> None:
        """Wait for everything."""
        call("cuCtxSynchronize")


class Allocation:
    """Device memory; ``int`` of it is its address."""

    def __init__(self, size: int) -> None:
        self._address = c_void_p()
        call("cuMemAlloc_v2", byref(self._address), c_size_t(size))

    def __int__(self) -> int:
        return self._address.value or 0

    def free(self) -> None:
        """Give it back."""
        call("cuMemFree_v2", self._address)


def mem_alloc(size: int) -> Allocation:
    """Device memory of some bytes."""
    return Allocation(size)


def memcpy_htod(target: Allocation, source: np.ndarray[Any, Any]) -> None:
    """From a contiguous array to the device."""
    address = c_void_p(source.ctypes.data)
    call("cuMemcpyHtoD_v2", c_void_p(int(target)), address, c_size_t(source.nbytes))


def memcpy_dtoh(target: np.ndarray[Any, Any], source: Allocation) -> None:
    """From the device to a contiguous array."""
    address = c_void_p(target.ctypes.data)
    call("cuMemcpyDtoH_v2", address, c_void_p(int(source)), c_size_t(target.nbytes))


class Stream:
    """A stream; ``handle`` is the driver's."""

    def __init__(self) -> None:
        self._stream = c_void_p()
        call("cuStreamCreate", byref(self._stream), c_uint(0))

    @property
    def handle(self) -> int:
        """An address."""
        return self._stream.value or 0

    def synchronize(self) -> None:
        """Wait for what was queued."""
        call("cuStreamSynchronize", self._stream)

    def __del__(self) -> None:
        with contextlib.suppress(Error):
            call("cuStreamDestroy_v2", self._stream)


def driver() -> tuple[ModuleType, str]:
    """``pycuda.driver`` and where it is from: pycuda, or this module in its place."""
    if importlib.util.find_spec("pycuda") is not None:
        from pycuda import driver as found

        return found, "pycuda"
    package, module = ModuleType("pycuda"), sys.modules[__name__]
    package.driver = module  # type: ignore[attr-defined]
    sys.modules |= {"pycuda": package, "pycuda.driver": module}
    return module, f"ctypes on {LIBRARY}"
