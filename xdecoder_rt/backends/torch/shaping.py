"""Operators that move elements and take shapes apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from xdecoder_rt.backends.torch.call import Call, Step
from xdecoder_rt.backends.torch.weights import to_tensor


def _shape(call: Call) -> Step:
    size = call.first.ndim
    part = slice(call.integer("start", 0), call.integer("end", size))
    numbers = torch.tensor(list(call.first.shape[part]), dtype=torch.int64)
    return lambda x: numbers


def _constant(call: Call) -> Step:
    attributes = call.node.attributes
    if (constant := call.constant("value")) is not None:
        value = to_tensor(constant)
    elif "value_float" in attributes or "value_floats" in attributes:
        value = torch.tensor(attributes.get("value_float", attributes.get("value_floats")))
    elif "value_int" in attributes or "value_ints" in attributes:
        number = attributes.get("value_int", attributes.get("value_ints"))
        value = torch.tensor(number, dtype=torch.int64)
    else:
        raise call.refusal("has no value")
    return lambda: value


def _constant_of_shape(call: Call) -> Step:
    constant = call.constant("value")
    fill = torch.zeros(1) if constant is None else to_tensor(constant)
    value = fill.reshape(()).expand(call.numbers(0)).contiguous()
    return lambda shape: value


def _concat(call: Call) -> Step:
    axis = call.axis(0)
    return lambda *tensors: torch.cat(tensors, axis)


def _slice(call: Call) -> Step:
    starts, stops = call.numbers(1), call.numbers(2)
    axes = call.numbers(3) if call.has(3) else range(len(starts))
    steps = call.numbers(4) if call.has(4) else [1] * len(starts)
    index, backwards = [slice(None)] * call.first.ndim, []
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        size = call.first.shape[axis]
        low, high = (n + size if n < 0 else n for n in (start, stop))
        if step > 0:
            cut = slice(min(max(low, 0), size), min(max(high, 0), size), step)
        else:
            # PyTorch steps forwards only: the same elements, turned round.
            low, high = min(max(low, 0), size - 1), min(max(high, -1), size - 1)
            chosen = range(low, high, step)
            cut = slice(chosen[-1], chosen[0] + 1, -step) if chosen else slice(0, 0)
            backwards.append(axis % call.first.ndim)
        index[axis] = cut
    where = tuple(index)
    if backwards:
        return lambda x, *_: x[where].flip(backwards)
    return lambda x, *_: x[where]


def _gather(call: Call) -> Step:
    axis = call.axis(0)
    size, shape = call.first.shape[axis], call.input(1).shape

    def gather(x: Tensor, places: Tensor) -> Tensor:
        places = torch.where(places < 0, places + size, places)
        taken = torch.index_select(x, axis, places.reshape(-1).to(torch.int64))
        return taken.reshape(*x.shape[:axis], *shape, *x.shape[axis + 1 :])

    return gather


def _gather_nd(call: Call) -> Step:
    batch = call.integer("batch_dims", 0)
    shape = call.input(1).shape[:-1]

    def gather(x: Tensor, places: Tensor) -> Tensor:
        index = []
        for axis in range(batch):
            along = [-1 if i == axis else 1 for i in range(len(shape))]
            index.append(torch.arange(x.shape[axis], device=x.device).reshape(along))
        return x[(*index, *places.to(torch.int64).unbind(-1))]

    return gather


def _split(call: Call) -> Step:
    axis, count = call.axis(0), len(call.node.outputs)
    size = call.first.shape[axis]
    part = -(-size // count)
    sizes = call.numbers(1) if call.has(1) else [min(part, size - i * part) for i in range(count)]
    return lambda x, *_: torch.split(x, sizes, axis)


def _reshaping(size_of: Callable[[Call], Sequence[int]]) -> Callable[[Call], Step]:
    """Return the binding of an operator that keeps elements and their order."""

    def bind(call: Call) -> Step:
        size, count = list(size_of(call)), call.first.numel()
        rest = math.prod(each for each in size if each != -1)
        if size.count(-1) == 1 and rest:
            size[size.index(-1)] = count // rest  # PyTorch does not work it out for no elements
        if min([*size, 0]) < 0 or math.prod(size) != count:
            raise call.refusal(f"cannot make {size} of {list(call.first.shape)}")
        return lambda x, *_: x.reshape(size)

    return bind


def _reshaped_size(call: Call) -> list[int]:
    size = call.numbers(1)
    if not call.integer("allowzero", 0):
        size = [call.first.shape[i] if each == 0 else each for i, each in enumerate(size)]
    return size


def _squeezed_size(call: Call) -> list[int]:
    shape = call.first.shape
    gone = call.axes(1) or [i for i, size in enumerate(shape) if size == 1]
    return [size for i, size in enumerate(shape) if i not in gone]


def _unsqueezed_size(call: Call) -> list[int]:
    added = call.numbers(1) if call.has(1) else call.integers("axes", ())
    rank = call.first.ndim + len(added)
    places = {each % rank for each in added}
    rest = iter(call.first.shape)
    return [1 if i in places else next(rest) for i in range(rank)]


def _flattened_size(call: Call) -> list[int]:
    shape, axis = call.first.shape, call.integer("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return [math.prod(shape[:axis]), math.prod(shape[axis:])]


def _transpose(call: Call) -> Step:
    order = call.integers("perm", range(call.first.ndim)[::-1])
    return lambda x: x.permute(order)


def _expand(call: Call) -> Step:
    shape = np.broadcast_shapes(tuple(call.first.shape), tuple(call.numbers(1)))
    return lambda x, *_: x.expand(shape)


OPERATORS: dict[str, Callable[[Call], Step]] = {
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Flatten": _reshaping(_flattened_size),
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Reshape": _reshaping(_reshaped_size),
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshaping(_squeezed_size),
    "Transpose": _transpose,
    "Unsqueeze": _reshaping(_unsqueezed_size),
}
"""What binds each operator."""
