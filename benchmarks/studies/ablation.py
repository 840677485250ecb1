"""Trains the starter's recipe shortly with one thing changed at a time, and measures each run.

    python benchmarks/studies/ablation.py data \\
        --validation scenes/workcell_val scenes/clipart_novel \\
        -o docs/measured/ablation.md --json benchmarks/results/ablation.json

`data` is a folder that `examples/train_starter.sh` has filled: `bank`, `workcell`, `teacher.npz`,
`taught.safetensors`, and for the arm `stored scenes` also `clipart`, a labelled folder of the split
`train`. Every arm takes as many steps of as many images with the same seed, from ImageNet's
backbone and the taught text encoder, unless that is what it changes; only segmentation and phrases
are trained. `second seed` and `third seed` are the recipe again: what they differ by is noise.

An arm is measured on the averaged weights, in the square it was trained in, by the trainer's
validation (`miou` of masks, `accuracy`, `name_rank`) and, as a plan, by `xdecoder-rt eval` (PQ,
mIoU, P@0.5 of phrases, area of absent words). An arm whose JSON is in the folder of runs is not
run again, and an interrupted one goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from ablation_arms import ARMS, REPEATS, Arm

from xdecoder_rt import Engine
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cli.options import positive
from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.errors import XDecoderError
from xdecoder_rt.evaluation.evaluate import evaluate
from xdecoder_rt.export.portable import build_portable
from xdecoder_rt.files.output_file import check_writable
from xdecoder_rt.models import XDecoder, load_checkpoint, save_checkpoint
from xdecoder_rt.models.checkpoint import read_tensors
from xdecoder_rt.training.config import SourceSpec, TrainConfig
from xdecoder_rt.training.distributed import World
from xdecoder_rt.training.finetuning import build_model
from xdecoder_rt.training.trainer import CHECKPOINT, STATE, Trainer
from xdecoder_rt.training.validation import validate
from xdecoder_rt.words.tokenizer import ClipTokenizer

BEGIN, END = "<!-- written by benchmarks/tables.py: ablation -->", "<!-- end -->"
CPU = torch.device("cpu")
TASKS = ("segment", "refer")
BATCH_OF_VALIDATION = 16

Scores = dict[str, float]

# Each measure: its heading, and whether more is better.
MEASURES = {
    "pq": ("PQ", True),
    "semantic_miou": ("mIoU", True),
    "absent_area": ("absent words, % of area", False),
    "miou": ("IoU of the best masks", True),
    "accuracy": ("names right", True),
    "name_rank": ("names outranked", True),
    "p_at_50": ("phrases P@0.5", True),
}


def run_arm(name: str, arm: Arm, args: argparse.Namespace) -> dict[str, Any]:
    """Train an arm and measure it."""
    began = time.monotonic()
    out = args.runs / (arm.raw or name)
    out.mkdir(parents=True, exist_ok=True)
    sources = arm.sources(args.data, args.runs)
    config = TrainConfig(
        sources=tuple(SourceSpec(args.data / source) for source in sources),
        out=out,
        init=_start(args.data / "taught.safetensors", arm.fresh, args.runs),
        **settings_of(arm, args),
    )
    if arm.raw:
        model = raw_weights(out)
    else:
        torch.manual_seed(config.seed)
        model = build_model(config)
        tokenizer = ClipTokenizer.default(model.config.context_length)
        world = World.from_environment()
        trainer = Trainer(config, model, tokenizer, list(sources.values()), {}, world, CPU)
        trainer.run()
        if not trainer.progress.finished:
            raise XDecoderError(f"{name} was interrupted", fix="run the same command again")
        model = load_checkpoint(out / CHECKPOINT)
    trained = time.monotonic() - began
    plan = args.runs / f"{name}.plan"
    build_portable(model, plan, sizes=[(config.size, config.size)], tasks=TASKS)
    scores = {
        folder.name: measure(model, folder, config.size, args.limit, plan)
        for folder in args.validation
    }
    return {
        "arm": name,
        "about": arm.about,
        "recipe": config.recipe(),
        "seconds": round(trained, 1),
        "scores": scores,
    }


def settings_of(arm: Arm, args: argparse.Namespace) -> dict[str, Any]:
    """The trainer's settings: the starter's, shortened, with what the arm changes."""
    return {
        "steps": args.steps,
        "size": args.size,
        "batch_size": args.batch_size,
        "lr": args.lr,
        "warmup_steps": args.steps // 15,
        "backbone_lr_scale": 0.3,
        "ema_decay": 0.997,
        "vocabulary_size": args.vocabulary_size,
        "lesson_size": args.lesson_size,
        "teacher": args.data / "teacher.npz",
        "points": 320,
        "matching_points": 512,
        "tasks": TASKS,
        "precision": args.precision,
        "validate_every": 0,
        "workers": 0,
        "threads": args.threads,
        "resume": True,
        "checkpoint_minutes": 2.0,
        "progress": False,
    } | dict(arm.settings)


def _start(taught: Path, fresh: str, runs: Path) -> Path:
    """Return the checkpoint to start from; a part of it may be drawn anew."""
    if not fresh:
        return taught
    path = runs / f"{fresh}safetensors"
    if not path.exists():
        model = load_checkpoint(taught)
        torch.manual_seed(0)
        fresh_weights = XDecoder(model.config).state_dict()
        model.load_state_dict(
            {k: v for k, v in fresh_weights.items() if k.startswith(fresh)}, strict=False
        )
        save_checkpoint(path, model)
    return path


def raw_weights(run: Path) -> XDecoder:
    """Return a run's weights as they were after its last step."""
    model = load_checkpoint(run / CHECKPOINT)
    tensors, _ = read_tensors(run / STATE)
    prefix = "model/"
    model.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
    return model.eval()


def measure(model: XDecoder, folder: Path, size: int, limit: int, plan: Path) -> Scores:
    """Return all measures of a model on a labelled folder, 0 to 100."""
    dataset = LabelledFolder.open(folder, verify=False)
    tokenizer = ClipTokenizer.default(model.config.context_length)
    quick = validate(model, tokenizer, dataset, limit, size, BATCH_OF_VALIDATION, CPU, TASKS)
    with Engine(plan) as engine:
        report = evaluate(engine, dataset, tasks=TASKS, limit=limit, progress=False)
    assert report.panoptic and report.semantic and report.absent and report.referring
    return {
        "pq": report.panoptic.pq,
        "semantic_miou": report.semantic.miou,
        "absent_area": report.absent.area,
        "miou": 100 * quick["miou"],
        "accuracy": 100 * quick["accuracy"],
        "name_rank": 100 * quick["name_rank"],
        "p_at_50": report.referring.p_at_50,
    }


def report(results: Sequence[Mapping[str, Any]], folders: Sequence[str], command: str) -> str:
    """Return the page of all results, with the comments that `tables.py` looks for.

    Args:
        results: what `run_arm` gave, in the order of the rows.
        folders: the columns.
        command: what made it.
    """
    lines = ["# One lever at a time", "", f"`{command}`", "", BEGIN, tables(results, folders), END]
    return "\n".join(lines) + "\n"


def tables(results: Sequence[Mapping[str, Any]], folders: Sequence[str]) -> str:
    """Return the Markdown of all results: means over the folders, and a table for each measure.

    Args:
        results: what `run_arm` gave, in the order of the rows.
        folders: the columns.
    """
    lines = [
        "Means over the held-out folders; bold where they are farther from the mean of the "
        "recipe's seeds than these are apart:",
        "",
    ]
    lines += _head(["arm", "what is changed", *(_heading(m) for m in MEASURES)])
    mean_scores = {
        r["arm"]: [fmean(r["scores"][f][m] for f in folders) for m in MEASURES] for r in results
    }
    repeats = [mean_scores[name] for name in REPEATS if name in mean_scores] or list(
        mean_scores.values()
    )
    seeds = list(zip(*repeats, strict=True))
    for result in results:
        cells = [
            f"**{_format_score(mean)}**"
            if abs(mean - fmean(noise)) > max(noise) - min(noise)
            else _format_score(mean)
            for mean, noise in zip(mean_scores[result["arm"]], seeds, strict=True)
        ]
        lines.append(_row([result["arm"], result["about"], *cells]))
    for measure in MEASURES:
        lines += ["", f"{_heading(measure)}:", "", *_head(["arm", *folders])]
        for result in results:
            cells = [_format_score(result["scores"][folder][measure]) for folder in folders]
            lines.append(_row([result["arm"], *cells]))
    return "\n".join(lines)


def _heading(measure: str) -> str:
    name, more_is_better = MEASURES[measure]
    return name if more_is_better else f"{name} (less is better)"


def _format_score(value: float) -> str:
    return f"{value:.1f}"


def _head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), _row(["---"] * len(cells))]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_json(path: Path, value: object) -> None:
    with atomic_writer(path) as file:
        file.write(json.dumps(value, indent=1).encode() + b"\n")


def finished(runs: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """The results that there are, in the order of the names."""
    paths = [runs / f"{name}.json" for name in names]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def arm_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: some of {'; '.join(ARMS)}")
    return names


def main() -> int:
    """Read the command line, run the arms that are missing, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="what examples/train_starter.sh made")
    parser.add_argument("--validation", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--arms", type=arm_names, default=list(ARMS), metavar="NAME,...")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="%(default)s")
    parser.add_argument("--steps", type=positive, default=300, help="default: %(default)s")
    parser.add_argument("--size", type=positive, default=128, help="default: %(default)s")
    parser.add_argument("--batch-size", type=positive, default=8, help="default: %(default)s")
    parser.add_argument(
        "--vocabulary-size", type=positive, default=256, help="default: %(default)s"
    )
    parser.add_argument("--lesson-size", type=positive, default=64, help="default: %(default)s")
    parser.add_argument("--lr", type=float, default=1e-3, help="default: %(default)s")
    parser.add_argument("--precision", default="bf16", help="default: %(default)s")
    parser.add_argument("--threads", type=positive, default=1, help="default: %(default)s")
    parser.add_argument("--limit", type=positive, default=40, help="images of each folder")
    parser.add_argument("--pid-file", type=Path, help="where to write this process's id")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MARKDOWN")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also the settings and results")
    args = parser.parse_args()
    if args.pid_file:
        args.pid_file.write_text(f"{os.getpid()}\n")
    args.runs.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", *sys.argv])
    folders = [folder.name for folder in args.validation]
    try:
        for output in (args.output, args.json):
            if output is not None:
                check_writable(output, "the results")
        for name in args.arms:
            path = args.runs / f"{name}.json"
            if not path.exists():
                print(f"{name} …", flush=True)
                write_json(path, run_arm(name, ARMS[name], args))
            results = finished(args.runs, list(ARMS))
            with atomic_writer(args.output) as file:
                file.write(report(results, folders, command).encode())
            if args.json:
                write_json(args.json, results)
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(args.output.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
