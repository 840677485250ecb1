"""``xdecoder-rt build`` for TensorRT and TensorRT-RTX: the build, and what it says of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdecoder_rt.cli.output import Progress, printable, table
from xdecoder_rt.errors import require
from xdecoder_rt.plan.manifest import size_key

if TYPE_CHECKING:
    from xdecoder_rt.export.tensorrt.build import EngineSummary
    from xdecoder_rt.export.tensorrt.options import EngineOptions


def check_toolchain(options: EngineOptions) -> None:
    """Find out before long work whether the library is there and builds for the targets.

    Raises:
        MissingExtraError: the library is not installed.
        BuildError: it cannot build for a target.
    """
    require("onnx", options.backend)
    from xdecoder_rt.export.tensorrt.toolchain import open_toolchain

    open_toolchain(options.backend, options.targets)


def build_engines(
    source: Path, output: Path, options: EngineOptions, progress: Progress
) -> EngineSummary:
    """:func:`xdecoder_rt.export.tensorrt.build.build_engines`, where what it needs is installed."""
    require("onnx", options.backend)
    from xdecoder_rt.export.tensorrt.build import build_engines as build

    return build(source, output, options, progress)


def engine_summary(summary: dict[str, Any], built: EngineSummary) -> dict[str, Any]:
    """A summary of a plan, with what is known of its engines."""
    from xdecoder_rt.export.tensorrt.layers import precisions

    summary.update(
        backend_version=built.manifest.backend_version, targets=list(built.manifest.targets)
    )
    for graph in summary["graphs"]:
        engine = built.engines[graph["member"]]
        graph.update(
            layers=len(engine.layers),
            precisions=precisions(engine.layers),
            seconds=round(engine.seconds, 2),
        )
        del graph["nodes"], graph["macs"], graph["error"]
    return summary


def engine_text(summary: Mapping[str, Any]) -> str:
    """The same for people."""
    rows = [
        (
            printable(graph["member"], 60),
            str(graph["layers"]),
            f"{graph['size'] / 1e6:.2f} MB",
            f"{graph['seconds']:.1f} s",
            shown_precisions(graph["precisions"]),
        )
        for graph in summary["graphs"]
    ]
    sizes = ", ".join(size_key((height, width)) for height, width in summary["sizes"])
    head = (
        f"{printable(summary['plan'], 200)}  {summary['size'] / 1e6:.1f} MB, "
        f"{printable(summary['model'])} ({summary['family']}), {summary['precision']}\n"
        f"{summary['backend']} {printable(summary['backend_version'])} for compute capability "
        f"{', '.join(summary['targets'])}, input {sizes} (height x width), "
        f"made in {summary['seconds']:.0f} s"
    )
    header = ("engine", "layers", "size", "built in", "layers with products, by precision")
    return "\n".join((head, "", table(header, rows)))


def shown_precisions(counted: Mapping[str, Mapping[str, int]]) -> str:
    """``Conv 25 int8, 32 fp16; attention 12 fp16``."""
    return (
        "; ".join(
            f"{role} " + ", ".join(f"{number} {name}" for name, number in sorted(by.items()))
            for role, by in counted.items()
        )
        or "-"
    )
