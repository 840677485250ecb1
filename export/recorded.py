"""INT8 without images: ranges of the starter's activations, recorded over several domains.

``export/starter/ranges.json`` is written by ``benchmarks/studies/starter_ranges.py`` and holds for
one set of weights alone, whose digest it names. Operators are told by their place in the graph, so
it serves every input size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import onnx

from xdecoder_rt.calibration.groups import OperatorGroup
from xdecoder_rt.calibration.profiles import profile_of, quantizable
from xdecoder_rt.calibration.ranges import Histogram, Range
from xdecoder_rt.errors import BuildError, PlanError, quoted
from xdecoder_rt.export.options import PROFILES
from xdecoder_rt.json_reader import Rule, parse_json, read_object
from xdecoder_rt.plan.manifest import Graphs, Manifest

RECORDED = Path(__file__).parent / "starter" / "ranges.json"
_SIZE_LIMIT = 1 << 20
_WIDEST = "cpu"  # the profile that quantizes all that another does
_NEED = (
    "some hundred images like those that the model will see: a labelled folder (accuracy is then "
    "measured by PQ), a folder of images, or a video"
)

Kind: TypeAlias = str
"""Of a graph: ``vision``, ``decode``, ``text`` or ``token``."""
Interval: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class RecordedRange:
    """The range of what enters an operator, in the form of a histogram's.

    Attributes:
        low: least value of uint8 with a zero point.
        high: its largest.
        limit: largest value of int8 around zero.
    """

    low: float
    high: float
    limit: float

    def range(self, estimator: str, symmetric: bool) -> Range:
        """Return the recorded interval, whose estimator was chosen when it was recorded."""
        return (-self.limit, self.limit) if symmetric else (self.low, self.high)


@dataclass(frozen=True)
class JoinedRange:
    """The range that holds several, in the form of a histogram's.

    Attributes:
        parts: what was seen, and what is recorded.
    """

    parts: tuple[Histogram | RecordedRange, ...]

    @property
    def limit(self) -> float:
        """Return the largest of the parts, 0 where none saw anything but zeros."""
        return max(part.limit for part in self.parts)

    def range(self, estimator: str, symmetric: bool) -> Range:
        """Return the interval from the least to the largest value of any part."""
        lows, highs = zip(
            *(part.range(estimator, symmetric) for part in self.parts if part.limit), strict=True
        )
        return min(lows), max(highs)


def joined(
    histograms: Mapping[str, Mapping[str, Histogram]],
    recorded: Mapping[str, Mapping[str, RecordedRange]],
) -> dict[str, dict[str, JoinedRange]]:
    """Join what a calibration set shows with what is recorded, by member and tensor.

    So a folder that shows one kind of scenes cannot narrow the ranges of others, and one that shows
    what was never recorded still widens them.
    """
    result: dict[str, dict[str, JoinedRange]] = {}
    for member in {**recorded, **histograms}:
        known, seen = recorded.get(member, {}), histograms.get(member, {})
        result[member] = {
            tensor: JoinedRange(tuple(parts[tensor] for parts in (known, seen) if tensor in parts))
            for tensor in {**known, **seen}
        }
    return result


Observed: TypeAlias = Histogram | RecordedRange | JoinedRange
Observations: TypeAlias = Mapping[str, Mapping[str, Observed]]
"""By member and tensor."""


@dataclass(frozen=True)
class DomainImages:
    """Images of a folder that ranges come from.

    Attributes:
        name: of the folder.
        images: how many.
    """

    name: str
    images: int


@dataclass(frozen=True)
class HeldOutScore:
    """PQ on a labelled folder that gave no ranges, on the processor that recorded them.

    Attributes:
        name: of the folder.
        images: how many.
        fp32: PQ, 0 to 100.
        int8: PQ of the INT8 plan of the profile ``cpu``, every quantization carried out.
        low: where the loss begins with a certainty of 95 %; a gain is below 0.
        high: where it ends.
    """

    name: str
    images: int
    fp32: float
    int8: float
    low: float
    high: float


@dataclass(frozen=True)
class Recording:
    """Ranges of one set of weights.

    Attributes:
        weights_sha256: digest of the weights.
        domains: what the ranges come from.
        estimators: by profile.
        kept: blocks that stay in fp32.
        held_out: what INT8 costs elsewhere.
        layers: by kind of graph, the digest of the layers that a profile quantizes.
        ranges: by kind of graph, of each operator that a profile quantizes: ``low, high`` of uint8
            and ``limit`` of int8 around zero; None where nothing was seen.
    """

    weights_sha256: Annotated[str, Rule(form="[0-9a-f]{64}")]
    domains: tuple[DomainImages, ...]
    estimators: Mapping[str, str]
    kept: tuple[str, ...]
    held_out: tuple[HeldOutScore, ...]
    layers: Mapping[Kind, str]
    ranges: Mapping[Kind, tuple[Interval | None, ...]]

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Read a recording.

        Raises:
            PlanError: it is missing or not sound.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise PlanError(f"{path} cannot be read ({error.strerror})") from error
        recording = read_object(parse_json(data, path.name, _SIZE_LIMIT), cls, path.name)
        if missing := {*PROFILES} - {*recording.estimators}:
            raise PlanError(f"{path.name} has no estimator of the profile {missing.pop()}")
        for kind, intervals in recording.ranges.items():
            for low, high, limit in filter(None, intervals):
                if not low <= 0.0 <= high or not limit > 0.0:
                    raise PlanError(
                        f"{path.name}: an interval of ranges.{quoted(kind)} is "
                        f"{low:g} to {high:g}, {limit:g}",
                        expected="low at most 0, high at least 0, limit above 0",
                    )
        return recording

    @classmethod
    def find(cls, weights_sha256: str) -> Recording | None:
        """Return the recording of the weights with this digest; None where there is none."""
        recording = cls.read(RECORDED) if RECORDED.is_file() else None
        return recording if recording and recording.weights_sha256 == weights_sha256 else None

    @classmethod
    def of(cls, weights_sha256: str) -> Recording:
        """Return the recording of some weights.

        Args:
            weights_sha256: their digest.

        Raises:
            BuildError: the recording that there is is of others.
        """
        recording = cls.find(weights_sha256)
        if recording is None:
            raise BuildError(
                "An INT8 plan of these weights needs a calibration set: none of their ranges are "
                "recorded",
                expected=_NEED,
                fix="add --calibration DIR",
            )
        return recording

    @property
    def domain_names(self) -> str:
        """Return what the ranges come from, for people."""
        return ", ".join(domain.name for domain in self.domains)

    def lowered(self, groups: Sequence[OperatorGroup]) -> list[OperatorGroup]:
        """Return the blocks that are quantized, of all that there are."""
        return [group for group in groups if group.name not in self.kept]

    def document(self) -> dict[str, Any]:
        """Return the recording as JSON has it."""
        return asdict(self)

    def histograms(
        self, manifest: Manifest, members: Mapping[str, bytes]
    ) -> dict[str, dict[str, RecordedRange]]:
        """Return the ranges of a plan's members, by the tensors that enter their operators.

        Args:
            manifest: of the plan.
            members: its members.

        Raises:
            BuildError: its graphs have other operators than those that were recorded.
        """
        found: dict[str, dict[str, RecordedRange]] = {}
        for kind, names in graph_kinds(manifest.graphs).items():
            for member in names:
                model = onnx.load_from_string(members[member])
                if layers_digest(model) != self.layers.get(kind):
                    raise BuildError(
                        f"{member} has other layers to quantize than those whose ranges are "
                        "recorded",
                        expected="the graphs of every task, as this version exports them",
                        fix="add --calibration DIR",
                    )
                tensors, recorded = entering(model), self.ranges.get(kind, ())
                found[member] = {
                    tensor: RecordedRange(*interval)
                    for tensor, interval in zip(tensors, recorded, strict=True)
                    if interval is not None
                }
        return found


def graph_kinds(graphs: Graphs) -> dict[Kind, tuple[str, ...]]:
    """Return the members that are quantized, by kind; those of one kind differ in size alone."""
    return {
        "vision": tuple(graphs.vision.values()),
        "decode": tuple(graphs.decode.values()),
        "text": (graphs.text,),
        "token": () if graphs.token is None else (graphs.token,),
    }


def entering(model: onnx.ModelProto) -> list[str]:
    """Return what enters each operator that a profile quantizes, in the order of the graph."""
    return [node.input[0] for node in _layers(model)]


def layers_digest(model: onnx.ModelProto) -> str:
    """Return the SHA-256 of the same operators' kinds and weights' shapes."""
    shapes = {value.name: list(value.dims) for value in model.graph.initializer}
    lines = [f"{node.op_type} {shapes[node.input[1]]}" for node in _layers(model)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the operators that a profile quantizes, in the order of the graph."""
    names = {*quantizable(model, profile_of(_WIDEST))}
    return [node for node in model.graph.node if node.name in names]
