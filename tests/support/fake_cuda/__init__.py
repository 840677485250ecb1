"""A CUDA driver without a GPU, so that tests can exercise the real pycuda anywhere.

The C files beside this one are a ``libcuda.so.1`` whose device memory is host memory: copies,
fills, streams and events do what they should, kernels do what a test's stand-in does, and every
misuse that a GPU would punish later, or not at all, is an error at once. Tests get a
:class:`FakeCuda` from the fixture ``fake_cuda``. README.md says how to build pycuda for it and what
is modelled.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from .images import Kernel, cubin, ptx

__all__ = ["Allocation", "Call", "Device", "FakeCuda", "Kernel", "Launch", "Live", "Result"]
__all__ += ["fake_cuda", "fake_driver"]

FOLDER = Path(__file__).parent

# Bytes of shared memory that a block may have (CUDA C++ Programming Guide, "Compute Capabilities").
SHARED_MEMORY = {
    (7, 5): 65536,
    (8, 0): 166912,
    (8, 6): 101376,
    (8, 7): 166912,
    (8, 9): 101376,
    (9, 0): 232448,
    (10, 0): 232448,
    (10, 1): 232448,
    (11, 0): 232448,
    (12, 0): 101376,
}


class Result(IntEnum):
    """The driver's results that tests ask for."""

    SUCCESS = 0
    INVALID_VALUE = 1
    OUT_OF_MEMORY = 2
    NOT_INITIALIZED = 3
    INVALID_IMAGE = 200
    INVALID_CONTEXT = 201
    NO_BINARY_FOR_GPU = 209
    UNSUPPORTED_PTX_VERSION = 222
    INVALID_HANDLE = 400
    NOT_FOUND = 500
    ILLEGAL_ADDRESS = 700
    LAUNCH_OUT_OF_RESOURCES = 701
    LAUNCH_FAILED = 719
    NOT_SUPPORTED = 801


@dataclass(frozen=True)
class Device:
    """The one device. The default resembles a Jetson AGX Orin under JetPack 6.

    Attributes:
        compute_capability: major and minor.
        multiprocessors: their number.
        memory: bytes.
        integrated: whether it is a part of the host's chip.
        driver_version: CUDA's, 1000 * major + 10 * minor.
        ptx_version: the newest that the driver takes, 10 * major + minor.
        name: as the device gives it.
    """

    compute_capability: tuple[int, int] = (8, 7)
    multiprocessors: int = 16
    memory: int = 1 << 33
    integrated: bool = True
    driver_version: int = 12060
    ptx_version: int = 85
    name: str = "Fake"


@dataclass(frozen=True)
class Allocation:
    """Live memory: its address, its bytes, and ``device``, ``pinned host``, ``managed``, ..."""

    address: int
    bytes: int
    place: str


@dataclass(frozen=True)
class Live:
    """What was created and not released."""

    allocations: tuple[Allocation, ...] = ()
    contexts: int = 0
    streams: int = 0
    events: int = 0
    modules: int = 0
    graphs: int = 0
    executables: int = 0


@dataclass(frozen=True)
class Call:
    """One call of the driver; queries are recorded only when they fail.

    Attributes:
        name: without a version's suffix: ``cuMemAlloc``.
        result: ``Result.SUCCESS`` or another.
        arguments: what of it matters, by name.
        message: what was wrong.
    """

    name: str
    result: int
    arguments: dict[str, Any] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True)
class Launch:
    """A kernel's launch.

    Attributes:
        name: the kernel's.
        grid: blocks along x, y and z.
        block: threads along x, y and z.
        shared: bytes of dynamic shared memory.
        stream: its handle; 0 is the default stream's.
        parameters: as the kernel reads them.
    """

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    stream: int
    parameters: bytes

    def unpack(self, types: str) -> tuple[Any, ...]:
        """The parameters' values.

        Args:
            types: theirs, as of ``struct``: ``P`` an address, ``i`` an int32, ``f`` a float.
        """
        return struct.unpack("@" + types, self.parameters)


class _Device(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("multiprocessors", ctypes.c_int),
        ("shared_memory_optin", ctypes.c_int),
        ("driver_version", ctypes.c_int),
        ("ptx_version", ctypes.c_int),
        ("integrated", ctypes.c_int),
        ("memory", ctypes.c_size_t),
        ("name", ctypes.c_char * 64),
    ]


class _Launch(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_uint64),
        ("parameters", ctypes.c_void_p),
        ("parameter_size", ctypes.c_size_t),
    ]


_OnLaunch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Launch))


class FakeCuda:
    """What a test asks of the driver, and tells it, behind pycuda's back."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        for name in ("fakecuda_log", "fakecuda_live", "fakecuda_last_error"):
            getattr(library, name).restype = ctypes.c_void_p
        library.fakecuda_free.argtypes = [ctypes.c_void_p]
        library.fakecuda_readable.argtypes = [ctypes.c_uint64, ctypes.c_size_t]
        self._stand_in = _OnLaunch()
        self.reset()

    def reset(self) -> None:
        """Forget everything: nothing lives or is logged, and the device is the default one."""
        self.on_launch(None)
        self._library.fakecuda_reset()
        self.configure(Device())

    def configure(self, device: Device) -> None:
        """Be another device. To be called before pycuda asks for its properties."""
        major, minor = device.compute_capability
        self._library.fakecuda_configure(
            ctypes.byref(
                _Device(
                    major,
                    minor,
                    device.multiprocessors,
                    SHARED_MEMORY[major, minor],
                    device.driver_version,
                    device.ptx_version,
                    device.integrated,
                    device.memory,
                    device.name.encode(),
                )
            )
        )

    def defer(self, deferred: bool = True) -> None:
        """Whether streams do their work as late as they may, so that a missing wait shows."""
        self._library.fakecuda_defer(deferred)

    def fail(self, name: str, result: Result = Result.OUT_OF_MEMORY, after: int = 0) -> None:
        """Let one call, of ``name`` and after ``after`` others of it, do nothing but fail."""
        self._library.fakecuda_fail(name.encode(), after, int(result))

    def on_launch(self, stand_in: Callable[[Launch], None] | None) -> None:
        """Let ``stand_in`` do what kernels would; what it raises fails the launch.

        It runs where the kernel would in its stream's order, must not call pycuda, and reaches
        memory through :meth:`array`.
        """

        def run(pointer: Any) -> int:
            launch = pointer.contents
            try:
                if stand_in is not None:
                    stand_in(
                        Launch(
                            launch.name.decode(),
                            tuple(launch.grid),
                            tuple(launch.block),
                            launch.shared,
                            launch.stream,
                            ctypes.string_at(launch.parameters, launch.parameter_size),
                        )
                    )
            except BaseException:
                traceback.print_exc()  # it cannot pass through the driver
                return Result.LAUNCH_FAILED
            return Result.SUCCESS

        self._stand_in, before = _OnLaunch(run) if stand_in else _OnLaunch(), self._stand_in
        self._library.fakecuda_on_launch(self._stand_in)
        del before  # only now: it was the driver's until here

    def array(self, address: int, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """The numpy array in device memory at ``address``: a view, to be read and written.

        Raises:
            AssertionError: it is not wholly inside one live allocation.
        """
        dtype = np.dtype(dtype)
        count = int(np.prod(shape))
        inside = self._library.fakecuda_readable(address, count * dtype.itemsize)
        assert inside, f"{shape} of {dtype} at {address:#x} is not inside one live allocation"
        buffer = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
        return np.ndarray(shape, dtype, buffer=memoryview(buffer))

    def log(self, name: str = "") -> list[Call]:
        """The calls so far, in order: all, or those of ``name``."""
        calls = json.loads(self._text("fakecuda_log"))
        return [
            Call(c["call"], c["result"], c["arguments"], c.get("message", ""))
            for c in calls
            if name in ("", c["call"])
        ]

    def launches(self) -> list[Launch]:
        """The launches that the driver took, in the order in which they were asked for."""
        return [
            Launch(
                a["function"],
                tuple(a["grid"]),
                tuple(a["block"]),
                a["shared"],
                a["stream"],
                bytes.fromhex(a["parameters"]),
            )
            for a in (c.arguments for c in self.log("cuLaunchKernel") if c.result == Result.SUCCESS)
        ]

    def live(self) -> Live:
        """What lives. ``fake_cuda.live() == Live()`` where everything was released."""
        live = json.loads(self._text("fakecuda_live"))
        return Live(tuple(Allocation(**a) for a in live.pop("allocations")), **live)

    def last_error(self) -> str:
        """The last failed call and what was wrong with it, or an empty string."""
        return self._text("fakecuda_last_error")

    @contextmanager
    def refuses(self, pattern: str) -> Iterator[None]:
        """Expect that a call fails and that the driver's reason matches ``pattern``."""
        from pycuda import driver

        failed = self._failures()
        with pytest.raises(driver.Error):
            yield
        assert self._failures() > failed, "pycuda failed, but no call of the driver did"
        assert re.search(pattern, self.last_error()), self.last_error()

    def cubin(self, sm: int, *kernels: Kernel, abi: int = 7) -> bytes:
        """:func:`.images.cubin`, for test modules, which cannot import it."""
        return cubin(sm, *kernels, abi=abi)

    def ptx(self, sm: int, *kernels: Kernel, version: str = "8.5") -> bytes:
        """:func:`.images.ptx`, for test modules, which cannot import it."""
        return ptx(sm, *kernels, version=version)

    def _failures(self) -> int:
        return sum(call.result != Result.SUCCESS for call in self.log())

    def _text(self, function: str) -> str:
        pointer = getattr(self._library, function)()
        text = ctypes.string_at(pointer).decode()
        self._library.fakecuda_free(pointer)
        return text


class UnavailableError(Exception):
    """Why the fake driver cannot be had here."""


@cache
def library() -> FakeCuda:
    """Compile the driver and load it where whatever asks for ``libcuda.so.1`` finds it.

    Once a process.

    Raises:
        UnavailableError: no Linux, no C compiler, or a driver of NVIDIA's is installed.
    """
    if not sys.platform.startswith("linux"):
        raise UnavailableError("needs Linux")
    compilers = map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))
    compiler = next(filter(None, compilers), None)
    if compiler is None:
        raise UnavailableError("needs a C compiler")
    if _driver_is_installed():
        raise UnavailableError(
            "a CUDA driver is installed here; its stand-in must not take its place"
        )
    with tempfile.TemporaryDirectory(prefix="fake_cuda") as folder:
        path = Path(folder) / "libcuda.so.1"
        sources = map(str, sorted(FOLDER.glob("*.c")))
        flags = ["-std=gnu11", "-O0", "-g", "-fPIC", "-shared", "-fvisibility=hidden"]
        command = [compiler, *flags, f"-Wl,-soname,{path.name}", "-o", str(path), *sources]
        subprocess.run([*command, "-ldl", "-lpthread"], check=True)
        return FakeCuda(ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL))


@cache
def load() -> FakeCuda:
    """:func:`library` under pycuda, which is imported after it. Once a process.

    Raises:
        UnavailableError: as that raises, or there is no pycuda.
    """
    if importlib.util.find_spec("pycuda") is None:
        raise UnavailableError("needs pycuda: see tests/support/fake_cuda/README.md")
    fake = library()
    from pycuda import _driver  # noqa: F401 (it binds to the library that is loaded now)

    return fake


def _driver_is_installed() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.fixture
def fake_driver() -> Iterator[FakeCuda]:
    """The same in its first state for what calls the driver itself, without pycuda."""
    try:
        fake = library()
    except UnavailableError as error:
        pytest.skip(str(error))
    fake.reset()
    yield fake
    fake.reset()


@pytest.fixture
def fake_cuda() -> Iterator[FakeCuda]:
    """A CUDA driver without a GPU, in its first state, under the real pycuda."""
    try:
        fake = load()
    except UnavailableError as error:
        pytest.skip(str(error))
    fake.reset()
    gc.freeze()  # what is there already need not be looked at again
    yield fake
    from pycuda import driver

    gc.collect()  # pycuda's objects release what they hold while it is still there
    while driver.Context.get_current() is not None:
        driver.Context.pop()
    gc.collect()
    gc.unfreeze()
    fake.reset()
