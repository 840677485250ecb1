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
        mask_embedding: value ``[B, Q, C]``.
        mask_features: value ``[B, C, N]``.
        output: value ``[B, heads, Q, d]``.
    """

    query: str
    scale: str
    key: str
    value: str
    mask_embedding: str
    mask_features: str
    output: str


def find(operations: Iterable[Operation]) -> list[MaskedAttention]:
    """Return every masked attention among operations, in their order."""
    nodes = list(operations)
    makers = {name: node for node in nodes for name in node.outputs}
    return [found for node in nodes if (found := _match(node, makers)) is not None]


def _match(last: Operation, makers: Mapping[str, Operation]) -> MaskedAttention | None:
    """The attention that a product of weights and values ends, if it is one."""

    def made_by(name: str, kind: str) -> Operation | None:
        node = makers.get(name)
        while node is not None and node.kind == "Cast" and kind != "Cast":
            node = makers.get(node.inputs[0])
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
        greater, logits = chain(not_negative, "GreaterOrEqual", "MatMul")
        less, highest, less_logits = chain(negative, "Less", "ReduceMax", "MatMul")
        if greater is None or less is None or highest is None or logits is None:
            continue
        if less_logits is not None and logits.outputs[0] == less_logits.outputs[0]:
            return MaskedAttention(
                mul.inputs[0],
                mul.inputs[1],
                product.inputs[1],
                last.inputs[1],
                logits.inputs[0],
                logits.inputs[1],
                last.outputs[0],
            )
    return None
