"""Layers of INT8 graphs that are computed in fp32, on processors that multiply bytes slowly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

openvino = pytest.importorskip("openvino", reason="needs the extra openvino")
onnx = pytest.importorskip("onnx", reason="quantization needs the extra export")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from xdecoder_rt.backends import openvino as backend_module  # noqa: E402
from xdecoder_rt.backends import winograd  # noqa: E402
from xdecoder_rt.backends.openvino import OpenVINOBackend  # noqa: E402
from xdecoder_rt.backends.unquantized import (  # noqa: E402
    multiplies_bytes_slowly,
    unquantize,
)
from xdecoder_rt.calibration.profiles import profile_of  # noqa: E402
from xdecoder_rt.calibration.qdq import quantize  # noqa: E402

CHANNELS, SIDE = 16, 8
IMAGE = (1, CHANNELS, SIDE, SIDE)
# Flags of a Zen 3, a Cascade Lake, an Alder Lake and a Sapphire Rapids, as Linux writes them.
SLOW = "processor : 0\nflags\t\t: fpu sse2 avx avx2 fma bmi2\n"
FAST = ("avx2 avx512f avx512_vnni", "avx2 avx_vnni", "avx512_bf16 amx_tile amx_int8")


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Winograd's algorithm gain on small convolutions too."""
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", CHANNELS)
    monkeypatch.setattr(winograd, "LEAST_TILES", 1)


@pytest.fixture
def slow_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without products of bytes, which has none of bf16 either."""
    monkeypatch.setattr(backend_module, "multiplies_bytes_slowly", lambda: True)
    plain = backend_module._PRECISIONS
    monkeypatch.setattr(backend_module, "_PRECISIONS_WITH_BF16", plain)


def floats() -> tuple[Any, dict[str, np.ndarray]]:
    """A graph of the four kinds of layers, and a sum that reads what a product reads."""
    draw = np.random.default_rng(0)
    weights = {
        "wide": draw.standard_normal((CHANNELS, CHANNELS, 3, 3)) / 12,
        "narrow": draw.standard_normal((CHANNELS, CHANNELS, 1, 1)) / 4,
        "deep": draw.standard_normal((CHANNELS, 1, 3, 3)) / 3,
        "mix": draw.standard_normal((SIDE, SIDE)) / 3,
    }
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    nodes = [
        helper.make_node("Conv", ["image", "wide"], ["a"], "wide", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "narrow"], ["b"], "narrow"),
        helper.make_node("Conv", ["b", "deep"], ["c"], "deep", pads=[1] * 4, group=CHANNELS),
        helper.make_node("MatMul", ["c", "mix"], ["d"], "mix"),
        helper.make_node("Add", ["c", "d"], ["sum"], "add"),
    ]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *IMAGE[1:]])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", *IMAGE[1:]])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10), weights


def bytes_of(names: tuple[str, ...]) -> bytes:
    """The same graph with some layers in INT8."""
    model, _ = floats()
    entering = {node.name: node.input[0] for node in model.graph.node}
    ranges = {entering[name]: (-4.0, 4.0) for name in names}
    quantized: bytes = quantize(model, profile_of("cpu"), names, ranges).SerializeToString()
    return quantized


def in_steps(names: tuple[str, ...]) -> bytes:
    """The fp32 graph, its weights rounded as INT8 rounds them."""
    model, weights = floats()
    del model.graph.initializer[:]
    for name, value in weights.items():
        axis = tuple(range(1, value.ndim)) if value.ndim > 2 else 0
        scale = np.abs(value).max(axis=axis, keepdims=True) / np.float32(127)
        rounded = np.round(value / scale) * scale if name in names else value
        model.graph.initializer.append(numpy_helper.from_array(rounded, name))
    serialized: bytes = model.SerializeToString()
    return serialized


def image() -> np.ndarray:
    return np.random.default_rng(1).standard_normal(IMAGE).astype(np.float32)


def answer(data: bytes, precision: str, *, is_steady: bool = True) -> np.ndarray:
    graph = OpenVINOBackend(1, precision).load("vision", lambda: data, is_steady)
    return np.asarray(graph({"image": image()})["sum"])


def kinds(data: bytes, *, fixed: bool = True) -> Counter[str]:
    model = openvino.Core().read_model(model=data)
    if fixed:
        model.reshape({"image": IMAGE})
    unquantize(openvino, model)
    return Counter(node.get_type_name() for node in model.get_ops())


@pytest.mark.parametrize("is_steady", [True, False], ids=["fixed shapes", "any shapes"])
def test_a_product_is_computed_in_fp32_with_the_weights_of_int8(
    is_steady: bool, slow_processor: None
) -> None:
    names = ("mix",)
    actual = answer(bytes_of(names), "int8", is_steady=is_steady)
    np.testing.assert_allclose(actual, answer(in_steps(names), "fp32"), rtol=1e-4, atol=1e-5)


def test_so_is_a_convolution_that_winograd_takes(slow_processor: None) -> None:
    names = ("wide", "mix")
    actual = answer(bytes_of(names), "int8")
    np.testing.assert_allclose(actual, answer(in_steps(names), "fp32"), rtol=1e-4, atol=1e-4)


def test_on_other_processors_they_stay_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "multiplies_bytes_slowly", lambda: False)
    names = ("wide", "mix")
    actual = answer(bytes_of(names), "int8")
    assert np.abs(actual - answer(in_steps(names), "fp32")).max() > 1e-3


def test_other_convolutions_stay_int8() -> None:
    assert kinds(bytes_of(("wide", "narrow", "deep", "mix")))["FakeQuantize"] == 2
    assert kinds(bytes_of(("narrow", "deep")))["FakeQuantize"] == 2


def test_a_convolution_of_an_open_size_stays_int8() -> None:
    assert kinds(bytes_of(("wide", "mix")), fixed=False)["FakeQuantize"] == 1


def test_a_sum_reads_what_no_layer_reads_quantized_as_it_was() -> None:
    assert kinds(bytes_of(("mix",)))["FakeQuantize"] == 0


def test_an_fp32_graph_is_left_alone() -> None:
    model = openvino.Core().read_model(model=floats()[0].SerializeToString())
    assert unquantize(openvino, model) == 0


@pytest.mark.parametrize("flags", FAST)
def test_a_processor_with_products_of_bytes_is_told_by_its_flags(
    flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    info = tmp_path / "cpuinfo"
    info.write_text(SLOW)
    assert multiplies_bytes_slowly(info)
    newer = tmp_path / "newer"
    newer.write_text(SLOW.replace("avx2", flags))
    assert not multiplies_bytes_slowly(newer)


def test_a_processor_that_does_not_tell_is_taken_for_a_fast_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    arm = tmp_path / "arm"
    arm.write_text("processor : 0\nFeatures : fp asimd\n")
    assert not multiplies_bytes_slowly(arm)
    assert not multiplies_bytes_slowly(tmp_path / "missing")
    slow = tmp_path / "slow"
    slow.write_text(SLOW)
    monkeypatch.setattr("sys.platform", "darwin")
    assert not multiplies_bytes_slowly(slow)
