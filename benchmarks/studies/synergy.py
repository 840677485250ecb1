"""Trains all tasks together and each alone, from the same weights, and compares them.

    python benchmarks/studies/synergy.py data/clipart_train data/workcell_train \\
        --validation data/workcell_val --steps 300 -o docs/measured/synergy.md

The paper claims that tasks help one another. Here every run begins with the same checkpoint, sees
the same images in the same order, and takes as many steps; only `--tasks` differs. Views differ
with it: a text is drawn before the view, and texts call for views that leave them true. A joint
step takes the losses of all tasks, a step of one task alone those of that one. The figures are
those of the trainer's validation, on the averaged weights.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cli.options import positive
from xdecoder_rt.errors import XDecoderError
from xdecoder_rt.files.output_file import check_writable
from xdecoder_rt.tasks import TASKS
from xdecoder_rt.training.config import SourceSpec, TrainConfig
from xdecoder_rt.training.trainer import METRICS, train

# Which numbers of the validation belong to which task, and whether more is better.
NUMBERS = {
    "segment": {"miou": True, "accuracy": True},
    "refer": {"p_at_50": True},
    "caption": {"next_token": True, "caption_entropy": False},
    "answer": {"vqa": True},
    "embed": {"text_r1": True, "image_r1": True},
}


def last_validation(run: Path) -> dict[str, float]:
    """Return the numbers of a run's last validation."""
    lines = (run / METRICS).read_text().splitlines()
    records: list[dict[str, float]] = [json.loads(line) for line in lines]
    record = [r for r in records if any(key.startswith("validation/") for key in r)][-1]
    return {key.removeprefix("validation/"): value for key, value in record.items()}


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table of each number, trained alone and trained together."""
    lines = [
        "| held-out scenes | task | number | alone | together |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key in results["together"]:
        if key == "step":
            continue
        folder, _, number = key.rpartition("/")
        for task, numbers in NUMBERS.items():
            if number in numbers:
                name = number if numbers[number] else f"{number} (less is better)"
                alone, joint = results[task][key], results["together"][key]
                lines.append(f"| {folder} | {task} | {name} | {alone:.3f} | {joint:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Read the command line, train and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", metavar="SOURCE[=WEIGHT]")
    parser.add_argument("--validation", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--init", type=Path, help="checkpoint to start from (default: ImageNet's)")
    parser.add_argument("--runs", type=Path, default=Path("runs/synergy"), help="%(default)s")
    parser.add_argument("--steps", type=positive, default=300, help="default: %(default)s")
    parser.add_argument("--size", type=positive, default=160, help="default: %(default)s")
    parser.add_argument("--batch-size", type=positive, default=8, help="default: %(default)s")
    parser.add_argument("--lr", type=float, default=4e-4, help="default: %(default)s")
    parser.add_argument(
        "--validation-items", type=positive, default=64, help="default: %(default)s"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MARKDOWN")
    args = parser.parse_args()
    settings: dict[str, Any] = {
        "sources": tuple(map(SourceSpec.parse, args.data)),
        "validation": tuple(args.validation),
        "init": args.init,
        "steps": args.steps,
        "size": args.size,
        "batch_size": args.batch_size,
        "lr": args.lr,
        "backbone_lr_scale": 0.2,
        "warmup_steps": min(50, args.steps // 4),
        "ema_decay": 0.99,
        "validate_every": 0,
        "validation_items": args.validation_items,
        "retrieval_ensemble": True,
        "resume": True,
    }
    runs = {"together": tuple(TASKS), **{task: (task,) for task in TASKS}}
    try:
        check_writable(args.output, "the table")
        for name, tasks in runs.items():
            train(TrainConfig(out=args.runs / name, tasks=tasks, **settings))
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results = {name: last_validation(args.runs / name) for name in runs}
    command = shlex.join(["python", *sys.argv])
    text = f"# Together or alone\n\n`{command}`\n\n{table(results)}"
    with atomic_writer(args.output) as file:
        file.write(text.encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
