"""Accuracy of a plan on labelled folders: a Markdown table and the figures as JSON.

    python benchmarks/accuracy.py model.plan data/workcell_val data/clipart_val \\
        -o docs/measured/accuracy.md --json benchmarks/results/accuracy.json

Every folder is asked for its whole vocabulary and all its texts; the scores are those of
``xdecoder-rt eval``, with a dash where a folder or the plan lacks what a score needs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from xdecoder_rt import Engine, XDecoderError
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.evaluation.evaluate import evaluate
from xdecoder_rt.evaluation.report import EvaluationReport
from xdecoder_rt.files.output_file import check_writable

SEGMENTS = ("scenes", "items", "words asked", "PQ", "SQ", "RQ", "mIoU")
TEXTS = (
    "scenes",
    "phrases",
    "cIoU",
    "mIoU",
    "P@0.5",
    "images, texts",
    "image R@1",
    "image R@5",
    "text R@1",
    "text R@5",
    "CIDEr",
    "BLEU-4",
    "questions",
    "VQA",
)
BEST = 8
ABSENT = "-"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the Markdown file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also the figures")
    parser.add_argument("--limit", type=int, help="images of each folder (default all)")
    args = parser.parse_args()
    segments, texts, classes, figures = [], [], [], {}
    try:
        for output in (args.output, args.json):
            if output is not None:
                check_writable(output, "the figures")
        with Engine(args.plan) as engine:
            digest = engine.manifest.model.weights_sha256
            for path in args.folders:
                folder, name = LabelledFolder.open(path), path.resolve().name
                report = evaluate(engine, folder, limit=args.limit)
                figures[name] = report.to_json()
                segments.append([name, *segment_cells(len(folder.vocabulary), report)])
                texts.append([name, *text_cells(report)])
                classes += extremes(name, report)
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    command = shlex.join(["python", *sys.argv])
    text = f"# Accuracy\n\nWeights `{digest[:12]}`, measured by\n`{command}`\n\n"
    text += f"{table(SEGMENTS, segments)}\n"
    if any(cell != ABSENT for _, *cells in texts for cell in cells):
        text += f"{table(TEXTS, texts)}\n"
    with atomic_writer(args.output) as file:
        file.write((text + "\n".join(classes)).encode())
    if args.json:
        with atomic_writer(args.json) as file:
            file.write(json.dumps(figures, indent=1).encode() + b"\n")
    print(text)
    return 0


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def segment_cells(words: int, report: EvaluationReport) -> list[str]:
    counts = [str(report.items), str(words)]
    return [*counts, *scores(report.panoptic, "pq", "sq", "rq"), *scores(report.semantic, "miou")]


def text_cells(report: EvaluationReport) -> list[str]:
    referring, retrieval, vqa = report.referring, report.retrieval, report.vqa
    return [
        str(referring.phrases) if referring else ABSENT,
        *scores(referring, "ciou", "miou", "p_at_50"),
        f"{retrieval.images}, {retrieval.texts}" if retrieval else ABSENT,
        *scores(retrieval, "image_r1", "image_r5", "text_r1", "text_r5"),
        *scores(report.caption, "cider", "bleu4"),
        str(vqa.questions) if vqa else ABSENT,
        *scores(vqa, "accuracy"),
    ]


def scores(section: object, *names: str) -> list[str]:
    values = [getattr(section, name, None) for name in names]
    return [ABSENT if value is None else f"{value:.1f}" for value in values]


def extremes(name: str, report: EvaluationReport) -> list[str]:
    """Return the best and the worst classes in a line; nothing without segments."""
    if report.panoptic is None:
        return []
    ranked = sorted(report.panoptic.per_class.items(), key=lambda entry: -entry[1].pq)
    best_classes = ", ".join(f"{label} {quality.pq:.0f}" for label, quality in ranked[:BEST])
    unknown_classes = ", ".join(label for label, quality in ranked if quality.pq == 0)
    return [f"- {name}: best PQ: {best_classes}; PQ 0: {unknown_classes or 'none'}\n"]


if __name__ == "__main__":
    sys.exit(main())
