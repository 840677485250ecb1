"""Masked attention on PyTorch tensors by the Triton kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from xdecoder_rt.kernels.launch import ELEMENT_OF, launch
from xdecoder_rt.kernels.masked_attention import schedule as plan
from xdecoder_rt.kernels.masked_attention.schedule import DeviceTraits, Operand, Problem, Schedule


def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_embedding: Tensor,
    mask_features: Tensor,
    schedule: Schedule | None = None,
) -> Tensor:
    """Compute :func:`reference.masked_attention` by the kernels.

    Queries, keys and values are of one floating type, mask embeddings and mask features of that
    or another, all with any strides. The mask logits of fp32 factors are exact fp32 products;
    those of fp16 and bf16 are accumulated in fp32.

    Args:
        query: ``[B, heads, Q, d]``, d at most 128.
        key: ``[B, heads, N, d]``.
        value: ``[B, heads, N, d]``.
        mask_embedding: ``[B, Q, C]``.
        mask_features: ``[B, C, N]``.
        schedule: how to run it; None chooses for the device.

    Returns:
        ``[B, heads, Q, d]``, contiguous.
    """
    channels = mask_embedding.shape[-1]
    factors = {"mask_embedding": mask_embedding, "mask_features": mask_features}
    return _attend(query, key, value, factors, channels, schedule)


def attention_under_mask(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, schedule: Schedule | None = None
) -> Tensor:
    """Compute masked attention with a mask that exists.

    Args:
        query: ``[B, heads, Q, d]``.
        key: ``[B, heads, N, d]``.
        value: ``[B, heads, N, d]``.
        mask: ``[B, Q, N]``: logits in the type of the queries, open where not negative; or bool,
            open where true. A row with no open position is open everywhere.
        schedule: how to run it, with two kernels; None chooses for the device.
    """
    is_bool = mask.dtype == torch.bool
    operands = {"boolean": mask.view(torch.uint8)} if is_bool else {"logits": mask}
    return _attend(query, key, value, operands, 0, schedule)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: dict[str, Tensor],
    channels: int,
    schedule: Schedule | None,
) -> Tensor:
    batch, heads, queries, width = query.shape
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    if not out.numel():
        return out
    element = ELEMENT_OF[query.dtype]
    factors = ELEMENT_OF[mask["mask_embedding"].dtype] if channels else None
    problem = Problem(batch, heads, queries, key.shape[2], width, channels, element, factors)
    schedule = schedule or plan.choose(problem, _device_traits(query.device))
    tensors = {
        "query": _with_unit_stride(query),
        "key": key,
        "value": _with_unit_stride(value),
        **mask,
    }
    for name, (shape, kind) in plan.workspace(problem, schedule).items():
        tensors[name] = torch.empty(shape, dtype=getattr(torch, kind), device=query.device)
    operands = {name: Operand(tensor, tensor.stride()) for name, tensor in tensors.items()}
    for call in plan.calls(problem, schedule, operands, out):
        launch(call)
    return out


def _with_unit_stride(tensor: Tensor) -> Tensor:
    """With the last axis contiguous: the kernels load whole rows of it."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _device_traits(device: torch.device) -> DeviceTraits:
    if device.type != "cuda":
        return DeviceTraits(multiprocessors=1, capability=(8, 0))
    properties = torch.cuda.get_device_properties(device)
    return DeviceTraits(properties.multi_processor_count, (properties.major, properties.minor))
