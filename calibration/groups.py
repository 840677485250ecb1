"""Candidates of the search: operators that are quantized, or kept, together.

A group is a block of the network (a bottleneck, a transformer layer's part), told by the names of
parameters: single operators are too many to try one by one, and too little alone to matter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx

_REACH = 48  # operators that a nameless one looks ahead for a name


@dataclass(frozen=True)
class OperatorGroup:
    """Operators of one kind of graph.

    Attributes:
        name: of the block, for people.
        members: (kind of graph, place among its quantizable operators) of each.
    """

    name: str
    members: tuple[tuple[str, int], ...]


def groups_of(kinds: Mapping[str, tuple[onnx.ModelProto, Sequence[str]]]) -> list[OperatorGroup]:
    """Group quantizable operators by block.

    Args:
        kinds: of each kind of graph (those that differ in the input size are one kind) a model and
            the names of its quantizable nodes.

    Returns:
        The groups in the order of computation.
    """
    blocks: dict[str, list[tuple[str, int]]] = {}
    for kind, (model, names) in kinds.items():
        places = {name: i for i, name in enumerate(names)}
        nodes = list(model.graph.node)
        stored = {value.name for value in model.graph.initializer}
        for i, node in enumerate(nodes):
            if node.name in places:
                block = _block(nodes[i : i + _REACH], stored)
                blocks.setdefault(f"{kind}: {block}", []).append((kind, places[node.name]))
    return [OperatorGroup(name, tuple(members)) for name, members in blocks.items()]


def _block(nodes: Sequence[onnx.NodeProto], stored: Collection[str]) -> str:
    """The block of the first parameter with a dotted name that these nodes read."""
    for node in nodes:
        for name in node.input:
            parts = name.removeprefix("model.").split(".")
            if name in stored and len(parts) > 1:
                blocks = parts[:-1]
                numbers = [i for i, part in enumerate(blocks) if part.isdigit()]
                return ".".join(blocks[: numbers[0] + 1 if numbers else 2])
    return "nameless"
