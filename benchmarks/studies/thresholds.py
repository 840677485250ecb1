#!/usr/bin/env python3
"""Panoptic quality under several output thresholds, from one decode an image.

    python benchmarks/studies/thresholds.py model.plan data/workcell_val data/clipart_val

The thresholds of a checkpoint are chosen on held-out folders with this table, and how the scores of
a classifier of regions join, where the plan has one (--weight, --region-void).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

from tqdm import tqdm

from xdecoder_rt import Engine, XDecoderError
from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.evaluation.panoptic_quality import PanopticQuality

KEEP = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
OVERLAP = (0.5,)
NAMES = ("object_mask_threshold", "overlap_threshold", "void_offset")
REGION_NAMES = ("weight", "void")
VOID = (0.0, 0.5, 1.0, 2.0, 3.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--limit", type=int, help="first images of each folder (default: all)")
    parser.add_argument("--keep", type=float, nargs="+", default=KEEP, help="object_mask_threshold")
    parser.add_argument("--overlap", type=float, nargs="+", default=OVERLAP)
    parser.add_argument("--void", type=float, nargs="+", default=VOID, help="void_offset")
    parser.add_argument("--weight", type=float, nargs="+", help="of regions (default: the plan's)")
    parser.add_argument(
        "--region-void", type=float, nargs="+", help="of regions (default: the plan's)"
    )
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    table = {}
    with Engine(args.plan, threads=args.threads) as engine:
        runtime = engine._runtime
        manifest = runtime.manifest
        regions = [()]
        if manifest.region is not None:
            regions = list(
                product(
                    args.weight or [manifest.region.weight],
                    args.region_void or [manifest.region.void],
                )
            )
        choices = [
            first + last
            for first in product(args.keep, args.overlap, args.void)
            for last in regions
        ]
        for folder in args.folders:
            table[folder.name] = panoptic_qualities(
                engine, runtime, manifest, folder, choices, args.limit
            )
    columns = ["keep", "overlap", "void", *(REGION_NAMES if regions[0] else ())]
    print("| " + " | ".join((*columns, *table, "mean")) + " |")
    print("| --- " * (len(columns) + len(table) + 1) + "|")
    for choice in choices:
        values = [scores[choice] for scores in table.values()]
        cells = [f"{value:.1f}" for value in (*values, sum(values) / len(values))]
        print("| " + " | ".join((*map(str, choice), *cells)) + " |")
    winner = max(choices, key=lambda choice: sum(scores[choice] for scores in table.values()))
    print(
        json.dumps(dict(zip((*NAMES, *(REGION_NAMES if regions[0] else ())), winner, strict=True)))
    )


def panoptic_qualities(engine, runtime, manifest, folder, choices, limit):
    """Return the panoptic quality of each choice of thresholds on a folder."""
    data = LabelledFolder.open(folder, verify=False)
    quality = {choice: PanopticQuality(data.vocabulary, data.stuff) for choice in choices}
    index = {label: number for number, label in enumerate(data.vocabulary)}
    engine.warm(data.vocabulary)
    for item in tqdm(data.items[:limit], unit="image", desc=folder.name):
        state, ids = engine.encode(item.load_image()), item.load_panoptic()
        truth = {segment.id: index[segment.label] for segment in item.segments}
        for choice in choices:
            rules = replace(manifest.postprocess, **dict(zip(NAMES, choice[:3], strict=True)))
            runtime.manifest = replace(manifest, postprocess=rules)
            if runtime.regions is not None:
                joining = dict(zip(REGION_NAMES, choice[3:], strict=True))
                runtime.regions = runtime.regions.joined_by(replace(manifest.region, **joining))
            segmentation = engine.segment(state, data.vocabulary, stuff=data.stuff)
            labels = {info["id"]: info["label_id"] for info in segmentation.segments_info}
            quality[choice].update(ids, truth, segmentation.segmentation, labels)
    runtime.manifest = manifest
    return {choice: score.compute().pq for choice, score in quality.items()}


if __name__ == "__main__":
    try:
        main()
    except XDecoderError as error:
        sys.exit(f"error: {error}")
