"""Masked attention in a graph: its standard operators found, and put into two nodes of our own.

The two nodes are those of :mod:`xdecoder_rt.kernels.masked_attention.nodes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto, helper

from xdecoder_rt.kernels.masked_attention.nodes import ATTEND, BITS, NAMESPACE, VERSION


@dataclass(frozen=True)
class MaskedAttention:
    """One masked attention as :mod:`xdecoder_rt.export.masked_attention` decomposes it.

    Attributes:
        query: value ``[B, heads, Q, d]``, not scaled.
        key: value ``[B, heads, d, N]``.
        value: value ``[B, heads, N, d]``.
        mask_embedding: values ``[B, Q, C]``, whose channels belong one after another.
        mask_features: values ``[B, C, N]``, as many.
        last: the node that gives ``[B, heads, Q, d]``.
    """

    query: str
    key: str
    value: str
    mask_embedding: tuple[str, ...]
    mask_features: tuple[str, ...]
    last: NodeProto


def find(model: ModelProto) -> list[MaskedAttention]:
    """Return every masked attention of a graph, in order."""
    producers = {name: node for node in model.graph.node for name in node.output}
    return [
        attention for node in model.graph.node if (attention := _match(node, producers)) is not None
    ]


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
    attributes = dict(fields or {})
    joined: dict[tuple[str, ...], str] = {}  # a level's features serve several layers
    for number, attention in enumerate(attentions):
        bits = f"{attention.last.output[0]}_bits"
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
                attention.last.output[0],
                attributes,
            ),
        ]
        place = list(graph.node).index(attention.last)
        graph.node.remove(attention.last)
        for offset, node in enumerate(nodes):
            graph.node.insert(place + offset, node)
    if attentions:
        _remove_unused(graph)
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


def _match(last: NodeProto, producers: dict[str, NodeProto]) -> MaskedAttention | None:
    """The attention that a product of weights and values ends, if it is one."""

    def maker(name: str) -> NodeProto | None:
        node = producers.get(name)
        while node is not None and node.op_type == "Cast":
            node = producers.get(node.input[0])
        return node

    def made_by(name: str, kind: str) -> NodeProto | None:
        node = maker(name)
        return node if node is not None and node.op_type == kind else None

    def chain(name: str, *kinds: str) -> Iterator[NodeProto | None]:
        """Producers one after another along the first inputs."""
        node: NodeProto | None = None
        for kind in kinds:
            node = made_by(name, kind)
            yield node
            name = node.input[0] if node is not None else ""

    if last.op_type != "MatMul":
        return None
    softmax, add = chain(last.input[0], "Softmax", "Add")
    if softmax is None or add is None:
        return None
    for scores, bias in (add.input, reversed(add.input)):
        product, mul = chain(scores, "MatMul", "Mul")
        unsqueeze, where, either = chain(bias, "Unsqueeze", "Where", "Or")
        if product is None or mul is None or unsqueeze is None or where is None or either is None:
            continue
        not_negative, negative = either.input
        (greater,) = chain(not_negative, "GreaterOrEqual")
        less, highest = chain(negative, "Less", "ReduceMax")
        if greater is None or less is None or highest is None:
            continue
        logits = maker(greater.input[0])
        if logits is None or logits is not maker(highest.input[0]):
            continue
        # One product, or a sum of them as :mod:`xdecoder_rt.export.joined_products` leaves it.
        terms = [maker(name) for name in logits.input] if logits.op_type == "Add" else [logits]
        factors = [term.input for term in terms if term is not None and term.op_type == "MatMul"]
        if len(factors) == len(terms):
            embeddings, features = zip(*factors, strict=True)
            return MaskedAttention(
                mul.input[0], product.input[1], last.input[1], embeddings, features, last
            )
    return None


def _remove_unused(graph: GraphProto) -> None:
    """Remove nodes that nothing reads any more, and constants of theirs."""
    needed = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input)
    for constant in [value for value in graph.initializer if value.name not in needed]:
        graph.initializer.remove(constant)
    for value in [value for value in graph.value_info if value.name not in needed]:
        graph.value_info.remove(value)
