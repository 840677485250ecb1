"""``xdecoder-rt train``: train or fine-tune a model."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xdecoder_rt.errors import ArgumentError, quoted, require
from xdecoder_rt.export.sources import is_plan
from xdecoder_rt.training import arguments

if TYPE_CHECKING:
    from xdecoder_rt.training.config import TrainConfig

SUMMARY = "train or fine-tune a model on labelled and described images"
DESCRIPTION = """\
Train a compact X-Decoder, or fine-tune one, on all tasks at once: labelled folders (see
xdecoder-rt eval --help), COCO's panoptic labels and captions, VQA's questions, RefCOCO's phrases;
several may be mixed, and each image takes part in what it has. The run's folder gets its state,
metrics and curves, and at the end model.safetensors, whose path is the only line on stdout. A run
that was interrupted goes on with --resume. Needs the extra "train":
pip install "xdecoder_rt[train]".

With --teacher PLAN, DATA without labels (folders of pictures, lists, videos) are labelled by that
plan first, as xdecoder-rt label does with the same --words-file, and the run learns from its
labels; they lie in labels/ of the run's folder. Data with labels may stand beside them.
"""
EXAMPLES = """\
  xdecoder-rt train scenes/train --minutes 60
  xdecoder-rt train scenes/train=2 coco/annotations/panoptic_train2017.json \\
      --validation scenes/held_out --steps 20000 -o runs/mixed
  xdecoder-rt train coco/annotations/panoptic_train2017.json,\
coco/annotations/captions_train2017.json 'refcoco/refs(unc).p' --minutes 600
  xdecoder-rt train kitchen/ --init starter --steps 500 -o runs/kitchen
  xdecoder-rt train kitchen/ --init runs/mixed/model.safetensors --train-only class-embedding \
      --tasks segment --steps 200 -o runs/names
  xdecoder-rt train pictures/ --init starter --teacher large.plan --words-file kitchen.txt \\
      --minutes 20 -o runs/small
  xdecoder-rt train scenes/train --minutes 60 --resume        go on after an interruption
  torchrun --nproc-per-node 4 -m xdecoder_rt.training scenes/train --steps 20000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``train``."""
    arguments.add_arguments(parser)
    parser.add_argument_group("teacher").add_argument(
        "--words-file",
        type=Path,
        metavar="FILE",
        help="what a --teacher that is a plan looks for, one class a line; [stuff] behind those "
        "without instances",
    )


def run(args: argparse.Namespace) -> int:
    """Train and print the path of the checkpoint.

    Raises:
        XDecoderError: a setting or the data are not usable.
    """
    plan = _teaching_plan(args)
    config = arguments.config_from_args(args)
    require("torch", "train")
    if plan is not None:
        config = _labelled(config, plan, args.words_file)
    from xdecoder_rt.training.trainer import train

    print(train(config))
    return 0


def _teaching_plan(args: argparse.Namespace) -> Path | None:
    """Take a plan out of ``--teacher``, whose other meaning is a file of words.

    Raises:
        ArgumentError: one of the two options of a teacher's labels is missing.
    """
    plan: Path | None = args.teacher
    if plan is None or not is_plan(plan):
        if args.words_file is not None:
            raise ArgumentError(
                "--words-file was given without a plan that looks for its words",
                fix="name the plan with --teacher",
            )
        return None
    if args.words_file is None:
        raise ArgumentError(
            f"--teacher names the plan {quoted(str(plan), 200)}, and --words-file is missing",
            expected="the words that it labels the pictures with",
        )
    args.teacher = None
    return plan


def _labelled(config: TrainConfig, plan: Path, words_file: Path) -> TrainConfig:
    """Let a plan label the sources that have no labels, and put its labels in their places.

    What an earlier call has labelled with the same plan and words is not asked again.

    Raises:
        ArgumentError: all sources have labels.
        XDecoderError: the plan, the words or the pictures are not usable.
    """
    from xdecoder_rt.cli.label import ShownProgress
    from xdecoder_rt.cli.output import note
    from xdecoder_rt.labelling.asking import EngineOptions, Request
    from xdecoder_rt.labelling.run import LabelOptions, label
    from xdecoder_rt.training.sources import holds_pictures_alone
    from xdecoder_rt.words.vocabulary import Vocabulary

    engine = EngineOptions(str(plan), threads=config.threads or None)
    request = Request(Vocabulary.load(words_file))
    sources = []
    for number, source in enumerate(config.sources):
        if holds_pictures_alone(source.path):
            output = config.out / "labels" / str(number)
            with ShownProgress() as progress:
                summary = label([str(source.path)], engine, request, LabelOptions(output), progress)
            for text in summary.notes:
                note(f"note: {text}")
            source = replace(source, path=output / "folder")
        sources.append(source)
    if tuple(sources) == config.sources:
        raise ArgumentError(
            f"All of the data have labels: there is nothing for {quoted(str(plan), 200)} to teach",
            expected="a folder of pictures, a list of them (.txt) or a video",
        )
    return replace(config, sources=tuple(sources))
