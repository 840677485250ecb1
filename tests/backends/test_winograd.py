"""Winograd's convolutions against the convolutions that they replace, both run by OpenVINO."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xdecoder_rt.errors import BackendError

openvino = pytest.importorskip("openvino", reason="needs the extra openvino")

from xdecoder_rt.backends import winograd  # noqa: E402
from xdecoder_rt.backends.openvino import OpenVINOBackend  # noqa: E402
from xdecoder_rt.backends.winograd import transformed, use_winograd  # noqa: E402

ops = openvino.opset13
LEAST_CHANNELS = 16
WIDE = (LEAST_CHANNELS + 5, LEAST_CHANNELS)


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let narrow convolutions of small maps be replaced: they take less time to compile."""
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", LEAST_CHANNELS)
    monkeypatch.setattr(winograd, "LEAST_TILES", 1)


def network(
    size: tuple[int, int],
    channels: tuple[int, int] = WIDE,
    *,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    padding: int = 1,
    batch: int = 1,
    follow: bool = True,
) -> Any:
    draw = np.random.default_rng(0)
    weights = draw.standard_normal((channels[1], channels[0], kernel, kernel)).astype(np.float32)
    weights /= np.sqrt(weights[0].size)
    image = ops.parameter([batch, channels[0], *size], np.float32, name="image")
    made = ops.convolution(
        image, ops.constant(weights), [stride] * 2, [padding] * 2, [padding] * 2, [dilation] * 2
    )
    last = ops.relu(made) if follow else made
    last.output(0).set_names({"features"})
    return openvino.Model([last], [image])


def computed(model: Any) -> np.ndarray:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    shape = list(model.inputs[0].get_shape())
    image = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    values: np.ndarray = np.array(compiled({"image": image})["features"])
    return values


@pytest.mark.parametrize("follow", [True, False], ids=["within a graph", "a graph's output"])
@pytest.mark.parametrize("size", [(4, 4), (4, 20), (28, 8), (32, 32)])
def test_it_is_the_convolution_up_to_rounding(size: tuple[int, int], follow: bool) -> None:
    expected = computed(network(size, follow=follow))
    changed = network(size, follow=follow)
    assert use_winograd(openvino, changed) == 1
    actual = computed(changed)
    assert actual.shape == expected.shape
    error = np.sqrt(np.square(actual - expected).mean() / np.square(expected).mean())
    assert error < 2e-5
    assert "Convolution" not in {node.get_type_name() for node in changed.get_ops()}


def followed(size: tuple[int, int], readers: str) -> Any:
    """A convolution as exporters leave it: a bias of its shape, and channels moved to the end."""
    model = network(size, follow=False)
    made = model.outputs[0].get_node().input_value(0)
    draw = np.random.default_rng(2)
    values = ops.constant(draw.standard_normal(WIDE[1]).astype(np.float32))
    axes = [ops.constant(np.array([place], np.int64)) for place in (0, 1, 3)]
    width = ops.slice(ops.shape_of(made), axes[1], ops.constant(np.array([2])), axes[1], axes[0])
    one = ops.constant(np.array([1], np.int64))
    biased = ops.add(made, ops.reshape(values, ops.concat([one, width, one, one], 0), False))
    moved = ops.transpose(biased, ops.constant(np.array([0, 2, 3, 1])))
    outputs = {"last": [moved], "both": [moved, ops.relu(biased)], "first": [biased]}[readers]
    for number, output in enumerate(outputs):
        output.output(0).set_names({"features" if not number else "rectified"})
    return openvino.Model(outputs, model.get_parameters())


@pytest.mark.parametrize("readers", ["last", "both", "first"])
def test_a_bias_and_a_move_of_channels_to_the_end_go_along(readers: str) -> None:
    expected, changed = computed(followed((8, 12), readers)), followed((8, 12), readers)
    assert use_winograd(openvino, changed) == 1
    assert changed.outputs[0].get_any_name() == "features"
    np.testing.assert_allclose(computed(changed), expected, rtol=1e-4, atol=1e-4)
    sums = [node for node in changed.get_ordered_ops() if node.get_type_name() == "Add"]
    last = [node for node in sums if list(node.get_output_shape(0)) == [1, 8, 12, WIDE[1]]]
    assert len(last) == 1  # with channels last, where the convolution leaves them


@pytest.mark.parametrize("tiles", [1, 5, 9, 1000])
def test_a_map_in_strips_is_the_map_in_one(tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = network((20, 12))
    use_winograd(openvino, whole)
    monkeypatch.setattr(winograd, "TILES_AT_ONCE", tiles)
    strips = network((20, 12))
    use_winograd(openvino, strips)
    np.testing.assert_allclose(computed(strips), computed(whole), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": (LEAST_CHANNELS, LEAST_CHANNELS - 1)},
        {"channels": (LEAST_CHANNELS - 1, LEAST_CHANNELS)},
        {"kernel": 1, "padding": 0},
        {"kernel": 5, "padding": 2},
        {"stride": 2},
        {"dilation": 2},
        {"padding": 0},
        {"batch": 2},
        {"size": (6, 8)},
        {"size": (8, 6)},
    ],
    ids=str,
)
def test_other_convolutions_stay(change: dict[str, Any]) -> None:
    model = network(**{"size": (8, 8), **change})
    assert use_winograd(openvino, model) == 0
    assert "Convolution" in {node.get_type_name() for node in model.get_ops()}


def test_a_map_of_few_tiles_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "LEAST_TILES", 6)
    assert use_winograd(openvino, network((8, 8))) == 0
    assert use_winograd(openvino, network((8, 12))) == 1


def test_a_map_of_open_size_stays() -> None:
    model = network((8, 8))
    model.reshape({"image": openvino.PartialShape([1, WIDE[0], -1, 8])})
    assert use_winograd(openvino, model) == 0


def test_transformed_kernels_give_products_of_which_the_outputs_are_sums() -> None:
    # In one dimension twice: the product of transformed pixels and kernels, transformed back.
    draw = np.random.default_rng(0)
    pixels, kernel = draw.standard_normal((6, 6)), draw.standard_normal((3, 3))
    places = transformed(kernel[None, None].astype(np.float32)).reshape(6, 6)
    into, back = np.array(winograd._PIXELS), np.array(winograd._OUTPUTS)
    made = back @ (into @ pixels @ into.T * places) @ back.T
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3))
    np.testing.assert_allclose(made, (windows * kernel).sum(axis=(2, 3)), rtol=1e-5, atol=1e-5)


def graph_types(name: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the types of the nodes that the backend compiles of a wide convolution."""
    compiled: list[set[str]] = []

    def compile_model(_: object, model: Any, *__: object) -> Any:
        compiled.append({node.get_type_name() for node in model.get_ops()})
        raise RuntimeError("seen")

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    backend = OpenVINOBackend(1, precision)
    monkeypatch.setattr(backend._core.__class__, "read_model", lambda *_, **__: network((8, 8)))
    graph = backend.load(name, lambda: b"", is_steady=True)
    with pytest.raises(BackendError):
        graph({"image": np.zeros((1, WIDE[0], 8, 8), np.float32)})
    return compiled[0]


@pytest.mark.parametrize(
    ("precision", "native", "replaced"),
    [("fp32", True, True), ("int8", False, True), ("int8", True, False), ("bf16", True, False)],
)
def test_the_backend_uses_it_in_float32_alone(
    precision: str, native: bool, replaced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        openvino.Core, "get_property", lambda *_: ["FP32", *(["BF16"] if native else [])]
    )
    types = graph_types("vision", precision, monkeypatch)
    assert ("Convolution" not in types) == replaced
