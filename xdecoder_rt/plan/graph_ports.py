"""What each graph of a plan takes and gives, as its manifest says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from xdecoder_rt.errors import PlanError, quoted
from xdecoder_rt.masks.resample import REGION_STRIDE
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.plan.onnx_walk import OnnxGraph, Port

__all__ = ["GraphPorts", "check_ports", "graph_ports"]

FLOAT32, UINT8, INT64, BOOL = (1,), (2,), (7,), (9,)
# What passes between graphs and never visits the host may be in a half type.
STATE = (1, 10, 16)
_TYPES = {1: "float32", 2: "uint8", 7: "int64", 9: "bool", 10: "float16", 16: "bfloat16"}
_VOCABULARY = "vocabulary"
Shape: TypeAlias = "tuple[int | str, ...]"
_Expected: TypeAlias = "tuple[tuple[int, ...], Shape]"


@dataclass(frozen=True)
class GraphPorts:
    """Ports of a graph by name: types that each may have (TensorProto.DataType), and its shape.

    Free dimensions have names.

    Attributes:
        inputs: what it takes.
        outputs: what it gives.
        optional: inputs that it may do without.
    """

    inputs: Mapping[str, _Expected]
    outputs: Mapping[str, _Expected]
    optional: frozenset[str] = frozenset()


def graph_ports(manifest: Manifest, graph: str, size: tuple[int, int] | None) -> GraphPorts:
    """Return the ports of a graph.

    Args:
        manifest: the plan's.
        graph: ``vision``, ``decode``, ``mask``, ``text`` or ``token``.
        size: height and width of the input; None where the graph is for any.
    """
    text, decoder = manifest.text, manifest.decoder
    if graph == "token":
        return GraphPorts(
            {"caption_embedding": (FLOAT32, ("captions", text.width))},
            {"token_logits": (FLOAT32, ("captions", _VOCABULARY))},
        )
    if graph == "text":
        width = text.width // text.heads
        row = ("texts", "length")
        return GraphPorts(
            {
                "token_ids": (INT64, row),
                "places": (INT64, row),
                "visible": (BOOL, (*row, "seen")),
                **_states("past", text.layers, ("texts", text.heads, "past", width)),
            },
            {
                "token_features": (FLOAT32, (*row, text.proj_dim)),
                **_states("token", text.layers, ("texts", text.heads, "length", width)),
            },
        )
    assert size is not None  # these graphs have one
    memory = _memory(manifest, size)
    map_shape = tuple(side // decoder.mask_stride for side in size)
    masks: dict[str, _Expected] = {"mask_map": (STATE, ("batch", *map_shape, decoder.mask_dim))}
    if graph == "vision":
        return GraphPorts(
            {"frame": (UINT8, ("batch", *size, 3)), "valid": (INT64, ("batch", 2))},
            {**memory, **masks, "backbone_embedding": (FLOAT32, ("batch", text.proj_dim))},
        )
    if graph == "mask":
        return GraphPorts(
            {"mask_embedding": (FLOAT32, ("batch", "kept", decoder.mask_dim)), **masks},
            {"mask_logits": (FLOAT32, ("batch", "kept", *map_shape))},
        )
    width = text.proj_dim // decoder.heads
    row = ("batch", "rows")
    positions = _positions(decoder.level_strides, size)
    of_latents: dict[str, _Expected] = {}
    if manifest.region is not None:
        of_latents["region_scores"] = (
            FLOAT32,
            ("batch", decoder.num_queries, manifest.region.names),
        )
    if manifest.postprocess.votes:
        pairs = ("batch", decoder.num_queries, decoder.num_queries)
        of_latents["overlaps"] = FLOAT32, pairs
    return GraphPorts(
        {
            **memory,
            **{
                f"regions_{level}": (FLOAT32, ("batch", "regions", count))
                for level, count in enumerate(positions)
            },
            **{name: (INT64, row) for name in ("kind", "content", "position")},
            "text": (FLOAT32, (*row, text.proj_dim)),
            "visible": (BOOL, (*row, "seen")),
            "region_weight": (FLOAT32, (*row, "regions")),
            **_states("past", decoder.layers, ("batch", decoder.heads, "past", width)),
        },
        {
            "class_embedding": (FLOAT32, (*row, text.proj_dim)),
            "mask_embedding": (FLOAT32, (*row, decoder.mask_dim)),
            "caption_embedding": (FLOAT32, (*row, text.width)),
            **of_latents,
            **_states("row", decoder.layers, ("batch", decoder.heads, "rows", width)),
        },
        frozenset(memory),
    )


def _positions(strides: Sequence[int], size: tuple[int, int]) -> tuple[int, ...]:
    return tuple((size[0] // stride) * (size[1] // stride) for stride in strides)


def _memory(manifest: Manifest, size: tuple[int, int]) -> dict[str, _Expected]:
    """What the decode graph takes of the vision graph's."""
    decoder = manifest.decoder
    positions = _positions(decoder.level_strides, size)
    heads, width = decoder.heads, manifest.text.proj_dim // decoder.heads
    ports: dict[str, _Expected] = {}
    for layer in range(decoder.layers):
        count = positions[layer % len(positions)]
        ports[f"keys_{layer}"] = STATE, ("batch", heads, width, count)
        ports[f"values_{layer}"] = STATE, ("batch", heads, count, width)
    for level, count in enumerate(positions):
        ports[f"mask_features_{level}"] = STATE, ("batch", count, decoder.mask_dim)
    if manifest.region is not None:
        count = positions[decoder.level_strides.index(REGION_STRIDE)]
        ports["region_map"] = STATE, ("batch", count, manifest.region.width)
    return ports


def _states(kind: str, layers: int, shape: Shape) -> dict[str, _Expected]:
    return {
        f"{kind}_{part}_{layer}": (FLOAT32, shape)
        for part in ("keys", "values")
        for layer in range(layers)
    }


def check_ports(graph: OnnxGraph, ports: GraphPorts) -> None:
    """Check that a graph takes and gives what it should.

    Raises:
        PlanError: a port is missing, has another name or type, or a shape that does not fit.
    """
    _check("input", graph.inputs, ports.inputs, ports.optional)
    _check("output", graph.outputs, ports.outputs, frozenset())


def _check(
    what: str,
    found: Sequence[Port],
    expected: Mapping[str, _Expected],
    optional: frozenset[str],
) -> None:
    names = [port.name for port in found]
    for name in names:
        if name not in expected or names.count(name) > 1:
            raise PlanError(
                f"The graph has the {what} {quoted(name)}",
                expected=f"once each of {', '.join(sorted(expected)[:8])} and so on",
                fix="build the plan again: xdecoder-rt build",
            )
    for name in expected:
        if name not in names and name not in optional:
            raise PlanError(
                f"The graph lacks the {what} {name!r}",
                fix="build the plan again: xdecoder-rt build",
            )
    for port in found:
        kinds, shape = expected[port.name]
        if port.kind not in kinds or not _fits(port.shape, shape, what == "output"):
            raise PlanError(
                f"The {what} {port.name!r} is {_described(port.kind, port.shape)}",
                expected=f"{_described(kinds[0], shape)}, as the manifest has it",
                fix="build the plan again: xdecoder-rt build",
            )


def _fits(found: Shape, expected: Shape, is_output: bool) -> bool:
    """Whether fixed dimensions are equal and free ones free; an output may leave any open."""
    return len(found) == len(expected) and all(
        (isinstance(theirs, str) and (is_output or isinstance(ours, str)))
        or theirs == ours
        or ours == _VOCABULARY
        for theirs, ours in zip(found, expected, strict=True)
    )


def _described(kind: int, shape: Shape) -> str:
    dimensions = ", ".join(str(each)[:20] for each in shape)
    return f"{_TYPES.get(kind, f'of type {kind}')} [{quoted(dimensions, 120)[1:-1]}]"
