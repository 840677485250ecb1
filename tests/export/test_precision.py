"""Typed fp16 and bf16 graphs: types at every edge, the contract at the border, exact where kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="precision needs the extra export")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto  # noqa: E402

from xdecoder_rt.calibration.onnx_edit import to_half  # noqa: E402
from xdecoder_rt.export.precision import candidates, emulated, is_state, to_typed  # noqa: E402
from xdecoder_rt.plan.file import Plan  # noqa: E402

GRAPHS = ("vision_64x64.onnx", "decode_64x64.onnx", "mask_64x64.onnx", "text.onnx", "token.onnx")
HALF = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def graph(plan: Path, member: str) -> onnx.ModelProto:
    with Plan.open(plan) as opened:
        return onnx.load_from_string(opened.graph(member))


@pytest.mark.parametrize("member", GRAPHS)
@pytest.mark.parametrize("precision", HALF)
def test_the_border_is_what_the_runtime_feeds(tiny_plan: Path, member: str, precision: str) -> None:
    model = graph(tiny_plan, member)
    typed = to_typed(model, precision)
    for before, after in zip(
        (*model.graph.input, *model.graph.output),
        (*typed.graph.input, *typed.graph.output),
        strict=True,
    ):
        assert before.name == after.name
        old, new = before.type.tensor_type.elem_type, after.type.tensor_type.elem_type
        if old == TensorProto.FLOAT and is_state(before.name):
            assert new == HALF[precision], before.name
        else:
            assert new == old, before.name


@pytest.mark.parametrize("member", GRAPHS)
def test_weights_are_stored_in_half(tiny_plan: Path, member: str) -> None:
    model = graph(tiny_plan, member)
    typed = to_typed(model, "fp16")
    floats = [
        value
        for value in typed.graph.initializer
        if value.data_type == TensorProto.FLOAT and np.prod(value.dims) > 64
    ]
    assert not floats, [value.name for value in floats]


@pytest.mark.parametrize("member", ["vision_64x64.onnx", "text.onnx"])
def test_everything_kept_is_the_same_graph(tiny_plan: Path, member: str) -> None:
    model = graph(tiny_plan, member)
    typed = to_typed(model, "fp16", keep=candidates(model))
    assert {value.data_type for value in typed.graph.initializer} <= {
        value.data_type for value in model.graph.initializer
    } | {TensorProto.FLOAT16}
    before, after = (
        sorted(node.op_type for node in one.graph.node if node.op_type != "Cast")
        for one in (model, typed)
    )
    assert before == after


def test_the_emulation_rounds_as_the_typed_graph(tiny_plan: Path) -> None:
    model = graph(tiny_plan, "vision_64x64.onnx")
    frame = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    feeds = {"frame": frame, "valid": np.array([[64, 64]], np.int64)}

    def run(one: onnx.ModelProto) -> list[np.ndarray]:
        session = ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"])
        return [np.asarray(value, np.float32) for value in session.run(None, feeds)]

    exact = run(model)
    typed, imitated = run(to_typed(model, "fp16")), run(emulated(model, "fp16"))
    for plain, one, other in zip(exact, typed, imitated, strict=True):
        size = np.abs(plain).mean()
        assert np.abs(one - plain).mean() / size < 1e-2
        assert np.abs(other - plain).mean() / size < 1e-2


def test_pixels_are_normalised_in_fp32(tiny_plan: Path) -> None:
    model = graph(tiny_plan, "vision_64x64.onnx")
    low = set(candidates(model))
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    before = model.graph.node[: list(model.graph.node).index(first)]
    assert first.name in low
    assert not {node.name for node in before if node.op_type in ("Sub", "Mul")} & low


@pytest.mark.parametrize("precision", HALF)
def test_rounding_is_to_the_nearest(precision: str) -> None:
    values = np.float32([0.0, 1.0, -2.5, 3.14159265, 1e-5, 1 + 2**-8, 1 + 3 * 2**-8])
    rounded = onnx.numpy_helper.to_array(to_half(values, HALF[precision], "x")).astype(np.float32)
    bits = 8 if precision == "bf16" else 11
    assert np.all(np.abs(rounded - values) <= np.abs(values) * 2.0**-bits + 1e-7)
    if precision == "bf16":  # ties go to even
        assert rounded[5] == 1.0 and rounded[6] == 1 + 2**-6
    largest = onnx.numpy_helper.to_array(to_half(np.float32([1e6]), TensorProto.FLOAT16, "x"))
    assert float(largest[0]) == 65504.0
