"""``xdecoder-rt extract``: a graph of a plan as a file of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from xdecoder_rt.cli.options import add_json, add_plan, size
from xdecoder_rt.cli.output import CommandReport
from xdecoder_rt.errors import ArgumentError, printable, quoted
from xdecoder_rt.files.output_file import check_writable, writer
from xdecoder_rt.plan.contents import graph_members, graph_size
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import Manifest, size_key

SUMMARY = "take an engine or an ONNX graph out of a plan, for other tools"
DESCRIPTION = """\
Write one graph of a plan to a file, after checking its digest: of a TensorRT plan a serialized
engine, as trtexec --loadEngine takes it; of a portable plan an ONNX model with its weights in it,
as trtexec --onnx, polygraphy or Netron take it. Without --graph it lists what there is.
"""
EXAMPLES = """\
  xdecoder-rt extract orin.plan                                   what there is
  xdecoder-rt extract orin.plan --graph vision -o vision.engine
  trtexec --loadEngine=vision.engine --dumpProfile --separateProfileRun
  xdecoder-rt extract model.plan --graph decode --size 288x512 -o decode.onnx
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``extract``."""
    add_plan(parser, positional=True)
    parser.add_argument(
        "--graph",
        metavar="NAME",
        help="vision, frame, decode, mask, text or token (default: list them)",
    )
    parser.add_argument(
        "--size",
        type=size,
        metavar="HxW",
        help="input size, of a plan with several (default: the only one)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the file to write")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the graph.

    Raises:
        PlanError: the file is not a sound plan.
        ArgumentError: there is no such graph, or the file cannot be written.
    """
    report: CommandReport = args.command_report
    if (args.graph is None) != (args.output is None):
        raise ArgumentError(
            "--graph and --output go together", expected="both, or none to list the graphs"
        )
    if args.output is not None:
        check_writable(args.output, "the graph")
    with Plan.open(args.plan) as plan:
        if args.graph is None:
            return _list_graphs(report, plan)
        member = _member(plan.manifest, args.graph, args.size)
        data = plan.graph(member)
        with writer(args.output, "the graph") as file:
            file.write(data)
        byte_count = len(data)
    report.text(
        f"{printable(str(args.output), 200)}  {byte_count / 1e6:.2f} MB, {printable(member)}"
    )
    report.document({"file": str(args.output), "member": member, "size": byte_count})
    return 0


def _list_graphs(report: CommandReport, plan: Plan) -> int:
    entries = [
        {"graph": graph, "for": key, "member": member, "size": graph_size(plan.manifest, member)}
        for graph, key, member in graph_members(plan.manifest.graphs)
    ]
    for entry in entries:
        report.text(
            f"{entry['graph']:8}{printable(str(entry['for'])):12}{printable(str(entry['member']))}"
        )
    report.document({"plan": str(plan.path), "graphs": entries})
    return 0


def _member(manifest: Manifest, graph: str, input_size: tuple[int, int] | None) -> str:
    """Return the member of a graph, for an input size where it has several."""
    members = {key: member for name, key, member in graph_members(manifest.graphs) if name == graph}
    if not members:
        raise ArgumentError(
            f"The plan has no graph {quoted(graph)}",
            expected="one of "
            + ", ".join(dict.fromkeys(name for name, _, _ in graph_members(manifest.graphs))),
        )
    if len(members) == 1 and (input_size is None or "any" in members):
        return next(iter(members.values()))
    if input_size is None or size_key(input_size) not in members:
        raise ArgumentError(
            f"The plan has {graph} graphs for {', '.join(members)}",
            expected="--size with one of them",
        )
    return members[size_key(input_size)]
