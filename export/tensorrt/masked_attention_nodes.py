"""Masked attention in a graph: its standard operators found, and put into two nodes of our own.

The two nodes are those of :mod:`xdecoder_rt.kernels.masked_attention.nodes`.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto, NodeProto, helper

from xdecoder_rt.calibration.onnx_edit import drop_unread, producers
from xdecoder_rt.kernels.masked_attention import pattern
from xdecoder_rt.kernels.masked_attention.nodes import ATTEND, BITS, NAMESPACE, VERSION
from xdecoder_rt.kernels.masked_attention.pattern import MaskedAttention, Operation


def find(model: ModelProto) -> list[MaskedAttention]:
    """Return every masked attention of a graph, in order."""
    return pattern.find(
        Operation(node.op_type, tuple(node.input), tuple(node.output)) for node in model.graph.node
    )


def replace(model: ModelProto, fields: Mapping[str, int] | None = None) -> int:
    """Put each masked attention of a graph into two nodes, in place.

    Args:
        model: the graph.
        fields: what the plugins are made with, attributes of every node.

    Returns:
        How many there were.
    """
    graph = model.graph
    attentions = find(model)
    made_by = producers(graph)
    attributes = dict(fields or {})
    joined: dict[tuple[str, ...], str] = {}  # a level's features serve several layers
    for number, attention in enumerate(attentions):
        last = made_by[attention.output]
        bits = f"{attention.output}_bits"
        joins = []
        sides = (attention.mask_embedding, -1, "left"), (attention.mask_features, -2, "right")
        for values, axis, side in sides:
            if len(values) > 1 and values not in joined:
                name = joined[values] = f"{bits}_{side}"
                joins.append(helper.make_node("Concat", values, [name], name=name, axis=axis))
        factors = [joined.get(values, values[0]) for values, _, _ in sides]
        nodes = [
            *joins,
            _node(BITS, number, factors, bits, attributes),
            _node(
                ATTEND,
                number,
                [attention.query, attention.key, attention.value, bits],
                attention.output,
                attributes,
            ),
        ]
        place = list(graph.node).index(last)
        graph.node.remove(last)
        for offset, node in enumerate(nodes):
            graph.node.insert(place + offset, node)
    if attentions:
        drop_unread(graph)
        model.opset_import.append(helper.make_opsetid(NAMESPACE, 1))
    return len(attentions)


def _node(
    kind: str, number: int, inputs: list[str], output: str, fields: dict[str, int]
) -> NodeProto:
    name = f"{kind}_{number}"
    node = helper.make_node(kind, inputs, [output], name=name, domain=NAMESPACE)
    # TensorRT's parser finds a plugin by these attributes and the operator's name.
    attributes = {"plugin_namespace": NAMESPACE, "plugin_version": VERSION, **fields}
    node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
    return node
