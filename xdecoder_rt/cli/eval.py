"""``xdecoder-rt eval``: score a plan on labelled images."""

from __future__ import annotations

import argparse
from pathlib import Path

from xdecoder_rt.cli.options import add_engine, add_json, positive
from xdecoder_rt.cli.output import Report
from xdecoder_rt.errors import require

SUMMARY = "score a plan on a labelled folder: PQ, mIoU, time"
DESCRIPTION = """\
Ask a plan for the whole vocabulary of a labelled folder in every image, and score the answers:
panoptic quality (PQ = SQ x RQ, the definition of COCO panoptic), mean IoU of the semantic maps, and
the time of an image. Scores are 0 to 100; unlabelled pixels are ignored.

The folder holds images, one-channel 8-bit PNGs of segment ids (0 = unlabelled), and
annotations.json: {"vocabulary": [...], "stuff": [...], "items": [{"image", "panoptic", "segments":
[{"id", "label", "isthing", "area"}], ...}]}, with paths relative to the folder.
"""
EXAMPLES = """\
  xdecoder-rt eval model.plan scenes/held_out
  xdecoder-rt eval model.plan scenes/held_out --json scores.json    JSON there, the table on stdout
  xdecoder-rt eval model.plan scenes/held_out --json | jq .panoptic.pq
  xdecoder-rt eval model.plan scenes/held_out --limit 20 --threads 2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``eval``."""
    parser.add_argument("plan", metavar="PLAN", help="the plan to score")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the labelled folder")
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N images (default: all)"
    )
    parser.add_argument(
        "--no-progress", dest="progress", action="store_false", help="show no progress bar"
    )
    add_json(parser)
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table, write the JSON.

    Raises:
        PlanError: the plan is not usable.
        DatasetError: the folder is not a labelled folder.
    """
    report = Report(args.json)
    require("tqdm", "train")
    from xdecoder_rt.engine import Engine
    from xdecoder_rt.evaluation.evaluate import evaluate
    from xdecoder_rt.evaluation.labelled_folder import LabelledFolder

    with Engine(
        args.plan, backend=args.backend, threads=args.threads, cache_dir=args.cache_dir
    ) as engine:
        folder = LabelledFolder.open(args.folder)
        scores = evaluate(engine, folder, limit=args.limit, progress=args.progress)
    report.text(scores.table())
    report.document(scores.to_json())
    return 0
