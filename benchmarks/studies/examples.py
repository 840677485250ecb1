#!/usr/bin/env python3
"""Words by example beside words by name: panoptic quality of the same things, in the same images.

    python benchmarks/studies/examples.py model.plan data/photo_novel --marks 1 3

A thing takes part that as many images show as there are marks, and two more. The images that were
marked are left out of the measurement of all things. Every way to name them competes among the
same labels, over the same decodes: by name, by example, and by both (the name as a synonym of the
example). Marks are drawn at random, --repeats times; the table has means and, in brackets, the
standard deviation over the draws.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xdecoder_rt import Engine, Word
from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.errors import ArgumentError, XDecoderError
from xdecoder_rt.evaluation.panoptic_quality import PanopticQuality

SPARE = 2
LARGEST_AREA, SMALLEST_AREA = 0.5, 0.004  # of a picture: what a person would mark


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--marks", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    data = LabelledFolder.open(args.folder, verify=False)
    with Engine(args.plan, threads=args.threads) as engine:
        pictures = [
            (engine.decode(item.load_image()), item.load_panoptic(), item.segments)
            for item in tqdm(data.items, unit="image", desc="decoding")
        ]
        shown = markable(pictures, data.stuff)
        print("| marks | things | images | by name | by example | by both |")
        print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        for marks in args.marks:
            names = sorted(n for n, where in shown.items() if len(where) >= marks + SPARE)
            if not names:
                raise ArgumentError(
                    f"No thing of {args.folder} is shown by {marks + SPARE} images",
                    expected="a folder of more images, or fewer --marks",
                )
            scores, left = [], []
            for repeat in range(args.repeats):
                rng = np.random.default_rng([args.seed, marks, repeat])
                row, rest = compared(engine, pictures, shown, names, marks, rng)
                scores.append(row)
                left.append(rest)
            mean, deviation = np.mean(scores, axis=0), np.std(scores, axis=0)
            cells = [f"{m:.1f} ({d:.1f})" for m, d in zip(mean, deviation, strict=True)]
            print(f"| {marks} | {len(names)} | {np.mean(left):.0f} | " + " | ".join(cells) + " |")


def markable(pictures, stuff):
    """Return which pictures show each thing, and the segment that a person would mark there."""
    shown = defaultdict(dict)
    for number, (_, ids, segments) in enumerate(pictures):
        for segment in segments:
            share = (ids == segment.id).mean()
            if segment.label not in stuff and SMALLEST_AREA <= share <= LARGEST_AREA:
                shown[segment.label].setdefault(number, segment.id)
    return shown


def compared(engine, pictures, shown, names, marks, rng):
    """Return the quality by name, by example and by both, and how many pictures were left."""
    examples, marked = [], set()
    for name in names:
        where = rng.permutation(sorted(shown[name]))
        used = []
        for number in where:
            try:
                state, ids, _ = pictures[number]
                engine.example(state, ids == shown[name][number], name)
            except ArgumentError:  # the model outlines nothing there: a person marks another
                continue
            used.append(number)
            if len(used) == marks:
                break
        if not used:
            examples.append(Word(name))
            continue
        marked |= set(used)
        states = [pictures[number][0] for number in used]
        masks = [pictures[number][1] == shown[name][number] for number in used]
        examples.append(engine.example(states, masks, name))
    both = [
        word
        if word.example is None
        else replace(word, name=f"{word.name} *", synonyms=(word.name,))
        for word in examples
    ]
    ways = [[Word(name) for name in names], examples, both]
    quality = [PanopticQuality(names) for _ in ways]
    index = {name: number for number, name in enumerate(names)}
    rest = [picture for number, picture in enumerate(pictures) if number not in marked]
    for state, ids, segments in rest:
        truth = {s.id: index[s.label] for s in segments if s.label in index}
        known = np.where(np.isin(ids, list(truth)), ids, -1)
        for words, score in zip(ways, quality, strict=True):
            found = engine.segment(state, words)
            labels = {info["id"]: info["label_id"] for info in found.segments_info}
            score.update(known, truth, found.segmentation, labels)
    return [score.compute().pq for score in quality], len(rest)


if __name__ == "__main__":
    try:
        main()
    except XDecoderError as error:
        sys.exit(f"error: {error}")
