"""QDQ graphs: what may be quantized is, nothing else, in the form of the profile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="quantization needs the extra export")

import onnxruntime as ort  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from xdecoder_rt.calibration.profiles import QUANTIZATION_PROFILES, quantizable  # noqa: E402
from xdecoder_rt.calibration.qdq import (  # noqa: E402
    halve_constants,
    quantize,
    quantize_tables,
    violations,
)
from xdecoder_rt.export.precision import to_typed  # noqa: E402
from xdecoder_rt.plan.file import Plan  # noqa: E402

GRAPHS = ("vision_64x64.onnx", "decode_64x64.onnx", "text.onnx", "token.onnx")
Model = onnx.ModelProto


@pytest.fixture(scope="module")
def graph(tiny_plan: Path) -> Callable[[str], Model]:
    with Plan.open(tiny_plan) as plan:
        data = {member: plan.graph(member) for member in GRAPHS}
    return lambda member: onnx.load_from_string(data[member])


def quantized(model: Model, profile: str, nodes: list[str] | None = None) -> Model:
    chosen = quantizable(model, QUANTIZATION_PROFILES[profile]) if nodes is None else nodes
    entering = {node.input[0] for node in model.graph.node}
    ranges = dict.fromkeys(entering, (-3.0, 5.0))
    return quantize(model, QUANTIZATION_PROFILES[profile], chosen, ranges)


def quantizers(model: Model) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "QuantizeLinear"]


@pytest.mark.parametrize("member", GRAPHS)
@pytest.mark.parametrize("profile", QUANTIZATION_PROFILES)
def test_the_rules_of_the_profile_hold(
    graph: Callable[[str], Model], member: str, profile: str
) -> None:
    model = quantized(graph(member), profile)
    assert violations(model, QUANTIZATION_PROFILES[profile]) == []
    assert quantizers(model)
    if profile == "tensorrt":
        assert violations(to_typed(model, "fp16"), QUANTIZATION_PROFILES[profile]) == []


@pytest.mark.parametrize("member", GRAPHS)
@pytest.mark.parametrize("profile", QUANTIZATION_PROFILES)
def test_weights_are_int8_with_a_scale_for_each_channel(
    graph: Callable[[str], Model], member: str, profile: str
) -> None:
    model = quantized(graph(member), profile)
    stored = {value.name: value for value in model.graph.initializer}
    weights = [
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in stored
    ]
    assert weights
    for node in weights:
        weight, scale = stored[node.input[0]], stored[node.input[1]]
        axis = next(a.i for a in node.attribute if a.name == "axis")
        assert weight.data_type == TensorProto.INT8
        assert list(scale.dims) == [weight.dims[axis]]
        assert not numpy_helper.to_array(stored[node.input[2]]).any()


def test_depthwise_convolutions_are_the_cpus_alone_and_those_that_resample_nobodys(
    graph: Callable[[str], Model],
) -> None:
    model = graph("vision_64x64.onnx")
    stored = {value.name for value in model.graph.initializer if value.name.startswith("model.")}
    depthwise = {
        node.name: node.input[1] in stored
        for node in model.graph.node
        if node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute)
    }
    learnt = {name for name, is_learnt in depthwise.items() if is_learnt}
    # Of three levels, once along each axis.
    assert learnt and len(depthwise) - len(learnt) == 6
    assert depthwise.keys() & set(quantizable(model, QUANTIZATION_PROFILES["cpu"])) == learnt
    assert not depthwise.keys() & set(quantizable(model, QUANTIZATION_PROFILES["tensorrt"]))


@pytest.mark.parametrize("profile", QUANTIZATION_PROFILES)
def test_attention_and_mask_products_are_left_alone(
    graph: Callable[[str], Model], profile: str
) -> None:
    for member in GRAPHS:
        model = graph(member)
        stored = {value.name for value in model.graph.initializer}
        for node in model.graph.node:
            if node.name in quantizable(model, QUANTIZATION_PROFILES[profile]):
                assert node.op_type in ("Conv", "Gemm", "MatMul")
                assert node.input[1] in stored and node.input[0] not in stored


@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_exactly_what_is_chosen_is_quantized(
    graph: Callable[[str], Model], data: st.DataObject
) -> None:
    model = graph("decode_64x64.onnx")
    names = quantizable(model, QUANTIZATION_PROFILES["cpu"])
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True))
    result = quantized(model, "cpu", chosen)
    made_by = {name: node for node in result.graph.node for name in node.output}
    found = {
        node.name
        for node in result.graph.node
        if node.name in names
        and (source := made_by.get(node.input[0])) is not None
        and source.op_type == "DequantizeLinear"
    }
    assert found == set(chosen)
    assert violations(result, QUANTIZATION_PROFILES["cpu"]) == []
    assert [value.name for value in result.graph.output] == [
        value.name for value in model.graph.output
    ]


def test_broken_rules_are_seen(graph: Callable[[str], Model]) -> None:
    asymmetric = quantized(graph("text.onnx"), "cpu")
    assert any(
        "zero point" in one for one in violations(asymmetric, QUANTIZATION_PROFILES["tensorrt"])
    )
    depthwise = quantized(graph("vision_64x64.onnx"), "cpu")
    assert any(
        "depthwise" in one for one in violations(depthwise, QUANTIZATION_PROFILES["tensorrt"])
    )


def run(model: Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def table_model(table: np.ndarray) -> Model:
    node = helper.make_node("Gather", ["table", "ids"], ["rows"], "gather")
    graph = helper.make_graph(
        [node],
        "table",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "m"])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", "m", table.shape[1]])],
        [numpy_helper.from_array(table, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_a_table_in_int8_is_within_half_a_step() -> None:
    generator = np.random.default_rng(0)
    table = (generator.normal(size=(3000, 6)) * 10.0 ** np.arange(-3, 3)).astype(np.float32)
    ids = generator.integers(0, 3000, (4, 5))
    model = quantize_tables(table_model(table))
    assert model.ByteSize() < 0.3 * table.nbytes
    error = np.abs(run(model, {"ids": ids}) - table[ids])
    assert np.all(error <= np.abs(table).max(axis=0) / 127 * 0.5001)


def test_halved_constants_change_nothing_but_rounding(graph: Callable[[str], Model]) -> None:
    table = np.random.default_rng(0).normal(size=(3000, 6)).astype(np.float32)
    ids = np.array([[0, 5]])
    model = halve_constants(table_model(table))
    assert model.ByteSize() < 0.6 * table.nbytes
    assert np.allclose(run(model, {"ids": ids}), table[ids], rtol=1e-3)
