"""The driver that stands in for a GPU's, as the real pycuda sees it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from fake_cuda import FakeCuda, Launch

SCALE = "scale"  # void scale(float *values, int count, float factor)


@pytest.fixture
def cuda(fake_cuda: FakeCuda) -> Iterator[Any]:
    """pycuda's driver module, initialized, without a context."""
    from pycuda import driver

    driver.init()
    yield driver


@pytest.fixture
def context(cuda: Any) -> Iterator[Any]:
    """The primary context, current."""
    context = cuda.Device(0).retain_primary_context()
    context.push()
    yield context
    if cuda.Context.get_current() is not None:
        cuda.Context.pop()
    context.detach()


@pytest.fixture
def module(fake_cuda: FakeCuda, cuda: Any, context: Any) -> Iterator[Any]:
    kernel = _package(fake_cuda).Kernel(SCALE, (8, 4, 4), threads=(128, 1, 1))
    yield cuda.module_from_buffer(fake_cuda.cubin(87, kernel))


def _package(fake_cuda: FakeCuda) -> Any:
    return sys.modules[type(fake_cuda).__module__]


def _scale(fake_cuda: FakeCuda) -> Any:
    def stand_in(launch: Launch) -> None:
        address, count, factor = launch.unpack("Pif")
        fake_cuda.array(address, count, np.float32)[:] *= factor

    return stand_in


def _launch(module: Any, address: int, count: int, factor: float, **options: Any) -> None:
    buffer = np.array([(address, count, factor)], "u8,i4,f4").tobytes()
    grid, block = options.pop("grid", (-(-count // 128), 1)), options.pop("block", (128, 1, 1))
    shared, stream = options.pop("shared", 0), options.pop("stream", None)
    module.get_function(SCALE)._launch_kernel(grid, block, buffer, shared, stream)


# ---- the device and its contexts ----


def test_the_device_is_what_the_test_says(fake_cuda: FakeCuda, cuda: Any) -> None:
    package = _package(fake_cuda)
    fake_cuda.configure(package.Device(compute_capability=(7, 5), multiprocessors=40, name="T"))
    device = cuda.Device(0)
    assert cuda.Device.count() == 1
    assert device.compute_capability() == (7, 5)
    assert device.name() == "T"
    assert device.multiprocessor_count == 40
    assert device.get_attribute(cuda.device_attribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) == 65536
    with fake_cuda.refuses("there is only device 0"):
        cuda.Device(1)


def test_the_device_is_the_default_one_again(fake_cuda: FakeCuda, cuda: Any) -> None:
    assert cuda.Device(0).compute_capability() == (8, 7)
    assert fake_cuda.live() == _package(fake_cuda).Live()
    assert [call.name for call in fake_cuda.log()] == ["cuInit"]


def test_nothing_goes_before_init(fake_cuda: FakeCuda) -> None:
    from pycuda import driver

    with fake_cuda.refuses("cuInit was not called"):
        driver.Device.count()


def test_the_primary_context_is_one(fake_cuda: FakeCuda, cuda: Any) -> None:
    first = cuda.Device(0).retain_primary_context()
    second = cuda.Device(0).retain_primary_context()
    assert first.handle == second.handle
    assert fake_cuda.live().contexts == 1
    first.detach()
    assert fake_cuda.live().contexts == 1
    second.detach()
    assert fake_cuda.live().contexts == 0


def test_without_a_context_nothing_is_made(fake_cuda: FakeCuda, cuda: Any) -> None:
    with fake_cuda.refuses("no context is current on this thread"):
        cuda.mem_alloc(4)
    with pytest.raises(cuda.LogicError, match="no currently active context"):  # pycuda itself
        cuda.Stream()


def test_a_context_is_current_on_its_thread_only(
    fake_cuda: FakeCuda, cuda: Any, context: Any
) -> None:
    assert cuda.Context.get_device().compute_capability() == (8, 7)
    errors = []

    def other() -> None:
        try:
            cuda.mem_alloc(4)
        except cuda.LogicError as error:
            errors.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert errors == ["cuMemAlloc failed: invalid device context"]


# ---- memory ----


def test_memory_keeps_what_is_put_there(fake_cuda: FakeCuda, cuda: Any, context: Any) -> None:
    values = np.arange(100, dtype=np.float32)
    memory = cuda.mem_alloc(values.nbytes)
    back = cuda.pagelocked_empty(100, np.float32)
    stream = cuda.Stream()
    cuda.memcpy_dtoh(back, memory)
    assert np.isnan(back).all()  # new memory is no number
    cuda.memcpy_htod_async(memory, values, stream)
    cuda.memset_d32_async(int(memory) + 40, 0, 5, stream)
    cuda.memcpy_dtoh_async(back, memory, stream)
    stream.synchronize()
    values[10:15] = 0
    assert (back == values).all()
    assert (fake_cuda.array(int(memory), 100, np.float32) == values).all()
    assert {(a.place, a.bytes) for a in fake_cuda.live().allocations} == {
        ("device", 400),
        ("pinned host", 400),
    }
    del memory, back, stream
    assert fake_cuda.live().allocations == ()
    assert fake_cuda.live().streams == 0


def test_misused_memory_is_refused(fake_cuda: FakeCuda, cuda: Any, context: Any) -> None:
    memory = cuda.mem_alloc(64)
    address = int(memory)
    data = np.zeros(65, np.uint8)
    with fake_cuda.refuses("65 bytes from offset 0 run past the end of an allocation of 64"):
        cuda.memcpy_htod(address, data)
    with fake_cuda.refuses("32 bytes from offset 40 run past the end"):
        cuda.memset_d32(address + 40, 0, 8)
    with fake_cuda.refuses("not a multiple of 4"):
        cuda.memset_d32(address + 2, 0, 1)
    with fake_cuda.refuses("in no allocation"):
        cuda.memcpy_dtoh(data, 4096)
    with fake_cuda.refuses("in no allocation"):
        cuda.memcpy_htod(data.ctypes.data, data)
    with fake_cuda.refuses("0 bytes"):
        cuda.mem_alloc(0)
    memory.free()
    with fake_cuda.refuses("64 bytes of device memory that were freed"):
        cuda.memset_d8(address, 0, 1)
    with fake_cuda.refuses("target .* were freed"):
        cuda.memcpy_dtod(address, address, 1)


def test_a_double_free_is_refused(fake_cuda: FakeCuda, cuda: Any, context: Any) -> None:
    address = int(cuda.mem_alloc(64))  # freed at once: nothing holds it
    library = ctypes.CDLL("libcuda.so.1")
    result = library.cuMemFree_v2(ctypes.c_uint64(address))
    assert result == _package(fake_cuda).Result.INVALID_VALUE
    assert "was freed before" in fake_cuda.last_error()


def test_memory_ends(fake_cuda: FakeCuda, cuda: Any, context: Any) -> None:
    fake_cuda.configure(_package(fake_cuda).Device(memory=1 << 20))
    held = cuda.mem_alloc(1 << 19)
    assert cuda.mem_get_info() == (1 << 19, 1 << 20)
    with fake_cuda.refuses("524289 bytes asked for, 524288"):
        cuda.mem_alloc((1 << 19) + 1)
    held.free()
    cuda.mem_alloc(1 << 20)


def test_a_call_fails_on_demand(fake_cuda: FakeCuda, cuda: Any, context: Any) -> None:
    fake_cuda.fail("cuStreamCreate", after=1)
    first = cuda.Stream()
    with fake_cuda.refuses("cuStreamCreate: failed on demand"):
        cuda.Stream()
    assert fake_cuda.live().streams == 1
    assert cuda.Stream().handle != first.handle


# ---- modules ----


@pytest.mark.parametrize(
    ("sm", "have", "runs"),
    [
        (80, (8, 6), True),
        (86, (8, 6), True),
        (89, (8, 6), False),
        (75, (8, 6), False),
        (86, (8, 7), False),  # nothing but its own cubin runs on a Tegra chip
        (87, (8, 7), True),
        (87, (8, 9), False),
        (120, (12, 0), True),
    ],
)
def test_cubins_run_on_their_own_kind(
    fake_cuda: FakeCuda, cuda: Any, context: Any, sm: int, have: tuple[int, int], runs: bool
) -> None:
    package = _package(fake_cuda)
    fake_cuda.configure(package.Device(compute_capability=have))
    image = fake_cuda.cubin(sm, package.Kernel(SCALE))
    if runs:
        assert cuda.module_from_buffer(image).get_function(SCALE).num_regs == 32
    else:
        with pytest.raises(cuda.RuntimeError, match=f"sm_{sm} cannot run on compute capability"):
            cuda.module_from_buffer(image)


def test_ptx_runs_on_all_that_came_later(fake_cuda: FakeCuda, cuda: Any, context: Any) -> None:
    kernel = _package(fake_cuda).Kernel(SCALE, (8, 4))
    assert cuda.module_from_buffer(fake_cuda.ptx(75, kernel)).get_function(SCALE)
    with fake_cuda.refuses("PTX for sm_90 cannot run on compute capability 8.7"):
        cuda.module_from_buffer(fake_cuda.ptx(90, kernel))
    with fake_cuda.refuses("PTX 8.7; this driver takes 8.5 at most"):
        cuda.module_from_buffer(fake_cuda.ptx(75, kernel, version="8.7"))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"nonsense", "neither an ELF file nor PTX"),
        (b"\x7fELF" + bytes(96), "an ELF file of machine 0"),
        (b".version 8.5\n\0", "lacks .version, .target"),
    ],
)
def test_other_files_are_no_modules(
    fake_cuda: FakeCuda, cuda: Any, context: Any, image: bytes, reason: str
) -> None:
    with fake_cuda.refuses(reason):
        cuda.module_from_buffer(image)
    assert fake_cuda.live().modules == 0


def test_a_function_is_in_the_image_or_not(fake_cuda: FakeCuda, cuda: Any, module: Any) -> None:
    with fake_cuda.refuses('the image has no kernel "scal"'):
        module.get_function("scal")


SHARED_PTX = b""".version 7.0
.target sm_75
.address_size 64
.visible .entry k(.param .u64 a, .param .u32 n, .param .u64 b, .param .u8 last)
.reqntid 64, 2, 1
{
 .reg .b32 %r<3>; .reg .b64 %p<3>; .shared .align 16 .b8 s[1024];
 mov.u32 %r1, %tid.x; mov.u64 %p1, s; cvt.u64.u32 %p2, %r1; add.s64 %p1, %p1, %p2;
 ld.param.u32 %r2, [n]; st.shared.u8 [%p1], %r2; ret;
}
"""


@pytest.mark.parametrize("sm", [75, 80, 87, 90, 120])
def test_what_ptxas_writes_is_read(
    fake_cuda: FakeCuda, cuda: Any, context: Any, tmp_path: Path, sm: int
) -> None:
    ptxas = shutil.which("ptxas") or shutil.which("/usr/local/cuda/bin/ptxas")
    if not ptxas:
        pytest.skip("needs ptxas, which comes with the CUDA toolkit")
    source, target = tmp_path / "k.ptx", tmp_path / "k.cubin"
    source.write_bytes(SHARED_PTX)
    done = subprocess.run([ptxas, f"-arch=sm_{sm}", "-o", target, source], capture_output=True)
    if done.returncode:
        pytest.skip(f"needs a ptxas that knows sm_{sm}")
    fake_cuda.configure(_package(fake_cuda).Device(compute_capability=(sm // 10, sm % 10)))
    function = cuda.module_from_buffer(target.read_bytes()).get_function("k")
    assert function.shared_size_bytes == 1024
    assert 0 < function.num_regs < 64
    assert function.max_threads_per_block == 128
    with fake_cuda.refuses('"k" takes 25'):
        function._launch_kernel((1,), (64, 2), bytes(24), 0, None)
    with fake_cuda.refuses('"k" was compiled for 64, 2, 1'):
        function._launch_kernel((1,), (128, 1), bytes(25), 0, None)
    function._launch_kernel((1,), (64, 2), bytes(25), 0, None)


# ---- launches ----


def test_a_launch_does_what_its_stand_in_does(fake_cuda: FakeCuda, cuda: Any, module: Any) -> None:
    fake_cuda.on_launch(_scale(fake_cuda))
    values = np.arange(300, dtype=np.float32)
    memory, stream = cuda.mem_alloc(values.nbytes), cuda.Stream()
    cuda.memcpy_htod(memory, values)
    function = module.get_function(SCALE)
    arguments = (np.intp(int(memory)), np.int32(300), np.float32(2))
    function(*arguments, grid=(3, 1), block=(128, 1, 1), shared=512, stream=stream)
    stream.synchronize()
    back = np.empty_like(values)
    cuda.memcpy_dtoh(back, memory)
    assert (back == 2 * values).all()
    (launch,) = fake_cuda.launches()
    assert (launch.name, launch.grid, launch.block) == (SCALE, (3, 1, 1), (128, 1, 1))
    assert (launch.shared, launch.stream) == (512, stream.handle)
    assert launch.unpack("Pif") == (int(memory), 300, 2.0)


def test_misused_launches_are_refused(fake_cuda: FakeCuda, cuda: Any, module: Any) -> None:
    memory = cuda.mem_alloc(64)
    with fake_cuda.refuses("compiled for 128, 1, 1"):
        _launch(module, int(memory), 16, 2, block=(64, 1, 1))
    with fake_cuda.refuses("y is not in 1-65535"):
        _launch(module, int(memory), 16, 2, grid=(1, 65536))
    with fake_cuda.refuses('12 bytes of parameters; "scale" takes 16'):
        module.get_function(SCALE)._launch_kernel((1,), (128,), bytes(12), 0, None)
    memory.free()
    stale = int(cuda.mem_alloc(64))
    with fake_cuda.refuses("points into 64 bytes that were freed"):
        _launch(module, stale, 16, 2)
    assert fake_cuda.launches() == []


def test_more_shared_memory_is_asked_for_first(fake_cuda: FakeCuda, cuda: Any, module: Any) -> None:
    memory = cuda.mem_alloc(64)
    function = module.get_function(SCALE)
    attribute = cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
    _launch(module, int(memory), 16, 2, shared=49152)
    with fake_cuda.refuses("raise MAX_DYNAMIC_SHARED_SIZE_BYTES first"):
        _launch(module, int(memory), 16, 2, shared=49153)
    with fake_cuda.refuses("this device allows 166912"):
        function.set_attribute(attribute, 166913)
    function.set_attribute(attribute, 166912)
    _launch(module, int(memory), 16, 2, shared=166912)


def test_a_write_past_the_end_is_found(fake_cuda: FakeCuda, cuda: Any, module: Any) -> None:
    memory = cuda.mem_alloc(63)

    def stand_in(launch: Launch) -> None:
        ctypes.memset(int(memory), 0, 64)

    fake_cuda.on_launch(stand_in)
    with fake_cuda.refuses("scale wrote just outside the allocation of 63 bytes"):
        _launch(module, int(memory), 16, 2)


def test_a_stand_in_that_raises_fails_the_launch(
    fake_cuda: FakeCuda, cuda: Any, module: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    memory = cuda.mem_alloc(60)
    fake_cuda.on_launch(_scale(fake_cuda))
    with fake_cuda.refuses('the stand-in for kernel "scale" failed'):
        _launch(module, int(memory), 16, 2)
    assert "16 of float32 at" in capfd.readouterr().err


def test_an_unloaded_module_takes_its_functions_along(
    fake_cuda: FakeCuda, cuda: Any, context: Any
) -> None:
    kernel = _package(fake_cuda).Kernel(SCALE)
    module = cuda.module_from_buffer(fake_cuda.cubin(87, kernel))
    assert fake_cuda.live().modules == 1
    del module
    assert fake_cuda.live().modules == 0


# ---- streams and events, run as late as they may ----


def test_a_missing_wait_shows(fake_cuda: FakeCuda, cuda: Any, module: Any) -> None:
    fake_cuda.defer()
    fake_cuda.on_launch(_scale(fake_cuda))
    memory, stream = cuda.mem_alloc(64), cuda.Stream()
    back = cuda.pagelocked_zeros(16, np.float32)
    cuda.memset_d32_async(int(memory), 0x3F800000, 16, stream)  # 1.0
    _launch(module, int(memory), 16, 3, stream=stream)
    cuda.memcpy_dtoh_async(back, memory, stream)
    assert (back == 0).all()
    stream.synchronize()
    assert (back == 3).all()


def test_an_event_orders_two_streams(fake_cuda: FakeCuda, cuda: Any, module: Any) -> None:
    fake_cuda.defer()
    fake_cuda.on_launch(_scale(fake_cuda))
    flags = cuda.event_flags.DISABLE_TIMING
    first, second, written = cuda.Stream(), cuda.Stream(), cuda.Event(flags)
    memory = cuda.mem_alloc(64)
    back = cuda.pagelocked_zeros(16, np.float32)
    cuda.memset_d32_async(int(memory), 0x3F800000, 16, first)
    written.record(first)
    _launch(module, int(memory), 16, 5, stream=first)
    second.wait_for_event(written)
    cuda.memcpy_dtoh_async(back, memory, second)
    second.synchronize()
    assert (back == 1).all()  # the copy waits for the fill, not for the launch
    first.synchronize()
    assert (fake_cuda.array(int(memory), 16, np.float32) == 5).all()


# ---- how the library is found ----


def test_entry_points_are_found_by_name(fake_cuda: FakeCuda) -> None:
    library = ctypes.CDLL("libcuda.so.1")
    symbol = ctypes.c_void_p()
    found = library.cuGetProcAddress(b"cuMemAlloc", ctypes.byref(symbol), 12000, ctypes.c_uint64(0))
    assert found == 0
    assert symbol.value == ctypes.cast(library.cuMemAlloc_v2, ctypes.c_void_p).value
    status = ctypes.c_int(-1)
    found = library.cuGetProcAddress_v2(
        b"cuNoSuchCall",
        ctypes.byref(symbol),
        12000,
        ctypes.c_uint64(0),
        ctypes.byref(status),
    )
    assert (found, symbol.value, status.value) == (_package(fake_cuda).Result.NOT_FOUND, None, 1)


def test_an_installed_driver_is_left_alone(fake_cuda: FakeCuda) -> None:
    package = _package(fake_cuda)
    with pytest.raises(package.UnavailableError, match="a CUDA driver is installed"):
        package.library.__wrapped__()  # the loaded stand-in looks like one


# ---- graphs ----


@pytest.fixture
def graphs(context: Any) -> Any:
    """The calls for graphs, which pycuda lacks."""
    return pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")


def _began(graphs: Any, stream: Any) -> None:
    mode = graphs.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    assert graphs.cuStreamBeginCapture(stream.handle, mode) == (graphs.CUresult.CUDA_SUCCESS,)


def test_a_graph_does_again_what_was_captured(
    fake_cuda: FakeCuda, cuda: Any, module: Any, graphs: Any
) -> None:
    fake_cuda.on_launch(_scale(fake_cuda))
    memory, stream = cuda.mem_alloc(16), cuda.Stream()
    host = cuda.pagelocked_empty(4, np.float32)
    _began(graphs, stream)
    cuda.memcpy_htod_async(memory, host, stream)
    _launch(module, int(memory), 4, 2.0, stream=stream)
    result, graph = graphs.cuStreamEndCapture(stream.handle)
    assert result == graphs.CUresult.CUDA_SUCCESS
    assert np.isnan(fake_cuda.array(int(memory), 4, np.float32)).all()  # nothing ran
    _, executable = graphs.cuGraphInstantiate(graph, 0)
    graphs.cuGraphDestroy(graph)
    for value in (1, 5):
        host[:] = value
        graphs.cuGraphLaunch(executable, stream.handle)
        stream.synchronize()
        assert (fake_cuda.array(int(memory), 4, np.float32) == 2 * value).all()
    memory.free()
    (result,) = graphs.cuGraphLaunch(executable, stream.handle)
    assert result == graphs.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    assert "freed" in fake_cuda.last_error()
    assert fake_cuda.live().executables == 1
    graphs.cuGraphExecDestroy(executable)
    assert (fake_cuda.live().graphs, fake_cuda.live().executables) == (0, 0)


@pytest.mark.parametrize("misuse", ["wait for it", "wait for all", "event", "pageable memory"])
def test_what_may_not_be_in_a_capture_voids_it(
    fake_cuda: FakeCuda, cuda: Any, context: Any, graphs: Any, misuse: str
) -> None:
    memory, stream, event = cuda.mem_alloc(16), cuda.Stream(), cuda.Event()
    _began(graphs, stream)
    with fake_cuda.refuses("captur"):
        if misuse == "wait for it":
            stream.synchronize()
        elif misuse == "wait for all":
            cuda.Context.synchronize()
        elif misuse == "event":
            event.record(stream)
        else:
            cuda.memcpy_htod_async(memory, np.zeros(4, np.float32), stream)
    result, _ = graphs.cuStreamEndCapture(stream.handle)
    assert result == graphs.CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    stream.synchronize()
    assert fake_cuda.live().graphs == 0


def test_it_agrees_with_the_toolkits_header(tmp_path: Path) -> None:
    header = Path("/usr/local/cuda/include/cuda.h")
    if not header.exists() or not shutil.which("cc"):
        pytest.skip("needs a C compiler and the CUDA toolkit's cuda.h")
    sources = sorted((Path(__file__).parents[1] / "support" / "fake_cuda").glob("*.c"))
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    toolkit = ["-DFAKE_CUDA_TOOLKIT", f"-I{header.parent}"]
    subprocess.run(["cc", *flags, *toolkit, *map(str, sources)], check=True)
    subprocess.run(["cc", *flags, *map(str, sources)], check=True)
