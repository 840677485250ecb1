"""Trains the starter on with one thing changed at a time, and asks photographs what it is worth.

    python benchmarks/studies/photograph_ablation.py data --photographs data/photographs \\
        --validation data/workcell_val data/clipart_val data/photo_val

`data` holds three banks: `bank`, what the starter was trained with; `stamps`, stamps and
photographed grounds; `larger`, both and furniture (the last two by `python -m xdecoder_rt.scenes
bank`). `--photographs` is what `photographs.py collect` wrote. Where `ablation.py` begins from
ImageNet's backbone, every arm here begins from the starter, without its classifier of regions, and
takes as many steps of as many images; segmentation and phrases alone are trained. `second seed` is
the reference again: what the two differ by is noise.

Measured on the averaged weights: the masks' IoU and the names by the trainer's validation in the
square of the training; PQ, P@0.5 of phrases and the photographs' points by a plan. All arms are
trained before the first is measured; what is there is not made again, and an interrupted training
goes on.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from ablation import CPU, TASKS, finished, write_json
from photograph_arms import ARMS, REPEATS, Arm
from photographs import measure as measure_photographs

from xdecoder_rt import Engine
from xdecoder_rt.cli.options import positive
from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.errors import XDecoderError
from xdecoder_rt.evaluation.evaluate import evaluate
from xdecoder_rt.export.portable import build_portable
from xdecoder_rt.export.sources import STARTER
from xdecoder_rt.files.output_file import check_writable
from xdecoder_rt.models import XDecoder, load_checkpoint
from xdecoder_rt.training.config import SourceSpec, TrainConfig
from xdecoder_rt.training.distributed import World
from xdecoder_rt.training.finetuning import build_model
from xdecoder_rt.training.trainer import CHECKPOINT, Trainer
from xdecoder_rt.training.validation import validate
from xdecoder_rt.words.tokenizer import ClipTokenizer

SIZE = (448, 448)
RESULTS = Path(__file__).parents[1] / "results" / "photograph_ablation.json"
# Each measure of the folders, and each share of the photographs' points, with its heading.
MEASURES = {
    "miou": "masks' IoU",
    "accuracy": "names right",
    "p_at_50": "P@0.5",
    "pq": "PQ",
}
POINTS = {
    ("panoptic_all_words", "named_things"): "things, 100 words, panoptic",
    ("semantic_all_words", "named_things"): "semantic",
    ("panoptic_five_words", "named_things"): "five words, panoptic",
    ("semantic_five_words", "named_things"): "semantic",
    ("semantic_all_words", "named"): "all points, 100 words, semantic",
    ("panoptic_all_words", "unlabelled"): "without label, 100 words",
}
NOT_MADE = {
    "path-traced light": "not built",
    "a detector as teacher": "not tried; the teacher of regions is ImageNet's own classifier",
}
STATED = ("steps", "size", "batch_size", "lr", "vocabulary_size")


def settings_of(arm: Arm, args: argparse.Namespace) -> dict[str, Any]:
    """Return the trainer's settings: the reference's, with what the arm changes."""
    return {
        "steps": args.steps,
        "size": args.size,
        "batch_size": args.batch_size,
        "lr": args.lr,
        "warmup_steps": args.steps // 15,
        "freeze_backbone": True,
        "freeze_text": True,
        "ema_decay": 0.95,
        "vocabulary_size": args.vocabulary_size,
        "points": 320,
        "matching_points": 512,
        "tasks": TASKS,
        "precision": "fp32",
        "validate_every": 0,
        "workers": 0,
        "threads": args.threads,
        "resume": True,
        "checkpoint_minutes": 1.0,
        "progress": False,
    } | dict(arm.settings)


def train(name: str, args: argparse.Namespace) -> None:
    """Train an arm to its end; where it stands is on the disk."""
    arm, out = ARMS[name], args.runs / slug(name)
    if arm.source is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    source = arm.source(args.data, args.runs)
    config = TrainConfig(
        sources=(SourceSpec(source.bank.folder),),
        out=out,
        init=STARTER,
        **settings_of(arm, args),
    )
    torch.manual_seed(config.seed)
    model = build_model(config)
    tokenizer = ClipTokenizer.default(model.config.context_length)
    trainer = Trainer(config, model, tokenizer, [source], {}, World.from_environment(), CPU)
    if not trainer.progress.finished:
        print(f"{name}: training", flush=True)
        trainer.run()
    if not trainer.progress.finished:
        raise XDecoderError(f"{name} was interrupted", fix="run the same command again")


def plan_of(name: str, args: argparse.Namespace) -> Path:
    """Build an arm's plan for the size of a new plan, if it is not there."""
    arm, path = ARMS[name], args.runs / f"{slug(name)}.plan"
    if path.exists():
        return path
    model = model_of(name, args)
    if arm.regions is None:
        model.drop_regions()
    else:
        model.config = arm.regions(model.config)
    print(f"{name}: plan", flush=True)
    build_portable(model, path, sizes=[SIZE], tasks=(*TASKS, "embed"))
    return path


def model_of(name: str, args: argparse.Namespace) -> XDecoder:
    """Return an arm's averaged weights."""
    trained = args.runs / slug(name) / CHECKPOINT
    return load_checkpoint(STARTER if ARMS[name].source is None else trained)


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return what an arm is, and all its figures, 0 to 100."""
    plan, model = plan_of(name, args), model_of(name, args)
    print(f"{name}: figures", flush=True)
    tokenizer = ClipTokenizer.default(model.config.context_length)
    scores = {}
    with Engine(plan, backend="onnxruntime", threads=args.threads) as engine:
        for folder in args.validation:
            dataset = LabelledFolder.open(folder, verify=False)
            quick = validate(model, tokenizer, dataset, args.limit, args.size, 16, CPU, TASKS)
            report = evaluate(engine, dataset, tasks=TASKS, limit=args.limit, progress=False)
            assert report.panoptic and report.referring
            scores[folder.name] = {
                "miou": 100 * quick["miou"],
                "accuracy": 100 * quick["accuracy"],
                "pq": report.panoptic.pq,
                "p_at_50": report.referring.p_at_50,
            }
        points = measure_photographs(engine, args.photographs)
    del points["sources"]
    arm = ARMS[name]
    return {
        "arm": name,
        "about": arm.about,
        "settings": {k: settings_of(arm, args)[k] for k in STATED if arm.source},
        "scores": scores,
        "photographs": points,
    }


def tables(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the Markdown: every arm in one table, and its figures of each folder in another."""
    folders = list(results[0]["scores"])
    rows = {result["arm"]: [_mean(result, measure) for measure in MEASURES] for result in results}
    noise = list(zip(*(rows[name] for name in REPEATS if name in rows), strict=True))
    heads = [*MEASURES.values(), *POINTS.values()]
    lines = _head(["arm", "what it is"], heads)
    for result in results:
        cells = [f"{mean:.1f}" for mean in rows[result["arm"]]]
        if result["settings"]:
            pairs = zip(rows[result["arm"]], noise, strict=True)
            cells = [_bold(mean, seeds) for mean, seeds in pairs]
        cells += [_share(result["photographs"], *name) for name in POINTS]
        lines.append(row([result["arm"], result["about"], *cells]))
    blank = ["-"] * len(heads)
    lines += [row([arm, about, *blank]) for arm, about in NOT_MADE.items()]
    lines += ["", *_head(["arm"], [f"{MEASURES[m]}, {f}" for m in MEASURES for f in folders])]
    for result in results:
        cells = [f"{result['scores'][f][m]:.1f}" for m in MEASURES for f in folders]
        lines.append(row([result["arm"], *cells]))
    return "\n".join(lines)


def _mean(result: Mapping[str, Any], measure: str) -> float:
    return fmean(scores[measure] for scores in result["scores"].values())


def _bold(mean: float, seeds: Sequence[float]) -> str:
    is_beyond = abs(mean - fmean(seeds)) > max(seeds) - min(seeds)
    return f"**{mean:.1f}**" if is_beyond else f"{mean:.1f}"


def _share(figures: Mapping[str, Any], output: str, kind: str) -> str:
    low, high = figures["intervals"][output][kind]
    return f"{figures[output][kind]:.1f} ({low:.0f}-{high:.0f})"


def _head(texts: Sequence[str], numbers: Sequence[str]) -> list[str]:
    rule = ["---"] * len(texts) + ["---:"] * len(numbers)
    return [row([*texts, *numbers]), row(rule)]


def row(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def rounded(value: Any) -> Any:
    """Return figures as they are kept: four digits of each."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def slug(name: str) -> str:
    """Return a name for files."""
    return "_".join(re.findall(r"\w+", name))


def main() -> int:
    """Read the command line, run the arms that are missing, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DIR")
    parser.add_argument("--validation", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--photographs", type=Path, required=True, metavar="DIR")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="NAME")
    parser.add_argument("--runs", type=Path, default=Path("runs/levers"), help="%(default)s")
    parser.add_argument("--steps", type=positive, default=48, help="default: %(default)s")
    parser.add_argument("--size", type=positive, default=192, help="default: %(default)s")
    parser.add_argument("--batch-size", type=positive, default=8, help="default: %(default)s")
    parser.add_argument("--vocabulary-size", type=positive, default=96, help="%(default)s")
    parser.add_argument("--lr", type=float, default=1.5e-4, help="default: %(default)s")
    parser.add_argument("--threads", type=positive, default=1, help="default: %(default)s")
    parser.add_argument("--limit", type=positive, default=40, help="images of each folder")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE")
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    try:
        check_writable(args.json, "the results")
        for name in args.arms:
            train(name, args)
        for name in args.arms:
            path = args.runs / f"{slug(name)}.json"
            if not path.exists():
                write_json(path, measure(name, args))
            results = finished(args.runs, [slug(name) for name in ARMS])
            write_json(args.json, rounded(results))
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(tables(json.loads(args.json.read_bytes())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
