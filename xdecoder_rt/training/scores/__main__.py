"""``python -m xdecoder_rt.training.scores``: scores of a compact model that mean something."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xdecoder_rt.errors import ArgumentError, exit_status, require
from xdecoder_rt.files.output_file import prepare_output, writer
from xdecoder_rt.masks.score_curve import CURVE_KINDS

_DESCRIPTION = """\
Fit curves from a model's scores to how often answers of such a score are right, for panoptic and
instance output and for phrases, on labelled images that it was not trained on; and choose least
scores at which nothing is found, mostly, of what is not there. The checkpoint that is written has
both; what plans made of it report, and take as min_score, is on that scale. Nothing else changes.
"""
_EXAMPLES = """\
examples:
  python -m xdecoder_rt.training.scores fit runs/model.safetensors data/photo_val data/scenes_val \\
    -o runs/calibrated.safetensors --json runs/scores.json
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m xdecoder_rt.training.scores",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fit = commands.add_parser("fit", help="write a checkpoint with curves")
    fit.add_argument("checkpoint", help="a compact checkpoint, its address, or starter")
    fit.add_argument(
        "data", type=Path, nargs="+", metavar="DATA", help="labelled data, as train takes it"
    )
    fit.add_argument("-o", "--out", type=Path, required=True, help="the checkpoint to write")
    fit.add_argument("--json", type=Path, help="write what the curves are worth")
    fit.add_argument("--limit", type=int, metavar="N", help="first images of each (default: all)")
    fit.add_argument(
        "--silent",
        nargs="+",
        default=["refer=0.95"],
        metavar="KIND=SHARE",
        help=f"least scores by default ({', '.join(CURVE_KINDS)}) such that nothing is found in "
        "this share of images that are asked for what is not there (default: refer=0.95)",
    )
    fit.add_argument("--seed", type=int, default=0, help="of what is asked (default: 0)")
    return parser


def _silent_shares(given: Sequence[str]) -> dict[str, float]:
    shares = {}
    for text in given:
        kind, _, share = text.partition("=")
        try:
            shares[kind] = float(share)
        except ValueError:
            shares[kind] = -1.0
        if kind not in CURVE_KINDS or not 0 <= shares[kind] <= 1:
            raise ArgumentError(
                f"--silent has {text[:80]!r}",
                expected=f"KIND=SHARE with one of {', '.join(CURVE_KINDS)} and 0 to 1",
            )
    return shares


def _fit(arguments: argparse.Namespace) -> str:
    for module in ("torch", "safetensors", "scipy"):
        require(module, "train")
    from tqdm import tqdm

    from xdecoder_rt import Engine
    from xdecoder_rt.export.download import fetch_checkpoint
    from xdecoder_rt.export.pipeline import build
    from xdecoder_rt.export.sources import load_model
    from xdecoder_rt.models import save_checkpoint
    from xdecoder_rt.training.scores.answers import collect_answers
    from xdecoder_rt.training.scores.fitting import fit_scores
    from xdecoder_rt.training.sources import open_dataset

    if arguments.limit is not None and arguments.limit < 1:
        raise ArgumentError(f"--limit is {arguments.limit}", expected="1 or more")
    silent = _silent_shares(arguments.silent)
    prepare_output(arguments.out, "the checkpoint")
    if arguments.json is not None:
        prepare_output(arguments.json, "what the curves are worth")
    datasets = [open_dataset(path) for path in arguments.data]
    checkpoint = fetch_checkpoint(arguments.checkpoint)
    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as folder:
        model = load_model(checkpoint)
        model.drop_curves()
        bare, plan = Path(folder) / "bare.safetensors", Path(folder) / "bare.plan"
        save_checkpoint(bare, model)
        build(bare, plan)
        watch = partial(tqdm, unit="image", disable=None)
        with Engine(plan) as engine:
            answers = collect_answers(engine, datasets, arguments.limit, arguments.seed, watch)
    reports = fit_scores(checkpoint, arguments.out, answers, silent)
    if arguments.json is not None:
        with writer(arguments.json, "what the curves are worth") as file:
            file.write(json.dumps(reports, indent=1).encode() + b"\n")
    return _said(reports)


def _said(reports: dict[str, Any]) -> str:
    lines = ["kind | answers | right | error before | after | min_score | silent | kept"]
    for kind, report in reports.items():
        least = "-" if report["min_score"] is None else f"{report['min_score']:.2f}"
        lines.append(
            f"{kind} | {report['answers']} | {report['right']:.1%} | {report['error_before']:.3f} "
            f"| {report['error_after']:.3f} | {least} | {report['silent']:.1%} "
            f"| {report['kept']:.1%}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 after an error, in one line, or 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    return exit_status(lambda: _fit(arguments))


if __name__ == "__main__":
    sys.exit(main())
