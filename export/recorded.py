"""INT8 without images: ranges of the starter's activations, recorded over several domains.

``export/starter/ranges.json`` is written by ``benchmarks/studies/starter_ranges.py`` and holds for
one set of weights alone, whose digest it names. Operators are told by their place in the graph, so
it serves every input size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import onnx

from xdecoder_rt.calibration.profiles import profile_of, quantizable
from xdecoder_rt.calibration.ranges import Range
from xdecoder_rt.errors import BuildError, PlanError
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
        int8: the same of the INT8 plan of the profile ``cpu``.
    """

    name: str
    images: int
    fp32: float
    int8: float


@dataclass(frozen=True)
class Recording:
    """Ranges of one set of weights.

    Attributes:
        weights_sha256: digest of the weights.
        domains: what the ranges come from.
        estimators: by profile.
        kept: blocks that stay in fp32.
        held_out: what INT8 costs elsewhere.
        ranges: by kind of graph, of each operator that a profile quantizes: ``low, high`` of uint8
            and ``limit`` of int8 around zero; None where nothing was seen.
    """

    weights_sha256: Annotated[str, Rule(form="[0-9a-f]{64}")]
    domains: tuple[DomainImages, ...]
    estimators: Mapping[str, str]
    kept: tuple[str, ...]
    held_out: tuple[HeldOutScore, ...]
    ranges: Mapping[str, tuple[Interval | None, ...]]

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
        return read_object(parse_json(data, path.name, _SIZE_LIMIT), cls, path.name)

    @classmethod
    def of(cls, weights_sha256: str) -> Recording:
        """Return the recording of some weights.

        Args:
            weights_sha256: their digest.

        Raises:
            BuildError: the recording that there is is of others.
        """
        recording = cls.read(RECORDED) if RECORDED.is_file() else None
        if recording is None or recording.weights_sha256 != weights_sha256:
            raise BuildError(
                "An INT8 plan of these weights needs a calibration set: none of their ranges are "
                "recorded",
                expected=_NEED,
                fix="add --calibration DIR",
            )
        return recording

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
                tensors = entering(onnx.load_from_string(members[member]))
                recorded = self.ranges.get(kind, ())
                if len(recorded) != len(tensors):
                    raise BuildError(
                        f"{member} has {len(tensors)} layers to quantize; ranges are recorded of "
                        f"{len(recorded)}",
                        expected="the graphs of every task, as this version exports them",
                        fix="add --calibration DIR",
                    )
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
    names = {*quantizable(model, profile_of(_WIDEST))}
    return [node.input[0] for node in model.graph.node if node.name in names]
