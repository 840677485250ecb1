"""Operators that take each element by itself, and those that quantize."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.backends.torch.call import Call, Step, broadcast_along, is_whole
from xdecoder_rt.backends.torch.weights import TYPES

_Unary = Callable[[Tensor], Tensor]
_Binary = Callable[[Tensor, Tensor], Tensor]


def _plain(function: Callable[..., Tensor]) -> Callable[[Call], Step]:
    """Return the binding of an operator that is one of PyTorch's as it is."""
    return lambda call: function


def _joined(function: _Binary) -> Callable[[Call], Step]:
    """Return the binding of an operator of any number of inputs."""
    return lambda call: lambda *tensors: reduce(function, tensors)


def _divide(call: Call) -> Step:
    if is_whole(call.first):
        return lambda left, right: torch.div(left, right, rounding_mode="trunc")
    return torch.div


def _power(call: Call) -> Step:
    dtype = call.first.dtype
    return lambda base, exponent: torch.pow(base, exponent).to(dtype)


def _cast(call: Call) -> Step:
    kind = call.integer("to", 0)
    if kind not in TYPES:
        raise call.refusal(f"makes the type {kind}")
    dtype = TYPES[kind]
    return lambda x: x.to(dtype)


def _clip(call: Call) -> Step:
    def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        return x if low is None and high is None else torch.clamp(x, low, high)

    bounds = [call.known[i] if call.has(i) else None for i in (1, 2)]
    if any(call.has(i) and bound is None for i, bound in enumerate(bounds, 1)):
        return clip
    low, high = (None if bound is None else bound.reshape(-1)[0].item() for bound in bounds)
    if low is None and high is None:
        return lambda x, *_: x
    return lambda x, *_: torch.clamp(x, low, high)


def _gelu(call: Call) -> Step:
    approximate = call.text("approximate", "none")
    return lambda x: F.gelu(x, approximate=approximate)


def _is_inf(call: Call) -> Step:
    low, high = call.integer("detect_negative", 1), call.integer("detect_positive", 1)

    def is_inf(x: Tensor) -> Tensor:
        return torch.isinf(x) & (((x < 0) & bool(low)) | ((x > 0) & bool(high)))

    return is_inf


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def _with(function: Callable[..., Tensor], **numbers: float) -> Callable[[Call], Step]:
    """Return the binding of a function of a tensor and of attributes that are numbers."""

    def bind(call: Call) -> Step:
        given = {name: call.number(name, default) for name, default in numbers.items()}
        return lambda x: function(x, **given)

    return bind


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(x * alpha + beta, 0, 1)


def _softmax(function: Callable[..., Tensor]) -> Callable[[Call], Step]:
    def bind(call: Call) -> Step:
        axis = call.integer("axis", -1)
        return lambda x: function(x, dim=axis)

    return bind


def _quantize(call: Call) -> Step:
    rank, axis = call.first.ndim, call.axis(1) if call.first.ndim > 1 else 0
    kind = call.integer("output_dtype", 0)
    dtype = TYPES[kind] if kind else call.input(2).dtype if call.has(2) else torch.uint8
    if call.integer("block_size", 0):
        raise call.refusal("quantizes by blocks")
    if dtype.is_floating_point:
        most = torch.finfo(dtype).max
        return lambda x, scale, *_: torch.clamp(
            x / broadcast_along(scale, axis, rank), -most, most
        ).to(dtype)
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max

    def quantize(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        steps = torch.round(x / broadcast_along(scale, axis, rank))
        if zero is not None:
            steps = steps + broadcast_along(zero.to(torch.int32), axis, rank).to(steps.dtype)
        return torch.clamp(steps, low, high).to(dtype)

    return quantize


def _dequantize(call: Call) -> Step:
    rank, axis = call.first.ndim, call.axis(1) if call.first.ndim > 1 else 0
    if call.integer("block_size", 0):
        raise call.refusal("quantizes by blocks")
    is_float = call.first.is_floating_point()

    def dequantize(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        if zero is not None and not is_float:
            x = x.to(torch.int32) - broadcast_along(zero.to(torch.int32), axis, rank)
        return (x.to(torch.float32) * broadcast_along(scale, axis, rank)).to(scale.dtype)

    return dequantize


OPERATORS: dict[str, Callable[[Call], Step]] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "Cast": _cast,
    "Ceil": _plain(torch.ceil),
    "Clip": _clip,
    "DequantizeLinear": _dequantize,
    "Div": _divide,
    "Elu": _with(F.elu, alpha=1.0),
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Floor": _plain(torch.floor),
    "Gelu": _gelu,
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "HardSigmoid": _with(_hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": _plain(F.hardswish),
    "Identity": _plain(lambda x: x),
    "IsInf": _is_inf,
    "IsNaN": _plain(torch.isnan),
    "LeakyRelu": lambda call: _leaky(call.number("alpha", 0.01)),
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Log": _plain(torch.log),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Max": _joined(torch.maximum),
    "Min": _joined(torch.minimum),
    "Mish": _plain(F.mish),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "Or": _plain(torch.logical_or),
    "PRelu": _plain(_prelu),
    "Pow": _power,
    "QuantizeLinear": _quantize,
    "Reciprocal": _plain(torch.reciprocal),
    "Relu": _plain(torch.relu),
    "Round": _plain(torch.round),
    "Sigmoid": _plain(torch.sigmoid),
    "Sign": _plain(torch.sign),
    "Softmax": _softmax(torch.softmax),
    "Softplus": _plain(F.softplus),
    "Sqrt": _plain(torch.sqrt),
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Where": _plain(torch.where),
    "Xor": _plain(torch.logical_xor),
}
"""What binds each operator."""


def _leaky(alpha: float) -> Any:
    return lambda x: F.leaky_relu(x, alpha)
