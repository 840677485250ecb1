#!/usr/bin/env python3
"""Compare rules that clean masks by their connected pieces, on held-out scenes.

    python benchmarks/mask_cleaning.py model.plan data/workcell_val data/clipart_val --limit 60
    python benchmarks/mask_cleaning.py model.plan --cost examples/workcell.jpg --threads 2

Every image is segmented and every phrase referred to once, by the exact rule; the rules then work
on the same maps and masks. A segment's box is scored against the box of the true segment that its
exact mask fits best (same label, IoU of at least 0.25), so that all rules are scored on the same
pairs; a phrase's against the box of what it means, where its exact mask has such an IoU.

--cost times a call with and without cleaning in turns, at two sizes of the image: processor time,
which a busy machine does not stretch. Cleaning is one thread's work.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from xdecoder_rt import Engine, XDecoderError
from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.evaluation.panoptic_quality import PanopticQuality
from xdecoder_rt.evaluation.referring import ReferringIoU
from xdecoder_rt.masks.panoptic_rule import MapSegment
from xdecoder_rt.masks.pieces import clean_map
from xdecoder_rt.results import box_of_mask

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
PIXELS = (16, 64, 256)
LEAST_IOU = 0.25
COLUMNS = ("PQ", "box IoU", "boxes of IoU 0.5", "P@0.5", "cIoU", "box IoU of phrases")
COST_SHARE = 0.3
COST_SIZES = ((448, 448), (1280, 720))
COST_STUFF = ("wall", "floor")
COST_WORDS = ("mug", "robot arm", "table", "box", "screwdriver", "duck", "hammer", *COST_STUFF)
NEIGHBOURS = np.ones((3, 3), int)
"""Pixels that touch at a corner are of one piece."""


@dataclass(frozen=True)
class Rule:
    """Which pieces of a mask are left out, and what takes their place."""

    name: str
    leaves_out: Callable[[np.ndarray, bool], np.ndarray]
    fills: bool = False


def share_rule(share: float, things_only: bool, fills: bool = False) -> Rule:
    """Return the rule that leaves out pieces below a share of the largest one."""
    name = f"below {100 * share:g} % of the largest" if share < 1 else "all but the largest"
    name += ", things" if things_only else ", things and stuff"
    return Rule(
        name + (", given to the nearest segment" if fills else ""),
        lambda areas, is_thing: (areas < share * areas.max()) & (is_thing or not things_only),
        fills,
    )


def pixel_rule(pixels: int) -> Rule:
    """Return the rule that leaves out pieces of fewer pixels, but not the largest."""
    return Rule(
        f"below {pixels} pixels, things and stuff",
        lambda areas, is_thing: (areas < pixels) & (areas < areas.max()),
    )


RULES = (
    Rule("none", lambda areas, is_thing: np.zeros(len(areas), bool)),
    *(share_rule(share, True) for share in SHARES),
    *(share_rule(share, False) for share in SHARES),
    share_rule(0.1, False, fills=True),
    share_rule(0.2, False, fills=True),
    *(pixel_rule(pixels) for pixels in PIXELS),
)


@dataclass(frozen=True)
class Pieces:
    """The connected pieces of one mask: an id of each pixel of a window, and their areas."""

    window: tuple[slice, slice]
    ids: np.ndarray
    areas: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> Pieces:
        """Label a mask that is not empty."""
        (window,) = ndimage.find_objects(mask.astype(np.uint8))
        ids, count = ndimage.label(mask[window], NEIGHBOURS)
        return cls(window, ids, np.bincount(ids.ravel(), minlength=count + 1)[1:])

    def removed(self, rule: Rule, is_thing: bool) -> np.ndarray:
        """Return which pixels of the window a rule takes away."""
        return np.append(False, rule.leaves_out(self.areas, is_thing))[self.ids]


def cleaned_mask(mask: np.ndarray, pieces: Pieces, rule: Rule) -> np.ndarray:
    """Return a thing's mask by a rule."""
    mask = mask.copy()
    mask[pieces.window][pieces.removed(rule, True)] = False
    return mask


def cleaned_map(
    ids: np.ndarray, segments: dict[int, tuple[Pieces, bool]], rule: Rule
) -> np.ndarray:
    """Return a panoptic map by a rule."""
    gone = np.zeros(ids.shape, bool)
    for pieces, is_thing in segments.values():
        gone[pieces.window] |= pieces.removed(rule, is_thing)
    if rule.fills and gone.any():
        nearest = ndimage.distance_transform_edt(
            gone | (ids == 0), return_distances=False, return_indices=True
        )
        return np.where(gone, ids[tuple(nearest)], ids)
    return np.where(gone, 0, ids)


def iou_of_boxes(a: np.ndarray, b: np.ndarray) -> float:
    """Return the IoU of two boxes (left, top, right, bottom)."""
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    common = sides.prod()
    return float(common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common))


def pairs(
    prediction: np.ndarray, labels: dict[int, int], truth: np.ndarray, true_labels: dict[int, int]
) -> Iterator[tuple[int, int]]:
    """Find for each predicted segment the true one of its label that its mask fits best."""
    for id_, label in labels.items():
        mask = prediction == id_
        fits = [
            (np.count_nonzero(mask & (truth == other)) / np.count_nonzero(mask | (truth == other)))
            for other, its in true_labels.items()
            if its == label
        ]
        if fits and max(fits) >= LEAST_IOU:
            same = [other for other, its in true_labels.items() if its == label]
            yield id_, same[int(np.argmax(fits))]


class Scores:
    """What one rule scores on a folder."""

    def __init__(self, data: LabelledFolder) -> None:
        self.panoptic = PanopticQuality(data.vocabulary, data.stuff)
        self.referring = ReferringIoU()
        self.boxes: list[float] = []
        self.phrase_boxes: list[float] = []

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        quality, phrases = self.panoptic.compute(), self.referring.compute()
        boxes, of_phrases = np.array(self.boxes), np.array(self.phrase_boxes)
        return [
            f"{value:.2f}"
            for value in (
                quality.pq,
                100 * boxes.mean(),
                100 * (boxes >= 0.5).mean(),
                phrases.p_at_50,
                phrases.ciou,
                100 * of_phrases.mean(),
            )
        ]


def measure(engine: Engine, data: LabelledFolder, limit: int | None) -> dict[str, Scores]:
    """Return the scores of every rule on a folder."""
    scores: dict[str, Scores] = defaultdict(lambda: Scores(data))
    index = {label: number for number, label in enumerate(data.vocabulary)}
    engine.warm(data.vocabulary)
    for item in tqdm(data.items[:limit], unit="image"):
        state, truth = engine.encode(item.load_image()), item.load_panoptic()
        true_labels = {segment.id: index[segment.label] for segment in item.segments}
        true_boxes = {id_: box_of_mask(truth == id_) for id_ in true_labels}
        found = engine.segment(state, data.vocabulary, stuff=data.stuff)
        labels = {info["id"]: info["label_id"] for info in found.segments_info}
        segments = {
            info["id"]: (Pieces.of(found.mask(number)), info["isthing"])
            for number, info in enumerate(found.segments_info)
        }
        things = {id_: label for id_, label in labels.items() if segments[id_][1]}
        boxed = list(pairs(found.segmentation, things, truth, true_labels))
        asked = [phrase for phrase in item.phrases if phrase.ids]
        answers = [engine.refer(state, [phrase.text])[0] for phrase in asked]
        phrase_truths = [np.isin(truth, phrase.ids) for phrase in asked]
        phrase_pieces = [Pieces.of(one.mask) if one.mask.any() else None for one in answers]
        for rule in RULES:
            score = scores[rule.name]
            ids = cleaned_map(found.segmentation, segments, rule)
            score.panoptic.update(truth, true_labels, ids, labels)
            score.boxes += [
                iou_of_boxes(box_of_mask(ids == one), true_boxes[other]) for one, other in boxed
            ]
            for one, pieces, true in zip(answers, phrase_pieces, phrase_truths, strict=True):
                mask = one.mask if pieces is None else cleaned_mask(one.mask, pieces, rule)
                score.referring.update(true, mask)
                if np.count_nonzero(one.mask & true) >= LEAST_IOU * np.count_nonzero(
                    one.mask | true
                ):
                    score.phrase_boxes.append(iou_of_boxes(box_of_mask(mask), box_of_mask(true)))
    return scores


def clean_by(engine: Engine, share: float) -> None:
    """Have an engine clean masks by a share instead of the plan's."""
    runtime = engine._runtime
    rules = replace(runtime.manifest.postprocess, piece_share=share)
    runtime.manifest = replace(runtime.manifest, postprocess=rules)


def print_cost(engine: Engine, path: Path, rounds: int = 12) -> None:
    """Print processor time of calls in turns, and of cleaning their maps alone."""
    print("| image | call, exact | call, cleaned | cleaning alone | share of the call |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for width, height in COST_SIZES:
        image = np.asarray(Image.open(path).convert("RGB").resize((width, height)))
        calls: dict[float, list[float]] = {0.0: [], COST_SHARE: []}
        alone = []
        for _ in range(rounds):
            for share, times in calls.items():
                clean_by(engine, share)
                start = time.process_time()
                found = engine.segment(image, COST_WORDS, stuff=COST_STUFF)
                times.append(1e3 * (time.process_time() - start))
                if not share:
                    segments = [
                        MapSegment(info["id"], 0, info["isthing"], 0.0, info["area"])
                        for info in found.segments_info
                    ]
                    start = time.process_time()
                    clean_map(found.segmentation, segments, COST_SHARE)
                    alone.append(1e3 * (time.process_time() - start))
        exact, cleaned = (statistics.median(times) for times in calls.values())
        cost = statistics.median(alone)
        print(
            f"| {width}x{height} | {exact:.1f} ms | {cleaned:.1f} ms | {cost:.2f} ms | "
            f"{100 * cost / exact:.1f} % |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("folders", type=Path, nargs="*", metavar="DIR")
    parser.add_argument("--cost", type=Path, metavar="IMAGE", help="time a call on this image")
    parser.add_argument("--limit", type=int, help="first images of each folder (default: all)")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    with Engine(args.plan, threads=args.threads) as engine:
        if args.cost:
            print_cost(engine, args.cost)
        clean_by(engine, 0.0)
        for folder in args.folders:
            data = LabelledFolder.open(folder, verify=False)
            scores = measure(engine, data, args.limit)
            first = next(iter(scores.values()))
            print(f"\n{folder.name}: {len(data.items[: args.limit])} scenes, ", end="")
            print(f"{len(first.boxes)} boxes of things, {len(first.phrase_boxes)} of phrases\n")
            print("| " + " | ".join(("pieces left out", *COLUMNS)) + " |")
            print("| --- " * (1 + len(COLUMNS)) + "|")
            for name, score in scores.items():
                print("| " + " | ".join((name, *score.cells())) + " |")


if __name__ == "__main__":
    try:
        main()
    except XDecoderError as error:
        sys.exit(f"error: {error}")
