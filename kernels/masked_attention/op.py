"""``xdecoder_rt::masked_attention``: one named operator, so that a graph shows one node.

Exporters map the node (:mod:`xdecoder_rt.export.masked_attention` decomposes it for ONNX
Runtime). Eager PyTorch runs the implementations below: on a CPU PyTorch's own attention under the
mask, on CUDA the Triton kernels, or the reference where they do not reach (no Triton, float64,
heads wider than 128). The gradient is the reference's.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.kernels.masked_attention import reference

# The widest head whose tiles fit a program.
MAX_WIDTH = 128


@torch.library.custom_op("xdecoder_rt::masked_attention", mutates_args=())
def masked_attention(
    query: Tensor, key: Tensor, value: Tensor, mask_embedding: Tensor, mask_features: Tensor
) -> Tensor:
    """Compute masked cross-attention; see :func:`reference.masked_attention` for shapes."""
    visible = reference.open_positions(mask_embedding, mask_features)[:, None]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=visible).contiguous()


def trained(
    query: Tensor, key: Tensor, value: Tensor, mask_embedding: Tensor, mask_features: Tensor
) -> Tensor:
    """Compute masked attention for training: PyTorch's own, which has a fused gradient.

    The operator's own gradient goes through the reference, which forms every score.
    """
    visible = reference.open_positions(mask_embedding, mask_features)[:, None]
    key, value = key.to(query.dtype), value.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=visible)


@masked_attention.register_kernel("cuda")
def _on_cuda(
    query: Tensor, key: Tensor, value: Tensor, mask_embedding: Tensor, mask_features: Tensor
) -> Tensor:
    # Autocast may pass several types: the kernels take one of queries, keys and values, and one of
    # the mask's factors.
    made, wide = query.dtype, torch.promote_types(mask_embedding.dtype, mask_features.dtype)
    dtype = torch.promote_types(torch.promote_types(made, key.dtype), value.dtype)
    query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    mask_embedding, mask_features = mask_embedding.to(wide), mask_features.to(wide)
    inputs = (query, key, value, mask_embedding, mask_features)
    is_reached = torch.float64 not in (dtype, wide) and query.shape[-1] <= MAX_WIDTH
    if find_spec("triton") is None or not is_reached:
        return reference.masked_attention(*inputs).to(made)
    from xdecoder_rt.kernels.masked_attention import launch

    return launch.masked_attention(*inputs).to(made)


@masked_attention.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, mask_embedding: Tensor, mask_features: Tensor
) -> Tensor:
    return torch.empty_like(query, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, mask_embedding, mask_features = ctx.saved_tensors
    # Autocast may have saved inputs of several types: differentiate in the widest of them.
    dtype = gradient.dtype
    for tensor in (*inputs, mask_embedding, mask_features):
        dtype = torch.promote_types(dtype, tensor.dtype)
    leaves = [t.detach().to(dtype).requires_grad_() for t in inputs]
    with torch.enable_grad():
        query, key, value = leaves
        out = reference.masked_attention(
            query, key, value, mask_embedding.to(dtype), mask_features.to(dtype)
        )
    leaf_gradients = torch.autograd.grad(out, leaves, gradient.to(dtype))
    gradients = [g.to(t.dtype) for g, t in zip(leaf_gradients, inputs, strict=True)]
    # The mask is a threshold: its factors get no gradient.
    return (*gradients, None, None)


masked_attention.register_autograd(_backward, setup_context=_setup_context)
