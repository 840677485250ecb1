"""The calls of ``pycuda.driver`` that the loader makes, over ``cuda-bindings``.

For work on streams that others made: pycuda takes no stream but its own, and no context that it
did not push. Names and parameters are pycuda's.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from xdecoder_rt.errors import require


class Error(Exception):
    """The driver returned something other than success, or cannot be called."""


def bindings() -> ModuleType:
    """Return the module ``cuda.bindings.driver``.

    Raises:
        MissingExtraError: ``cuda-bindings`` is not installed.
    """
    return require("cuda.bindings.driver", "jetson")


def call_driver(name: str, *arguments: Any) -> Any:
    """Call a function of the driver and return what it gives, or None.

    Args:
        name: of the function in ``cuda.bindings.driver``.
        arguments: its arguments.

    Raises:
        Error: it fails, or there is no driver that has it.
        MissingExtraError: ``cuda-bindings`` is not installed.
    """
    function = getattr(bindings(), name)
    try:
        result, *values = function(*arguments)
    except RuntimeError as error:
        raise Error(f"{name}: {error}") from error
    if result:
        raise Error(f"{name}: {result.name}")
    return values[0] if values else None


def get_driver_version() -> int:
    """Return the CUDA version of the driver: 13000 for CUDA 13.0."""
    return int(call_driver("cuDriverGetVersion"))


class device_attribute:  # noqa: N801 (pycuda's name)
    """Attributes of ``cuDeviceGetAttribute``."""

    MULTIPROCESSOR_COUNT = 16
    COMPUTE_CAPABILITY_MAJOR = 75
    COMPUTE_CAPABILITY_MINOR = 76


class function_attribute:  # noqa: N801 (pycuda's name)
    """Attributes of ``cuFuncSetAttribute``."""

    MAX_DYNAMIC_SHARED_SIZE_BYTES = 8


class Device:
    """A device by the driver's handle."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def get_attribute(self, attribute: int) -> int:
        """Return one of :class:`device_attribute`."""
        number = bindings().CUdevice_attribute(attribute)
        return int(call_driver("cuDeviceGetAttribute", number, self._handle))

    def compute_capability(self) -> tuple[int, int]:
        """Return the major and the minor version."""
        major = self.get_attribute(device_attribute.COMPUTE_CAPABILITY_MAJOR)
        return major, self.get_attribute(device_attribute.COMPUTE_CAPABILITY_MINOR)


class Context:
    """The context that is current, whoever made it."""

    @staticmethod
    def get_device() -> Device:
        """Return its device."""
        return Device(call_driver("cuCtxGetDevice"))


@dataclass(frozen=True)
class Stream:
    """A stream that somebody else made.

    Attributes:
        handle: the driver's, as a number.
    """

    handle: int


class Module:
    """Machine code, or what the driver made of PTX; it stays until unloaded."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def get_function(self, name: str) -> Function:
        """Return a kernel by its name."""
        return Function(call_driver("cuModuleGetFunction", self._handle, name.encode()))

    def unload(self) -> None:
        """Release it; its context is current, and nothing of it is queued."""
        call_driver("cuModuleUnload", self._handle)


class Function:
    """A kernel of a module."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def set_attribute(self, attribute: int, value: int) -> None:
        """Set one of :class:`function_attribute`."""
        number = bindings().CUfunction_attribute(attribute)
        call_driver("cuFuncSetAttribute", self._handle, number, value)

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
        values = [np.array(argument) for argument in arguments]
        pointers = np.array([array.ctypes.data for array in values], np.uintp)
        queue = stream.handle if stream else 0
        sizes = (*grid, *block, shared)
        call_driver("cuLaunchKernel", self._handle, *sizes, queue, pointers.ctypes.data, 0)


def module_from_buffer(image: bytes) -> Module:
    """Load a cubin or PTX text into the current context."""
    # PTX must end with a zero, which the memory of bytes does.
    return Module(call_driver("cuModuleLoadData", image))
