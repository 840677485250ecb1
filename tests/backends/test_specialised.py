"""Models made for some calls of OpenVINO: the same results with less to do."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xdecoder_rt import Engine, tasks
from xdecoder_rt.backends.base import Array, Recurring
from xdecoder_rt.plan.file import Plan

openvino = pytest.importorskip("openvino", reason="needs the extra openvino")

from openvino import opset13 as ops  # noqa: E402

from xdecoder_rt.backends.openvino import OpenVINOBackend  # noqa: E402
from xdecoder_rt.backends.specialised import drop_floors, fix_inputs  # noqa: E402

SHAPE = (2, 3)


def kinds(network: Any) -> list[str]:
    return [node.get_type_name() for node in network.get_ordered_ops()]


def constant(value: Any) -> Any:
    return ops.constant(np.asarray(value, np.float32))


def parameter(shape: tuple[int, ...], name: str, dtype: Any = np.float32) -> Any:
    node = ops.parameter(shape, dtype, name)
    node.output(0).set_names({name})
    return node


def results(network: Any, feeds: Mapping[str, Array]) -> Array:
    inputs = [feeds[port.get_any_name()] for port in network.inputs]
    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_NUM_THREADS": 1})
    (array,) = compiled(inputs).values()
    return np.copy(array)


def attention(other_floor: bool = False) -> Any:
    """A softmax over floored scores; with `other_floor` the floor is of other scores."""
    x = parameter(SHAPE, "x")
    scores = ops.multiply(x, constant(3.0))
    highest = ops.reduce_max(x if other_floor else scores, ops.constant(np.array([-1])), True)
    floored = ops.maximum(scores, ops.subtract(highest, constant(50.0)))
    return openvino.Model([ops.softmax(floored, -1)], [x], "attention")


def test_a_softmax_without_its_floor_is_the_same() -> None:
    feeds = {"x": np.array([[1, -2, 0.5], [3, 30, -3000]], np.float32)}
    plain, dropped = attention(), attention()
    assert drop_floors(dropped) == 1
    assert {"Maximum", "Subtract", "ReduceMax"}.isdisjoint(kinds(dropped))
    np.testing.assert_allclose(results(dropped, feeds), results(plain, feeds), atol=1e-7)


def test_what_is_no_floor_of_the_scores_stays() -> None:
    network = attention(other_floor=True)
    assert drop_floors(network) == 0
    assert "Maximum" in kinds(network)


def chooser() -> Any:
    """``where(flag, x @ w * scale, x + shift)``."""
    x, scale, shift = (parameter(SHAPE, name) for name in ("x", "scale", "shift"))
    flag = parameter((2, 1), "flag", np.int64)
    weight = constant(np.arange(9).reshape(3, 3))
    product = ops.multiply(ops.matmul(x, weight, False, False), scale)
    is_set = ops.not_equal(flag, ops.constant(np.int64(0)))
    chosen = ops.select(is_set, product, ops.add(x, shift))
    return openvino.Model([chosen], [x, scale, shift, flag], "chooser")


@pytest.mark.parametrize("flag", [[0, 0], [1, 1], [1, 0]])
@pytest.mark.parametrize("scale", [0.0, 2.0])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_known_inputs_change_no_result(flag: list[int], scale: float, shift: float) -> None:
    feeds = {
        "x": np.random.default_rng(0).normal(size=SHAPE).astype(np.float32),
        "scale": np.full(SHAPE, scale, np.float32),
        "shift": np.full(SHAPE, shift, np.float32),
        "flag": np.array(flag, np.int64)[:, None],
    }
    network = chooser()
    fix_inputs(openvino, network, {name: feeds[name] for name in ("scale", "shift", "flag")})
    assert [port.get_any_name() for port in network.inputs] == ["x"]
    np.testing.assert_allclose(results(network, feeds), results(chooser(), feeds), rtol=1e-6)
    has_product = "MatMul" in kinds(network)
    assert has_product == (any(flag) and scale != 0.0)
    assert ("Select" in kinds(network)) == (any(flag) and not all(flag))
    assert ("Add" in kinds(network)) == (not all(flag) and shift != 0.0)


def calls_of_the_decode(plan: Path, cache: Path) -> list[dict[str, Array]]:
    """What the decode graph is fed by a segmentation and the tokens of a caption."""
    calls: list[dict[str, Array]] = []
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with Engine(plan, backend="openvino", threads=1, cache_dir=cache) as engine:
        graph_for = engine._runtime.rows._graph

        def noted(state: Any) -> Any:
            graph = graph_for(state)

            class Noting:
                inputs = graph.inputs

                def __call__(self, feeds: dict[str, Array]) -> Any:
                    calls.append(feeds)
                    return graph(feeds)

            return Noting()

        engine._runtime.rows._graph = noted
        state = engine.encode(image)
        engine.segment(state, ["mug"])
        engine.caption(state, max_tokens=5)
    return calls


def test_a_decode_of_known_rows_is_the_decode(tiny_plan: Path, tmp_path: Path) -> None:
    latents, *rest = calls_of_the_decode(tiny_plan, tmp_path / "cache")
    token = rest[-1]
    for feeds in (latents, token):
        recurring = {name for name, value in feeds.items() if isinstance(value, Recurring)}
        assert {"kind", "region_weight", "regions_0"} <= recurring
        assert ("visible" in recurring) == (feeds is latents)
        with Plan.open(tiny_plan) as plan:
            read = partial(plan.graph, "decode_64x64.onnx")
            backend = OpenVINOBackend(1)
            plain, known = (backend.load("decode", read, is_steady=True) for _ in range(2))
            expected = plain({name: np.asarray(value) for name, value in feeds.items()})
            for _ in range(3):  # a model may write over its constants
                actual = known(feeds)
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("cached", [False, True])
def test_rows_of_another_kind_get_a_model_of_their_own(
    cached: bool, tiny_plan: Path, tmp_path: Path
) -> None:
    *_, token = calls_of_the_decode(tiny_plan, tmp_path / "cache")
    folder = tmp_path / "models" if cached else None
    blind = np.full_like(token["kind"], tasks.Row.PHRASE).view(Recurring)
    with Plan.open(tiny_plan) as plan:
        read = partial(plan.graph, "decode_64x64.onnx")
        for _ in range(2):  # the second reads what the first kept
            graph = OpenVINOBackend(1, cache_dir=folder).load("decode", read, is_steady=True)
            open_graph = OpenVINOBackend(1).load("decode", read)
            for feeds in (token, {**token, "kind": blind}, token):
                expected = open_graph({name: np.asarray(value) for name, value in feeds.items()})
                actual = graph(feeds)["caption_embedding"]
                np.testing.assert_allclose(actual, expected["caption_embedding"], atol=1e-4)


def test_no_more_than_a_few_models_are_kept(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, token = calls_of_the_decode(tiny_plan, tmp_path / "cache")
    monkeypatch.setattr("xdecoder_rt.backends.openvino._MOST_FIXED", 2)
    compiled = []
    compile_model = openvino.Core.compile_model

    def noted(self: object, model: Any, device: str, settings: dict[str, object]) -> object:
        compiled.append(any(port.partial_shape.is_dynamic for port in model.inputs))
        return compile_model(self, model, device, settings)

    monkeypatch.setattr(openvino.Core, "compile_model", noted)
    with Plan.open(tiny_plan) as plan:
        graph = OpenVINOBackend(1).load(
            "decode", partial(plan.graph, "decode_64x64.onnx"), is_steady=True
        )
        for kind in (*tasks.Row, *tasks.Row):
            graph({**token, "kind": np.full_like(token["kind"], kind).view(Recurring)})
    assert compiled == [False, False, True]


def test_a_model_that_gives_something_else_the_second_time_is_not_used(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those do whose constants OpenVINO writes over."""
    (feeds, *_) = calls_of_the_decode(tiny_plan, tmp_path)
    compiled = OpenVINOBackend._compile

    def forgetful(backend: OpenVINOBackend, kept: Any, network: Any, call: Any) -> Any:
        model = compiled(backend, kept, network, call)
        if call is not None and call.values:
            run, runs = model.run, []

            def drift(inputs: Mapping[str, Array]) -> dict[str, Any]:
                runs.append(1)
                return {name: value + len(runs) - 1 for name, value in run(inputs).items()}

            model.run = drift
        return model

    with Plan.open(tiny_plan) as plan:
        data = plan.graph("decode_64x64.onnx")
    sound = OpenVINOBackend(1).load("decode", lambda: data, is_steady=True)
    expected = sound(feeds)
    monkeypatch.setattr(OpenVINOBackend, "_compile", forgetful)
    graph = OpenVINOBackend(1).load("decode", lambda: data, is_steady=True)
    for _ in range(3):
        for name, value in graph(feeds).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4)
