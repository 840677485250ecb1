"""The shapes that engines are optimized for: what the runtime feeds each graph.

The first profile of the vision graph has one shape an input: the frame that a robot sees many times
a second. Such a call can be a CUDA graph, and so can the decode of the latents alone, which has an
engine of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from xdecoder_rt.backends.tensorrt.signature import Shape
from xdecoder_rt.errors import BuildError
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.questions.caption import CAPTION_TOKENS
from xdecoder_rt.rows import PAST_MULTIPLE

MAX_REGIONS = 16
"""Regions that one call may confine its captions to."""
LEAST_BEAMS = 8
TEXTS, TEXT_LENGTH = 64, 128
"""Rows of one run of the text graph, and tokens of a row."""
_PHRASE = 16
"""Tokens of a usual phrase or question."""


@dataclass(frozen=True)
class AxisRange:
    """Sizes of an axis: the least, the one to be fastest at, the most."""

    least: int
    usual: int
    most: int

    @classmethod
    def fixed(cls, size: int) -> AxisRange:
        """Return the range of one size."""
        return cls(size, size, size)

    def plus(self, other: AxisRange) -> AxisRange:
        """Return the range of two axes end to end."""
        return AxisRange(
            max(1, self.least + other.least), self.usual + other.usual, self.most + other.most
        )


@dataclass(frozen=True)
class InputRange:
    """Shapes of one input in one profile."""

    least: Shape
    usual: Shape
    most: Shape


OptimizationProfile = Mapping[str, InputRange]
Axes = Mapping[str, AxisRange]


def profiles_of(
    graph: str, model: ModelProto, manifest: Manifest, batch: int, max_rows: int
) -> list[OptimizationProfile]:
    """Return the profiles of a graph, the most specific first.

    Args:
        graph: ``vision``, ``decode``, ``frame``, ``mask``, ``text`` or ``token``.
        model: its ONNX form, whose symbolic dimensions are named.
        manifest: of the portable plan.
        batch: most frames of a call.
        max_rows: most rows of a run of the decode graph.

    Raises:
        BuildError: it has a symbolic dimension that this release does not know, or `max_rows` is
            less than the latents.
    """
    profiles = [_profile(graph, model, axes) for axes in _axes(graph, manifest, batch, max_rows)]
    return [profile for index, profile in enumerate(profiles) if profile not in profiles[:index]]


def fixed_shapes(profiles: Sequence[OptimizationProfile]) -> dict[str, Shape] | None:
    """Return the shapes of a graph's inputs, where its profiles allow no others."""
    if len(profiles) != 1 or any(one.least != one.most for one in profiles[0].values()):
        return None
    return {name: one.least for name, one in profiles[0].items()}


def longest_past(manifest: Manifest) -> int:
    """Return how many rows a token may follow: the latents and every draft's tokens."""
    text, decoder = manifest.text, manifest.decoder
    tokens = text.context_length + max(LEAST_BEAMS, text.caption_beams) * CAPTION_TOKENS
    return _whole(decoder.num_queries + tokens)


def _axes(graph: str, manifest: Manifest, batch: int, max_rows: int) -> Sequence[Axes]:
    """Ranges of the named axes of a graph, a mapping a profile."""
    queries = manifest.decoder.num_queries
    single, frames = AxisRange.fixed(1), AxisRange(1, batch, batch)
    if graph == "vision":
        return [{"batch": single}, {"batch": frames}]
    if graph == "mask":
        most = max(queries, manifest.decoder.max_phrases)
        return [{"batch": frames, "kept": AxisRange(1, min(20, most), most)}]
    if graph == "frame":
        return [{"batch": single}]
    if graph == "token":
        most = max(LEAST_BEAMS, manifest.text.caption_beams)
        return [{"captions": AxisRange(1, min(most, manifest.text.caption_beams), most)}]
    if graph == "text":
        length, past = (
            AxisRange(1, _PHRASE, TEXT_LENGTH),
            AxisRange(0, 0, manifest.text.context_length),
        )
        return [
            {
                "texts": AxisRange(1, 8, TEXTS),
                "length": length,
                "past": past,
                "seen": length.plus(past),
            }
        ]
    if max_rows < queries:
        raise BuildError(
            f"{max_rows} rows are fewer than the {queries} latents of this model",
            expected=f"at least {queries}",
        )
    rows = AxisRange(1, min(max_rows, queries + _PHRASE), max_rows)
    past = AxisRange(0, _whole(queries), longest_past(manifest))
    question = {
        "batch": frames,
        "rows": rows,
        "past": past,
        "seen": rows.plus(past),
        "regions": AxisRange(1, 1, MAX_REGIONS),
    }
    return [question]


def _profile(graph: str, model: ModelProto, axes: Axes) -> OptimizationProfile:
    profile = {}
    for value in model.graph.input:
        ranges = []
        dimensions = value.type.tensor_type.shape.dim
        for place, dimension in enumerate(dimensions):
            name = dimension.dim_param
            if value.name == "visible" and place == len(dimensions) - 1:
                name = "seen"  # the exporter numbers it: past and rows
            if not name:
                ranges.append(AxisRange.fixed(dimension.dim_value))
            elif name in axes:
                ranges.append(axes[name])
            else:
                raise BuildError(
                    f"The {graph} graph's input {value.name!r} has the symbolic size {name!r}",
                    expected=f"one of {', '.join(axes)}",
                    fix="build the portable plan again with this release",
                )
        profile[value.name] = InputRange(
            tuple(axis.least for axis in ranges),
            tuple(axis.usual for axis in ranges),
            tuple(axis.most for axis in ranges),
        )
    return profile


def _whole(rows: int) -> int:
    """Up to the multiple that the runtime pads a past to."""
    return -(-rows // PAST_MULTIPLE) * PAST_MULTIPLE
