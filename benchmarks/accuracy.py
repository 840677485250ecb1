"""Accuracy of a plan on labelled folders: a Markdown table and the figures as JSON.

    python benchmarks/accuracy.py model.plan data/workcell_val data/clipart_val -o docs/accuracy.md

Every folder is asked for its whole vocabulary; the scores are those of ``xdecoder-rt eval``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from xdecoder_rt import Engine
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.evaluation.evaluate import evaluate
from xdecoder_rt.evaluation.labelled_folder import LabelledFolder
from xdecoder_rt.evaluation.report import Report

HEAD = "| scenes | items | words asked | PQ | SQ | RQ | mIoU |\n" + "| --- " * 7 + "|"
BEST_AND_WORST = 8


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the Markdown file")
    parser.add_argument("--limit", type=int, help="images of each folder (default all)")
    args = parser.parse_args()
    rows, classes, figures = [HEAD], [], {}
    with Engine(args.plan) as engine:
        digest = engine.manifest.model.weights_sha256
        for path in args.folders:
            folder = LabelledFolder.open(path)
            report = evaluate(engine, folder, limit=args.limit)
            figures[path.name] = report.to_json()
            rows.append(row(path.name, len(folder.vocabulary), report))
            classes.append(extremes(path.name, report))
    command = shlex.join(["python", *sys.argv])
    text = f"Weights `{digest[:12]}`, measured by\n`{command}`\n\n" + "\n".join(rows) + "\n\n"
    with atomic_writer(args.output) as file:
        file.write((text + "\n".join(classes)).encode())
    with atomic_writer(args.output.with_suffix(".json")) as file:
        file.write(json.dumps(figures, indent=1).encode() + b"\n")
    print(text)
    return 0


def row(name: str, words: int, report: Report) -> str:
    p = report.panoptic
    scores = (p.pq, p.sq, p.rq, report.semantic.miou)
    return f"| {name} | {report.items} | {words} | " + " | ".join(f"{s:.1f}" for s in scores) + " |"


def extremes(name: str, report: Report) -> str:
    """The classes that it knows best and worst."""
    ranked = sorted(report.panoptic.per_class.items(), key=lambda entry: -entry[1].pq)
    best = ", ".join(f"{label} {quality.pq:.0f}" for label, quality in ranked[:BEST_AND_WORST])
    worst = ", ".join(label for label, quality in ranked if quality.pq == 0)
    return f"- {name}: best PQ: {best}; PQ 0: {worst or 'none'}\n"


if __name__ == "__main__":
    sys.exit(main())
