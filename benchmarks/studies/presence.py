#!/usr/bin/env python3
"""What plans find that is there, and what they find that is not.

    python benchmarks/studies/presence.py model.plan other.plan --folders data/workcell_val

Of each image six words are asked for that its folder knows and that are not on it, at default
thresholds: the share of images for which nothing is found. Two of them are asked for as phrases,
too, "the" before them: the share that is not found. Beside them what this costs: panoptic quality,
and the share of four phrases an image that find their thing (IoU of at least 0.5).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xdecoder_rt import Engine, XDecoderError
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.evaluation.panoptic_quality import PanopticQuality
from xdecoder_rt.files.output_file import check_writable

ABSENT_WORDS, ABSENT_PHRASES, PHRASES = 6, 2, 4


def main() -> int:
    """Read the command line, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plans", type=Path, nargs="+", metavar="PLAN")
    parser.add_argument("--folders", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--limit", type=int, help="first images of each folder (default: all)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("-o", "--output", type=Path, help="JSON file")
    args = parser.parse_args()
    results = []
    try:
        if args.output is not None:
            check_writable(args.output, "the figures")
        for folder in args.folders:
            for plan in args.plans:
                with Engine(plan, threads=args.threads) as engine:
                    figures = measure(engine, folder, args.limit)
                results.append({"plan": plan.name, "folder": folder.resolve().name, **figures})
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(results))
    if args.output is not None:
        with atomic_writer(args.output) as file:
            file.write((json.dumps(results, indent=1) + "\n").encode())
    return 0


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return figures as a table, a row each."""
    lines = [
        "| folder | plan | PQ | phrases found | nothing of six absent words | absent phrases |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for figures in results:
        shares = (figures[key] for key in ("found", "silent", "absent_phrases"))
        cells = [f"{figures['pq']:.1f}", *(f"{share:.0f} %" for share in shares)]
        lines.append("| " + " | ".join((figures["folder"], figures["plan"], *cells)) + " |")
    return "\n".join(lines)


def measure(engine: Engine, folder: Path, limit: int | None) -> dict[str, float]:
    """Return the figures of one folder, shares in percent."""
    data = LabelledFolder.open(folder, verify=False)
    index = {label: number for number, label in enumerate(data.vocabulary)}
    quality = PanopticQuality(data.vocabulary, data.stuff)
    chance = random.Random(0)
    found, silent, not_found = [], [], []
    engine.warm(data.vocabulary)
    items = data.items[:limit]
    for item in tqdm(items, unit="image", desc=folder.name, leave=False):
        state, ids = engine.encode(item.load_image()), item.load_panoptic()
        labels = {segment.label for segment in item.segments}
        others = sorted(set(data.vocabulary) - labels - set(data.stuff))
        absent = chance.sample(others, min(ABSENT_WORDS, len(others)))
        silent.append(not engine.segment(state, absent).segments_info)
        for reference in engine.refer(state, [f"the {word}" for word in absent[:ABSENT_PHRASES]]):
            not_found.append(not reference.mask.any())
        for phrase in item.phrases[:PHRASES]:
            (reference,) = engine.refer(state, [phrase.text])
            truth = np.isin(ids, list(phrase.ids))
            found.append(2 * (reference.mask & truth).sum() >= (reference.mask | truth).sum())
        segmentation = engine.segment(state, data.vocabulary, stuff=sorted(data.stuff))
        quality.update(
            ids,
            {segment.id: index[segment.label] for segment in item.segments},
            segmentation.segmentation,
            {info["id"]: info["label_id"] for info in segmentation.segments_info},
        )
    return {
        "images": len(items),
        "pq": quality.compute().pq,
        "found": 100 * float(np.mean(found)),
        "silent": 100 * float(np.mean(silent)),
        "absent_phrases": 100 * float(np.mean(not_found)),
    }


if __name__ == "__main__":
    sys.exit(main())
