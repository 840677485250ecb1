"""Graphs as TensorRT's parser takes them, and graphs that it never sees."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("onnx", reason="engines are built of ONNX graphs")

import onnx
from onnx import TensorProto, helper

from xdecoder_rt.errors import BuildError, PlanError
from xdecoder_rt.export.tensorrt.graph import (
    PARSER_OPSET,
    cast_frames_first,
    declare_parser_opset,
    drop_softmax_floors,
    keep_scales_positive,
    read_graph,
)
from xdecoder_rt.plan.file import Plan


def outputs(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return list(session.run(None, feeds))


def decode_feeds(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Two rows over an image and three rows decoded before, at random."""
    draw = np.random.default_rng(0)
    sizes = {"batch": 1, "rows": 2, "past": 3, "regions": 1}
    feeds: dict[str, np.ndarray] = {}
    for value in model.graph.input:
        axes = value.type.tensor_type.shape.dim
        # The last axis of "visible" has no name: past and rows.
        shape = [axis.dim_value or sizes.get(axis.dim_param, 5) for axis in axes]
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = (
            draw.normal(size=shape).astype(kind) if kind == np.float32 else np.ones(shape, kind)
        )
    return feeds


def test_frames_are_cast_before_anything_else_and_nothing_changes(tiny_plan: Path) -> None:
    with Plan.open(tiny_plan) as plan:
        data = plan.graph("vision_64x64.onnx")
    plain, changed = read_graph("vision", data), read_graph("vision", data)
    cast_frames_first(changed)
    (reader,) = (node for node in changed.graph.node if "frame" in node.input)
    assert reader.op_type == "Cast"
    onnx.checker.check_model(changed, full_check=True)
    frame = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    feeds = {"frame": frame, "valid": np.array([[64, 64], [40, 64]])}
    for expected, actual in zip(outputs(plain, feeds), outputs(changed, feeds), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(("declared", "expected"), [(18, 18), (19, 19), (20, 20), (22, 20)])
def test_no_parser_is_given_an_opset_that_it_does_not_know(declared: int, expected: int) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    ports = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, [1]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph([node], "g", ports[:1], ports[1:]),
        opset_imports=[helper.make_opsetid("", declared)],
    )
    declare_parser_opset(model)
    assert [entry.version for entry in model.opset_import] == [expected]


def test_every_operator_of_a_plan_means_in_that_opset_what_it_was_exported_as(
    tiny_plan: Path,
) -> None:
    """What is declared later is for types; the graphs are exported for opset 18."""
    from xdecoder_rt.export.onnx_graphs import OPSET

    assert OPSET <= PARSER_OPSET
    with Plan.open(tiny_plan) as plan:
        graphs = [onnx.load_from_string(plan.graph(m)) for m in plan.manifest.graphs.members()]
    for kind in {node.op_type for graph in graphs for node in graph.graph.node}:
        first, last = (onnx.defs.get_schema(kind, opset, "") for opset in (OPSET, PARSER_OPSET))
        assert list(first.attributes) == list(last.attributes) or kind in ("Cast", "Resize"), kind


def test_other_graphs_are_left_alone(tiny_plan: Path) -> None:
    with Plan.open(tiny_plan) as plan:
        for member in ("decode_64x64.onnx", "mask_64x64.onnx", "text.onnx", "token.onnx"):
            graph = read_graph(member, plan.graph(member))
            before = graph.SerializeToString()
            cast_frames_first(graph)
            assert graph.SerializeToString() == before


def test_floors_under_masked_scores_go_and_nothing_changes(tiny_plan: Path) -> None:
    with Plan.open(tiny_plan) as plan:
        data = plan.graph("decode_64x64.onnx")
        layers = plan.manifest.decoder.layers
    plain, changed = read_graph("decode", data), read_graph("decode", data)
    drop_softmax_floors(changed)
    onnx.checker.check_model(changed, full_check=True)
    before, after = (
        Counter(node.op_type for node in model.graph.node) for model in (plain, changed)
    )
    assert before - after == {"ReduceMax": layers, "Sub": layers, "Max": layers}
    feeds = decode_feeds(plain)
    for expected, actual in zip(outputs(plain, feeds), outputs(changed, feeds), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "domain", "shown"),
    [
        ("EfficientNMS_TRT", "", "EfficientNMS_TRT"),
        ("Anything", "com.example", "com.example::Anything"),
    ],
)
def test_operators_that_are_no_standard_ones_are_refused_before_the_parser(
    operator: str, domain: str, shown: str
) -> None:
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    with pytest.raises(BuildError, match=shown):
        read_graph("vision", helper.make_model(graph).SerializeToString())


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"PK\x03\x04 not a graph"])
def test_what_is_no_graph_is_refused(data: bytes) -> None:
    with pytest.raises(PlanError, match="vision"):
        read_graph("vision", data)


def test_scales_that_fp16_rounds_to_nothing_become_the_least_number() -> None:
    scale = np.array([1e-9, 0.5], np.float32).astype(np.float16)
    assert scale[0] == 0
    constants = [
        onnx.numpy_helper.from_array(scale, "scale"),
        onnx.numpy_helper.from_array(np.array([0, 1], np.float16), "other"),
        onnx.numpy_helper.from_array(np.array([[3, 5]], np.int8), "weight"),
    ]
    node = helper.make_node("DequantizeLinear", ["weight", "scale"], ["y"], axis=1)
    model = helper.make_model(helper.make_graph([node], "g", [], [], constants))
    keep_scales_positive(model)
    kept = {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}
    assert kept["scale"].dtype == np.float16
    assert kept["scale"].tolist() == [2.0**-24, 0.5]
    assert kept["other"].tolist() == [0, 1]
