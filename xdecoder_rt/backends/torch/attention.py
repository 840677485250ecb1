"""Masked attention of a graph as one node, run by our kernels."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from xdecoder_rt.backends.torch.call import Call, Step
from xdecoder_rt.kernels.masked_attention import pattern
from xdecoder_rt.kernels.masked_attention.pattern import MaskedAttention, Operation
from xdecoder_rt.plan.onnx_walk import Constant, Node, OnnxGraph

MASKED_ATTENTION = "xdecoder_rt::masked_attention"
"""The node's kind: the name of the operator that graphs are exported from."""


def with_masked_attention(graph: OnnxGraph) -> OnnxGraph:
    """Return a graph with a node for each masked attention that our kernels reach.

    They reach heads of up to 128 and queries that are scaled by their width's root.
    """
    operations = [Operation(node.kind, node.inputs, node.outputs) for node in graph.nodes]
    found = {
        each.output: each
        for each in pattern.find(operations)
        if _is_usual(each, graph.constants, graph)
    }
    if not found:
        return graph
    nodes = [
        _node(found[node.outputs[0]]) if node.outputs and node.outputs[0] in found else node
        for node in graph.nodes
    ]
    needed = {port.name for port in graph.outputs}
    kept = []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return replace(graph, nodes=kept[::-1])


def _node(attention: MaskedAttention) -> Node:
    inputs = (
        *(attention.query, attention.key, attention.value),
        *attention.mask_embedding,
        *attention.mask_features,
    )
    return Node(MASKED_ATTENTION, inputs, (attention.output,), {})


def _is_usual(
    attention: MaskedAttention, constants: Mapping[str, Constant], graph: OnnxGraph
) -> bool:
    """Whether the queries are scaled as the kernels do it."""
    from xdecoder_rt.kernels.masked_attention.op import MAX_WIDTH

    width = next((port.shape[-2] for port in graph.inputs if port.name == attention.key), None)
    scale = constants.get(attention.scale)
    if not isinstance(width, int) or width > MAX_WIDTH or scale is None or not scale.values:
        return False
    return math.isclose(scale.values[0], 1 / math.sqrt(width), rel_tol=2e-3)


def bind(call: Call) -> Step:
    """Return masked attention by the Triton kernels, its mask in the type of the mask's factors."""
    from xdecoder_rt.kernels.masked_attention.launch import masked_attention

    dtype = call.input(2).dtype
    parts = (len(call.node.inputs) - 3) // 2  # embeddings, then as many features
    wide = functools.reduce(
        torch.promote_types, (call.input(3 + number).dtype for number in range(2 * parts))
    )

    def attend(query: Tensor, key: Tensor, value: Tensor, *factors: Tensor) -> Tensor:
        embeddings, features = (
            [factor.to(wide) for factor in side] for side in (factors[:parts], factors[parts:])
        )
        return masked_attention(
            query.to(dtype),
            key.to(dtype).mT,
            value,
            embeddings[0] if parts == 1 else torch.cat(embeddings, dim=-1),
            features[0] if parts == 1 else torch.cat(features, dim=-2),
        )

    return attend
