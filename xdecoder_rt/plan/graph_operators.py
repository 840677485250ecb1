"""The ONNX operators that a plan may have, and the shapes that each makes of what it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from xdecoder_rt.plan.graph_call import (
    Call,
    Made,
    MisfitError,
    Shape,
    Values,
    axis_of,
    of_constant,
)
from xdecoder_rt.plan.onnx_walk import Constant

__all__ = ["OPERATORS", "PRODUCTS", "RANK_LIMIT", "RULES"]

# Elements of a tensor that shapes may be made of: work on more is the runtime's.
_SMALL = 64
RANK_LIMIT = 8
_FLOAT_KINDS = (1, 10, 11, 16)


def _broadcast(*shapes: Shape) -> Shape:
    rank = max(map(len, shapes))
    result = [1] * rank
    for shape in shapes:
        for i, size in enumerate(shape, rank - len(shape)):
            if size != 1:
                if result[i] not in (1, size):
                    raise MisfitError(f"cannot join {list(shapes[0])} and {list(shape)}")
                result[i] = size
    return tuple(result)


def _same(call: Call) -> list[Made]:
    # Only this one may have others: mean and deviation, which are smaller.
    count = len(call.node.outputs) if call.node.kind == "LayerNormalization" else 1
    return [Made(call.shape(0))] * count


def _kept(call: Call) -> list[Made]:
    """Cast and identity: a number of a shape stays one."""
    made = call.tensor(0)
    is_float = call.node.attributes.get("to") in _FLOAT_KINDS
    values = made.values
    if values is not None and is_float:
        values = values.astype(np.float64)
    elif values is not None and call.node.kind == "Cast":
        values = values.astype(np.int64)
    return [Made(made.shape, values)]


_FOLDED: dict[str, Callable[[Values, Values], Values]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Max": np.maximum,
    "Min": np.minimum,
    "Equal": np.equal,
    "Less": np.less,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "LessOrEqual": np.less_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
}


def _elementwise(call: Call) -> list[Made]:
    shape = _broadcast(*(call.shape(i) for i in range(len(call.inputs))))
    known = [made.values for made in call.inputs if made is not None and made.values is not None]
    fold = _FOLDED.get(call.node.kind)
    if len(known) != 2 or len(call.inputs) != 2 or math.prod(shape) > _SMALL:
        return [Made(shape)]
    left, right = known
    if call.node.kind == "Div" and left.dtype.kind == right.dtype.kind == "i" and right.all():
        return [Made(shape, np.trunc(left / right).astype(np.int64))]
    if fold is None:
        return [Made(shape)]
    return [Made(shape, fold(left, right))]


def _where(call: Call) -> list[Made]:
    shape = _broadcast(*(call.shape(i) for i in range(3)))
    condition, left, right = (call.tensor(i).values for i in range(3))
    if condition is None or left is None or right is None or math.prod(shape) > _SMALL:
        return [Made(shape)]
    return [Made(shape, np.where(condition, left, right))]


def _shape(call: Call) -> list[Made]:
    shape = call.shape(0)
    part = shape[slice(call.integer("start", 0), call.integer("end", len(shape)))]
    return [Made((len(part),), np.array(part, np.int64))]


def _constant(call: Call) -> list[Made]:
    ((name, value),) = call.node.attributes.items() or ((None, None),)
    if isinstance(value, Constant):
        return [of_constant(value)]
    if name not in ("value_int", "value_ints", "value_float", "value_floats"):
        raise MisfitError("has no value")
    array = np.array(value)
    return [Made(array.shape, array)]


def _constant_of_shape(call: Call) -> list[Made]:
    shape = _sizes(call.values(0))
    value = call.node.attributes.get("value")
    fill = value.values if isinstance(value, Constant) else (0.0,)
    small = fill is not None and math.prod(shape) <= _SMALL
    return [Made(shape, np.full(shape, fill[0]) if small and fill else None)]


def _sizes(values: Sequence[int]) -> Shape:
    if len(values) > RANK_LIMIT or any(each < 0 for each in values):
        raise MisfitError(f"makes the shape {list(values)[:RANK_LIMIT]}")
    return tuple(values)


def _concat(call: Call) -> list[Made]:
    first = call.shape(0)
    axis = call.axis(len(first), 0)
    for i in range(len(call.inputs)):
        shape = call.shape(i)
        if len(shape) != len(first) or _without(shape, axis) != _without(first, axis):
            raise MisfitError(f"cannot join {list(first)} and {list(shape)}")
    total = sum(call.shape(i)[axis] for i in range(len(call.inputs)))
    parts = [made.values for made in call.inputs if made is not None and made.values is not None]
    small = len(parts) == len(call.inputs) and len(first) == 1 and total <= _SMALL
    shape = (*first[:axis], total, *first[axis + 1 :])
    return [Made(shape, np.concatenate(parts) if small else None)]


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def _slice(call: Call) -> list[Made]:
    made = call.tensor(0)
    starts, stops = call.values(1), call.values(2)
    axes = call.values(3) if call.optional(3) is not None else list(range(len(starts)))
    steps = call.values(4) if call.optional(4) is not None else [1] * len(starts)
    if not len(starts) == len(stops) == len(axes) == len(steps) or not all(steps):
        raise MisfitError("has odd bounds")
    index = [slice(None)] * len(made.shape)
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        # ONNX clamps to both ends; from the end backwards the first element's stop is "before it".
        size = made.shape[axis_of(axis, len(made.shape))]
        low = start + size if start < 0 else start
        high = stop + size if stop < 0 else stop
        if step > 0:
            cut = slice(min(max(low, 0), size), min(max(high, 0), size), step)
        else:
            low, high = min(max(low, 0), size - 1), min(max(high, -1), size - 1)
            cut = slice(low, None if high < 0 else high, step)
        index[axis_of(axis, len(made.shape))] = cut
    shape = tuple(
        len(range(*cut.indices(size))) for cut, size in zip(index, made.shape, strict=True)
    )
    return [Made(shape, None if made.values is None else made.values[tuple(index)])]


def _gather(call: Call) -> list[Made]:
    data, indices = call.tensor(0), call.tensor(1)
    axis = call.axis(len(data.shape), 0)
    shape = data.shape[:axis] + indices.shape + data.shape[axis + 1 :]
    if data.values is None or indices.values is None or math.prod(shape) > _SMALL:
        return [Made(shape)]
    places = indices.values.astype(np.int64)
    if data.shape[axis] == 0 or (abs(places) > data.shape[axis] - (places >= 0)).any():
        raise MisfitError("takes what is not there")
    return [Made(shape, np.take(data.values, places, axis))]


def _gather_nd(call: Call) -> list[Made]:
    data, indices, batch = call.shape(0), call.shape(1), call.integer("batch_dims", 0)
    if not indices or not 0 <= batch < min(len(data), len(indices)):
        raise MisfitError("has odd indices")
    depth = batch + indices[-1]
    if depth > len(data):
        raise MisfitError("has odd indices")
    return [Made(indices[:-1] + data[depth:])]


def _split(call: Call) -> list[Made]:
    made = call.tensor(0)
    axis, count = call.axis(len(made.shape), 0), len(call.node.outputs)
    size = made.shape[axis]
    if call.optional(1) is not None:
        sizes = call.values(1)
    else:
        part = -(-size // count)
        sizes = [min(part, size - i * part) for i in range(count)]
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 0:
        raise MisfitError(f"cannot divide {size} into {sizes[:8]}")
    values: list[Values | None] = [None] * count
    if made.values is not None:
        values = list(np.split(made.values, np.cumsum(sizes)[:-1].tolist(), axis))
    return [
        Made((*made.shape[:axis], each, *made.shape[axis + 1 :]), value)
        for each, value in zip(sizes, values, strict=True)
    ]


def _squeeze(call: Call) -> list[Made]:
    made = call.tensor(0)
    rank = len(made.shape)
    if call.optional(1) is not None:
        axes = {axis_of(each, rank) for each in call.values(1)}
    else:
        axes = {i for i, size in enumerate(made.shape) if size == 1}
    if any(made.shape[i] != 1 for i in axes):
        raise MisfitError(f"cannot drop dimensions of {list(made.shape)}")
    return [_reshaped(made, tuple(made.shape[i] for i in range(rank) if i not in axes))]


def _unsqueeze(call: Call) -> list[Made]:
    made, axes = call.tensor(0), call.values(1)
    rank = len(made.shape) + len(axes)
    places = {axis_of(each, rank) for each in axes}
    if len(places) != len(axes):
        raise MisfitError("adds a dimension twice")
    rest = iter(made.shape)
    return [_reshaped(made, tuple(1 if i in places else next(rest) for i in range(rank)))]


def _reshape(call: Call) -> list[Made]:
    made, sizes = call.tensor(0), call.values(1)
    if not call.integer("allowzero", 0):
        if any(each == 0 and i >= len(made.shape) for i, each in enumerate(sizes)):
            raise MisfitError("copies a dimension that is not there")
        sizes = [made.shape[i] if each == 0 else each for i, each in enumerate(sizes)]
    total, known = math.prod(made.shape), math.prod(each for each in sizes if each != -1)
    if sizes.count(-1) == 1 and known > 0 and total % known == 0:
        sizes[sizes.index(-1)] = total // known
    shape = _sizes(sizes)
    if math.prod(shape) != total:
        raise MisfitError(f"cannot make {list(shape)} of {list(made.shape)}")
    return [_reshaped(made, shape)]


def _reshaped(made: Made, shape: Shape) -> Made:
    return Made(shape, None if made.values is None else made.values.reshape(shape))


def _flatten(call: Call) -> list[Made]:
    shape = call.shape(0)
    axis = call.axis(len(shape), 1, 1)
    return [Made((math.prod(shape[:axis]), math.prod(shape[axis:])))]


def _transpose(call: Call) -> list[Made]:
    made = call.tensor(0)
    order = call.integers("perm", range(len(made.shape))[::-1])
    if sorted(order) != list(range(len(made.shape))):
        raise MisfitError(f"cannot order {list(made.shape)} by {order[:8]}")
    values = None if made.values is None else made.values.transpose(order)
    return [Made(tuple(made.shape[i] for i in order), values)]


def _expand(call: Call) -> list[Made]:
    made = call.tensor(0)
    shape = _broadcast(made.shape, _sizes(call.values(1)))
    small = made.values is not None and math.prod(shape) <= _SMALL
    return [Made(shape, np.broadcast_to(made.values, shape) if small else None)]  # type: ignore[arg-type]


def _reduce(call: Call) -> list[Made]:
    shape = call.shape(0)
    axes = call.integers("axes", ())
    if call.optional(1) is not None:
        axes = call.values(1)
    if not axes:
        if call.integer("noop_with_empty_axes", 0):
            return [Made(shape)]
        axes = list(range(len(shape)))
    gone = {axis_of(each, len(shape)) for each in axes}
    if call.integer("keepdims", 1):
        return [Made(tuple(1 if i in gone else n for i, n in enumerate(shape)))]
    return [Made(tuple(n for i, n in enumerate(shape) if i not in gone))]


def _windows(call: Call, kernel: Sequence[int]) -> Shape:
    """The positions at which a kernel stands, along each axis of an image."""
    sides = call.shape(0)[2:]
    count = len(sides)
    if call.node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise MisfitError("pads by a rule of its own")
    strides = call.integers("strides", [1] * count)
    dilations = call.integers("dilations", [1] * count)
    pads = call.integers("pads", [0] * 2 * count)
    if not len(kernel) == len(strides) == len(dilations) == count or len(pads) != 2 * count:
        raise MisfitError("has odd windows")
    if min([*strides, *dilations, *kernel, 1]) < 1 or min([*pads, 0]) < 0:
        raise MisfitError("has odd windows")
    ceil = call.integer("ceil_mode", 0)
    result = []
    for i, side in enumerate(sides):
        room = side + pads[i] + pads[count + i] - dilations[i] * (kernel[i] - 1) - 1
        if room < 0 or pads[i] + pads[count + i] > 2 * dilations[i] * kernel[i]:
            raise MisfitError("has windows that do not fit")
        result.append((-(-room // strides[i]) if ceil else room // strides[i]) + 1)
    return tuple(result)


def _conv(call: Call) -> list[Made]:
    shape, weight = call.shape(0), call.shape(1)
    groups = call.integer("group", 1)
    if len(shape) < 3 or len(weight) != len(shape) or groups < 1:
        raise MisfitError("has odd inputs")
    if shape[1] != weight[1] * groups or weight[0] % groups:
        raise MisfitError(f"cannot take {list(shape)} by {list(weight)}")
    return [Made((shape[0], weight[0], *_windows(call, weight[2:])))]


def _pool(call: Call) -> list[Made]:
    shape = call.shape(0)
    if len(shape) < 3 or len(call.node.outputs) != 1:
        raise MisfitError("has odd inputs")
    return [Made((*shape[:2], *_windows(call, call.integers("kernel_shape", ()))))]


def _global_pool(call: Call) -> list[Made]:
    shape = call.shape(0)
    return [Made((*shape[:2], *([1] * (len(shape) - 2))))]


def _matmul(call: Call) -> list[Made]:
    left, right = call.shape(0), call.shape(1)
    if min(len(left), len(right)) < 2 or left[-1] != right[-2]:
        raise MisfitError(f"cannot take {list(left)} by {list(right)}")
    return [Made((*_broadcast(left[:-2], right[:-2]), left[-2], right[-1]))]


def _gemm(call: Call) -> list[Made]:
    left, right = call.shape(0), call.shape(1)
    if len(left) != 2 or len(right) != 2:
        raise MisfitError("takes matrices")
    left = left[::-1] if call.integer("transA", 0) else left
    right = right[::-1] if call.integer("transB", 0) else right
    shape = (left[0], right[1])
    bias = call.optional(2)
    if left[1] != right[0] or (bias is not None and _broadcast(bias.shape, shape) != shape):
        raise MisfitError(f"cannot take {list(left)} by {list(right)}")
    return [Made(shape)]


def _resize(call: Call) -> list[Made]:
    shape = call.shape(0)
    policy = call.node.attributes.get("keep_aspect_ratio_policy", "stretch")
    if "axes" in call.node.attributes or policy != "stretch":
        raise MisfitError("resizes by a rule of its own")
    scales = call.optional(2)
    if call.optional(3) is not None:
        sizes = _sizes(call.values(3))
    elif scales is not None and scales.values is not None:
        factors = [float(each) for each in scales.values.reshape(-1)]
        if len(factors) != len(shape) or not all(0 < each < 1 << 20 for each in factors):
            raise MisfitError("has odd scales")
        sizes = tuple(int(n * by) for n, by in zip(shape, factors, strict=True))
    else:
        raise MisfitError("makes a shape of the contents of an input")
    if len(sizes) != len(shape):
        raise MisfitError("has odd sizes")
    return [Made(sizes)]


_SAME = (
    "Abs BatchNormalization Ceil Clip DequantizeLinear Elu Erf Exp Floor Gelu GroupNormalization "
    "HardSigmoid HardSwish InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Log "
    "LogSoftmax Mish Neg Not QuantizeLinear Reciprocal Relu Round Sigmoid Sign Softmax Softplus "
    "Sqrt Tanh"
)
_ELEMENTWISE = (
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mul Or Pow PRelu Sub Xor"
)
_REDUCE = "ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum"
RULES: dict[str, Callable[[Call], list[Made]]] = {
    **dict.fromkeys(_SAME.split(), _same),
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(_REDUCE.split(), _reduce),
    "AveragePool": _pool,
    "Cast": _kept,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "Identity": _kept,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}

OPERATORS = frozenset(RULES)
"""Operators of the ONNX standard that a plan's graphs may have."""


def _matmul_products(call: Call, shape: Shape) -> int:
    return math.prod(shape) * call.shape(0)[-1]


def _gemm_products(call: Call, shape: Shape) -> int:
    return math.prod(shape) * call.shape(0)[0 if call.integer("transA", 0) else -1]


def _conv_products(call: Call, shape: Shape) -> int:
    return math.prod(shape) * math.prod(call.shape(1)[1:])


def _pool_products(call: Call, shape: Shape) -> int:
    return math.prod(shape) * math.prod(call.integers("kernel_shape", ()))


PRODUCTS: dict[str, Callable[[Call, Shape], int]] = {
    "AveragePool": _pool_products,
    "Conv": _conv_products,
    "Gemm": _gemm_products,
    "MatMul": _matmul_products,
    "MaxPool": _pool_products,
}
"""Multiply-accumulates of an operator that makes a tensor of a shape, where there are any."""
