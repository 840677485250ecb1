"""What the kernels' loader uses of ``pycuda.driver``, by ctypes on the CUDA driver itself.

A machine with a GPU has the driver; few have pycuda. Where it is missing, :func:`driver` puts this
module in its place, so that the loader runs as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import sys
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_void_p
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

LIBRARY = "libcuda.so.1"


class Error(Exception):
    """The driver returned something other than success."""


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(LIBRARY)


def _call(name: str, *arguments: Any) -> None:
    code = getattr(_library(), name)(*arguments)
    if code:
        said = c_char_p()
        _library().cuGetErrorName(c_int(code), byref(said))
        raise Error(f"{name}: {(said.value or b'').decode() or code}")


def init() -> None:
    """Must come first."""
    _call("cuInit", c_uint(0))


def get_driver_version() -> int:
    """As 13000 for CUDA 13.0."""
    version = c_int()
    _call("cuDriverGetVersion", byref(version))
    return version.value


class device_attribute:  # noqa: N801 (pycuda's name)
    """Of ``cuDeviceGetAttribute``."""

    MULTIPROCESSOR_COUNT = 16
    COMPUTE_CAPABILITY_MAJOR = 75
    COMPUTE_CAPABILITY_MINOR = 76


class function_attribute:  # noqa: N801
    """Of ``cuFuncSetAttribute``."""

    MAX_DYNAMIC_SHARED_SIZE_BYTES = 8


class Device:
    """A device by its number."""

    def __init__(self, number: int) -> None:
        self._handle = c_int()
        _call("cuDeviceGet", byref(self._handle), c_int(number))

    def get_attribute(self, attribute: int) -> int:
        """One of :class:`device_attribute`."""
        value = c_int()
        _call("cuDeviceGetAttribute", byref(value), c_int(attribute), self._handle)
        return value.value

    def compute_capability(self) -> tuple[int, int]:
        """Major and minor."""
        major = self.get_attribute(device_attribute.COMPUTE_CAPABILITY_MAJOR)
        return major, self.get_attribute(device_attribute.COMPUTE_CAPABILITY_MINOR)

    def retain_primary_context(self) -> Context:
        """The context that everything of a process shares."""
        context = c_void_p()
        _call("cuDevicePrimaryCtxRetain", byref(context), self._handle)
        return Context(context, self._handle)


class Context:
    """A context, to be pushed."""

    def __init__(self, handle: c_void_p, device: c_int) -> None:
        self._handle, self._device = handle, device

    def push(self) -> None:
        """Make it current."""
        _call("cuCtxPushCurrent_v2", self._handle)

    def pop(self) -> None:
        """Make what was current before it current again."""
        _call("cuCtxPopCurrent_v2", byref(c_void_p()))

    def detach(self) -> None:
        """Give it back."""
        _call("cuDevicePrimaryCtxRelease_v2", self._device)

    @staticmethod
    def get_device() -> Device:
        """Of the current context."""
        number = c_int()
        _call("cuCtxGetDevice", byref(number))
        return Device(number.value)

    @staticmethod
    def synchronize() -> None:
        """Wait for everything."""
        _call("cuCtxSynchronize")


class Allocation:
    """Device memory; ``int`` of it is its address."""

    def __init__(self, size: int) -> None:
        self._address = c_void_p()
        _call("cuMemAlloc_v2", byref(self._address), c_size_t(size))

    def __int__(self) -> int:
        return self._address.value or 0

    def free(self) -> None:
        """Give it back."""
        _call("cuMemFree_v2", self._address)


def mem_alloc(size: int) -> Allocation:
    """Device memory of some bytes."""
    return Allocation(size)


def memcpy_htod(target: Allocation, source: np.ndarray[Any, Any]) -> None:
    """From a contiguous array to the device."""
    address = c_void_p(source.ctypes.data)
    _call("cuMemcpyHtoD_v2", c_void_p(int(target)), address, c_size_t(source.nbytes))


def memcpy_dtoh(target: np.ndarray[Any, Any], source: Allocation) -> None:
    """From the device to a contiguous array."""
    address = c_void_p(target.ctypes.data)
    _call("cuMemcpyDtoH_v2", address, c_void_p(int(source)), c_size_t(target.nbytes))


class Stream:
    """A stream; ``handle`` is the driver's."""

    def __init__(self) -> None:
        self._stream = c_void_p()
        _call("cuStreamCreate", byref(self._stream), c_uint(0))

    @property
    def handle(self) -> int:
        """An address."""
        return self._stream.value or 0

    def synchronize(self) -> None:
        """Wait for what was queued."""
        _call("cuStreamSynchronize", self._stream)

    def __del__(self) -> None:
        with contextlib.suppress(Error):
            _call("cuStreamDestroy_v2", self._stream)


class Function:
    """A kernel of a module."""

    def __init__(self, handle: c_void_p, module: c_void_p) -> None:
        self._handle, self._module = handle, module

    def set_attribute(self, attribute: int, value: int) -> None:
        """One of :class:`function_attribute`."""
        _call("cuFuncSetAttribute", self._handle, c_int(attribute), c_int(value))

    def __call__(
        self,
        *arguments: Any,
        block: tuple[int, int, int],
        grid: tuple[int, int, int],
        shared: int = 0,
        stream: Any = None,
    ) -> None:
        """Queue it; arguments are NumPy scalars."""
        # Each must stay alive, and where it is, until the driver has read it.
        held = [np.array(argument) for argument in arguments]
        pointers = (c_void_p * len(held))(*(array.ctypes.data for array in held))
        sizes = [c_uint(size) for size in (*grid, *block, shared)]
        queue = c_void_p(stream.handle if stream else None)
        _call("cuLaunchKernel", self._handle, *sizes, queue, pointers, c_void_p(None))


class Module:
    """Machine code, or what the driver made of PTX."""

    def __init__(self, handle: c_void_p) -> None:
        self._handle = handle

    def get_function(self, name: str) -> Function:
        """A kernel by its name."""
        function = c_void_p()
        _call("cuModuleGetFunction", byref(function), self._handle, c_char_p(name.encode()))
        return Function(function, self._handle)


def module_from_buffer(image: bytes) -> Module:
    """Load a cubin or PTX text."""
    handle = c_void_p()
    # PTX must end with a zero, which c_char_p adds.
    _call("cuModuleLoadData", byref(handle), c_char_p(image))
    return Module(handle)


def driver() -> tuple[ModuleType, str]:
    """``pycuda.driver`` and where it is from: pycuda, or this module in its place."""
    if importlib.util.find_spec("pycuda") is not None:
        from pycuda import driver as found

        return found, "pycuda"
    package, module = ModuleType("pycuda"), sys.modules[__name__]
    package.driver = module  # type: ignore[attr-defined]
    sys.modules |= {"pycuda": package, "pycuda.driver": module}
    return module, f"ctypes on {LIBRARY}"
