"""``xdecoder-rt segment``: find words in images."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdecoder_rt.cli.options import (
    RULES,
    Words,
    add_engine,
    add_json,
    add_plan,
    add_words,
    read_words,
)
from xdecoder_rt.cli.output import Report, check_writable, note, printable, table, writer
from xdecoder_rt.errors import ArgumentError, ImageError, shown

if TYPE_CHECKING:
    from PIL import Image

    from xdecoder_rt.engine import Engine
    from xdecoder_rt.results import Segmentation

SUMMARY = "find words in images: a table, a picture, JSON"
DESCRIPTION = """\
Find words in images and print what was found: label, score, area and box of every segment. With -o
the segments are drawn over the image. The images come first, then --words.

Panoptic output (the default) gives every pixel to one segment at most; words under --stuff (wall,
floor) make one segment each, all others one a thing. Instance output gives things that may overlap,
semantic output one class a pixel.

With several images, one that cannot be read is reported and skipped; the exit code is then 1.
"""
EXAMPLES = """\
  xdecoder-rt segment desk.jpg --words mug laptop "robot arm" -o found.png
  xdecoder-rt segment desk.jpg --words mug cable --stuff wall floor -o found.png
  xdecoder-rt segment desk.jpg --words "sofa|couch" lamp          two names of one thing
  xdecoder-rt segment shots/*.jpg --words-file names.txt -o drawn/ --json found.json
  xdecoder-rt segment desk.jpg --words mug --json | jq '.images[0].segments[].label'
  xdecoder-rt segment desk.jpg --words mug --task instance --labels-png ids.png
"""
PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_JPEG_QUALITY = 92


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``segment``."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, before --words")
    add_plan(parser)
    add_words(parser)
    parser.add_argument(
        "--task", choices=RULES, default="panoptic", help="kind of output (default: %(default)s)"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o",
        "--output",
        metavar="PICTURE",
        help="the image with its segments drawn: .png, .jpg or .webp; with several images a "
        "folder, which is made",
    )
    output.add_argument(
        "--labels-png",
        metavar="PNG",
        help="a grey PNG (8 bits, or 16 where needed) of segment ids, 0 where there is none; for "
        "--task semantic, place in the vocabulary from 1; with several images a folder",
    )
    add_json(output)
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Segment every image; 1 if one of them could not be read.

    Raises:
        XDecoderError: the plan, the words or the places to write are not usable.
    """
    report = Report(args.json)
    words = read_words(args)
    from xdecoder_rt.engine import Engine

    entries: list[dict[str, Any]] = []
    failed = False
    with Engine(
        args.plan, backend=args.backend, threads=args.threads, cache_dir=args.cache_dir
    ) as engine:
        pictures = _destinations(args.images, args.output, None, "the picture")
        labels = _destinations(args.images, args.labels_png, ".png", "the labels")
        engine.warm(words.entries)
        for image, picture, label_png in zip(args.images, pictures, labels, strict=True):
            try:
                entry = _one(engine, image, words, args.task, picture, label_png)
            except ImageError as error:
                failed = True
                note(f"error: {error}")
                entries.append({"image": image, "error": str(error)})
            else:
                loading = not any("segments" in earlier for earlier in entries)
                report.text(_text(entry, " with loading the graphs" if loading else ""))
                entries.append(entry)
        report.document(
            {
                "plan": str(args.plan),
                "backend": engine.backend.name,
                "task": args.task,
                "vocabulary": words.entries,
                "stuff": words.stuff,
                "images": entries,
            }
        )
    return int(failed)


def _one(
    engine: Engine,
    path: str,
    words: Words,
    task: str,
    picture: Path | None,
    label_png: Path | None,
) -> dict[str, Any]:
    """Segment one image and write its files; its entry of the JSON."""
    from xdecoder_rt.image import load_image

    pixels = load_image(path)
    start = time.perf_counter()
    result = engine.segment(pixels, words.entries, task=task, stuff=words.stuff)
    milliseconds = 1000 * (time.perf_counter() - start)
    if picture is not None:
        write_picture(result.draw(pixels), picture)
    if label_png is not None:
        _write_labels(result, label_png)
    return {
        "image": path,
        "time_ms": milliseconds,
        "picture": None if picture is None else str(picture),
        "labels_png": None if label_png is None else str(label_png),
        **result.to_dict(),
    }


def _text(entry: dict[str, Any], remark: str) -> str:
    segments = entry["segments"]
    pixels = entry["width"] * entry["height"]
    head = (
        f"{printable(entry['image'], 200)}  {entry['width']} x {entry['height']}, {entry['task']}, "
        f"{len(segments)} segment{'' if len(segments) == 1 else 's'}, "
        f"{entry['time_ms']:.0f} ms{remark}"
    )
    if not segments:
        return f"{head}\n"
    rows = [
        (
            printable(segment["label"]),
            f"{100 * segment['score']:.0f} %",
            f"{100 * segment['area'] / pixels:.1f} %",
            "thing" if segment["isthing"] else "stuff",
            *(f"{edge:.0f}" for edge in segment["box"]),
        )
        for segment in segments
    ]
    header = ("label", "score", "area", "kind", "left", "top", "right", "bottom")
    return f"{head}\n{table(header, rows)}\n"


def _destinations(
    images: list[str], target: str | None, suffix: str | None, what: str
) -> list[Path | None]:
    """The file to write for each image, all checked before any work.

    Args:
        images: as given.
        target: a file for one image, a folder for several; None writes nothing.
        suffix: the only file type, or None for those of pictures.
        what: what is written, for messages.

    Raises:
        ArgumentError: a place cannot be written, or is one of the images.
    """
    if target is None:
        return [None] * len(images)
    path = Path(target)
    if len(images) > 1 or path.is_dir() or target.endswith(os.sep):
        files = _in_folder(images, path, suffix or ".png", what)
    else:
        allowed = PICTURE_FORMATS if suffix is None else (suffix,)
        if path.suffix.lower() not in allowed:
            raise ArgumentError(
                f"{shown(target, 200)} is no name for {what}",
                expected=f"a file ending in {' or '.join(allowed)}",
            )
        files = [path]
    inputs = {os.path.realpath(image) for image in images}
    for file in files:
        if os.path.realpath(file) in inputs:
            raise ArgumentError(
                f"{shown(str(file), 200)} is one of the images",
                fix=f"choose another place for {what}",
            )
        check_writable(file, what)
    return list(files)


def _in_folder(images: list[str], folder: Path, suffix: str, what: str) -> list[Path]:
    """Files in a folder, named after the images; equal names get numbers."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"The folder {shown(str(folder), 200)} for {what} cannot be made: "
            f"{error.strerror or error}",
            expected="a folder, as there are several images" if len(images) > 1 else None,
        ) from error
    files: list[Path] = []
    taken: set[str] = set()
    for image in images:
        stem = name = Path(image).stem
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        files.append(folder / f"{name}{suffix}")
    return files


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture, whole or not at all; its format is told by the name.

    Raises:
        ArgumentError: it cannot be written.
    """
    form = PICTURE_FORMATS[path.suffix.lower()]
    options = {"quality": _JPEG_QUALITY} if form == "JPEG" else {}
    with writer(path, "the picture") as file:
        picture.save(file, format=form, **options)


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
