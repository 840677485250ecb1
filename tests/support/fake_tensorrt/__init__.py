"""TensorRT without TensorRT: engines are ONNX models, and the GPU is a driver that checks.

Tests get a :class:`Gpu` from the fixture ``gpu``: on a stand-in for pycuda that finds races; over
the fake driver of :mod:`fake_cuda` on cuda-bindings alone, and on the real pycuda, where these are
installed. README.md says what is checked.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from xdecoder_rt.backends.cuda import context as cuda_context
from xdecoder_rt.backends.tensorrt import library as tensorrt_library
from xdecoder_rt.kernels import cuda_driver

from . import cuda_bindings, library
from .compiled import kernel_files, node_calls
from .driver import Driver
from .engines import engine, ranges, read_engine, tensorrt_plan
from .kernels import Kernels

__all__ = [
    "Gpu",
    "Kernels",
    "engine",
    "gpu",
    "kernel_files",
    "node_calls",
    "read_engine",
    "ranges",
    "tensorrt_plan",
]

VERSIONS = {"tensorrt": "10.3.0", "tensorrt_rtx": "1.7.1.116"}


class StandInMachine:
    """The stand-in's memory and streams, as the fake TensorRT sees them."""

    capability = "8.7"
    pause: Callable[[], None] | None = None

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def check_current(self) -> None:
        self._driver.check_current()

    def may_allocate(self, stream: int) -> bool:
        return self._driver.streams[stream].captured is None

    def check(self, address: int, size: int) -> None:
        self._driver.access([(address, size)])

    def array(self, address: int, shape: Sequence[int], dtype: Any) -> Any:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._driver.access([(address, size)])
        buffer = (ctypes.c_char * size).from_address(address)
        return np.ndarray(tuple(shape), dtype, buffer=memoryview(buffer))

    def submit(
        self,
        stream: int,
        work: Callable[[], None],
        reads: Sequence[tuple[int, int]],
        writes: Sequence[tuple[int, int]],
    ) -> None:
        if self.pause is not None:
            self.pause()
        self._driver.submit(self._driver.streams[stream], work, reads, writes)


class FakeCudaMachine:
    """The same of the fake driver: work is a kernel, launched by the driver's own call."""

    capability = "8.7"
    pause: Callable[[], None] | None = None
    _KERNEL = "tensorrt"

    def __init__(self, fake: Any) -> None:
        self.fake = fake
        self._library = fake._library
        self._library.cuLaunchKernel.argtypes = (
            [ctypes.c_void_p] + [ctypes.c_uint] * 7 + [ctypes.c_void_p] * 3
        )
        self._work: list[Callable[[], None]] = []
        self._functions: dict[int, int] = {}
        self.on_launch: Callable[[Any], None] | None = None
        fake.on_launch(self._run)

    def check_current(self) -> None:
        assert self._current_context(), "no context is current on this thread"

    def may_allocate(self, stream: int) -> bool:
        # One stream is captured at a time; to ask about a captured one voids the capture.
        begun, ended = self.fake.log("cuStreamBeginCapture"), self.fake.log("cuStreamEndCapture")
        return len(begun) == len(ended)

    def check(self, address: int, size: int) -> None:
        self.fake.array(address, (size,), np.uint8)

    def array(self, address: int, shape: Sequence[int], dtype: Any) -> Any:
        return self.fake.array(address, tuple(shape), dtype)

    def submit(
        self,
        stream: int,
        work: Callable[[], None],
        reads: Sequence[tuple[int, int]],
        writes: Sequence[tuple[int, int]],
    ) -> None:
        if self.pause is not None:
            self.pause()
        number = ctypes.c_int64(len(self._work))
        self._work.append(work)
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(number))
        result = self._library.cuLaunchKernel(
            self._handle(), 1, 1, 1, 32, 1, 1, 0, stream, parameters, None
        )
        assert result == 0, self.fake.last_error()

    def _current_context(self) -> int:
        current = ctypes.c_void_p()
        assert self._library.cuCtxGetCurrent(ctypes.byref(current)) == 0
        return int(current.value or 0)

    def _handle(self) -> int:
        """The kernel, loaded once into every context."""
        context = self._current_context()
        if context not in self._functions:
            kernel = sys.modules[type(self.fake).__module__].Kernel(self._KERNEL, (8,))
            image = ctypes.create_string_buffer(self.fake.cubin(87, kernel))
            module, function = ctypes.c_void_p(), ctypes.c_void_p()
            assert self._library.cuModuleLoadData(ctypes.byref(module), image) == 0
            result = self._library.cuModuleGetFunction(
                ctypes.byref(function), module, self._KERNEL.encode()
            )
            assert result == 0
            self._functions[context] = int(function.value or 0)
        return self._functions[context]

    def _run(self, launch: Any) -> None:
        if launch.name == self._KERNEL:
            self._work[launch.unpack("q")[0]]()
        elif self.on_launch is not None:
            self.on_launch(launch)


class Gpu:
    """A GPU with TensorRT on it, as tests see it.

    Attributes:
        driver: ``pycuda.driver`` or what stands in for it.
        machine: its memory, for the fake TensorRT.
        is_stand_in: whether there is no fake driver behind it.
    """

    def __init__(self, driver: Any, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.driver = driver
        self.machine = machine
        self.is_stand_in = isinstance(driver, Driver)
        self._monkeypatch = monkeypatch
        self.install("tensorrt")

    def install(self, name: str, version: str | None = None) -> ModuleType:
        """Make the fake library importable as `name`."""
        fake_library = library.module(name, version or VERSIONS[name], self.machine)
        # The real library's wheels, which may be installed, say nothing of this one.
        self._monkeypatch.setattr(tensorrt_library, "distributions", lambda: [])
        self._monkeypatch.setitem(sys.modules, name, fake_library)
        return fake_library

    def late(self, is_late: bool = True) -> None:
        """Whether streams work only when something waits for them."""
        if self.is_stand_in:
            self.driver.is_late = is_late
        else:
            self.machine.fake.defer(is_late)

    def on_kernel(
        self, stand_in: Callable[[str, tuple[int, ...], list[Any]], None], types: dict[str, str]
    ) -> None:
        """Let ``stand_in`` do what kernels would, given their names, grids and arguments.

        Args:
            stand_in: called where the kernel would run.
            types: of each kernel's arguments, as of ``struct``.
        """
        if self.is_stand_in:
            self.driver.on_launch = stand_in
        else:
            self.machine.on_launch = lambda launch: stand_in(
                launch.name, launch.grid, list(launch.unpack(types[launch.name]))
            )

    def contend(self) -> None:
        """Let every queueing of an engine take a moment, so that threads meet there."""
        self.machine.pause = lambda: time.sleep(2e-4)

    def without_graphs(self) -> None:
        """Take ``cuda-bindings`` away."""
        if self.driver is cuda_driver:
            pytest.skip("without cuda-bindings there is no driver here")
        self._monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)

    def live(self) -> tuple[int, int]:
        """Allocations of device memory and of page-locked memory that were not released."""
        if self.is_stand_in:
            return len(self.driver.memory), len(self.driver.pinned)
        places = [allocation.place for allocation in self.machine.fake.live().allocations]
        return places.count("device"), places.count("pinned host")

    def context_state(self) -> tuple[bool, int]:
        """Whether a context is current on this thread, and how many there are."""
        if self.is_stand_in:
            return self.driver.depth() > 0, self.driver.references
        current = ctypes.c_void_p()
        assert self.machine._library.cuCtxGetCurrent(ctypes.byref(current)) == 0
        return current.value is not None, self.machine.fake.live().contexts

    def allocations(self) -> int:
        """How many there have been so far."""
        if self.is_stand_in:
            return len(self.driver.memory) + len(self.driver.pinned) + len(self.driver.freed)
        fake = self.machine.fake
        return len(fake.log("cuMemAlloc")) + len(fake.log("cuMemHostAlloc"))


@pytest.fixture(params=["stand-in", "cuda-bindings", "pycuda"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """A GPU with TensorRT, late as streams may be."""
    if request.param == "stand-in":
        package, driver = ModuleType("pycuda"), Driver()
        package.driver = driver  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
        monkeypatch.setitem(sys.modules, "cuda.bindings.driver", cuda_bindings.module(driver))
        monkeypatch.setattr(cuda_context, "pop_unknown_to_pycuda", driver.pop_directly)
        yield Gpu(driver, StandInMachine(driver), monkeypatch)
    elif request.param == "cuda-bindings":
        pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
        from fake_cuda import bindings

        fake = request.getfixturevalue("fake_driver")
        for name in ("pycuda", "pycuda.driver"):  # as if it were not installed
            monkeypatch.setitem(sys.modules, name, None)
        # What tests alone call.
        monkeypatch.setattr(cuda_driver, "memcpy_htod", bindings.memcpy_htod, raising=False)
        plain_gpu = Gpu(cuda_driver, FakeCudaMachine(fake), monkeypatch)
        plain_gpu.late()
        yield plain_gpu
        fake.on_launch(None)
        gc.collect()  # streams and events end while their context is there
        fake._library.cuInit(0)  # a test may have ended before
        while plain_gpu.context_state()[0]:
            assert fake._library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p())) == 0
    else:
        fake = request.getfixturevalue("fake_cuda")
        from pycuda import driver as real

        real_gpu = Gpu(real, FakeCudaMachine(fake), monkeypatch)
        real_gpu.late()
        yield real_gpu
        fake.on_launch(None)
