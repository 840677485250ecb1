"""Summaries of a build: the plan, and a line for each of its graphs or engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdecoder_rt.plan.manifest import Manifest

if TYPE_CHECKING:
    from xdecoder_rt.calibration.report import SearchReport


@dataclass(frozen=True)
class GraphSummary:
    """One graph of a portable plan.

    Attributes:
        graph: ``"vision"``, ``"decode"``, ``"mask"``, ``"text"`` or ``"token"``; of engines also
            ``"frame"``.
        member: its name in the plan.
        nodes: ONNX nodes after simplification; None where it was not exported in this build.
        macs: multiply-accumulates for one image, or one short text; None likewise.
        size: bytes in the plan.
        error: largest relative RMS error of its fp32 outputs against PyTorch; None where the plan
            does not say it.
    """

    graph: str
    member: str
    nodes: int | None
    macs: int | None
    size: int
    error: float | None


@dataclass(frozen=True)
class EngineGraphSummary:
    """One engine of a TensorRT or TensorRT-RTX plan.

    Attributes:
        graph: as of `GraphSummary`.
        member: its name in the plan.
        size: bytes in the plan.
        layers: how many the builder made.
        precisions: the layers with products, counted by operator and precision.
        seconds: that the build took.
    """

    graph: str
    member: str
    size: int
    layers: int
    precisions: Mapping[str, Mapping[str, int]]
    seconds: float


@dataclass(frozen=True)
class BuildSummary:
    """Result of a build.

    Attributes:
        path: the plan.
        size: its bytes.
        manifest: its manifest, with model, precision, input sizes and, in `accuracy`, what was
            measured.
        graphs: in the order of their use: of a portable plan `GraphSummary`, otherwise
            `EngineGraphSummary`.
        vocabularies: the number of texts of each vocabulary that was embedded in this build.
        report: of the search for an int8 plan.
        complaints: why the plan would have been refused, had it not been forced.
        seconds: that the build took.
    """

    path: Path
    size: int
    manifest: Manifest
    graphs: tuple[GraphSummary, ...] | tuple[EngineGraphSummary, ...]
    vocabularies: Mapping[str, int]
    report: SearchReport | None
    complaints: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return all but the report and the complaints as plain values for ``json.dumps``."""
        manifest = self.manifest
        library = {}
        if manifest.backend != "portable":
            library = {
                "backend_version": manifest.backend_version,
                "targets": list(manifest.targets),
            }
        return {
            "plan": str(self.path),
            "backend": manifest.backend,
            "size": self.size,
            "model": manifest.model.name,
            "family": manifest.model.family,
            "parameters": manifest.model.parameters,
            "macs": manifest.model.macs,
            "precision": manifest.precision,
            "profile": manifest.profile,
            "calibration": manifest.calibration,
            "accuracy": dict(manifest.accuracy),
            "sizes": [list(size) for size in manifest.input.sizes],
            "graphs": [asdict(graph) for graph in self.graphs],
            **library,
            "vocabularies": dict(self.vocabularies),
            "seconds": round(self.seconds, 1),
        }
