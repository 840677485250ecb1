"""``xdecoder-rt eval``: score a plan on labelled images."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdecoder_rt.cli.images import open_engine
from xdecoder_rt.cli.options import (
    ALSO_AN_OPTION,
    add_engine,
    add_json,
    add_thresholds,
    positive,
    task_names,
)
from xdecoder_rt.cli.output import CommandReport
from xdecoder_rt.errors import ArgumentError, require
from xdecoder_rt.evaluation.protocols import PROTOCOLS
from xdecoder_rt.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from xdecoder_rt.engine import Engine
    from xdecoder_rt.evaluation.report import EvaluationReport

SUMMARY = "score a plan on a labelled folder, or on a public data set as published"
DESCRIPTION = """\
Ask a plan all that a labelled folder has labels or texts for, and score the answers (0 to 100):

  segment  the folder's whole vocabulary in every image: panoptic quality (PQ = SQ x RQ, the
           definition of COCO panoptic), mean IoU of the semantic maps, the time of an image, and
           the share of an image that goes to words for what is not in it (less is better)
  refer    each phrase alone, against the union of the segments it means: cumulative IoU, mean IoU,
           and the share of phrases with an IoU of at least 0.5
  embed    images sought by their captions, captions by their images: recall at 1 and 5
  caption  one caption an image, against the item's: CIDEr (times 100, may exceed 100) and BLEU-4;
           needs: pip install "xdecoder_rt[eval]"
  answer   each question, with its choices if it has any: the accuracy of VQA; with fewer than four
           answers to compare with, being one of them is right

Every image is encoded once for all of them. Unlabelled pixels are ignored but for phrases and
absent words, and how much was not scored for that is said, unless annotations.json declares
"unlabelled": "nothing": nothing of the vocabulary is there, and what is found there is wrong. A
task that the folder has no texts for is left out; one that the plan lacks is null in the JSON, with
a warning.

The folder holds images, one-channel 8-bit PNGs of segment ids (0 = unlabelled), and
annotations.json: {"vocabulary": [...], "stuff": [...], "items": [{"image", "panoptic", "segments":
[{"id", "label", "isthing", "area"}], "phrases": [{"text", "ids"}], "captions": [...],
"questions": [{"text", "answers", "choices"}]}]}, with paths relative to the folder; phrases,
captions, questions and choices may be absent.

YOLO-seg's data.yaml, COCO's instances and panoptic labels, labelme's files and masks with a
labelmap.txt are read as well, as xdecoder-rt train reads them (docs/training.md).

With --protocol the folder is a public data set as it is distributed, and one of X-Decoder's
published figures is measured as its authors did: classes, object threshold, which mask is compared
with what. A plan whose sizes, interpolation or rules are not the protocol's is told so. Needs: pip
install "xdecoder_rt[eval]".
"""
EXAMPLES = """\
  xdecoder-rt eval model.plan scenes/held_out
  xdecoder-rt eval model.plan scenes/held_out --tasks refer,answer
  xdecoder-rt eval model.plan scenes/held_out --json scores.json    JSON there, the table on stdout
  xdecoder-rt eval model.plan scenes/held_out --json | jq .panoptic.pq
  xdecoder-rt eval model.plan scenes/held_out --limit 20 --threads 2
  xdecoder-rt eval model.plan yolo/data.yaml#val
  xdecoder-rt eval model.plan coco --protocol coco --json scores.json
  xdecoder-rt eval model.plan ADEChallengeData2016 --protocol ade20k --limit 100
  xdecoder-rt eval model.plan refer/data --protocol refcoco --split testA
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``eval``."""
    parser.add_argument("plan", metavar="PLAN", help=f"the plan to score; {ALSO_AN_OPTION}")
    parser.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="the labelled folder, any data set that xdecoder-rt train reads, or with --protocol "
        "the public data set",
    )
    parser.add_argument(
        "--tasks",
        type=task_names,
        metavar="TASK,...",
        help=f"only these, joined by commas: {','.join(TASKS)} (default: all)",
    )
    parser.add_argument(
        "--protocol",
        choices=tuple(PROTOCOLS),
        metavar="NAME",
        help=f"measure a published figure: {', '.join(PROTOCOLS)}",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="with --protocol: another split than the published one, such as testA or train2017",
    )
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N images (default: all)"
    )
    add_thresholds(parser, "the plan's")
    parser.add_argument(
        "--no-progress", dest="progress", action="store_false", help="show no progress bar"
    )
    add_json(parser)
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table, write the JSON; when stopped, those of the images done.

    Raises:
        PlanError: the plan is not usable.
        DatasetError: the folder is not a labelled folder or that data set, or has nothing to score.
        ArgumentError: --tasks or a threshold is given with --protocol, or --split without.
    """
    said = ("tasks", "object_threshold", "overlap_threshold")
    given = [name for name in said if getattr(args, name) is not None]
    if args.protocol is not None and given:
        raise ArgumentError(
            f"--{given[0].replace('_', '-')} is given with --protocol, which says what is measured "
            "and how",
            fix="leave it out",
        )
    if args.protocol is None and args.split is not None:
        raise ArgumentError(
            "--split is given without --protocol: a labelled folder has no splits",
            fix="leave it out, or add --protocol",
        )
    report: CommandReport = args.command_report
    require("tqdm", "train")
    document: dict[str, Any] = {}

    def tell(scores: EvaluationReport) -> None:
        document.update(scores.to_json())
        report.text(scores.table())

    with report.kept(document), open_engine(args) as engine:
        tell(_scores(engine, args, tell))
    return 0


def _scores(
    engine: Engine, args: argparse.Namespace, tell: Callable[[EvaluationReport], None]
) -> EvaluationReport:
    """Evaluate; `tell` takes the scores so far where it is stopped."""
    if args.protocol is not None:
        from xdecoder_rt.datasets.published import open_published
        from xdecoder_rt.evaluation.published import evaluate_published

        protocol = PROTOCOLS[args.protocol]
        data = open_published(protocol.reader, args.folder, protocol.classes, args.split)
        return evaluate_published(
            engine,
            data,
            protocol,
            limit=args.limit,
            progress=args.progress,
            when_stopped=tell,
        )
    from xdecoder_rt.datasets.labelled_folder import ANNOTATIONS, LabelledFolder
    from xdecoder_rt.evaluation.evaluate import evaluate
    from xdecoder_rt.training.sources import open_dataset

    # A labelled folder is read whole before the first image, so that nothing fails after hours.
    is_folder = os.path.isdir(args.folder) and os.path.isfile(args.folder / ANNOTATIONS)
    return evaluate(
        engine,
        LabelledFolder.open(args.folder) if is_folder else open_dataset(args.folder),
        tasks=tuple(TASKS) if args.tasks is None else args.tasks,
        limit=args.limit,
        progress=args.progress,
        object_threshold=args.object_threshold,
        overlap_threshold=args.overlap_threshold,
        when_stopped=tell,
    )
