"""Drivers that are older than the toolkit of the kernels, and machines without pycuda."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fake_cuda import Device, FakeCuda, Kernel, Result, bindings
from fake_cuda.images import cubin, ptx

from xdecoder_rt.backends.cuda.context import CudaContext
from xdecoder_rt.errors import BackendError, MissingExtraError
from xdecoder_rt.kernels import cuda_driver
from xdecoder_rt.kernels.compiled import CompiledKernels
from xdecoder_rt.kernels.loader import Kernels
from xdecoder_rt.kernels.spec import BlockCount, Call, Grid

KERNEL = Kernel("fill", (8, 8, 8))  # its own argument, and Triton's two
GRID = Grid(((BlockCount("rows"),), (), ()))


def a_call(address: int = 0) -> Call:
    return Call("a.module", "fill", "fp32", {"out": address}, {"rows": 3}, GRID)


@pytest.fixture
def kernels(tmp_path: Path) -> Callable[..., CompiledKernels]:
    """One kernel, of machine code of an ABI and PTX of versions, as the compiler lays them out."""

    def make(sm: int = 90, abi: int = 8, versions: tuple[str, ...] = ("8.5", "9.0")) -> Any:
        files = {
            "ptx" if version == versions[-1] else f"ptx_{version.replace('.', '_')}": ptx(
                sm, KERNEL, version=version
            )
            for version in versions
        }
        files["cubin"] = cubin(sm, KERNEL, abi=abi)
        entries: dict[str, Any] = {"entry": "fill", "shared": 0}
        for kind, data in files.items():
            (tmp_path / kind).write_bytes(data)
            entries[kind] = {"file": kind, "sha256": hashlib.sha256(data).hexdigest()}
        form = {
            "module": "a.module", "function": "fill", "element": "fp32",
            "arguments": [["out", "*fp32"]], "aligned": [], "constants": {},
            "grid": [[{"of": "rows", "per": 1}], [], []],
            "warps": 4, "stages": 2, "registers": None,
            "targets": {f"sm_{sm}": entries},
        }  # fmt: skip
        index = {"format_version": 1, "kernels": {"fill": form}}
        (tmp_path / "kernels.json").write_text(json.dumps(index))
        return CompiledKernels(tmp_path)

    return make


@pytest.mark.parametrize(
    ("abi", "cuda", "kind"),
    [(8, (13, 0), "code"), (8, (12, 9), "8.5"), (7, (12, 9), "code"), (7, (13, 0), "code")],
)
def test_code_of_cuda_13_is_given_to_drivers_of_cuda_13_alone(
    abi: int, cuda: tuple[int, int], kind: str, kernels: Callable[..., CompiledKernels]
) -> None:
    compiled = kernels(abi=abi)
    image = compiled.image(compiled.forms["fill"], (9, 0), cuda)
    assert image.is_code == (kind == "code")
    assert image.is_code or f".version {kind}".encode() in image.data


def test_a_driver_that_can_read_neither_is_to_be_updated(
    kernels: Callable[..., CompiledKernels],
) -> None:
    compiled = kernels(versions=("9.0",))
    with pytest.raises(BackendError, match=r"driver of CUDA 12\.6.*update the NVIDIA driver"):
        compiled.image(compiled.forms["fill"], (9, 0), (12, 6))


@pytest.fixture
def hopper(fake_driver: FakeCuda) -> Callable[[int, int], FakeCuda]:
    """An H100 with a driver of a CUDA version that takes PTX of another."""
    pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")

    def make(version: int, takes: int) -> FakeCuda:
        fake_driver.configure(
            Device((9, 0), integrated=False, driver_version=version, ptx_version=takes)
        )
        return fake_driver

    return make


def test_the_fake_driver_refuses_code_of_cuda_13_below_it(
    hopper: Callable[[int, int], FakeCuda],
) -> None:
    fake = hopper(12090, 88)
    with bindings.current_context():
        with pytest.raises(cuda_driver.Error):
            cuda_driver.module_from_buffer(cubin(90, KERNEL, abi=8))
        assert "CUDA 13" in fake.last_error()
        cuda_driver.module_from_buffer(cubin(90, KERNEL, abi=7)).unload()


@pytest.mark.parametrize(("version", "takes"), [(12090, 88), (13000, 90)])
def test_kernels_run_on_drivers_on_both_sides_of_cuda_13(
    version: int, takes: int, hopper: Callable[[int, int], FakeCuda],
    kernels: Callable[..., CompiledKernels],
) -> None:  # fmt: skip
    fake = hopper(version, takes)
    with bindings.current_context():
        memory = cuda_driver.mem_alloc(256)
        loaded = Kernels(kernels(), cuda_driver)
        loaded.launch(a_call(int(memory)))
        (launch,) = fake.launches()
        assert (launch.name, launch.grid) == ("fill", (3, 1, 1))
        loaded.close()
        memory.free()


def test_code_that_a_driver_refuses_is_tried_as_ptx(
    hopper: Callable[[int, int], FakeCuda], kernels: Callable[..., CompiledKernels]
) -> None:
    fake = hopper(13000, 90)
    with bindings.current_context():
        memory = cuda_driver.mem_alloc(256)
        fake.fail("cuModuleLoadData", Result.INVALID_IMAGE)
        loaded = Kernels(kernels(), cuda_driver)
        loaded.launch(a_call(int(memory)))
        assert len(fake.launches()) == 1
        loaded.close()
        memory.free()


def test_a_refusal_says_what_the_driver_said_and_what_to_do(
    hopper: Callable[[int, int], FakeCuda], kernels: Callable[..., CompiledKernels]
) -> None:
    fake = hopper(13000, 90)
    with bindings.current_context():
        fake.fail("cuModuleLoadData", Result.INVALID_IMAGE)
        loaded = Kernels(kernels(versions=()), cuda_driver)
        with pytest.raises(BackendError, match=r"CUDA 13\.0 refused the kernel fill") as caught:
            loaded.launch(a_call())
    assert "INVALID_IMAGE" in str(caught.value) and "update the NVIDIA driver" in str(caught.value)


# --- which driver ---------------------------------------------------------------------------------


def test_pycuda_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    package, driver = ModuleType("pycuda"), ModuleType("pycuda.driver")
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    assert cuda_driver.choose("tensorrt") is driver


def test_cuda_bindings_is_taken_without_pycuda(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    assert cuda_driver.choose("tensorrt") is cuda_driver


def test_without_either_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycuda", "pycuda.driver", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"xdecoder_rt\[tensorrt-rtx\]"):
        cuda_driver.choose("tensorrt-rtx")


def test_memory_streams_and_copies_by_cuda_bindings_alone(fake_driver: FakeCuda) -> None:
    pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
    driver = cuda_driver
    driver.init()
    assert driver.Device.count() == 1
    device = driver.Device(0)
    assert (device.name(), device.compute_capability()) == ("Fake", (8, 7))
    context = device.retain_primary_context()
    context.push()
    stream, event = driver.Stream(1), driver.Event(driver.event_flags.DISABLE_TIMING)
    memory, other = driver.mem_alloc(64), driver.mem_alloc(64)
    free, total = driver.mem_get_info()
    assert 0 < free < total
    pinned = driver.pagelocked_empty(64, np.uint8)
    pinned[:] = range(64)
    driver.memcpy_htod_async(int(memory), pinned, stream)
    driver.memset_d8_async(int(other), 7, 64, stream)
    copy = driver.Memcpy2D()
    copy.set_src_device(int(memory))
    copy.set_dst_device(int(other))
    copy.src_pitch, copy.dst_pitch, copy.width_in_bytes, copy.height = 16, 32, 8, 2
    copy(stream)
    event.record(stream)
    second = driver.Stream(1)
    second.wait_for_event(event)
    down = driver.pagelocked_empty(64, np.uint8)
    driver.memcpy_dtoh_async(down, int(other), second)
    second.synchronize()
    expected = np.full((2, 32), 7, np.uint8)
    expected[0, :8], expected[1, :8] = range(8), range(16, 24)
    np.testing.assert_array_equal(down.reshape(2, 32), expected)
    for array in (pinned, down):
        array.base.free()
    memory.free()
    other.free()
    with pytest.raises(driver.MemoryError):
        driver.mem_alloc(1 << 50)
    driver.Context.synchronize()
    del stream, second, event, array
    driver.Context.pop()
    live = fake_driver.live()
    assert (live.allocations, live.streams, live.events) == ((), 0, 0)
    context.detach()


@pytest.mark.skipif(find_spec("cuda") is None, reason="needs cuda-bindings")
def test_a_driver_that_lacks_a_call_of_newer_bindings_is_said_as_that(
    fake_driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(cuda_driver.Error, match="not found"):  # as cuda-bindings says it
        cuda_driver.call_driver("cuCtxResetPersistingL2Cache")
    monkeypatch.setattr(cuda_driver, "choose", lambda extra: cuda_driver)
    monkeypatch.setattr(
        cuda_driver, "init", lambda: cuda_driver.call_driver("cuCtxResetPersistingL2Cache")
    )
    with pytest.raises(BackendError, match="older than cuda-bindings") as caught:
        CudaContext(None, "tensorrt")
    assert 'pip install "cuda-bindings<13"' in str(caught.value)


@pytest.mark.skipif(find_spec("cuda") is None, reason="needs cuda-bindings")
def test_page_locked_memory_is_of_any_type(fake_driver: FakeCuda) -> None:
    with bindings.current_context():
        array = cuda_driver.pagelocked_empty(6, np.float32)
        array[:] = 0.5
        assert (array.dtype, array.shape) == (np.float32, (6,))
        array.base.free()
