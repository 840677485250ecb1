"""What the loader uses of ``pycuda.driver``, by ctypes on the CUDA driver itself.

For work on streams that others made: pycuda takes no stream but its own, and no context that it
did not push. Names and parameters are pycuda's.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_int, c_uint, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

LIBRARY = "libcuda.so.1"


class Error(Exception):
    """The driver returned something other than success."""


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(LIBRARY)


def call(name: str, *arguments: Any) -> None:
    """Call a function of the driver.

    Args:
        name: as the library exports it.
        arguments: ctypes values.

    Raises:
        Error: it fails.
        OSError: there is no driver.
    """
    code = getattr(_library(), name)(*arguments)
    if code:
        said = c_char_p()
        _library().cuGetErrorName(c_int(code), byref(said))
        raise Error(f"{name}: {(said.value or b'').decode() or code}")


def get_driver_version() -> int:
    """As 13000 for CUDA 13.0."""
    version = c_int()
    call("cuDriverGetVersion", byref(version))
    return version.value


class device_attribute:  # noqa: N801 (pycuda's name)
    """Of ``cuDeviceGetAttribute``."""

    MULTIPROCESSOR_COUNT = 16
    COMPUTE_CAPABILITY_MAJOR = 75
    COMPUTE_CAPABILITY_MINOR = 76


class function_attribute:  # noqa: N801 (pycuda's name)
    """Of ``cuFuncSetAttribute``."""

    MAX_DYNAMIC_SHARED_SIZE_BYTES = 8


class Device:
    """A device by its number."""

    def __init__(self, number: int) -> None:
        self._handle = c_int()
        call("cuDeviceGet", byref(self._handle), c_int(number))

    def get_attribute(self, attribute: int) -> int:
        """One of :class:`device_attribute`."""
        value = c_int()
        call("cuDeviceGetAttribute", byref(value), c_int(attribute), self._handle)
        return value.value

    def compute_capability(self) -> tuple[int, int]:
        """Major and minor."""
        major = self.get_attribute(device_attribute.COMPUTE_CAPABILITY_MAJOR)
        return major, self.get_attribute(device_attribute.COMPUTE_CAPABILITY_MINOR)


class Context:
    """The context that is current, whoever made it."""

    @staticmethod
    def pop() -> None:
        """Take it off the calling thread's stack."""
        call("cuCtxPopCurrent_v2", byref(c_void_p()))

    @staticmethod
    def get_device() -> Device:
        """Its device."""
        number = c_int()
        call("cuCtxGetDevice", byref(number))
        return Device(number.value)


@dataclass(frozen=True)
class Stream:
    """A stream that somebody else made.

    Attributes:
        handle: the driver's, as a number.
    """

    handle: int


class Module:
    """Machine code, or what the driver made of PTX; it stays until unloaded."""

    def __init__(self, handle: c_void_p) -> None:
        self._handle = handle

    def get_function(self, name: str) -> Function:
        """A kernel by its name."""
        function = c_void_p()
        call("cuModuleGetFunction", byref(function), self._handle, c_char_p(name.encode()))
        return Function(function)

    def unload(self) -> None:
        """Release it; its context is current, and nothing of it is queued."""
        call("cuModuleUnload", self._handle)


class Function:
    """A kernel of a module."""

    def __init__(self, handle: c_void_p) -> None:
        self._handle = handle

    def set_attribute(self, attribute: int, value: int) -> None:
        """One of :class:`function_attribute`."""
        call("cuFuncSetAttribute", self._handle, c_int(attribute), c_int(value))

    def __call__(
        self,
        *arguments: Any,
        block: tuple[int, int, int],
        grid: tuple[int, int, int],
        shared: int = 0,
        stream: Any = None,
    ) -> None:
        """Queue it; arguments are NumPy scalars, the stream has a ``handle``."""
        # Each must stay alive, and where it is, until the driver has read it.
        held = [np.array(argument) for argument in arguments]
        pointers = (c_void_p * len(held))(*(array.ctypes.data for array in held))
        sizes = [c_uint(size) for size in (*grid, *block, shared)]
        queue = c_void_p(stream.handle if stream else None)
        call("cuLaunchKernel", self._handle, *sizes, queue, pointers, c_void_p(None))


def module_from_buffer(image: bytes) -> Module:
    """Load a cubin or PTX text into the current context."""
    handle = c_void_p()
    # PTX must end with a zero, which c_char_p adds.
    call("cuModuleLoadData", byref(handle), c_char_p(image))
    return Module(handle)
