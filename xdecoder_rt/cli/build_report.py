"""The text that ``xdecoder-rt build`` prints."""

from __future__ import annotations

from collections.abc import Mapping

from xdecoder_rt.cli.output import format_count, format_table
from xdecoder_rt.errors import printable
from xdecoder_rt.export.summary import BuildSummary, EngineGraphSummary, GraphSummary
from xdecoder_rt.plan.manifest import size_key


def build_text(summary: BuildSummary) -> str:
    """Return two lines about the plan, a table of its graphs or engines, and what was measured."""
    graphs = [graph for graph in summary.graphs if isinstance(graph, GraphSummary)]
    if graphs:
        return _portable_text(summary, graphs)
    return _engine_text(
        summary, [graph for graph in summary.graphs if isinstance(graph, EngineGraphSummary)]
    )


def _portable_text(summary: BuildSummary, graphs: list[GraphSummary]) -> str:
    rows = [
        (
            printable(graph.member, 60),
            "-" if graph.nodes is None else str(graph.nodes),
            "-" if graph.macs is None else format_count(graph.macs),
            f"{graph.size / 1e6:.2f} MB",
            "-" if graph.error is None else f"{graph.error:.1e}",
        )
        for graph in graphs
    ]
    model = summary.manifest.model
    head = (
        f"{_plan_line(summary)}\n"
        f"{format_count(model.parameters)} parameters, {format_count(model.macs)}MAC a frame, "
        f"input {_size_list(summary)} (height x width), made in {summary.seconds:.0f} s"
    )
    return "\n".join(
        (
            head,
            "",
            format_table(("graph", "nodes", "MAC", "size", "error"), rows),
            "",
            "The last column: how far the fp32 graph is from PyTorch, relative RMS (1e-4 may be).",
            *_precision_lines(summary),
        )
    )


def _precision_lines(summary: BuildSummary) -> list[str]:
    """Return what another precision costs and gains, as measured when the plan was built."""
    accuracy = summary.manifest.accuracy
    lines = []
    if "metric" in accuracy:
        lines.append(
            f"{printable(str(accuracy['metric']))}: {accuracy['fp32']:.2f} in fp32, "
            f"{accuracy['int8']:.2f} in int8, on {accuracy['images']} images"
        )
    for score in accuracy.get("recorded_pq", ()):
        lines.append(
            f"PQ as recorded with these ranges: {score['fp32']:.2f} in fp32, {score['int8']:.2f} "
            f"in int8, on {score['images']} images of {printable(score['name'])} (with 95 % "
            f"certainty between {score['low']:.2f} and {score['high']:.2f} lost)"
        )
    if "times_faster_than_fp32" in accuracy:
        lines.append(f"a frame: {accuracy['times_faster_than_fp32']:.2f} times as fast as in fp32")
    return lines


def _engine_text(summary: BuildSummary, engines: list[EngineGraphSummary]) -> str:
    rows = [
        (
            printable(engine.member, 60),
            str(engine.layers),
            f"{engine.size / 1e6:.2f} MB",
            f"{engine.seconds:.1f} s",
            _precisions(engine.precisions),
        )
        for engine in engines
    ]
    manifest = summary.manifest
    head = (
        f"{_plan_line(summary)}\n"
        f"{manifest.backend} {printable(manifest.backend_version)} for compute capability "
        f"{', '.join(manifest.targets)}, input {_size_list(summary)} (height x width), "
        f"made in {summary.seconds:.0f} s"
    )
    header = ("engine", "layers", "size", "built in", "layers with products, by precision")
    return "\n".join((head, "", format_table(header, rows)))


def _plan_line(summary: BuildSummary) -> str:
    model = summary.manifest.model
    return (
        f"{printable(str(summary.path), 200)}  {summary.size / 1e6:.1f} MB, "
        f"{printable(model.name)} ({model.family}), {summary.manifest.precision}"
    )


def _size_list(summary: BuildSummary) -> str:
    return ", ".join(size_key(size) for size in summary.manifest.input.sizes)


def _precisions(layers: Mapping[str, Mapping[str, int]]) -> str:
    """Return counts in a line: ``Conv 25 int8, 32 fp16; attention 12 fp16``."""
    return (
        "; ".join(
            f"{role} " + ", ".join(f"{number} {name}" for name, number in sorted(by.items()))
            for role, by in layers.items()
        )
        or "-"
    )
