"""Masked attention in the operators of a graph: what plans have in place of a node of our own.

The form is that of :mod:`xdecoder_rt.export.masked_attention`, with or without the floor of its
softmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Operation(NamedTuple):
    """An operator at work: its kind, and the names of what it takes and makes."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class MaskedAttention:
    """One masked attention.

    Attributes:
        query: value ``[B, heads, Q, d]``, not scaled.
        scale: value that the queries are multiplied by.
        key: value ``[B, heads, d, N]``.
        value: value ``[B, heads, N, d]``.
        mask_embedding: values ``[B, Q, C]``, whose channels belong one after another.
        mask_features: values ``[B, C, N]``, as many.
        output: value ``[B, heads, Q, d]``.
    """

    query: str
    scale: str
    key: str
    value: str
    mask_embedding: tuple[str, ...]
    mask_features: tuple[str, ...]
    output: str


def find(operations: Iterable[Operation]) -> list[MaskedAttention]:
    """Return every masked attention among operations, in their order."""
    nodes = list(operations)
    makers = {name: node for node in nodes for name in node.outputs}
    return [found for node in nodes if (found := _match(node, makers)) is not None]


def _match(last: Operation, makers: Mapping[str, Operation]) -> MaskedAttention | None:
    """The attention that a product of weights and values ends, if it is one."""

    def maker(name: str) -> Operation | None:
        node = makers.get(name)
        while node is not None and node.kind == "Cast":
            node = makers.get(node.inputs[0])
        return node

    def made_by(name: str, kind: str) -> Operation | None:
        node = maker(name)
        return node if node is not None and node.kind == kind else None

    def chain(name: str, *kinds: str) -> Iterator[Operation | None]:
        """Makers one after another along the first inputs."""
        node: Operation | None = None
        for kind in kinds:
            node = made_by(name, kind)
            yield node
            name = node.inputs[0] if node is not None else ""

    if last.kind != "MatMul":
        return None
    softmax = made_by(last.inputs[0], "Softmax")
    if softmax is None:
        return None
    scores_name = softmax.inputs[0]
    if (floored := made_by(scores_name, "Max")) is not None:
        # A floor below each row's best, for processors that are slow with denormals.
        scores_name = floored.inputs[0]
    if (add := made_by(scores_name, "Add")) is None:
        return None
    for scores, bias in (add.inputs, reversed(add.inputs)):
        product, mul = chain(scores, "MatMul", "Mul")
        unsqueeze, where, either = chain(bias, "Unsqueeze", "Where", "Or")
        if product is None or mul is None or unsqueeze is None or where is None or either is None:
            continue
        not_negative, negative = either.inputs
        (greater,) = chain(not_negative, "GreaterOrEqual")
        less, highest = chain(negative, "Less", "ReduceMax")
        if greater is None or less is None or highest is None:
            continue
        logits = maker(greater.inputs[0])
        if logits is None or logits is not maker(highest.inputs[0]):
            continue
        # One product, or a sum of them as :mod:`xdecoder_rt.export.joined_products` leaves it.
        terms = [maker(name) for name in logits.inputs] if logits.kind == "Add" else [logits]
        factors = [term.inputs for term in terms if term is not None and term.kind == "MatMul"]
        if len(factors) == len(terms):
            embeddings, features = zip(*factors, strict=True)
            return MaskedAttention(
                *(mul.inputs[0], mul.inputs[1], product.inputs[1], last.inputs[1]),
                *(embeddings, features, last.outputs[0]),
            )
    return None
