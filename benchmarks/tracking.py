r"""Ids over frames on rendered sequences with true ids, beside ByteTrack on boxes, in one run.

    python benchmarks/tracking.py --plan model.plan --sequences 4 --frames 90
    python benchmarks/tracking.py --sequences 4 --frames 90
    python benchmarks/tracking.py --squares 50 --frames 60 --size 720x1280

A camera is carried around a table and back. With a plan the segments are the engine's; without one
they are the true masks, one in ten left out, with labels that are sometimes wrong, edges that are
eaten or grown, and false segments. `xdecoder_rt.Tracker` and ByteTrack (of roboflow's `trackers`,
on boxes and scores, from the first frame on and for low scores) follow the same segments.

IDF1, switches (a true thing that is found under another id than before) and the time a frame are
printed; a segment is a true thing's if their masks overlap by half. ``--squares`` times the Tracker
alone on squares that cover the frame, hide one another and move, in turns with and without
`steady`. The rest needs the extras scenes and
supervision, and the package trackers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from xdecoder_rt import Engine, Tracker, XDecoderError
from xdecoder_rt.errors import require
from xdecoder_rt.results import Segmentation, box_of_mask
from xdecoder_rt.scenes.moving import MovingFrame, walk
from xdecoder_rt.scenes.room import ROOM_STUFF
from xdecoder_rt.scenes.workcell import workcell_studio
from xdecoder_rt.tracking.assignment import best_pairs

LEAST_PIXELS = 60


def true_things(frame: MovingFrame) -> dict[int, np.ndarray]:
    """Return the masks of things that are seen, by number."""
    counts = np.bincount(frame.ids.ravel())
    return {
        number: frame.ids == number
        for number in np.flatnonzero(counts >= LEAST_PIXELS).tolist()
        if number and frame.labels[number] not in ROOM_STUFF
    }


def shifted(mask: np.ndarray, by: int, axis: int) -> np.ndarray:
    moved = np.roll(mask, by, axis)
    edge = [slice(None)] * 2
    edge[axis] = slice(0, by) if by > 0 else slice(by, None)
    moved[tuple(edge)] = False
    return moved


def disturbed(frame: MovingFrame, rng: np.random.Generator, names: list[str]) -> Segmentation:
    """Return true masks as a poor segmenter would find them."""
    ids = np.zeros(frame.ids.shape, np.int32)
    infos: list[dict[str, Any]] = []
    for number, whole in true_things(frame).items():
        if rng.random() < 0.1:
            continue
        mask = whole.copy()
        for _ in range(int(rng.integers(0, 3))):
            by, axis = int(rng.choice((-1, 1))), int(rng.integers(2))
            moved = shifted(mask, by, axis)
            mask = mask & moved if rng.random() < 0.5 else mask | moved
        label = frame.labels[number] if rng.random() > 0.08 else str(rng.choice(names))
        add(ids, infos, mask, label, names, float(rng.uniform(0.4, 0.95)))
    for _ in range(int(rng.poisson(0.5))):
        top, left = int(rng.integers(ids.shape[0] - 30)), int(rng.integers(ids.shape[1] - 30))
        mask = np.zeros(ids.shape, np.bool_)
        mask[top : top + 24, left : left + 24] = True
        add(ids, infos, mask & (ids == 0), str(rng.choice(names)), names, 0.4)
    return Segmentation(ids, infos)


def add(
    ids: np.ndarray, infos: list[dict[str, Any]], mask: np.ndarray, label: str, names: list[str],
    score: float,
) -> None:  # fmt: skip
    if not mask.any():
        return
    number = len(infos) + 1
    ids[mask] = number
    infos.append({
        "id": number, "label_id": names.index(label), "label": label, "score": score,
        "area": int(mask.sum()), "isthing": True,
    })  # fmt: skip


class Judge:
    """Counts which true thing was found under which id."""

    def __init__(self) -> None:
        self.together: Counter[tuple[int, int]] = Counter()
        self.true = self.found = self.switches = 0
        self.last: dict[int, int] = {}

    def see(self, truth: dict[int, np.ndarray], segments: list[tuple[int, np.ndarray]]) -> None:
        """Count a frame.

        Args:
            truth: masks by number.
            segments: masks with the ids that were given.
        """
        self.true += len(truth)
        self.found += len(segments)
        numbers = list(truth)
        overlap = np.zeros((len(numbers), len(segments)))
        for row, number in enumerate(numbers):
            for column, (_, mask) in enumerate(segments):
                common = int((truth[number] & mask).sum())
                if common:
                    overlap[row, column] = common / int((truth[number] | mask).sum())
        for row, column in best_pairs(np.where(overlap >= 0.5, overlap, 0)):
            number, given = numbers[row], segments[column][0]
            self.together[number, given] += 1
            self.switches += self.last.get(number, given) != given
            self.last[number] = given

    def idf1(self) -> tuple[float, float]:
        """Return true positives under the best pairing of ids, and the sum that IDF1 divides."""
        rows = sorted({pair[0] for pair in self.together})
        columns = sorted({pair[1] for pair in self.together})
        table = np.zeros((len(rows), len(columns)))
        for (number, given), count in self.together.items():
            table[rows.index(number), columns.index(given)] = count
        return float(sum(table[pair] for pair in best_pairs(table))), self.true + self.found


def byte_track(
    tracker: Any, supervision: Any, segmentation: Segmentation, things: list[int]
) -> dict[int, int]:
    """Return ByteTrack's id of each segment; those that it drops have none."""
    infos = [segmentation.segments_info[index] for index in things]
    if not things:
        tracker.update(supervision.Detections.empty())
        return {}
    boxes = np.array([box_of_mask(segmentation.mask(index)) for index in things])
    detections = supervision.Detections(
        xyxy=boxes,
        confidence=np.array([info["score"] for info in infos], np.float32),
        class_id=np.array([info["label_id"] for info in infos]),
        data={"index": np.array(things)},
    )
    followed = tracker.update(detections)
    ids = followed.tracker_id if followed.tracker_id is not None else []
    pairs = zip(followed.data.get("index", []), map(int, ids), strict=False)
    return {int(index): given for index, given in pairs if given >= 0}


def sequences(arguments: argparse.Namespace) -> Iterator[tuple[int, list[MovingFrame]]]:
    """Render the sequences."""
    studio = workcell_studio("val")
    for seed in range(arguments.sequences):
        rng = np.random.default_rng(1000 + seed)
        yield seed, list(walk(studio, rng, arguments.frames, degrees=arguments.degrees))


def squares(count: int, frames: int, size: tuple[int, int]) -> list[Segmentation]:
    """Return frames that moving squares cover, which hide one another."""
    rng = np.random.default_rng(0)
    bounds = np.array(size)
    places = rng.uniform(0, 0.9 * bounds, (count, 2))
    moves = rng.normal(0, min(size) / 240, (count, 2))
    sides = rng.integers(min(size) // 8, min(size) * 5 // 18, count)
    result = []
    for number in range(frames):
        ids = np.ones(size, np.int32)
        tops = (places + number * moves).clip(0, 0.9 * bounds).astype(int)
        for index, ((top, left), side) in enumerate(zip(tops, sides, strict=True), 2):
            ids[top : top + side, left : left + side] = index
        areas = np.bincount(ids.ravel(), minlength=count + 2).tolist()
        infos = [
            {"id": i, "label_id": i % 9, "label": f"thing {i % 9}" if i > 1 else "floor",
             "score": 0.8, "area": areas[i], "isthing": i > 1}
            for i in range(1, count + 2) if areas[i]
        ]  # fmt: skip
        result.append(Segmentation(ids, infos))
    return result


def print_cost(arguments: argparse.Namespace) -> None:
    """Print the time of a frame, in turns with and without `steady`."""
    height, width = map(int, arguments.size.split("x"))
    frames = squares(arguments.squares, arguments.frames, (height, width))
    times: dict[bool, list[float]] = {True: [], False: []}
    for steady in (True, False) * 5:
        tracker = Tracker(steady=steady)
        for frame in frames:
            begin = time.perf_counter()
            tracker.update(frame)
            times[steady].append(time.perf_counter() - begin)
    for steady, row in times.items():
        middle, least = 1000 * np.quantile(row, (0.5, 0.1))
        print(f"steady={steady}: {middle:.2f} ms a frame, the fastest tenth below {least:.2f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", help="the engine's segments; without it the disturbed true ones")
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--frames", type=int, default=90)
    parser.add_argument("--degrees", type=float, default=0.8, help="turn from frame to frame")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--squares", type=int, help="time the Tracker on so many squares")
    parser.add_argument("--size", default="720x1280", help="of the squares' frames, HxW")
    arguments = parser.parse_args()
    if arguments.squares:
        print_cost(arguments)
        return
    supervision = require("supervision", "supervision")
    try:
        from trackers import ByteTrackTracker
    except ModuleNotFoundError as error:
        raise XDecoderError(
            f"The package {error.name} is not installed", fix="pip install trackers"
        ) from error

    engine = Engine(arguments.plan) if arguments.plan else None
    rows: dict[str, list[float]] = {"Tracker": [0, 0, 0], "ByteTrack": [0, 0, 0]}
    times: dict[str, list[float]] = {"Tracker": [], "ByteTrack": []}
    for seed, frames in sequences(arguments):
        rng = np.random.default_rng(seed)
        names = sorted({name for name in frames[0].labels.values() if name not in ROOM_STUFF})
        judges = {"Tracker": Judge(), "ByteTrack": Judge()}
        ours = Tracker()
        # From the first frame on, and for scores as they are: the kindest setting for it.
        theirs = ByteTrackTracker(
            minimum_consecutive_frames=1,
            track_activation_threshold=0.25,
            high_conf_det_threshold=0.4,
        )
        for frame in frames:
            truth = true_things(frame)
            if engine is None:
                found = disturbed(frame, rng, names)
            else:
                found = engine.segment(frame.image, [*names, *ROOM_STUFF], stuff=ROOM_STUFF)
            things = [i for i, info in enumerate(found.segments_info) if info["isthing"]]
            begin = time.perf_counter()
            tracked = ours.update(found)
            middle = time.perf_counter()
            given = byte_track(theirs, supervision, found, things)
            end = time.perf_counter()
            times["Tracker"].append(middle - begin)
            times["ByteTrack"].append(end - middle)
            masks = {index: found.mask(index) for index in things}
            judges["Tracker"].see(
                truth, [(tracked.segments_info[i]["id"], masks[i]) for i in things]
            )
            judges["ByteTrack"].see(truth, [(given[i], masks[i]) for i in things if i in given])
        for name, judge in judges.items():
            hits, total = judge.idf1()
            rows[name] = [
                old + new
                for old, new in zip(rows[name], (hits, total, judge.switches), strict=True)
            ]
    result = {
        name: {
            "idf1": 2 * hits / total if total else 0.0,
            "switches": int(switches),
            "ms_per_frame": 1000 * float(np.median(times[name])),
        }
        for name, (hits, total, switches) in rows.items()
    }
    print(f"{'':12}{'IDF1':>8}{'switches':>10}{'ms a frame':>12}")
    for name, row in result.items():
        print(f"{name:12}{row['idf1']:8.3f}{row['switches']:10}{row['ms_per_frame']:12.2f}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    try:
        main()
    except XDecoderError as error:
        sys.exit(f"error: {error}")
