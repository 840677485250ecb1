"""Products of matrices, sums along axes and norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.backends.torch.call import Call, Step


def _matmul(call: Call) -> Step:
    return torch.matmul


def _gemm(call: Call) -> Step:
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    is_left_turned, is_right_turned = (bool(call.integer(f"trans{side}", 0)) for side in "AB")
    bias_rank = call.input(2).ndim if call.has(2) else 0
    if alpha == beta == 1 and bias_rank == 1:
        return lambda a, b, bias: F.linear(
            a.mT if is_left_turned else a, b if is_right_turned else b.mT, bias
        )

    def gemm(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
        product = (a.mT if is_left_turned else a) @ (b.mT if is_right_turned else b)
        product = product if alpha == 1 else product * alpha
        return product if bias is None else product + (bias if beta == 1 else bias * beta)

    return gemm


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[[Call], Step]:
    """Return the binding of a reduction along axes."""

    def bind(call: Call) -> Step:
        axes, keeps = call.axes(1), bool(call.integer("keepdims", 1))
        if not axes:
            if call.integer("noop_with_empty_axes", 0):
                return lambda x, *_: x
            axes = list(range(call.first.ndim))
        return lambda x, *_: function(x, axes, keeps)

    return bind


def _norm(order: int) -> Callable[[Tensor, list[int], bool], Tensor]:
    return lambda x, axes, keeps: torch.linalg.vector_norm(x, order, axes, keeps)


def _layer_norm(call: Call) -> Step:
    axis, epsilon = call.axis(-1), call.number("epsilon", 1e-5)
    shape = list(call.first.shape[axis:])
    axes = list(range(axis, call.first.ndim))
    has_statistics = len(call.node.outputs) > 1
    is_whole = list(call.input(1).shape) == shape and (
        not call.has(2) or list(call.input(2).shape) == shape
    )

    def normalize(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if is_whole:
            return F.layer_norm(x, shape, weight, bias, epsilon)
        y = F.layer_norm(x, shape, None, None, epsilon) * weight
        return y if bias is None else y + bias

    def with_statistics(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Sequence[Tensor]:
        variance, mean = torch.var_mean(x.float(), axes, correction=0, keepdim=True)
        return normalize(x, weight, bias), mean, torch.rsqrt(variance + epsilon)

    return with_statistics if has_statistics else normalize


def _batch_norm(call: Call) -> Step:
    epsilon = call.number("epsilon", 1e-5)
    if call.integer("training_mode", 0):
        raise call.refusal("normalizes as in training")
    return lambda x, weight, bias, mean, variance: F.batch_norm(
        x, mean, variance, weight, bias, False, 0.0, epsilon
    )


def _instance_norm(call: Call) -> Step:
    epsilon = call.number("epsilon", 1e-5)
    return lambda x, weight, bias: F.instance_norm(x, weight=weight, bias=bias, eps=epsilon)


def _group_norm(call: Call) -> Step:
    epsilon, groups = call.number("epsilon", 1e-5), call.integer("num_groups", 1)
    channels = call.first.shape[1]
    # Up to opset 20 a weight is a group's, from 21 on a channel's.
    each = channels // groups if call.input(1).numel() == groups else 1

    def normalize(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.group_norm(
            x, groups, weight.repeat_interleave(each), bias.repeat_interleave(each), epsilon
        )

    return normalize


OPERATORS: dict[str, Callable[[Call], Step]] = {
    "BatchNormalization": _batch_norm,
    "Gemm": _gemm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "ReduceL1": _reduction(_norm(1)),
    "ReduceL2": _reduction(_norm(2)),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceSum": _reduction(torch.sum),
}
"""What binds each operator."""
