"""Plans that cannot run here: refused before TensorRT reads them, with both sides and a fix."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from xdecoder_rt import Engine
from xdecoder_rt.errors import BackendError, MissingExtraError

if TYPE_CHECKING:
    from fake_tensorrt import Gpu

REBUILD = "xdecoder-rt build --plan PORTABLE.plan --backend "


@pytest.fixture
def made(gpu: Gpu, tiny_plan: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a TensorRT plan of the tiny one."""
    import fake_tensorrt

    def make(**options: Any) -> Path:
        path: Path = fake_tensorrt.tensorrt_plan(tiny_plan, tmp_path / "made.plan", **options)
        return path

    return make


def read_nothing(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no engine be deserialized."""

    def refuse(*_: object) -> None:
        raise AssertionError("an engine was read")

    monkeypatch.setattr(sys.modules["tensorrt"].Runtime, "deserialize_cuda_engine", refuse)


@pytest.mark.parametrize("version", ["10.3.1", "10.13.0", "8.6.1", "11.4.0"])
def test_a_plan_of_another_version(
    version: str, gpu: Gpu, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_nothing(gpu, monkeypatch)
    with pytest.raises(BackendError) as caught:
        Engine(made(version=version))
    message = str(caught.value)
    assert f"built with TensorRT {version}; TensorRT 10.3.0 is installed" in message
    assert REBUILD + "tensorrt" in message
    assert gpu.live() == (0, 0)


def test_a_version_with_more_numbers_is_the_same(gpu: Gpu, made: Callable[..., Path]) -> None:
    """JetPack's module says 10.3.0, a wheel of the same 10.3.0.30."""
    gpu.install("tensorrt", "10.3.0.30")
    Engine(made(version="10.3.0")).close()


def test_a_plan_for_another_gpu(
    gpu: Gpu, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_nothing(gpu, monkeypatch)
    with pytest.raises(BackendError) as caught:
        Engine(made(capability="12.0"))
    message = str(caught.value)
    assert "built for compute capability 12.0; this GPU is Fake (compute capability 8.7)" in message
    assert REBUILD + "tensorrt" in message


def test_a_driver_older_than_the_library(
    gpu: Gpu, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheels' names say which CUDA they are for; the fake driver is of CUDA 12.6."""
    from importlib.metadata import Distribution

    import xdecoder_rt.backends.tensorrt.library as library

    class Wheel(Distribution):
        def read_text(self, filename: str) -> str:
            return "Name: tensorrt-cu13-bindings\nVersion: 10.3.0"

        def locate_file(self, path: Any) -> Any:
            raise NotImplementedError

    monkeypatch.setattr(library, "distributions", lambda: [Wheel()])
    with pytest.raises(BackendError) as caught:
        Engine(made())
    message = str(caught.value)
    assert "TensorRT 10.3.0 is made for CUDA 13; the driver here is of CUDA 12.6" in message
    assert "update the NVIDIA driver" in message


def test_a_driver_older_than_the_library_builds_nothing(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="building engines needs onnx")
    import xdecoder_rt.backends.tensorrt.library as library
    from xdecoder_rt.export.tensorrt.toolchain import open_toolchain

    assert open_toolchain("tensorrt", ()).capabilities == ("8.7",)
    monkeypatch.setattr(library, "_cuda_of", lambda _: 13)
    with pytest.raises(BackendError, match=r"made for CUDA 13; the driver here is of CUDA 12\.6"):
        open_toolchain("tensorrt", ())
    assert gpu.context_state() == (False, 0)


def refused(kind: type[Exception], message: str) -> Callable[..., Any]:
    """A call of the bindings that raises."""

    def call(*_: Any) -> Any:
        raise kind(message)

    return call


def test_a_library_that_cannot_start_says_why(
    gpu: Gpu, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bindings make a ``TypeError`` of a null pointer; why it is one is in the log."""
    null = refused(TypeError, "pybind11::init(): factory function returned nullptr")
    monkeypatch.setattr(sys.modules["tensorrt"].Runtime, "__init__", null)
    with Engine(made()) as engine, pytest.raises(BackendError, match=r"10\.3\.0 cannot start"):
        engine.encode(picture())
    assert gpu.live() == (0, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("infer_shapes", "cannot tell the output shapes"),
        ("set_optimization_profile_async", "refuses profile 0"),
    ],
)
def test_what_the_bindings_raise_is_an_error_of_ours(
    call: str,
    message: str,
    gpu: Gpu,
    made: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = fake_context()
    monkeypatch.setattr(context, call, refused(RuntimeError, "error code: -1"))
    with Engine(made()) as engine, pytest.raises(BackendError, match=message):
        engine.encode(picture())
    assert gpu.live() == (0, 0)


def fake_context() -> Any:
    from fake_tensorrt import library

    return library.Context


def test_a_library_that_is_too_old(gpu: Gpu, made: Callable[..., Path]) -> None:
    gpu.install("tensorrt", "8.6.1")
    with pytest.raises(BackendError, match="TensorRT 8.6.1 is installed. Expected 10.3 or newer"):
        Engine(made(version="8.6.1"))


@pytest.mark.parametrize("length", [0, 3, 40, 300, -1])
def test_a_truncated_engine(length: int, gpu: Gpu, made: Callable[..., Path]) -> None:
    def cut(name: str, data: bytes) -> bytes:
        return data[:length] if name.startswith("vision") else data

    with Engine(made(change=cut)) as engine:
        with pytest.raises(BackendError) as caught:
            engine.encode(picture())
        message = str(caught.value)
        assert "TensorRT 10.3.0 cannot read the vision_64x64.engine engine" in message
        assert "deserializeCudaEngine" in message and REBUILD in message
    assert gpu.live() == (0, 0)


def test_what_tensorrt_rtx_finds_in_an_engines_header(gpu: Gpu, made: Callable[..., Path]) -> None:
    """A manifest may be wrong about its engines; TensorRT-RTX can look at them first."""
    import fake_tensorrt

    gpu.install("tensorrt_rtx", "1.7.1.116")

    def other(name: str, data: bytes) -> bytes:
        header, model = fake_tensorrt.read_engine(data)
        (profile,) = header.profiles[:1]
        ranges = {port: tuple(map(tuple, shapes)) for port, shapes in profile.items()}
        return bytes(fake_tensorrt.engine(model, [ranges], "1.6.0.1", "12.0"))

    plan = made(backend="tensorrt_rtx", version="1.7.1.116", change=other)
    with (
        Engine(plan) as engine,
        pytest.raises(BackendError, match="unusable on .*: version mismatch, unsupported cc"),
    ):
        engine.encode(picture())


def test_tensorrt_rtx_runs_by_the_same_path(gpu: Gpu, made: Callable[..., Path]) -> None:
    gpu.install("tensorrt_rtx", "1.7.1.116")
    with Engine(made(backend="tensorrt_rtx", version="1.7.1.116")) as engine:
        assert (engine.backend.name, engine.backend.version) == ("tensorrt_rtx", "1.7.1.116")
        assert engine.backend.device == "Fake (compute capability 8.7)"
        assert engine.segment(picture(), ["a cat"]).segmentation.shape == (48, 80)


@pytest.mark.parametrize("device", ["cpu", "cuda:", "gpu", "cuda:1"])
def test_a_device_that_is_not_there(device: str, gpu: Gpu, made: Callable[..., Path]) -> None:
    with pytest.raises(BackendError, match="device"):
        Engine(made(), device=device)
    assert gpu.live() == (0, 0)


def test_another_backend_is_refused(gpu: Gpu, made: Callable[..., Path], tiny_plan: Path) -> None:
    with pytest.raises(BackendError, match="for the backend 'tensorrt', not 'onnxruntime'"):
        Engine(made(), backend="onnxruntime")
    with pytest.raises(BackendError, match="no backend 'tensorrt' for a portable plan"):
        Engine(tiny_plan, backend="tensorrt")


DRIVERS = ("pycuda.driver", "cuda.bindings.driver")


@pytest.mark.parametrize("missing", [("tensorrt",), DRIVERS])
def test_a_missing_package_is_named_with_its_extra(
    missing: tuple[str, ...], gpu: Gpu, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = made()
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"xdecoder_rt\[tensorrt\]"):
        Engine(plan)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (("tensorrt",), "python3-libnvinfer.*--system-site-packages"),
        (DRIVERS, r"xdecoder_rt\[jetson\]"),
    ],
)
def test_on_a_jetson_tensorrt_is_jetpacks(
    missing: tuple[str, ...],
    said: str,
    gpu: Gpu,
    made: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """pip has none for it, and would bring another version."""
    import xdecoder_rt.backends.tensorrt.library as library

    (tmp_path / "nv_tegra_release").touch()
    monkeypatch.setattr(library, "_JETPACK", tmp_path / "nv_tegra_release")
    plan = made()
    Engine(plan).close()
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=said):
        Engine(plan)


def test_without_a_driver_that_is_said() -> None:
    """pycuda is installed and cannot be imported: ``pip install`` would not help."""
    pytest.importorskip("pycuda", reason="needs pycuda")
    code = (
        "from xdecoder_rt.backends.cuda.context import CudaContext\n"
        "try: CudaContext(None, 'tensorrt')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if not ended.stdout:
        pytest.skip("a CUDA driver is installed here")
    assert ended.stdout.startswith("BackendError The NVIDIA driver is not installed (")
    assert "libcuda.so.1" in ended.stdout


def test_importing_the_package_imports_no_gpu_library() -> None:
    code = (
        "import sys, xdecoder_rt, xdecoder_rt.backends.tensorrt.backend;"
        "print([m for m in ('pycuda', 'tensorrt', 'tensorrt_rtx', 'cuda', 'torch')"
        " if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def picture() -> Any:
    import numpy as np

    return np.zeros((48, 80, 3), np.uint8)
