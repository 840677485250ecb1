"""Devices of ONNX Runtime and OpenVINO beside the CPU: what is asked of either, and what is said.

No such device is here. What the libraries are told meets stand-ins; values bound where they
lie are tried on the host.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from xdecoder_rt import Engine, backends
from xdecoder_rt.backends import onnxruntime as backend_module
from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend, _Place
from xdecoder_rt.cli import main
from xdecoder_rt.errors import BackendError
from xdecoder_rt.plan.file import Plan


def test_values_that_are_bound_where_they_lie_are_the_same(
    tiny_plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = OnnxRuntimeBackend(1)
    with Plan.open(tiny_plan) as plan:
        graph: Any = backend.load("token", partial(plan.graph, "token.onnx"))
        width = plan.manifest.text.width
    feeds = {graph.inputs[0]: np.random.default_rng(0).normal(size=(2, width)).astype(np.float32)}
    expected = backend.to_numpy_all(graph(feeds))
    # Another number than the host's, which the CPU provider does not look at.
    monkeypatch.setattr(graph, "_place", _Place("cpu", 1))
    bound = graph(feeds)
    assert all(isinstance(value, ort.OrtValue) for value in bound.values())
    for name, array in backend.to_numpy_all(bound).items():
        np.testing.assert_array_equal(array, expected[name])


class Session:
    """A session that goes on without what it was asked for, as ONNX Runtime does."""

    asked: list[Any] = []
    has = ["CPUExecutionProvider"]

    def __init__(
        self,
        model: bytes,
        options: object,
        providers: list[Any],
        disabled_optimizers: list[str],
    ) -> None:
        self.asked[:] = providers

    def get_providers(self) -> list[str]:
        return self.has

    def get_inputs(self) -> list[Any]:
        return []

    get_outputs = get_inputs


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime with providers for GPUs."""
    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)
    monkeypatch.setattr(ort, "InferenceSession", Session)


def test_cuda_is_asked_for_by_number_and_without_tf32(
    gpu_build: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "has", ["CUDAExecutionProvider", "CPUExecutionProvider"])
    OnnxRuntimeBackend(device="cuda:1").load("vision", lambda: b"")
    (name, options), last = Session.asked
    assert (name, options["device_id"], options["use_tf32"]) == ("CUDAExecutionProvider", "1", "0")
    assert last == "CPUExecutionProvider"


def test_tensorrt_keeps_its_engines_in_a_private_folder(
    gpu_build: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "has", ["TensorrtExecutionProvider"])
    OnnxRuntimeBackend(device="tensorrt", cache_dir=tmp_path).load("vision", lambda: b"")
    (name, options), (second, _), _ = Session.asked
    assert (name, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    folder = Path(options["trt_engine_cache_path"])
    assert folder.is_relative_to(tmp_path) and folder.stat().st_mode & 0o777 == 0o700


def test_cuda_of_nvidias_wheels_is_loaded_first_and_nothing_is_printed(
    gpu_build: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded: list[str] = []

    def preload() -> None:
        loaded.append("CUDA")
        print("Failed to load libcudnn.so.9")

    monkeypatch.setattr(ort, "preload_dlls", preload, raising=False)
    OnnxRuntimeBackend(device="cuda")
    assert loaded == ["CUDA"]
    OnnxRuntimeBackend(device="cpu")
    assert loaded == ["CUDA"] and capsys.readouterr() == ("", "")
    monkeypatch.delattr(ort, "preload_dlls")  # before 1.21
    OnnxRuntimeBackend(device="cuda")


def test_a_provider_that_cannot_begin_is_said(gpu_build: None) -> None:
    with pytest.raises(BackendError, match="cannot use CUDAExecutionProvider here"):
        OnnxRuntimeBackend(device="cuda").load("vision", lambda: b"")


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this one has it"
)
def test_an_onnx_runtime_for_cpus_says_which_one_is_needed(tiny_plan: Path) -> None:
    with pytest.raises(BackendError, match="built without CUDAExecutionProvider") as caught:
        Engine(tiny_plan, backend="onnxruntime", device="cuda")
    assert "onnxruntime-gpu" in str(caught.value)


@pytest.mark.parametrize("device", ["", "gpu", "cuda:x", "cpu:0"])
def test_a_device_that_onnx_runtime_lacks_is_refused(device: str, tiny_plan: Path) -> None:
    with pytest.raises(BackendError, match="cannot run on device"):
        Engine(tiny_plan, backend="onnxruntime", device=device)


@pytest.mark.parametrize("slow", [True, False])
def test_quantized_products_stay_whole_but_on_processors_that_overflow(
    slow: bool, gpu_build: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "multiplies_bytes_slowly", lambda: slow)
    places = ("cpu", "cuda", "tensorrt")  # TensorRT takes them as they are
    whole = [not has_entry(OnnxRuntimeBackend(device=place)._options, UNFUSED) for place in places]
    assert whole == [not slow, True, True]
    rounding = [
        not has_entry(OnnxRuntimeBackend(as_written=as_written)._options, UNROUNDED)
        for as_written in (False, True)
    ]
    assert rounding == [not slow, True]


UNFUSED = "session.disable_quant_qdq"
UNROUNDED = "session.enable_quant_qdq_cleanup"


def has_entry(options: ort.SessionOptions, key: str) -> bool:
    try:
        return bool(options.get_session_config_entry(key))
    except RuntimeError:  # no such entry
        return False


def test_onnx_runtime_multiplies_bytes_without_an_overflow() -> None:
    """On processors without VNNI its own kernels give half of these sums."""
    onnx = pytest.importorskip("onnx", reason="graphs are made with the package onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    width = 64
    constants = {
        "scale": np.array(1, np.float32),
        "zero": np.array(0, np.uint8),
        "weight": np.full((width, 8), 127, np.int8),
        "weight_zero": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["steps"]),
        helper.make_node("DequantizeLinear", ["steps", "scale", "zero"], ["left"]),
        helper.make_node("DequantizeLinear", ["weight", "scale", "weight_zero"], ["right"]),
        helper.make_node("MatMul", ["left", "right"], ["y"]),
    ]
    ports = [
        helper.make_tensor_value_info(name, kind, [4, size])
        for name, size in (("x", width), ("y", 8))
    ]
    held = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "products", ports[:1], ports[1:], held)
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    backend = OnnxRuntimeBackend(1)
    feeds = {"x": np.full((4, width), 255, np.float32)}
    made = backend.to_numpy_all(backend.load("products", model.SerializeToString)(feeds))["y"]
    np.testing.assert_array_equal(made, width * 255 * 127)


@pytest.mark.parametrize("activation", ["Relu", "Clip"])
@pytest.mark.parametrize("as_written", [False, True])
def test_an_activation_does_not_go_with_the_rounding_after_it(
    activation: str, as_written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without VNNI activations are not rounded; the optimizer had merged the two before."""
    onnx = pytest.importorskip("onnx", reason="graphs are made with the package onnx")
    monkeypatch.setattr(backend_module, "multiplies_bytes_slowly", lambda: True)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    held = {
        "scale": np.array(6 / 255, np.float32),
        "zero": np.array(0, np.uint8),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
        "weight": np.eye(8, dtype=np.float32),
    }
    bounds = ["low", "high"] if activation == "Clip" else []
    nodes = [
        helper.make_node(activation, ["x", *bounds], ["active"]),
        helper.make_node("QuantizeLinear", ["active", "scale", "zero"], ["steps"]),
        helper.make_node("DequantizeLinear", ["steps", "scale", "zero"], ["left"]),
        helper.make_node("MatMul", ["left", "weight"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, kind, [4, 8]) for name in ("x", "y")]
    initial = [onnx.numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "activation", ports[:1], ports[1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    backend = OnnxRuntimeBackend(1, as_written=as_written)
    x = np.linspace(-9, 9, 32, dtype=np.float32).reshape(4, 8)
    run = backend.load("activation", model.SerializeToString)
    made = backend.to_numpy_all(run({"x": x}))["y"]
    active = x.clip(0, 6 if activation == "Clip" else None)
    if as_written:
        assert set(np.unique(np.round(made * 255 / 6, 3))) <= set(range(256))
        np.testing.assert_allclose(made, active.clip(0, 6), atol=6 / 255)
    else:
        np.testing.assert_allclose(made, active, rtol=1e-6)


# --- OpenVINO -------------------------------------------------------------------------------------


class Core:
    """An OpenVINO with other devices, which notes what it is to compile for."""

    def __init__(self, real: Any, *devices: str) -> None:
        self._real = real
        self.available_devices = list(devices)
        self.compiled: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_property(self, device: str, name: str) -> Any:
        assert device in ("CPU", "GPU", "GPU.1", "NPU")
        return self._real.get_property("CPU", name)

    def compile_model(self, model: Any, device: str, settings: dict[str, Any]) -> Any:
        self.compiled.append((device, settings))
        return self._real.compile_model(model, "CPU", {})


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Core:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    from xdecoder_rt.backends import openvino

    made = Core(openvino._core(), "CPU", "GPU.0", "GPU.1", "NPU")
    monkeypatch.setattr(openvino, "_core", lambda: made)
    return made


@pytest.mark.parametrize(("device", "plugin"), [("gpu", "GPU"), ("gpu.1", "GPU.1"), ("npu", "NPU")])
@pytest.mark.parametrize("backend", [None, "openvino"])
def test_openvino_runs_a_plan_on_the_device_that_is_named(
    backend: str | None, device: str, plugin: str, core: Core, tiny_plan: Path, tmp_path: Path
) -> None:
    with Engine(tiny_plan, backend=backend, device=device, cache_dir=tmp_path) as engine:
        assert (engine.backend.name, engine.backend.device) == ("openvino", device)
        engine.embed_text(["mug"])
    ((where, settings),) = core.compiled
    assert where == plugin
    # An fp32 plan is meant in fp32; and threads are the CPU's.
    assert settings["INFERENCE_PRECISION_HINT"] == "f32"
    assert "INFERENCE_NUM_THREADS" not in settings


def test_a_device_that_openvino_lacks_is_refused_with_those_that_it_has(
    core: Core, tiny_plan: Path, tmp_path: Path
) -> None:
    core.available_devices = ["CPU"]
    with pytest.raises(BackendError, match="finds no device 'gpu'.*'cpu'"):
        Engine(tiny_plan, backend="openvino", device="gpu")


def test_the_cpu_stays_what_it_was(core: Core, tiny_plan: Path, tmp_path: Path) -> None:
    with Engine(tiny_plan, backend="openvino", threads=1, cache_dir=tmp_path) as engine:
        engine.embed_text(["mug"])
    ((where, settings),) = core.compiled
    assert where == "CPU" and settings["INFERENCE_NUM_THREADS"] == 1


def test_a_backend_that_is_none_is_refused_with_those_that_there_are(tiny_plan: Path) -> None:
    with pytest.raises(BackendError, match="no backend 'abacus'.*'onnxruntime'.*'torch'"):
        Engine(tiny_plan, backend="abacus")
    assert backends.PORTABLE == ("onnxruntime", "openvino", "torch")


@pytest.mark.parametrize("command", ["label", "segment", "serve"])
def test_a_command_runs_on_the_device_that_it_is_given(
    command: str, tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "serve":
        pytest.importorskip("fastapi", reason="needs the extra serve")
        arguments = [str(tiny_plan), "--port", "0"]
    else:
        photo = tmp_path / "photo.png"
        Image.new("RGB", (64, 64)).save(photo)
        arguments = [str(photo), "--words", "mug", "-o", str(tmp_path / "out.png")]
        arguments += ["--plan", str(tiny_plan)]
    where = ["--backend", "openvino", "--device", "nowhere", "--cache-dir", str(tmp_path)]
    pytest.importorskip("openvino", reason="needs the extra openvino")
    assert main([command, *arguments, *where]) == 1
    assert "'nowhere'" in capsys.readouterr().err
