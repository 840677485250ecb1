"""Costs of graphs for a plan's summary: parameters and multiply-accumulates."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from xdecoder_rt.export.onnx_graphs import ExportedGraph


@register_flop_formula(torch.ops.xdecoder_rt.masked_attention)
def _masked_attention_flops(
    query: Any, key: Any, value: Any, mask_embedding: Any, mask_features: Any, **_: Any
) -> int:
    """Mask logits once, scores and weighted values for every head; two flops a MAC."""
    batch, heads, queries, width = query
    positions = key[2]
    logits = batch * queries * mask_embedding[2] * positions
    return 2 * int(logits + 2 * batch * heads * queries * positions * width)


def macs(graph: ExportedGraph) -> int:
    """Return the multiply-accumulates of one graph for one image, or one short text."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        graph.module(*graph.typical.values())
    return int(counter.get_total_flops()) // 2


def parameters(module: nn.Module) -> int:
    """Return the number of learned values."""
    return sum(math.prod(p.shape) for p in module.parameters())


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 of names, shapes and values of everything that a checkpoint stores."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {list(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
