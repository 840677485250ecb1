"""Products of joined factors as sums of products, which spare a runtime the joining."""

from __future__ import annotations

from onnx import ModelProto, NodeProto, helper

from xdecoder_rt.calibration.onnx_edit import drop_unread, ordered, producers


def part_products(model: ModelProto) -> int:
    """Replace ``[a b] @ [c; d]`` by ``a @ c + b @ d``, in place; return how many.

    Mask features are joined with the regions that a caption may be confined to: an image's largest
    map is then transposed and copied for every decode, and again for every token.
    """
    graph = model.graph
    makers = producers(graph)
    sums: dict[str, str] = {}
    nodes: list[NodeProto] = []
    parted = 0
    for node in graph.node:
        pairs = _pairs(node, makers)
        if pairs is None:
            nodes.append(node)
            continue
        terms: list[str] = []
        for pair in pairs:
            # What is no layer's own, as the part of the regions, is computed once.
            key = " @ ".join(pair)
            if key not in sums:
                sums[key] = f"{node.output[0]}_{len(terms)}"
                product = helper.make_node("MatMul", pair, [sums[key]], name=sums[key])
                nodes.append(product)
            terms.append(sums[key])
        nodes.append(helper.make_node("Add", terms, node.output, name=node.name))
        parted += 1
    if parted:
        ordered(graph, nodes)
        drop_unread(graph)
    return parted


def _pairs(node: NodeProto, makers: dict[str, NodeProto]) -> list[tuple[str, str]] | None:
    """The factors of both products, if a node is a product of two joined factors."""
    if node.op_type != "MatMul":
        return None
    left, right = (makers.get(name) for name in node.input)
    if left is None or right is None:
        return None
    # Of batches of matrices, as in every graph of ours.
    if _joins(left, (-1, 2)) and _joins(right, (-2, 1)):
        return list(zip(left.input, right.input, strict=True))
    return None


def _joins(node: NodeProto, axes: tuple[int, ...]) -> bool:
    return (
        node.op_type == "Concat"
        and len(node.input) == 2
        and any(each.name == "axis" and each.i in axes for each in node.attribute)
    )
