"""``xdecoder-rt export-triton``: a model repository for Triton Inference Server."""

from __future__ import annotations

import argparse
from pathlib import Path

from xdecoder_rt.cli.options import ALSO_AN_OPTION, add_json, positive
from xdecoder_rt.cli.output import CommandReport
from xdecoder_rt.errors import printable

SUMMARY = "write a model repository for Triton Inference Server around a plan"
DESCRIPTION = """\
Write DIR/NAME/ for Triton's Python backend: config.pbtxt, the model, and a copy of the plan. A
request has IMAGE, the bytes of an image file, and REQUEST, the JSON of /v1/run (xdecoder-rt serve
--help); ANSWER is JSON, too. Nothing is batched; --instances engines run side by side. Triton's
Python needs xdecoder_rt[serve].

Unverified: written by Triton's documentation and loaded by a stand-in, not yet by a Triton.
"""
EXAMPLES = """\
  xdecoder-rt export-triton model.plan triton
  xdecoder-rt export-triton int8.plan triton --name kitchen --instances 2 --threads 4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``export-triton``."""
    parser.add_argument("plan", metavar="PLAN", help=f"the plan; {ALSO_AN_OPTION}")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the repository")
    parser.add_argument(
        "--name", default="xdecoder", help="name of the model (default: %(default)s)"
    )
    parser.add_argument(
        "--instances",
        type=positive,
        default=1,
        metavar="N",
        help="engines that Triton opens (default: %(default)s)",
    )
    parser.add_argument("--backend", choices=("onnxruntime", "openvino"), help="of the engines")
    parser.add_argument("--threads", type=positive, metavar="N", help="of each engine")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the repository and say where.

    Raises:
        XDecoderError: it is no plan, or the repository cannot be written.
    """
    from xdecoder_rt.serving.triton_repository import write_repository

    report: CommandReport = args.command_report
    folder = write_repository(
        Path(args.plan), args.folder, args.name, args.instances, args.backend, args.threads
    )
    report.text(printable(str(folder), 200))
    report.document({"plan": str(args.plan), "model": str(folder), "complete": True})
    return 0
