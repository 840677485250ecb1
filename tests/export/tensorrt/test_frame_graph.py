"""The decode of the latents alone: a graph of the image's values and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="engines are built of ONNX graphs")

import onnx
from onnx import TensorProto, helper

from xdecoder_rt import Engine
from xdecoder_rt.errors import BuildError, PlanError
from xdecoder_rt.export.tensorrt import layers as layer_reports
from xdecoder_rt.export.tensorrt.engine import BuiltEngine, build_engine
from xdecoder_rt.export.tensorrt.graph import (
    cast_frames_first,
    drop_softmax_floors,
    fix_inputs,
    fix_shapes,
    keep_scales_positive,
    read_graph,
)
from xdecoder_rt.export.tensorrt.options import EngineOptions
from xdecoder_rt.export.tensorrt.profiles import InputRange, fixed_shapes, profiles_of
from xdecoder_rt.export.tensorrt.toolchain import open_toolchain
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.rows import frame_feeds

if TYPE_CHECKING:
    from xdecoder_rt.export.tensorrt.build import EngineSummary

SIZE = (64, 64)
IMAGE = ("keys", "values", "mask_features")


@pytest.fixture
def plan(tiny_plan: Path) -> tuple[Manifest, Callable[[], Any]]:
    """The manifest, and what gives the decode graph anew."""
    with Plan.open(tiny_plan) as opened:
        manifest, data = opened.manifest, opened.graph(opened.manifest.graphs.decode["64x64"])

    def graph() -> Any:
        model = read_graph("decode", data)
        cast_frames_first(model)
        keep_scales_positive(model)
        drop_softmax_floors(model)
        return model

    return manifest, graph


def frame_graph(manifest: Manifest, model: Any) -> Any:
    fix_inputs(model, frame_feeds(manifest.decoder, manifest.text.proj_dim, SIZE))
    shapes = fixed_shapes(profiles_of("frame", model, manifest, 1, 64))
    assert shapes is not None
    fix_shapes(model, shapes)
    return model


def test_it_takes_the_image_alone_in_one_shape(plan: tuple[Manifest, Callable[[], Any]]) -> None:
    manifest, graph = plan
    model = frame_graph(manifest, graph())
    for port in model.graph.input:
        assert port.name.rsplit("_", 1)[0] in IMAGE
        assert all(dim.dim_value for dim in port.type.tensor_type.shape.dim)
    read = {name for node in model.graph.node for name in node.input}
    assert not any(name.startswith("past") for name in read)
    onnx.checker.check_model(model)


def test_it_gives_what_the_decode_graph_gives(plan: tuple[Manifest, Callable[[], Any]]) -> None:
    import onnxruntime

    manifest, graph = plan
    frame = frame_graph(manifest, graph())
    draw = np.random.default_rng(3)
    values = {
        port.name: draw.standard_normal(
            [dim.dim_value for dim in port.type.tensor_type.shape.dim]
        ).astype(np.float32)
        for port in frame.graph.input
    }
    rows = frame_feeds(manifest.decoder, manifest.text.proj_dim, SIZE)

    def run(model: Any, feeds: dict[str, Any]) -> dict[str, Any]:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        names = [port.name for port in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    expected, found = run(graph(), {**values, **rows}), run(frame, values)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=2e-5, atol=2e-5)


def test_the_runtime_feeds_what_the_frame_graph_has_in_it(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of what rows are made of changes both."""
    from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend

    fed: list[dict[str, Any]] = []
    load = OnnxRuntimeBackend.load

    def recorded(self: OnnxRuntimeBackend, name: str, model: Any, is_steady: bool = False) -> Any:
        graph = load(self, name, model, is_steady)
        if not name.startswith("decode_64x64"):
            return graph

        class Recorded:
            inputs = graph.inputs

            def __call__(self, feeds: Any) -> Any:
                fed.append(dict(feeds))
                return graph(feeds)

        return Recorded()

    monkeypatch.setattr(OnnxRuntimeBackend, "load", recorded)
    with Engine(tiny_plan, backend="onnxruntime", cache_dir=tmp_path) as engine:
        engine.segment(np.zeros((64, 64, 3), np.uint8), ["a cat"])
        manifest = engine.manifest
    expected = frame_feeds(manifest.decoder, manifest.text.proj_dim, SIZE)
    (feeds,) = fed
    assert {name for name in feeds if name.rsplit("_", 1)[0] not in IMAGE} == set(expected)
    for name, array in expected.items():
        assert np.asarray(feeds[name]).dtype == array.dtype
        np.testing.assert_array_equal(np.asarray(feeds[name]), array)


def test_an_empty_input_that_is_not_concatenated_is_refused() -> None:
    node = helper.make_node("Add", ["x", "past"], ["y"])
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "past", "y")]
    model = helper.make_model(helper.make_graph([node], "g", ports[:2], ports[2:]))
    with pytest.raises(BuildError, match="operator Add reads past"):
        fix_inputs(model, {"past": np.zeros((1, 0), np.float32)})


def test_an_empty_input_goes_with_its_cast_and_its_quantization() -> None:
    """As in graphs of fp16 and INT8."""
    at = helper.make_node
    nodes = [
        at("Cast", ["past"], ["half"], to=TensorProto.FLOAT16),
        at("QuantizeLinear", ["half", "scale"], ["q"]),
        at("DequantizeLinear", ["q", "scale"], ["dq"]),
        at("Concat", ["dq", "x"], ["both"], axis=0),
        at("Relu", ["both"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, ["n"]) for n in ("x", "y")]
    ports.insert(1, helper.make_tensor_value_info("past", TensorProto.FLOAT, ["p"]))
    scale = helper.make_tensor("scale", TensorProto.FLOAT16, [], [0.5])
    graph = helper.make_graph(nodes, "g", ports[:2], ports[2:], [scale])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    fix_inputs(model, {"past": np.zeros(0, np.float32)})
    assert [(node.op_type, list(node.input)) for node in model.graph.node] == [
        ("Identity", ["x"]),
        ("Relu", ["both"]),
    ]


def test_values_take_the_type_of_the_graph() -> None:
    node = helper.make_node("Add", ["x", "text"], ["y"])
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, [2]) for n in ("x", "text", "y")]
    model = helper.make_model(helper.make_graph([node], "g", ports[:2], ports[2:]))
    fix_inputs(model, {"text": np.ones(2, np.float32), "absent": np.ones(2, np.float32)})
    (constant,) = model.graph.initializer
    assert (constant.name, constant.data_type) == ("text", TensorProto.FLOAT16)
    assert [port.name for port in model.graph.input] == ["x"]


def test_only_plans_of_engines_have_one(altered: Any, rtx_plan: EngineSummary) -> None:
    assert rtx_plan.manifest.graphs.frame == {"64x64": "frame_64x64.engine"}

    def with_frame(manifest: Manifest) -> Manifest:
        graphs = replace(manifest.graphs, frame=dict(manifest.graphs.decode))
        return replace(manifest, graphs=graphs)

    with pytest.raises(PlanError, match=r"graphs\.frame"), Plan.open(altered(with_frame)):
        pass


@pytest.fixture(scope="module")
def compared(rtx: Any, tiny_plan: Path) -> tuple[BuiltEngine, BuiltEngine]:
    """The frame engine, and one of the whole decode graph for the same shapes: 0 past rows."""
    with Plan.open(tiny_plan) as opened:
        manifest, data = opened.manifest, opened.graph(opened.manifest.graphs.decode["64x64"])
    rows = frame_feeds(manifest.decoder, manifest.text.proj_dim, SIZE)
    whole = read_graph("decode", data)
    drop_softmax_floors(whole)
    profile = {}
    for port in whole.graph.input:
        dims = [dim.dim_value or 1 for dim in port.type.tensor_type.shape.dim]
        shape = rows[port.name].shape if port.name in rows else tuple(dims)
        profile[port.name] = InputRange(shape, shape, shape)
    frame = read_graph("decode", data)
    drop_softmax_floors(frame)
    frame_graph(manifest, frame)
    toolchain, options = open_toolchain("tensorrt_rtx", (89,)), EngineOptions("tensorrt_rtx", (89,))
    return (
        build_engine("frame", frame, [], toolchain, options),
        build_engine("decode", whole, [profile], toolchain, options),
    )


def test_the_frame_engine_computes_the_same_products_in_no_more_layers(
    compared: tuple[BuiltEngine, BuiltEngine],
) -> None:
    """TensorRT-RTX takes a past of no rows out by itself; what goes besides are the inputs."""
    frame, whole = compared
    assert layer_reports.precisions(frame.layers) == layer_reports.precisions(whole.layers)
    assert len(frame.layers) <= len(whole.layers)
    assert len(frame.data) < len(whole.data)
