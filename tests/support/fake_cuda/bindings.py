"""What tests call beside :mod:`xdecoder_rt.kernels.cuda_driver`, by ``cuda-bindings`` too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xdecoder_rt.kernels import cuda_driver


@contextmanager
def current_context() -> Iterator[None]:
    """Keep the primary context of the first device current."""
    cuda_driver.init()
    context = cuda_driver.Device(0).retain_primary_context()
    context.push()
    try:
        yield
    finally:
        context.pop()
        context.detach()


def memcpy_htod(memory: cuda_driver.DeviceAllocation, array: Any) -> None:
    """Copy a contiguous array to the device."""
    cuda_driver.call_driver("cuMemcpyHtoD", int(memory), array.ctypes.data, array.nbytes)
