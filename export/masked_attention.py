"""``xdecoder_rt::masked_attention`` in standard ONNX operators.

For backends without a kernel of ours. The mask is added, as a number rather than minus infinity,
because that is the form that runtimes fuse and that survives fp16.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18

from xdecoder_rt.kernels.masked_attention.op import masked_attention
from xdecoder_rt.models.attention import BLOCKED

# Its annotations do not let one operator's result be another's argument.
op: Any = opset18
# Below a row's highest score: a weight of e^-50 changes no fp32 sum, and it and the row's sum are
# normal numbers. Without it the softmax of a blocked position is a denormal, which x86 takes a
# hundred times as long for.
FLOOR = 50.0


def decomposed(query: Any, key: Any, value: Any, mask_embedding: Any, mask_features: Any) -> Any:
    """Return the operator's ONNX form; shapes as in the reference of the kernel."""
    logits = op.MatMul(mask_embedding, mask_features)
    zero = op.CastLike(op.Constant(value_float=0.0), logits)
    blocked = op.CastLike(op.Constant(value_float=BLOCKED), logits)
    highest = op.ReduceMax(logits, op.Constant(value_ints=[-1]), keepdims=1)
    visible = op.Or(op.GreaterOrEqual(logits, zero), op.Less(highest, zero))
    bias = op.Unsqueeze(op.Where(visible, zero, blocked), op.Constant(value_ints=[1]))
    scale = op.CastLike(op.Constant(value_float=1.0 / math.sqrt(query.shape[-1])), query)
    scores = op.MatMul(op.Mul(query, scale), op.Transpose(key, perm=[0, 1, 3, 2]))
    masked = op.Add(scores, bias)
    best = op.ReduceMax(masked, op.Constant(value_ints=[-1]), keepdims=1)
    floor = op.Sub(best, op.CastLike(op.Constant(value_float=FLOOR), masked))
    return op.MatMul(op.Softmax(op.Max(masked, floor), axis=-1), value)


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return what :func:`torch.onnx.export` needs to know of our operators."""
    overload: torch._ops.OpOverload = torch.ops.xdecoder_rt.masked_attention.default
    assert masked_attention is not None  # importing it registers the overload
    return {overload: decomposed}
