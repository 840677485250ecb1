"""Every operator that a plan may have, by PyTorch, against ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")
onnx = pytest.importorskip("onnx", reason="graphs are made with the package onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend  # noqa: E402
from xdecoder_rt.backends.torch.backend import TorchBackend  # noqa: E402
from xdecoder_rt.backends.torch.program import OPERATORS  # noqa: E402
from xdecoder_rt.backends.torch.weights import to_tensor  # noqa: E402
from xdecoder_rt.errors import BackendError, PlanError  # noqa: E402
from xdecoder_rt.plan.graph_operators import OPERATORS as ALLOWED  # noqa: E402
from xdecoder_rt.plan.onnx_walk import read_onnx  # noqa: E402

DRAW = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return DRAW.normal(size=shape).astype(np.float32)


def flags(*shape: int) -> np.ndarray:
    return DRAW.random(shape) < 0.5


def whole(values: object) -> np.ndarray:
    return np.array(values, np.int64)


IMAGE = floats(2, 4, 7, 9)
MATRIX = floats(3, 5)


@dataclass
class Case:
    """A node: its kind, what runs give it, what it holds, and its attributes."""

    kind: str
    feeds: list[np.ndarray | None]
    constants: list[np.ndarray | None] = field(default_factory=list)
    outputs: int = 1
    opset: int = 18
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = [f"{name}={value}" for name, value in self.attributes.items()]
        return " ".join([self.kind, *shown])


def case(
    kind: str,
    *feeds: np.ndarray | None,
    then: tuple[np.ndarray | None, ...] = (),
    outputs: int = 1,
    opset: int = 18,
    **attributes: Any,
) -> Case:
    return Case(kind, list(feeds), list(then), outputs, opset, attributes)


def model(one: Case) -> bytes:
    inputs, constants, names = [], [], []
    for i, array in enumerate(one.feeds):
        names.append("" if array is None else f"x{i}")
        if array is not None:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            inputs.append(helper.make_tensor_value_info(f"x{i}", kind, array.shape))
    for i, array in enumerate(one.constants):
        names.append("" if array is None else f"c{i}")
        if array is not None:
            constants.append(numpy_helper.from_array(array, f"c{i}"))
    if not inputs:
        inputs.append(helper.make_tensor_value_info("unused", TensorProto.FLOAT, ["n"]))
    outputs = [f"y{i}" for i in range(one.outputs)]
    node = helper.make_node(one.kind, names, outputs, **one.attributes)
    graph = helper.make_graph([node], "one", inputs, [], constants)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", one.opset)], ir_version=10
    )
    made = onnx.shape_inference.infer_shapes(made)
    if one.kind == "GroupNormalization":  # of which inference knows nothing
        made.graph.output[0].type.CopyFrom(made.graph.input[0].type)
    return bytes(made.SerializeToString())


UNARY = (
    "Abs Ceil Erf Exp Floor HardSwish Identity Mish Neg Reciprocal Relu Round Sigmoid Sign "
    "Softplus Tanh Elu HardSigmoid LeakyRelu"
)
BINARY = "Add Div Equal Greater GreaterOrEqual Less LessOrEqual Mul Sub Max Min PRelu"
REDUCE = "ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum"
TURNED = whole([-2, 1])
HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
ODD = np.array([-np.inf, np.inf, np.nan, 0.0, 1.0], np.float32)
KERNEL = floats(6, 4, 3, 2)
STEPS = np.array([0.1, 0.02, 0.3, 0.05], np.float32)

CASES = [
    *(case(kind, MATRIX) for kind in UNARY.split()),
    *(case(kind, np.abs(MATRIX) + 0.1) for kind in ("Log", "Sqrt")),
    *(case(kind, MATRIX, floats(1, 5)) for kind in BINARY.split()),
    *(case(kind, flags(3, 5), flags(3, 1)) for kind in ("And", "Or", "Xor")),
    *(case(kind, IMAGE, then=(whole([1, -1]),)) for kind in REDUCE.split()),
    *(case(kind, IMAGE, keepdims=0) for kind in REDUCE.split()),
    case("ReduceSum", IMAGE, then=(whole([]),), noop_with_empty_axes=1),
    case("Round", HALVES),
    case("Not", flags(3, 5)),
    case("IsNaN", ODD, opset=20),
    *(
        case("IsInf", ODD, opset=20, detect_negative=low, detect_positive=high)
        for low, high in ((1, 1), (0, 1), (1, 0))
    ),
    *(case("Gelu", MATRIX, opset=20, approximate=rule) for rule in ("none", "tanh")),
    case("Elu", MATRIX, alpha=0.7),
    case("LeakyRelu", MATRIX, alpha=0.3),
    case("HardSigmoid", MATRIX, alpha=0.5, beta=0.2),
    case("Pow", np.abs(MATRIX), then=(np.array(1.5, np.float32),)),
    case("Pow", MATRIX, then=(whole(2),)),
    case("Div", whole([-7, 7, 8]), whole([2, -2, 3])),
    case("Max", MATRIX, floats(3, 5), floats(5)),
    case("Clip", MATRIX, then=(np.float32(-0.5)[()] * np.ones((), np.float32),)),
    case("Clip", MATRIX, then=(None, np.array(0.5, np.float32))),
    case("Clip", MATRIX, np.array(-0.2, np.float32), np.array(0.4, np.float32)),
    case("Where", flags(3, 1), MATRIX, floats(5)),
    *(
        case("Cast", 3 * MATRIX, to=kind)
        for kind in (TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT16, TensorProto.DOUBLE)
    ),
    case("Cast", flags(3, 5), to=TensorProto.FLOAT),
    *(case(kind, IMAGE, axis=axis) for kind in ("Softmax", "LogSoftmax") for axis in (-1, 1)),
    case("Concat", MATRIX, floats(2, 5), axis=0),
    case("Concat", MATRIX, floats(3, 2), axis=-1),
    case("Constant", value=numpy_helper.from_array(MATRIX, "v")),
    case("Constant", value_int=7),
    case("Constant", value_ints=[7, 8]),
    case("Constant", value_float=0.5),
    case("Constant", value_floats=[0.5, 1.5]),
    case("ConstantOfShape", then=(whole([2, 3]),)),
    case(
        "ConstantOfShape",
        then=(whole([2, 3]),),
        value=numpy_helper.from_array(whole([7]), "v"),
    ),
    case("Expand", floats(3, 1), then=(whole([2, 1, 4]),)),
    *(case("Flatten", IMAGE, axis=axis) for axis in (0, 1, -1, 4)),
    case("Gather", IMAGE, whole([[0, -1], [2, 1]]), axis=1),
    case("Gather", MATRIX, then=(whole(-2),), axis=-1),
    case("GatherND", IMAGE, whole([[0, 1], [1, -1]])),
    case("GatherND", IMAGE, whole([[[1]], [[-2]]]), batch_dims=1),
    case("Gemm", MATRIX, then=(floats(5, 4),)),
    case("Gemm", MATRIX, then=(floats(4, 5), floats(4)), transB=1),
    case("Gemm", floats(5, 3), then=(floats(5, 4), floats(4)), transA=1),
    case("Gemm", MATRIX, then=(floats(5, 4), floats(3, 1)), alpha=0.5, beta=2.0),
    case("MatMul", floats(2, 1, 3, 5), floats(4, 5, 6)),
    case("Reshape", IMAGE, then=(whole([0, -1, 9]),)),
    case("Reshape", floats(0, 4), then=(whole([0, 2, 2]),)),
    case("Reshape", floats(0, 4), then=(whole([4, 0]),), allowzero=1),
    case("Shape", IMAGE),
    case("Shape", IMAGE, start=1, end=-1),
    case("Slice", IMAGE, then=(whole([1]), whole([2**62]), whole([-1]), whole([3]))),
    case("Slice", IMAGE, then=(whole([-1, 0]), whole([-(2**62), 2]), whole([2, 1]), TURNED)),
    case("Slice", IMAGE, then=(whole([5]), whole([2]), whole([3]), whole([-1]))),
    case("Slice", MATRIX, then=(whole([0, 1]), whole([2, -1]))),
    case("Slice", MATRIX, then=(whole([4]), whole([2]))),
    case("Split", IMAGE, then=(whole([1, 3]),), outputs=2, axis=1),
    case("Split", IMAGE, outputs=2, axis=2, num_outputs=2),
    case("Squeeze", floats(1, 3, 1)),
    case("Squeeze", floats(1, 3, 1), then=(whole([-1]),)),
    case("Unsqueeze", MATRIX, then=(whole([0, -1]),)),
    case("Transpose", IMAGE, perm=[0, 2, 3, 1]),
    case("Transpose", MATRIX),
    case("BatchNormalization", IMAGE, then=(floats(4), floats(4), floats(4), STEPS), epsilon=1e-3),
    case("InstanceNormalization", IMAGE, then=(floats(4), floats(4))),
    case("GroupNormalization", IMAGE, then=(floats(4), floats(4)), opset=21, num_groups=2),
    case("GroupNormalization", IMAGE, then=(floats(2), floats(2)), opset=18, num_groups=2),
    case("LayerNormalization", IMAGE, then=(floats(9), floats(9))),
    case("LayerNormalization", IMAGE, then=(floats(7, 9),), axis=2, epsilon=1e-2),
    case("LayerNormalization", IMAGE, then=(floats(9),), outputs=3),
    case("Conv", IMAGE, then=(KERNEL,)),
    case("Conv", IMAGE, then=(KERNEL, floats(6)), pads=[1, 0, 1, 0], strides=[2, 1]),
    case("Conv", IMAGE, then=(KERNEL,), pads=[2, 0, 1, 1], dilations=[2, 1]),
    case("Conv", IMAGE, then=(floats(4, 1, 3, 3),), group=4, pads=[1, 1, 1, 1]),
    case("Conv", floats(1, 2, 8), then=(floats(3, 2, 3),)),
    case("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
    case("MaxPool", IMAGE, kernel_shape=[3, 3], pads=[0, 1, 2, 0]),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 0, 0, 1], count_include_pad=1),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 0, 0, 1], strides=[2, 1]),
    case("GlobalAveragePool", IMAGE),
    *(
        case(
            "Resize",
            IMAGE,
            then=(None, None, whole([2, 4, *size])),
            mode="linear",
            coordinate_transformation_mode=rule,
        )
        for rule in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
        for size in ((14, 20), (5, 4))
    ),
    *(
        case(
            "Resize",
            IMAGE,
            then=(None, None, whole([2, 4, *size])),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode=rule,
        )
        for rule in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
        for size in ((14, 18), (5, 4))
    ),
    case("Resize", IMAGE, then=(None, np.array([1, 1, 1.7, 0.6], np.float32)), mode="linear"),
    case("Resize", IMAGE, then=(None, np.array([1, 1, 2, 2], np.float32)), mode="nearest"),
    *(
        case("Resize", IMAGE, then=(None, None, whole([2, 4, 11, 5])), mode="cubic", **rest)
        for rest in ({}, {"cubic_coeff_a": -0.5}, {"exclude_outside": 1})
    ),
    *(
        case("Resize", IMAGE, then=(None, None, whole([2, 4, 3, 4])), mode=mode, antialias=1)
        for mode in ("linear", "cubic")
    ),
    case(
        "QuantizeLinear", 20 * IMAGE, then=(np.array(0.3, np.float32), np.array(100, np.uint8))
    ),
    case("QuantizeLinear", HALVES, then=(np.array(1.0, np.float32), np.array(0, np.int8))),
    case("QuantizeLinear", IMAGE, then=(STEPS, np.array([0, 3, -5, 7], np.int8)), axis=1),
    case(
        "DequantizeLinear",
        DRAW.integers(0, 256, (2, 4, 3), np.uint8),
        then=(STEPS, np.array([0, 128, 7, 255], np.uint8)),
        axis=1,
    ),
    case(
        "DequantizeLinear",
        DRAW.integers(-100_000, 100_000, (4,), np.int32),
        then=(STEPS, np.zeros(4, np.int32)),
        axis=0,
    ),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("one", CASES, ids=str)
def test_an_operator_gives_what_onnx_runtime_gives(one: Case) -> None:
    data = model(one)
    feeds = {f"x{i}": array for i, array in enumerate(one.feeds) if array is not None}
    feeds = feeds or {"unused": np.zeros(1, np.float32)}
    reference, backend = OnnxRuntimeBackend(1), TorchBackend("cpu")
    expected = reference.to_numpy_all(reference.load("one", lambda: data)(feeds))
    graph = backend.load("one", lambda: data)
    for _ in range(2):  # the recording, and a run of it
        actual = backend.to_numpy_all(graph(feeds))
        assert actual.keys() == expected.keys()
        for name, array in expected.items():
            assert (actual[name].dtype, actual[name].shape) == (array.dtype, array.shape)
            if array.dtype.kind == "f":
                np.testing.assert_allclose(actual[name], array, rtol=2e-5, atol=2e-5)
            else:
                np.testing.assert_array_equal(actual[name], array)


def test_every_operator_that_a_plan_may_have_is_there_and_tried() -> None:
    assert OPERATORS.keys() == ALLOWED == {one.kind for one in CASES}


def test_an_operator_that_is_unknown_is_refused_by_name() -> None:
    data = model(case("Sin", MATRIX))
    with pytest.raises(BackendError, match="does not know: 'Sin'") as caught:
        TorchBackend("cpu").load("vision", lambda: data)
    assert "backend='onnxruntime'" in str(caught.value)


def test_what_an_operator_cannot_do_is_said() -> None:
    data = model(case("AveragePool", IMAGE, kernel_shape=[2, 2], ceil_mode=1))
    graph = TorchBackend("cpu").load("vision", lambda: data)
    with pytest.raises(BackendError, match="AveragePool"):
        graph({"x0": IMAGE})


def test_inputs_of_wrong_shapes_and_names_are_errors_of_ours() -> None:
    data = model(case("MatMul", MATRIX, floats(5, 2)))
    graph = TorchBackend("cpu").load("vision", lambda: data)
    with pytest.raises(PlanError, match="takes x0, x1"):
        graph({"x0": MATRIX})
    with pytest.raises(BackendError, match="PyTorch cannot run the vision graph"):
        graph({"x0": MATRIX, "x1": floats(4, 2)})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (TensorProto.FLOAT16, [0.5, -2.0]),
        (TensorProto.BFLOAT16, [0.5, -2.0]),
        (TensorProto.INT8, [-7, 7]),
        (TensorProto.UINT8, [7, 200]),
        (TensorProto.UINT16, [7, 60_000]),
        (TensorProto.INT64, [-(1 << 40), 3]),
        (TensorProto.BOOL, [True, False]),
        (TensorProto.DOUBLE, [0.1, -1e300]),
        (TensorProto.FLOAT, [0.25, 2.0**100]),
        (TensorProto.FLOAT8E4M3FN, [0.5, -2.0]),
    ],
)
@pytest.mark.parametrize("is_raw", [True, False])
def test_constants_are_read_in_both_forms(kind: int, values: list[float], is_raw: bool) -> None:
    tensor = helper.make_tensor("w", kind, [2], values)
    if is_raw:
        array = numpy_helper.to_array(tensor)
        tensor = helper.make_tensor("w", kind, [2], array.tobytes(), raw=True)
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([], "one", [port], [port], [tensor])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    constant = read_onnx(made.SerializeToString()).constants["w"]
    assert to_tensor(constant).to(torch.float64).tolist() == [float(each) for each in values]
