"""What a plan says of photographs that nobody trained on, at points marked by hand.

    sudo apt-get install gcompris-qt-data tuxpaint-data mate-backgrounds puzzle-jigsaw
    python benchmarks/studies/photographs.py collect data/photographs
    python benchmarks/studies/photographs.py measure model.plan data/photographs -o photographs.json

`photograph_points.json` lists photographs of Debian's packages by digest, and of each: points and
the words that are right there, a caption, and phrases with the boxes of what they mean, all
written after looking. `collect` copies the photographs out of the packages; no picture is kept
here. `measure` asks one vocabulary of all words, and five words a picture: those of its points,
filled up with others. The figures:

named       share of points whose label is right: of things, of stuff, of all
unlabelled  share of points without any label
phrases     share of phrases whose box overlaps the marked one by at least half
image_r1, image_r5   share of captions that rank their picture first, among the first five

`intervals` has the 95 % interval (Wilson) of each, as if points of one picture were strangers;
`sources` has the shares of the points of each package.

Settings are chosen on these photographs and on the composites of `python -m xdecoder_rt.scenes
photographs`; figures to report come from other photographs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from qt_resources import resources

from xdecoder_rt import Engine, XDecoderError
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.files.image_file import read_image
from xdecoder_rt.files.output_file import check_writable
from xdecoder_rt.files.regular import read_regular
from xdecoder_rt.results import Segmentation

POINTS = Path(__file__).with_name("photograph_points.json")
WORDS_A_PICTURE = 5
OUTPUTS = {
    f"{task}_{words}": (title, task)
    for words, title in (("all_words", "100"), ("five_words", "five"))
    for task in ("panoptic", "semantic")
}
KINDS = {
    "named_things": "things named",
    "named_stuff": "stuff named",
    "named": "all points",
    "unlabelled": "without label",
}
_LARGEST_FILE = 64 << 20


@dataclass(frozen=True)
class Photograph:
    """A photograph of a package.

    Attributes:
        name: The file that `collect` writes: the beginning of the digest, and the format.
        entry: What the list says of it.
    """

    name: str
    entry: dict[str, Any]


def photographs() -> list[Photograph]:
    """Return the photographs, as the list has them."""
    entries = json.loads(POINTS.read_bytes())["photographs"]
    return [Photograph(f"{number:02d}_{e['sha256'][:12]}", e) for number, e in enumerate(entries)]


def collect(folder: Path, share: Path) -> None:
    """Copy the photographs out of the packages.

    Args:
        folder: Where to.
        share: `/usr/share`, or that folder of packages unpacked elsewhere.

    Raises:
        ValueError: a package is missing, or brings another picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = photographs()
    for photograph, data in zip(found, packaged([p.entry for p in found], share), strict=True):
        with atomic_writer(folder / photograph.name) as file:
            file.write(data)


def packaged(entries: Sequence[Mapping[str, Any]], share: Path) -> Iterator[bytes]:
    """Yield the files of listed photographs, out of their packages.

    Args:
        entries: What a list says of each.
        share: `/usr/share`, or that folder of packages unpacked elsewhere.

    Raises:
        ValueError: a package is missing, or brings another picture.
    """
    opened: dict[str, dict[str, bytes]] = {}
    for entry in entries:
        path = share / entry["file"]
        try:
            data = read_regular(path, _LARGEST_FILE)
        except OSError as error:
            raise ValueError(
                f"{path} cannot be read ({error}): sudo apt-get install {entry['package']}"
            ) from error
        if resource := entry.get("resource"):
            if entry["file"] not in opened:
                opened[entry["file"]] = dict(resources(data))
            data = opened[entry["file"]].get(resource, b"")
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise ValueError(f"{path} {resource or ''} is another picture than the marked one")
        yield data


def five_words(entry: dict[str, Any], vocabulary: Sequence[str]) -> list[str]:
    """Return the words of a picture's points and others, five in all, in the alphabet's order.

    The others are decided by the picture's digest, and none of them is right at any point.
    """
    words = list(dict.fromkeys(point["words"][0] for point in entry["points"]))
    right = {word for point in entry["points"] for word in point["words"]}
    others = sorted(
        (word for word in vocabulary if word not in right),
        key=lambda word: hashlib.sha256(f"{entry['sha256']}{word}".encode()).digest(),
    )
    return sorted([*words, *others][:WORDS_A_PICTURE])


def labels_at(result: Segmentation, places: Sequence[Sequence[float]]) -> list[str | None]:
    """Return the label at each place, x and y from 0 to 1; None where there is none."""
    names = {info["id"]: info["label"] for info in result.segments_info}
    if result.task == "semantic":
        names = {info["label_id"]: info["label"] for info in result.segments_info}
    height, width = result.segmentation.shape
    found = []
    for x, y in places:
        row, column = min(int(y * height), height - 1), min(int(x * width), width - 1)
        found.append(names.get(int(result.segmentation[row, column])))
    return found


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the intersection over union of two boxes, xyxy."""
    sides = [
        max(0.0, min(first[axis + 2], second[axis + 2]) - max(first[axis], second[axis]))
        for axis in (0, 1)
    ]
    both = sides[0] * sides[1]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both) if sum(areas) > both else 0.0


def shares(points: list[dict[str, Any]], labels: list[str | None]) -> dict[str, float]:
    """Return the shares of points, in per cent."""
    right = np.array([label in p["words"] for p, label in zip(points, labels, strict=True)])
    stuff = np.array([point["stuff"] for point in points])
    return {
        "named_things": 100 * float(right[~stuff].mean()),
        "named_stuff": 100 * float(right[stuff].mean()),
        "named": 100 * float(right.mean()),
        "unlabelled": 100 * float(np.mean([label is None for label in labels])),
    }


def interval(share: float, count: int) -> list[float]:
    """Return the 95 % interval (Wilson) of a share of so many, all in per cent."""
    share, z = share / 100, NormalDist().inv_cdf(0.975)
    middle = share + z * z / (2 * count)
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return [100 * (middle + side * half) / (1 + z * z / count) for side in (-1, 1)]


def counts(points: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Return of how many points each of the `shares` is."""
    stuff = sum(point["stuff"] for point in points)
    things = len(points) - stuff
    return {
        "named_things": things,
        "named_stuff": stuff,
        "named": len(points),
        "unlabelled": len(points),
    }


def with_intervals(figures: dict[str, Any], points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures and, of every share, its interval."""
    asked = {"phrases": figures["phrases_asked"]}
    asked |= dict.fromkeys(("image_r1", "image_r5"), figures["photographs"])
    intervals: dict[str, Any] = {name: interval(figures[name], n) for name, n in asked.items()}
    of_points = counts(points)
    for name, found in figures.items():
        if isinstance(found, dict):
            intervals[name] = {kind: interval(found[kind], n) for kind, n in of_points.items()}
    return figures | {"intervals": intervals}


def by_source(
    points: Sequence[dict[str, Any]],
    sources: Sequence[str],
    labels: Mapping[str, Sequence[str | None]],
) -> dict[str, Any]:
    """Return the shares of the points of each package."""
    figures: dict[str, Any] = {}
    for source in sorted(set(sources)):
        own = [number for number, name in enumerate(sources) if name == source]
        chosen = [points[number] for number in own]
        figures[source] = {"points": len(own)}
        for name, found in labels.items():
            figures[source][name] = shares(chosen, [found[number] for number in own])
    return figures


def measure(engine: Engine, folder: Path) -> dict[str, Any]:
    """Return all figures of a plan, in per cent."""
    document = json.loads(POINTS.read_bytes())
    vocabulary, all_stuff = document["vocabulary"], set(document["stuff"])
    points: list[dict[str, Any]] = []
    sources: list[str] = []
    labels: dict[str, list[str | None]] = {}
    hits, rows, captions = [], [], []
    for photograph in photographs():
        entry = photograph.entry
        image = read_image(folder / photograph.name)
        height, width = image.shape[:2]
        state = engine.encode(image)
        points += entry["points"]
        sources += [entry["package"]] * len(entry["points"])
        five = five_words(entry, vocabulary)
        places = [point["at"] for point in entry["points"]]
        for name, words in (("all_words", vocabulary), ("five_words", five)):
            stuff = sorted(all_stuff.intersection(words))
            for task in ("panoptic", "semantic"):
                result = engine.segment(state, words, task=task, stuff=stuff)
                labels.setdefault(f"{task}_{name}", []).extend(labels_at(result, places))
        phrases = [phrase["text"] for phrase in entry["phrases"]]
        answers = engine.refer(state, phrases) if phrases else []
        for phrase, answer in zip(entry["phrases"], answers, strict=True):
            box = np.asarray(answer.box, float) / (width, height, width, height)
            hits.append(overlap(box.tolist(), phrase["box"]) >= 0.5)
        rows.append(engine.embed_image(state))
        captions.append(entry["caption"])
    likeness = engine.embed_text(captions) @ np.stack(rows).T
    own = np.diag(likeness)[:, None]
    rank = (likeness > own).sum(1)
    figures = {
        "photographs": len(rows),
        "points": len(points),
        **{name: shares(points, found) for name, found in labels.items()},
        "phrases": 100 * float(np.mean(hits)),
        "phrases_asked": len(hits),
        "image_r1": 100 * float((rank < 1).mean()),
        "image_r5": 100 * float((rank < 5).mean()),
    }
    return with_intervals(figures, points) | {"sources": by_source(points, sources, labels)}


def table(figures: Mapping[str, Any]) -> str:
    """Return the Markdown of what `measure` gave, with intervals."""
    lines = [
        f"| words | output | {' | '.join(KINDS.values())} |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, (words, task) in OUTPUTS.items():
        cells = [_cell(figures[name], figures["intervals"][name], kind) for kind in KINDS]
        if task == "semantic":
            cells[-1] = ""
        lines.append(f"| {words} | {task} | {' | '.join(cells)} |")
    texts = {
        "phrases": f"of the {figures['phrases_asked']} phrases get a box that overlaps the marked "
        "one by half or more",
        "image_r1": "of the captions find their picture first",
        "image_r5": "find it among the first five",
    }
    said = [f"{_cell(figures, figures['intervals'], kind)} {text}" for kind, text in texts.items()]
    return "\n".join([*lines, "", "; ".join(said) + "."])


def sources_table(figures: Mapping[str, Any]) -> str:
    """Return the Markdown of the points of each package."""
    kinds = [kind for kind in KINDS if kind != "unlabelled"]
    lines = [
        f"| package, 100 words | points | {' | '.join(KINDS[kind] for kind in kinds)} |",
        f"| --- | ---: |{' ---: |' * len(kinds)}",
    ]
    for source, found in figures["sources"].items():
        shares = [f"{found['semantic_all_words'][kind]:.1f} %" for kind in kinds]
        lines.append(f"| {source}, semantic | {found['points']} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _cell(figures: Mapping[str, Any], intervals: Mapping[str, Any], kind: str) -> str:
    low, high = intervals[kind]
    return f"{figures[kind]:.1f} % ({low:.0f}-{high:.0f})"


def main() -> int:
    """Read the command line; collect or measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser("collect", help="copy the photographs out of the packages")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--share", type=Path, default=Path("/usr/share"), metavar="DIR")
    command = commands.add_parser("measure", help="ask a plan about them")
    command.add_argument("plan", type=Path)
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--threads", type=int, metavar="N")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="JSON")
    args = parser.parse_args()
    try:
        if args.command == "collect":
            collect(args.folder, args.share)
            return 0
        check_writable(args.output, "the figures")
        with Engine(args.plan, threads=args.threads) as engine:
            figures = measure(engine, args.folder)
    except (ValueError, XDecoderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = json.dumps(figures, indent=1)
    with atomic_writer(args.output) as file:
        file.write(text.encode() + b"\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
