"""The command line of training; imports no framework."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.export.download import fetch_checkpoint
from xdecoder_rt.export.sources import is_plan
from xdecoder_rt.tasks import TASKS
from xdecoder_rt.training.config import (
    SCHEDULES,
    TRAIN_ONLY,
    TRAINING_PRECISIONS,
    LossWeights,
    SourceSpec,
    TrainConfig,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of training to a parser."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "data",
        nargs="+",
        metavar="DATA[=WEIGHT]",
        help="labelled folder, bank of pictures, COCO's panoptic_*.json or captions_*.json, VQA's "
        "*_questions.json or RefCOCO's refs(...).p, with #SPLIT for another than train; "
        "#stored after a file: its maps were drawn on pixels as stored, not turned by EXIF; "
        "#nothing after one: unlabelled pixels show nothing of its categories; commas "
        "join files of the same images; WEIGHT is the share of the samples (default 1)",
    )
    data.add_argument(
        "--validation",
        type=Path,
        nargs="+",
        default=(),
        metavar="DATA",
        help="held-out data to measure during training, named as DATA",
    )
    data.add_argument("--size", type=int, help="side of the square training images, in pixels")
    data.add_argument("--batch-size", type=int, help="images a step (a process, under torchrun)")
    data.add_argument("--workers", type=int, help="data loading processes; 0: none of their own")
    data.add_argument("--vocabulary-size", type=int, help="names each step classifies against")

    tasks = parser.add_argument_group("tasks")
    tasks.add_argument(
        "--tasks",
        type=_split_names,
        metavar="TASK,...",
        help=f"what to train, where the data have it: some of {', '.join(TASKS)} (default: all)",
    )
    tasks.add_argument(
        "--train-only",
        choices=TRAIN_ONLY,
        help="what changes: all of the model; decoder: the query decoder, not the backbone, the "
        "pixel decoder and the text encoder; prompts: the queries and the class embedding; "
        "class-embedding: the projection into the space of texts alone",
    )
    tasks.add_argument("--caption-tokens", type=int, help="tokens of a caption that are learnt")
    tasks.add_argument(
        "--answers-per-step", type=int, help="answers that each step's questions choose from"
    )
    tasks.add_argument(
        "--retrieval-ensemble",
        action=argparse.BooleanOptionalAction,
        help="read the backbone too for retrieval, as the original does (default: as --init does)",
    )

    run = parser.add_argument_group("run")
    run.add_argument("-o", "--out", type=Path, default=Path("runs/train"), help="folder of the run")
    length = run.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="length of the run in steps")
    length.add_argument(
        "--minutes",
        type=float,
        help="length of the run in minutes; the learning rate reaches its end when they are used "
        "up, however fast the machine is, and interruptions do not count",
    )
    run.add_argument(
        "--init",
        metavar="FILE",
        help="checkpoint to start from (fine-tuning): starter for the one that comes with this "
        "package, a model.safetensors of an earlier run, or a published X-Decoder's; also its "
        "address, hf://owner/name/file[@revision] or https://..., with #sha256=... to demand a "
        "digest; or a plan, for the checkpoint that it was built from, sought beside it, in "
        "folders beside it and in runs/",
    )
    run.add_argument(
        "--offline",
        action="store_true",
        help="take the address in --init from the cache and ask nobody (also: HF_HUB_OFFLINE=1)",
    )
    run.add_argument("--resume", action="store_true", help="go on with the run in --out, if any")
    run.add_argument("--seed", type=int)
    run.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    run.add_argument("--precision", choices=TRAINING_PRECISIONS)
    run.add_argument("--threads", type=int, help="CPU threads of the training process")
    run.add_argument("--checkpoint-minutes", type=float, help="minutes between saved states")
    run.add_argument("--validate-every", type=int, help="steps between validations; 0: at the end")
    run.add_argument("--validation-items", type=int, help="images of each held-out set; 0: all")
    run.add_argument("--log-every", type=int, help="steps between lines of metrics")
    run.add_argument(
        "--no-progress", dest="progress", action="store_false", help="show no progress bar"
    )

    optimiser = parser.add_argument_group("optimiser")
    optimiser.add_argument("--lr", type=float, help="peak learning rate")
    optimiser.add_argument("--backbone-lr-scale", type=float, help="factor for the backbone")
    optimiser.add_argument("--weight-decay", type=float)
    optimiser.add_argument(
        "--warmup-steps",
        type=int,
        help="steps of warm-up; it ends sooner where a tenth of the run is less",
    )
    optimiser.add_argument("--schedule", choices=SCHEDULES)
    optimiser.add_argument("--clip-norm", type=float, help="largest gradient norm; 0: no clipping")
    optimiser.add_argument("--ema-decay", type=float, help="decay of the averaged weights")
    optimiser.add_argument(
        "--train-norm",
        dest="freeze_norm",
        action="store_false",
        help="update the backbone's batch normalisation statistics",
    )

    optimiser.add_argument(
        "--freeze-backbone",
        action="store_true",
        help="leave the backbone as it is, weights and statistics: what it knows from the "
        "checkpoint, or from ImageNet, stays, and a step costs less",
    )
    optimiser.add_argument(
        "--freeze-text",
        action="store_true",
        help="leave the text encoder as it is: words stay where the checkpoint has them, and a "
        "step costs half as much",
    )

    words = parser.add_argument_group("words")
    words.add_argument(
        "--teacher",
        type=Path,
        metavar="FILE",
        help="words to learn from a sentence encoder beside the tasks, made by "
        "python -m xdecoder_rt.training.distillation; for xdecoder-rt train also a plan, which "
        "labels the pictures that have no labels (see --words-file)",
    )
    words.add_argument("--lesson-size", type=int, help="words of the teacher a step")

    losses = parser.add_argument_group("losses")
    losses.add_argument("--points", type=int, help="points a mask's loss is taken on")
    losses.add_argument("--matching-points", type=int, help="points the matching looks at")
    for name in LossWeights.__dataclass_fields__:
        losses.add_argument(f"--{name}-weight", type=float, help=f"weight of the {name} term")
    _show_defaults(parser)


def config_from_args(args: argparse.Namespace) -> TrainConfig:
    """Return the settings that a command line asks for.

    Args:
        args: what a parser with :func:`add_arguments` has parsed.

    Raises:
        ArgumentError: a value is out of range, or the teacher is a plan.
        CheckpointError: the checkpoint to start from cannot be downloaded.
    """
    settings = {name: value for name, value in vars(args).items() if value is not None}
    weights = {
        name.removesuffix("_weight"): settings.pop(name)
        for name in list(settings)
        if name.endswith("_weight")
    }
    if args.teacher is not None and is_plan(args.teacher):
        raise ArgumentError(
            f"The teacher {quoted(str(args.teacher), 200)} is a plan",
            expected="a file of a teacher's words",
            fix="label pictures with it by xdecoder-rt label, and train on its labels",
        )
    if args.init is not None:
        settings["init"] = fetch_checkpoint(args.init, offline=args.offline, progress=_note)
    fields = TrainConfig.__dataclass_fields__
    return TrainConfig(
        sources=tuple(SourceSpec.parse(text) for text in args.data),
        validation=tuple(settings.pop("validation")),
        losses=LossWeights(**weights),
        **{name: value for name, value in settings.items() if name in fields},
    )


def _note(step: str) -> None:
    from tqdm import tqdm

    tqdm.write(step, file=sys.stderr)


def _split_names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _show_defaults(parser: argparse.ArgumentParser) -> None:
    """Put the defaults of `TrainConfig` and `LossWeights` into the help texts, from one place."""
    fields = TrainConfig.__dataclass_fields__
    weights = LossWeights()
    for action in parser._actions:
        if action.dest.endswith("_weight"):
            default: object = getattr(weights, action.dest.removesuffix("_weight"))
        elif action.dest in fields and action.nargs != 0 and action.default is None:
            default = fields[action.dest].default
        else:
            continue
        if default is not None and "default" not in (action.help or ""):
            action.help = f"{action.help or ''} (default {default})".strip()
