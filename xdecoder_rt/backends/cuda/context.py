"""One CUDA device through pycuda or cuda-bindings: its primary context, and what is made in it.

The primary context is the one that PyTorch, CuPy and the CUDA runtime use, so their arrays can be
taken as they are. It is made current around every call and put away after it, so that any thread
may call, and a thread's own context is left alone.
"""

from __future__ import annotations

import ctypes
import re
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import BackendError, quoted
from xdecoder_rt.kernels import cuda_driver

_DEVICE = re.compile(r"cuda(?::(\d{1,3}))?")
# What cuda-bindings says of a call that the driver does not have.
_LACKS_CALL = re.compile(r"function \S+ (is )?not found", re.IGNORECASE)
# Streams that do not wait for the legacy default stream, which other libraries use.
_NON_BLOCKING = 1


@dataclass(frozen=True)
class DeviceFacts:
    """A device, as a plan must fit it.

    Attributes:
        name: as the driver gives it.
        capability: compute capability, "8.7".
        cuda: the CUDA version of its driver, such as (12, 6).
    """

    name: str
    capability: str
    cuda: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability})"


class CudaContext:
    """The primary context of a device, current inside a ``with`` block on the calling thread.

    Args:
        device: ``"cuda"``, ``"cuda:1"``, or None for the first.
        extra: the extra that installs the driver's bindings, for the message where there are none.

    Attributes:
        driver: the module ``pycuda.driver``, or what has its names over cuda-bindings
            (:mod:`xdecoder_rt.kernels.cuda_driver`).
        facts: the device.
        number: the driver's number of it.
        capturing: held while a stream is captured: the driver then refuses to wait for everything.

    Raises:
        BackendError: there is no such device, or no driver.
        MissingExtraError: neither pycuda nor cuda-bindings is installed.
    """

    def __init__(self, device: str | None, extra: str) -> None:
        number = self.number = _device_number(device)
        self.capturing = threading.Lock()
        self.driver: Any = cuda_driver.choose(extra)
        try:
            self.driver.init()
            count = self.driver.Device.count()
            if number >= count:
                raise BackendError(
                    f"There is no CUDA device {number}", expected=f"one of 0 to {count - 1}"
                )
            handle = self.driver.Device(number)
            major, minor = handle.compute_capability()
            version = int(self.driver.get_driver_version())
            self._context: Any = handle.retain_primary_context()
        except self.driver.Error as error:
            raise _unusable(error) from error
        self.facts = DeviceFacts(
            str(handle.name()), f"{major}.{minor}", (version // 1000, version % 1000 // 10)
        )

    def __enter__(self) -> CudaContext:
        self._context.push()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.driver.Context.pop()

    def stream(self) -> Any:
        """Return a new stream, independent of the default one."""
        return self.driver.Stream(_NON_BLOCKING)

    def event(self) -> Any:
        """Return a new event, for order and not for time."""
        return self.driver.Event(self.driver.event_flags.DISABLE_TIMING)

    def memory(self, size: int) -> Any:
        """Allocate `size` bytes; ``int()`` of the result is its address, ``free()`` releases it.

        Raises:
            BackendError: there is no room.
        """
        try:
            return self.driver.mem_alloc(size)
        except self.driver.MemoryError as error:
            free, total = self.driver.mem_get_info()
            raise BackendError(
                f"{size / 1e6:.1f} MB of device memory could not be had "
                f"({free / 1e6:.0f} of {total / 1e6:.0f} MB are free)",
                fix="close other programs on the GPU, drop image states that are no longer "
                "needed, or build a plan with fewer or smaller input sizes",
            ) from error

    def pinned(self, size: int) -> npt.NDArray[np.uint8]:
        """Return page-locked host memory; copies from it run beside the CPU. See :func:`unpin`."""
        array: npt.NDArray[np.uint8] = self.driver.pagelocked_empty(size, np.uint8)
        return array

    def synchronize(self) -> None:
        """Wait for everything on the device."""
        with self.capturing:
            self.driver.Context.synchronize()

    def close(self) -> None:
        """Give the primary context back; what was made in it must be released before.

        The calling thread's context is what it was, whichever thread made this one.
        """
        # pycuda gives a context back where it is current, or else on the thread that made it; and
        # it counts on the driver to pop what is given back, which a primary context's release does
        # not do. A context that nobody holds would stay current, and CUDA's runtime refuses it.
        self._context.push()
        pop_unknown_to_pycuda()
        self._context.detach()


def find_device(wanted: str, extra: str) -> str:
    """Return ``"cuda:1"`` for the number of a GPU, or for its name or a part of that.

    Args:
        wanted: ``"1"``, ``"cuda:1"``, ``"RTX 4090"``. Of several GPUs of one name it is the first.
        extra: as of :class:`CudaContext`.

    Raises:
        BackendError: there is no such GPU, or several whose names differ, or no driver.
        MissingExtraError: neither pycuda nor cuda-bindings is installed.
    """
    driver: Any = cuda_driver.choose(extra)
    try:
        driver.init()
        names = [str(driver.Device(number).name()) for number in range(driver.Device.count())]
    except driver.Error as error:
        raise _unusable(error) from error
    present = ", ".join(f"{number} ({name})" for number, name in enumerate(names)) or "none"
    if match := re.fullmatch(r"(?:cuda:)?(\d{1,3})|cuda", wanted):
        number = int(match.group(1) or 0)
        if number < len(names):
            return f"cuda:{number}"
        raise BackendError(f"There is no GPU {number}", expected=f"one of {present}")
    found = [number for number, name in enumerate(names) if wanted.casefold() in name.casefold()]
    if not wanted.strip() or len({names[number] for number in found}) != 1:
        raise BackendError(
            f"{quoted(wanted)} is the name of {'several GPUs' if found else 'no GPU here'}",
            expected=f"the number or the name of one of {present}",
        )
    return f"cuda:{found[0]}"


def pop_unknown_to_pycuda() -> None:
    """Pop the calling thread's context and leave pycuda's own count of contexts as it is."""
    # The one call that pycuda does not offer and that must work without cuda-bindings too.
    ctypes.CDLL("libcuda.so.1").cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def unpin(array: npt.NDArray[np.uint8]) -> None:
    """Release what :meth:`CudaContext.pinned` gave."""
    allocation: Any = array.base
    allocation.free()


def _unusable(error: Exception) -> BackendError:
    if _LACKS_CALL.search(str(error)):
        return BackendError(
            f"The CUDA driver is older than cuda-bindings ({error})",
            expected="cuda-bindings of the driver's CUDA, or an older one",
            fix='pip install "cuda-bindings<13" for a driver of CUDA 12, or update the driver',
        )
    return BackendError(
        f"The CUDA driver cannot be used ({error})",
        expected="an NVIDIA GPU with its driver",
        fix="look at nvidia-smi; in a container, give it the GPU (--gpus all)",
    )


def _device_number(device: str | None) -> int:
    match = _DEVICE.fullmatch("cuda" if device is None else device)
    if match is None:
        raise BackendError(
            f"A TensorRT plan cannot run on device {quoted(device)}",
            expected="'cuda', 'cuda:0' and so on, or None",
        )
    return int(match.group(1) or 0)
