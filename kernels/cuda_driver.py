"""The calls of ``pycuda.driver`` that we make, over ``cuda-bindings``; and which of both is taken.

Names and parameters are pycuda's. It is the first choice wherever it imports; it is compiled where
it is installed, which takes a CUDA toolkit, while cuda-bindings has wheels. And it takes no stream
but its own, and no context that it did not push: work on streams that others made goes this way.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import BackendError, MissingExtraError, require

_OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
_NAME_BYTES = 256


class Error(Exception):
    """The driver returned something other than success, or cannot be called."""


class MemoryError(Error):
    """There is no room."""


def choose(extra: str) -> ModuleType:
    """Return ``pycuda.driver``, or this module where pycuda is not installed.

    Args:
        extra: the extra that installs either, for the message where both are missing.

    Raises:
        MissingExtraError: neither is installed.
        BackendError: there is no NVIDIA driver.
    """
    try:
        return import_module("pycuda.driver")
    except ImportError as error:
        if "libcuda" in str(error) and find_spec("pycuda") is not None:
            raise BackendError(
                f"The NVIDIA driver is not installed ({error})",
                expected="libcuda.so.1",
                fix="install the driver; in a container, give it the GPU (--gpus all)",
            ) from error
    try:
        import_module("cuda.bindings.driver")
    except ImportError as error:
        raise MissingExtraError(
            f"Neither 'pycuda.driver' nor 'cuda.bindings.driver' could be imported ({error})",
            fix=f'pip install "xdecoder_rt[{extra}]"',
        ) from error
    return sys.modules[__name__]


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
        Error: it fails, or there is no driver that has it; `MemoryError` for want of memory.
        MissingExtraError: ``cuda-bindings`` is not installed.
    """
    function = getattr(bindings(), name, None)
    if function is None:
        raise Error(f"{name}: this cuda-bindings has no such call")
    try:
        result, *values = function(*arguments)
    except RuntimeError as error:
        raise Error(f"{name}: {error}") from error
    if result:
        kind = MemoryError if result.name == _OUT_OF_MEMORY else Error
        raise kind(f"{name}: {result.name}")
    if len(values) > 1:
        return tuple(values)
    return values[0] if values else None


def init() -> None:
    """Begin to use the driver."""
    call_driver("cuInit", 0)


def get_driver_version() -> int:
    """Return the CUDA version of the driver: 13000 for CUDA 13.0."""
    return int(call_driver("cuDriverGetVersion"))


def mem_get_info() -> tuple[int, int]:
    """Return the free and the whole memory of the current context's device, in bytes."""
    free, total = call_driver("cuMemGetInfo")
    return int(free), int(total)


class device_attribute:  # noqa: N801 (pycuda's name)
    """Attributes of ``cuDeviceGetAttribute``."""

    MULTIPROCESSOR_COUNT = 16
    COMPUTE_CAPABILITY_MAJOR = 75
    COMPUTE_CAPABILITY_MINOR = 76


class function_attribute:  # noqa: N801 (pycuda's name)
    """Attributes of ``cuFuncSetAttribute``."""

    MAX_DYNAMIC_SHARED_SIZE_BYTES = 8


class event_flags:  # noqa: N801 (pycuda's name)
    """Flags of ``cuEventCreate``."""

    DISABLE_TIMING = 2


class Device:
    """A device by its number."""

    def __init__(self, number: int) -> None:
        self._handle = call_driver("cuDeviceGet", number)

    @staticmethod
    def count() -> int:
        """Return how many there are."""
        return int(call_driver("cuDeviceGetCount"))

    def name(self) -> str:
        """Return its name."""
        name: bytes = call_driver("cuDeviceGetName", _NAME_BYTES, self._handle)
        return name.split(b"\0")[0].decode()

    def get_attribute(self, attribute: int) -> int:
        """Return one of :class:`device_attribute`."""
        number = bindings().CUdevice_attribute(attribute)
        return int(call_driver("cuDeviceGetAttribute", number, self._handle))

    def compute_capability(self) -> tuple[int, int]:
        """Return the major and the minor version."""
        major = self.get_attribute(device_attribute.COMPUTE_CAPABILITY_MAJOR)
        return major, self.get_attribute(device_attribute.COMPUTE_CAPABILITY_MINOR)

    def retain_primary_context(self) -> Context:
        """Return the context that all libraries share; see :meth:`Context.detach`."""
        return Context(call_driver("cuDevicePrimaryCtxRetain", self._handle), self._handle)


class Context:
    """A device's primary context; its static methods are about the one that is current."""

    def __init__(self, handle: Any, device: Any) -> None:
        self._handle = handle
        self._device = device

    def push(self) -> None:
        """Make it current on this thread."""
        call_driver("cuCtxPushCurrent", self._handle)

    def detach(self) -> None:
        """Give it back to the driver."""
        call_driver("cuDevicePrimaryCtxRelease", self._device)

    @staticmethod
    def pop() -> None:
        """Put away the one that is current."""
        call_driver("cuCtxPopCurrent")

    @staticmethod
    def synchronize() -> None:
        """Wait for everything on its device."""
        call_driver("cuCtxSynchronize")

    @staticmethod
    def get_device() -> Device:
        """Return the device of the one that is current, whoever made it."""
        return Device(int(call_driver("cuCtxGetDevice")))


@contextmanager
def _current(context: Any) -> Iterator[None]:
    """Keep a context current, for what a destructor does on any thread."""
    call_driver("cuCtxPushCurrent", context)
    try:
        yield
    finally:
        call_driver("cuCtxPopCurrent")


class _Owned:
    """Something of the driver's that ends with its object.

    Args:
        handle: the driver's.
        destroy: the name of the function that releases it.
    """

    def __init__(self, handle: Any, destroy: str) -> None:
        self.handle = int(handle)
        self._destroy = destroy
        self._context = call_driver("cuCtxGetCurrent")

    def __del__(self) -> None:
        handle, self.handle = getattr(self, "handle", 0), 0
        if not handle:
            return
        try:
            with _current(self._context):
                call_driver(self._destroy, handle)
        except (Error, ImportError, AttributeError, TypeError):
            pass  # the context is gone, and this with it; or the interpreter is


class Stream(_Owned):
    """A stream.

    Attributes:
        handle: the driver's, as a number.
    """

    def __init__(self, flags: int = 0) -> None:
        super().__init__(call_driver("cuStreamCreate", flags), "cuStreamDestroy")

    def synchronize(self) -> None:
        """Wait for what is queued on it."""
        call_driver("cuStreamSynchronize", self.handle)

    def wait_for_event(self, event: Event) -> None:
        """Let it go on when an event was reached."""
        call_driver("cuStreamWaitEvent", self.handle, event.handle, 0)


@dataclass(frozen=True)
class BorrowedStream:
    """A stream that somebody else made.

    Attributes:
        handle: the driver's, as a number.
    """

    handle: int


class Event(_Owned):
    """A point in a stream."""

    def __init__(self, flags: int = 0) -> None:
        super().__init__(call_driver("cuEventCreate", flags), "cuEventDestroy")

    def record(self, stream: Stream | None = None) -> None:
        """Put it behind what is queued on a stream, or on the default one."""
        call_driver("cuEventRecord", self.handle, _queue(stream))

    def synchronize(self) -> None:
        """Wait until it was reached."""
        call_driver("cuEventSynchronize", self.handle)


class DeviceAllocation:
    """Device memory; ``int()`` of it is its address."""

    def __init__(self, size: int) -> None:
        self._address = int(call_driver("cuMemAlloc", size))

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        """Release it; its context is current."""
        call_driver("cuMemFree", self._address)


def mem_alloc(size: int) -> DeviceAllocation:
    """Allocate device memory."""
    return DeviceAllocation(size)


class PinnedAllocation:
    """Page-locked memory of the host, of which NumPy makes an array that holds it."""

    def __init__(self, size: int, dtype: np.dtype[Any]) -> None:
        bytes_taken = max(size * dtype.itemsize, 1)
        self._address = int(call_driver("cuMemHostAlloc", bytes_taken, 0))
        self.__array_interface__ = {
            "shape": (size,), "typestr": dtype.str, "data": (self._address, False), "version": 3,
        }  # fmt: skip

    def free(self) -> None:
        """Release it; its context is current."""
        call_driver("cuMemFreeHost", self._address)


def pagelocked_empty(size: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return page-locked memory as an array, whose ``base.free()`` releases it."""
    return np.asarray(PinnedAllocation(size, np.dtype(dtype)))


def _queue(stream: Stream | None) -> int:
    """The driver's handle of a stream, or of the default one."""
    return 0 if stream is None else stream.handle


def memcpy_htod_async(address: int, array: npt.NDArray[Any], stream: Stream | None = None) -> None:
    """Queue the copy of a contiguous array to the device."""
    call_driver("cuMemcpyHtoDAsync", int(address), array.ctypes.data, array.nbytes, _queue(stream))


def memcpy_dtoh_async(array: npt.NDArray[Any], address: int, stream: Stream | None = None) -> None:
    """Queue the copy of device memory into a contiguous array."""
    call_driver("cuMemcpyDtoHAsync", array.ctypes.data, int(address), array.nbytes, _queue(stream))


def memset_d8_async(address: int, value: int, count: int, stream: Stream | None = None) -> None:
    """Queue the filling of bytes on the device."""
    call_driver("cuMemsetD8Async", int(address), value, count, _queue(stream))


class Memcpy2D:
    """A copy of rows from device to device.

    Attributes:
        src_pitch: bytes from a row to the next, where they are.
        dst_pitch: likewise, where they go.
        width_in_bytes: of a row.
        height: rows.
    """

    src_pitch = dst_pitch = width_in_bytes = height = 0

    def __init__(self) -> None:
        self._source = self._target = 0

    def set_src_device(self, address: int) -> None:
        """Say where the rows are."""
        self._source = int(address)

    def set_dst_device(self, address: int) -> None:
        """Say where they go."""
        self._target = int(address)

    def __call__(self, stream: Stream) -> None:
        """Queue the copy."""
        driver = bindings()
        copy = driver.CUDA_MEMCPY2D()
        copy.srcMemoryType = copy.dstMemoryType = driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
        copy.srcDevice, copy.dstDevice = (
            driver.CUdeviceptr(address) for address in (self._source, self._target)
        )
        copy.srcPitch, copy.dstPitch = self.src_pitch, self.dst_pitch
        copy.WidthInBytes, copy.Height = self.width_in_bytes, self.height
        call_driver("cuMemcpy2DAsync", copy, stream.handle)


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
