"""Chooses the compact model's shape by the time of a frame and by short trainings.

    python benchmarks/studies/candidates.py time runs/candidates
    python benchmarks/studies/candidates.py train runs/candidates data/bank \\
        --words export/starter/starter.safetensors --validation data/workcell_val data/clipart_val
    python benchmarks/studies/candidates.py page runs/candidates -o docs/measured/candidates.md \\
        --json benchmarks/results/candidates.json --picture docs/images/candidates.png

`time` exports every candidate with random weights and measures its graphs in each form that a plan
may have, in turns. `train` trains every candidate on the same scenes, from ImageNet's backbone and
the words of a checkpoint, both frozen, and measures masks, names and phrases on held-out scenes. An
arm is a candidate and a seed, `NAME@SEED`; one whose result is in the folder is not run again.
`page` writes table and picture. Candidates are in ``candidate_shapes.py``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from candidate_shapes import CHOSEN, REFERENCE, candidates
from candidate_times import (
    FORMS,
    GRAPHS,
    KEPT,
    export,
    export_backbone,
    fastest,
    measure,
    medians,
)

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cli.machine import LIBRARIES, describe_machine, machine_summary
from xdecoder_rt.cli.options import positive
from xdecoder_rt.errors import XDecoderError, require
from xdecoder_rt.models import ModelConfig

MEASURES = {
    "miou": "IoU of the best masks",
    "accuracy": "names right",
    "name_rank": "names outranked",
    "p_at_50": "phrases P@0.5",
}
LIBRARIES_USED = (*LIBRARIES, "torch", "onnx")
BACKBONE = "backbone alone"
SCREENING = "screening"
"""The course of the table and the picture."""
TIMES, RUNS, GRAPHS_FOLDER = "times.json", "runs", "graphs"

Result = dict[str, Any]


def time_candidates(args: argparse.Namespace) -> None:
    """Export and measure candidates; results of others, and of other forms, stay."""
    configurations = candidates()
    size = (args.size, args.size)
    places = {}
    for name in args.only or configurations:
        print(f"exporting: {name}", file=sys.stderr, flush=True)
        places[name] = export(configurations[name], size, args.folder / GRAPHS_FOLDER)
    places[BACKBONE] = export_backbone(configurations[REFERENCE], size, args.folder / GRAPHS_FOLDER)
    measured = measure(places, args.forms, args.threads, args.rounds)
    path = args.folder / TIMES
    results = json.loads(path.read_text()) if path.exists() else {}
    for name, times in measured.items():
        costs = {
            graph: json.loads((places[name][graph] / "costs.json").read_text())
            for graph in GRAPHS
            if graph in places[name]
        }
        before = results.get(name, {"milliseconds": {}, "rounds": {}})
        results[name] = {
            "milliseconds": {**before["milliseconds"], **medians(times)},
            "rounds": {**before["rounds"], **dict.fromkeys(args.forms, args.rounds)},
            "costs": costs,
            **json.loads(places[name]["model"].read_text()),
            "size": args.size,
            "threads": args.threads,
            "machine": machine_summary(describe_machine(LIBRARIES_USED)),
        }
    write_json(path, results)


def train_candidates(args: argparse.Namespace) -> None:
    """Train and measure the arms that have no result yet."""
    from candidate_training import Course

    torch.set_num_threads(1)
    configurations = candidates()
    runs = args.folder / RUNS / args.course
    runs.mkdir(parents=True, exist_ok=True)
    course = Course(
        args.data,
        args.words,
        args.validation,
        runs,
        args.steps,
        args.batch_size,
        args.size,
        args.limit,
        args.lr,
        args.tasks,
    )
    for arm in args.arms or configurations:
        name, seed = parse_arm(arm)
        path = runs / f"{name}@{seed}.json"
        if path.exists():
            continue
        checkpoint, scores, seconds = course.train(configurations[name], f"{name}@{seed}", seed)
        result = {
            "candidate": name,
            "course": args.course,
            "seed": seed,
            "scores": scores,
            "processor_seconds": round(seconds),
            "recipe": course.settings(checkpoint.parent, seed).recipe(),
        }
        write_json(path, result)
        print(arm, f"{seconds:.0f} s", json.dumps(scores), flush=True)


def parse_arm(text: str) -> tuple[str, int]:
    """Return the candidate and the seed of ``NAME`` or ``NAME@SEED``.

    Raises:
        XDecoderError: there is no such candidate.
    """
    name, _, seed = text.partition("@")
    if name not in candidates() or not (seed or "0").isdigit():
        raise XDecoderError(
            f"There is no arm {text!r}", expected="a name of candidate_shapes.py, or NAME@SEED"
        )
    return name, int(seed or 0)


def write_page(args: argparse.Namespace) -> None:
    """Write table, picture and results."""
    times = json.loads((args.folder / TIMES).read_text())
    runs = [json.loads(path.read_text()) for path in sorted((args.folder / RUNS).glob("*/*.json"))]
    names = [name for name in candidates() if name in times]
    scores = {name: averages(runs, SCREENING, name) for name in names}
    draw(times, scores, args.chosen, args.picture)
    page = tables(times, runs, args.chosen)
    text = args.output.read_text() if args.output.exists() else ""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    with atomic_writer(args.output) as file:
        file.write(f"{before}{BEGIN}\n{page}\n{END}{after}".encode())
    if args.json:
        write_json(args.json, {"times": times, "training": runs})
    print(page)


BEGIN, END = "<!-- written by benchmarks/tables.py: candidates -->", "<!-- end -->"


def tables(times: Mapping[str, Any], runs: Sequence[Result], chosen: str) -> str:
    """Return the Markdown of all candidates, and of every course beside that of the screening."""
    names = [name for name in candidates() if name in times]
    scores = {name: averages(runs, SCREENING, name) for name in names}
    text = table(times, scores, names, chosen)
    for course in sorted({run["course"] for run in runs} - {SCREENING}):
        text += f"\n\nCourse *{course}*:\n\n" + course_table(runs, course, names, chosen)
    return text


def averages(runs: Sequence[Result], course: str, name: str) -> dict[str, list[float]]:
    """Return each measure of a candidate, a mean over the folders for each seed, in percent."""
    own = [run["scores"] for run in runs if (run["candidate"], run["course"]) == (name, course)]
    return {
        key: [
            100 * fmean(folder[key] for folder in scores.values())
            for scores in own
            if all(key in folder for folder in scores.values())
        ]
        for key in MEASURES
    }


def course_table(runs: Sequence[Result], course: str, names: Sequence[str], chosen: str) -> str:
    """Return the Markdown table of the candidates that took a course."""
    lines = [row(["candidate", *MEASURES.values()]), row(["---", *["---:"] * len(MEASURES)])]
    for name in names:
        scores = averages(runs, course, name)
        if scores["miou"]:
            title = f"**{name}**" if name == chosen else name
            lines.append(row([title, *(spread(values) for values in scores.values())]))
    return "\n".join(lines)


def frame(times: Mapping[str, Any], name: str) -> float:
    """Return milliseconds of vision, decode and masks in the fastest plan."""
    plan = fastest(times[name]["milliseconds"])
    return sum(spent for _, spent in plan.values())


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names that no other beats in both, fastest first: least time, most accuracy."""
    best: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not best or points[name][1] > points[best[-1]][1]:
            best.append(name)
    return best


def draw(
    times: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    chosen: str,
    path: Path,
) -> None:
    """Draw accuracy over the time of a frame, a panel a measure, with the Pareto front."""
    figure = require("matplotlib.figure", "train").Figure(figsize=(20, 7), layout="constrained")
    shown = [name for name in scores if scores[name]["miou"]]
    drawn = [name for name in MEASURES if any(scores[candidate][name] for candidate in shown)]
    for place, measure_name in enumerate(drawn, start=1):
        axes = figure.add_subplot(1, len(drawn), place)
        points = {n: (frame(times, n), fmean(scores[n][measure_name])) for n in shown}
        axes.plot(*zip(*(points[name] for name in front(points)), strict=True), "--", color="grey")
        for number, name in enumerate(shown):
            x, y = points[name]
            seeds = scores[name][measure_name]
            axes.errorbar(
                x,
                y,
                yerr=[[y - min(seeds)], [max(seeds) - y]],
                fmt="*" if name == chosen else "o",
                markersize=16 if name == chosen else 7,
                color=f"C{number % 10}" if name != chosen else "black",
                capsize=3,
            )
            axes.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
        axes.set_xlabel("vision + decode + masks, ms (fastest form)")
        axes.set_ylabel(f"{MEASURES[measure_name]}, %")
        axes.grid(alpha=0.3)
        axes.margins(x=0.2)
    with atomic_writer(path) as file:
        figure.savefig(file, format="png", dpi=80)


def table(
    times: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    names: Sequence[str],
    chosen: str,
) -> str:
    """Return the Markdown table of all candidates."""
    configurations = candidates()
    drawn = [key for key in MEASURES if any(own[key] for own in scores.values())]
    head = [
        "candidate",
        "shape",
        "GMAC",
        "M parameters",
        "decode nodes",
        "vision",
        "decode",
        f"masks of {KEPT}",
        "frame",
        "frame, fp32",
        *(title for key, title in MEASURES.items() if key in drawn),
    ]
    lines = [row(head), row(["---", "---", *["---:"] * (len(head) - 2)])]
    for name in (*names, *(BACKBONE,) * (BACKBONE in times)):
        own = times[name]
        plan = fastest(own["milliseconds"])
        fp32 = min(
            sum(graphs.values())
            for form, graphs in own["milliseconds"].items()
            if form.endswith("fp32")
        )
        cells = [
            f"**{name}**" if name == chosen else name,
            dimensions(configurations[name]) if name in configurations else "",
            f"{sum(costs['macs'] for costs in own['costs'].values()) / 1e9:.2f}",
            f"{own['parameters'] / 1e6:.2f}",
            str(own["costs"]["decode"]["nodes"]) if "decode" in own["costs"] else "",
            *(f"{plan[graph][1]:.1f}" if graph in plan else "" for graph in GRAPHS),
            f"{frame(times, name):.1f}",
            f"{fp32:.1f}",
            *(spread(scores.get(name, {}).get(key, ())) for key in drawn),
        ]
        lines.append(row(cells))
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Return a mean, and after it every seed's value where there are several."""
    if not values:
        return "–"
    mean = f"{fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({', '.join(f'{v:.1f}' for v in values)})"


def dimensions(config: ModelConfig) -> str:
    """Return what a candidate is made of, in short."""
    pixel, decoder = config.pixel_decoder, config.decoder
    convs = ", ".join(
        f"{stride} {form}"
        for stride, form in zip((4, 8, 16, 32), pixel.output_convs, strict=True)
        if stride >= pixel.mask_stride
    )
    if len(set(pixel.output_convs)) == 1:
        convs = f"all {pixel.output_convs[0]}"
    return (
        f"{decoder.layers} layers on {', '.join(map(str, decoder.level_strides))}; {convs}; "
        f"narrow from {pixel.narrow_stride}; masks at {pixel.mask_stride}; "
        f"encoder {pixel.transformer_layers}; feed-forward {decoder.feedforward_dim}; "
        f"{decoder.num_queries - 1} queries"
    )


def row(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def write_json(path: Path, value: object) -> None:
    """Write a value, whole or not at all."""
    with atomic_writer(path) as file:
        file.write(json.dumps(value, indent=1).encode() + b"\n")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = result.add_subparsers(dest="stage", required=True)
    timing = stages.add_parser("time", help="measure the time of candidates")
    timing.add_argument("folder", type=Path, help="of graphs, runs and times")
    timing.add_argument("--size", type=positive, default=448, help="default: %(default)s")
    timing.add_argument("--rounds", type=positive, default=20, help="default: %(default)s")
    timing.add_argument("--threads", type=positive, default=2, help="default: %(default)s")
    timing.add_argument(
        "--forms", nargs="+", choices=FORMS, default=FORMS, metavar="FORM", help=", ".join(FORMS)
    )
    timing.add_argument("--only", nargs="+", choices=list(candidates()), metavar="NAME")
    timing.set_defaults(run=time_candidates)
    training = stages.add_parser("train", help="train candidates shortly")
    training.add_argument("folder", type=Path, help="of graphs, runs and times")
    training.add_argument("data", type=Path, help="a bank of pictures")
    training.add_argument("--words", type=Path, required=True, help="checkpoint of the words")
    training.add_argument("--validation", type=Path, nargs="+", required=True, metavar="DIR")
    training.add_argument(
        "--course",
        default=SCREENING,
        metavar="NAME",
        help="results of a course stand in a table of their own (default: %(default)s)",
    )
    training.add_argument(
        "--tasks", nargs="+", default=["segment"], metavar="TASK", help="default: %(default)s"
    )
    training.add_argument("--arms", nargs="+", metavar="NAME[@SEED]")
    training.add_argument("--steps", type=positive, default=160, help="default: %(default)s")
    training.add_argument("--batch-size", type=positive, default=6, help="default: %(default)s")
    training.add_argument("--size", type=positive, default=192, help="default: %(default)s")
    training.add_argument("--limit", type=positive, default=40, help="images of each folder")
    training.add_argument("--lr", type=float, default=1e-3, help="default: %(default)s")
    training.set_defaults(run=train_candidates)
    page = stages.add_parser("page", help="write table and picture")
    page.add_argument("folder", type=Path, help="of graphs, runs and times")
    page.add_argument("--chosen", choices=list(candidates()), default=CHOSEN, metavar="NAME")
    page.add_argument("--json", type=Path, metavar="FILE")
    page.add_argument("--picture", type=Path, required=True, metavar="PNG")
    page.add_argument("-o", "--output", type=Path, required=True, metavar="MARKDOWN")
    page.set_defaults(run=write_page)
    return result


def main() -> int:
    """Read the command line and run its stage."""
    args = parser().parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    try:
        args.run(args)
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
