"""``xdecoder-rt segment``: find words in images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdecoder_rt.cli.images import (
    ImageList,
    add_images,
    any_failed,
    ask_all,
    headline,
    open_engine,
    quantity,
    timed,
)
from xdecoder_rt.cli.options import (
    add_engine,
    add_json,
    add_min_score,
    add_plan,
    add_segment_task,
    add_thresholds,
    add_words,
    read_vocabulary,
)
from xdecoder_rt.cli.output import CommandReport, is_same_file, progress_bar
from xdecoder_rt.cli.pictures import add_picture, destinations, write_picture
from xdecoder_rt.cli.tables import segment_table
from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.files.output_file import check_writable, writer

if TYPE_CHECKING:
    from xdecoder_rt.datasets.coco_file import CocoFile
    from xdecoder_rt.engine import Engine
    from xdecoder_rt.results import Segmentation
    from xdecoder_rt.words.vocabulary import Vocabulary

SUMMARY = "find words in images: a table, a picture, JSON"
DESCRIPTION = """\
Find words in images and print what was found: label, score, area and box of every segment. With -o
the segments are drawn over the image. The images come first, then --words.

Panoptic output (the default) gives every pixel to one segment at most; words under --stuff (wall,
floor) make one segment each, all others one a thing. Instance output gives things that may overlap,
semantic output one class a pixel. What is below --min-score is left out.

An IMAGE may be a folder, which stands for the images in it. With several images, one that cannot
be read is reported and skipped; the exit code is then 1.
"""
EXAMPLES = """\
  xdecoder-rt segment desk.jpg --words mug laptop "robot arm" -o found.png
  xdecoder-rt segment desk.jpg --words mug cable --stuff wall floor -o found.png
  xdecoder-rt segment desk.jpg --words "sofa|couch" lamp          two names of one thing
  xdecoder-rt segment desk.jpg --words mug "knife [threshold 0.9]" --negatives hand --other
  xdecoder-rt segment shots/*.jpg --words-file names.txt -o drawn/ --json found.json
  xdecoder-rt segment shots/ --words mug bin --task instance --coco found.json
  xdecoder-rt segment desk.jpg --words mug --json | jq '.images[0].segments[].label'
  xdecoder-rt segment desk.jpg --words mug --task instance --min-score 0.5 --labels-png ids.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``segment``."""
    add_images(parser, "--words")
    add_plan(parser)
    add_words(parser)
    add_segment_task(parser)
    add_min_score(parser, "segments", "0.25 for --task instance, else 0")
    add_thresholds(parser, "the plan's")
    output = parser.add_argument_group("output")
    add_picture(output, "the image with its segments drawn")
    output.add_argument(
        "--labels-png",
        metavar="PNG",
        help="a grey PNG (8 bits, or 16 where needed) of segment ids, 0 where there is none; for "
        "--task semantic, 1 + the label id; with several images a folder",
    )
    output.add_argument(
        "--coco",
        type=Path,
        metavar="FILE",
        help="one COCO file of all images: categories, boxes and run-length masks",
    )
    add_json(output)
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Segment every image; 1 if one of them could not be read.

    Raises:
        XDecoderError: the plan, the words or the places to write are not usable.
    """
    from xdecoder_rt.datasets.coco_file import CocoFile
    from xdecoder_rt.words.files import plain_entries

    report: CommandReport = args.command_report
    words = read_vocabulary(args)
    images = ImageList.read(args.images)
    with open_engine(args) as engine:
        pictures = destinations(images, args.output, None, "the picture")
        labels = destinations(images, args.labels_png, ".png", "the labels")
        _refuse_one_file(pictures, labels)
        coco = CocoFile(words.found_labels)
        if args.coco is not None:
            check_writable(args.coco, "the COCO file")
        with progress_bar("sentences embedded") as progress:
            engine.warm(words, progress)
        jobs = [
            partial(_segment_image, engine, image, words, args, picture, label_png, coco)
            for image, picture, label_png in zip(images.paths, pictures, labels, strict=True)
        ]
        entries: list[dict[str, Any]] = []
        document = {
            "plan": str(args.plan),
            "backend": engine.backend.name,
            "task": args.task,
            "vocabulary": plain_entries(words.words),
            "stuff": [word.name for word in words.words if word.stuff],
            "images": entries,
            "left_out": images.left_out,
        }
        with report.kept(document):
            ask_all(images.paths, jobs, _segments_text, report, entries)
            if args.coco is not None:
                coco.write(args.coco)
    return int(any_failed(entries))


def _refuse_one_file(pictures: Sequence[Path | None], labels: Sequence[Path | None]) -> None:
    """Refuse to write labels over the pictures."""
    for picture, label_png in zip(pictures, labels, strict=True):
        if picture and label_png and is_same_file(picture, label_png):
            raise ArgumentError(
                f"{quoted(str(picture), 200)} would be both the picture and the labels",
                fix="give --labels-png another place than --output",
            )


def _segment_image(
    engine: Engine,
    path: str,
    words: Vocabulary,
    args: argparse.Namespace,
    picture: Path | None,
    label_png: Path | None,
    coco: CocoFile,
) -> dict[str, Any]:
    """Segment one image, write its files, and return its entry of the JSON."""
    from xdecoder_rt.image import load_image

    pixels = load_image(path)
    result, milliseconds = timed(
        lambda: engine.segment(
            pixels,
            words,
            task=args.task,
            min_score=args.min_score,
            object_threshold=args.object_threshold,
            overlap_threshold=args.overlap_threshold,
        )
    )
    if args.coco is not None:
        coco.add(path, result)
    if picture is not None:
        write_picture(result.draw(pixels, font=args.font), picture)
    if label_png is not None:
        _write_labels(result, label_png)
    return {
        "image": path,
        "time_ms": milliseconds,
        "picture": None if picture is None else str(picture),
        "labels_png": None if label_png is None else str(label_png),
        **result.to_dict(),
    }


def _segments_text(entry: dict[str, Any], remark: str) -> str:
    segments = quantity(len(entry["segments"]), "segment")
    head = headline(entry, f"{entry['task']}, {segments}", remark)
    return "\n".join([head, *segment_table(entry), ""])


def _write_labels(result: Segmentation, path: Path) -> None:
    import numpy as np
    from PIL import Image

    ids = result.segmentation + 1 if result.task == "semantic" else result.segmentation
    if ids.max(initial=0) > np.iinfo(np.uint16).max:
        raise ArgumentError(
            f"There are {ids.max()} segments or classes",
            expected=f"at most {np.iinfo(np.uint16).max} for a PNG of labels",
        )
    narrow = ids.astype(np.uint8 if ids.max(initial=0) <= 255 else np.uint16)
    with writer(path, "the labels") as file:
        Image.fromarray(narrow).save(file, format="PNG")
