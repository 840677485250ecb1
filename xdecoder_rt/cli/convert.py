"""``xdecoder-rt convert``: the tensors of a PyTorch file, as safetensors."""

from __future__ import annotations

import argparse
from pathlib import Path

from xdecoder_rt.cli.options import add_json, add_offline
from xdecoder_rt.cli.output import CommandReport, is_same_file, note
from xdecoder_rt.errors import ArgumentError, printable, quoted, require
from xdecoder_rt.export.download import fetch_checkpoint
from xdecoder_rt.files.output_file import check_writable

SUMMARY = "take the tensors alone out of a .pt file, as .safetensors"
DESCRIPTION = """\
Write the tensors of a PyTorch file (.pt, .pth, .ckpt) to a .safetensors file, in their own element
types. A .pt file is a pickle, which runs what its maker wrote into it when it is loaded; this
command reads it without running anything. What a training keeps around the tensors (optimizers,
counters, objects of its classes) is left out, and so are the prefixes module. and model. of names.
The file appears whole or not at all. This needs the extra "export" (pip install
"xdecoder_rt[export]").
"""
EXAMPLES = """\
  xdecoder-rt convert xdecoder_focalt_last.pt xdecoder_focalt_last.safetensors
  xdecoder-rt info xdecoder_focalt_last.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``convert``."""
    parser.add_argument(
        "input",
        metavar="IN.pt",
        help="the PyTorch file to read, or its address: hf://owner/name/file[@revision] or "
        "https://...",
    )
    parser.add_argument(
        "output", type=Path, metavar="OUT.safetensors", help="the safetensors file to write"
    )
    add_offline(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the tensors.

    Raises:
        CheckpointError: the input holds no tensors, is cut or damaged, or cannot be downloaded.
        ArgumentError: the output cannot be written, or is the input.
    """
    report: CommandReport = args.command_report
    check_writable(args.output, "the tensors")
    source = fetch_checkpoint(args.input, offline=args.offline, progress=note)
    if is_same_file(source, args.output):
        raise ArgumentError(
            f"{quoted(str(args.output), 100)} is the input itself", expected="another file"
        )
    require("torch", "export")
    from xdecoder_rt.models.weights_file import open_weights, save_weights

    weights = open_weights(source, allow_foreign=True)
    try:
        save_weights(args.output, weights.tensors)
    except OSError as error:
        raise ArgumentError(
            f"{quoted(str(args.output), 100)} cannot be written: {error.strerror or error}"
        ) from error
    if weights.unusual:
        names = ", ".join(printable(name, 80) for name in list(weights.unusual)[:3])
        note(f"warning: {len(weights.unusual)} sparse or quantised tensors were left out: {names}")
    if weights.foreign:
        names = ", ".join(printable(name, 60) for name in weights.foreign[:3])
        note(f"warning: objects were left out, of foreign classes: {names}")
    byte_count = args.output.stat().st_size
    report.text(
        f"{printable(str(args.output), 200)}  {byte_count / 1e6:.2f} MB, "
        f"{len(weights.tensors)} tensors"
    )
    report.document(
        {
            "file": str(args.output),
            "size": byte_count,
            "tensors": len(weights.tensors),
            "left_out": [*weights.unusual, *weights.beside],
            "foreign": list(weights.foreign),
        }
    )
    return 0
