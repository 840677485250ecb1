"""``xdecoder-rt rank``: which image belongs to which text."""

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
    timed,
)
from xdecoder_rt.cli.options import (
    add_engine,
    add_json,
    add_min_score,
    add_plan,
    add_strict,
    positive,
)
from xdecoder_rt.cli.output import CommandReport, format_table
from xdecoder_rt.cli.pictures import add_picture, destinations, write_picture
from xdecoder_rt.cli.tables import CELL_LIMIT
from xdecoder_rt.errors import ArgumentError, printable

if TYPE_CHECKING:
    from xdecoder_rt.engine import Engine

SUMMARY = "sort images by texts, and texts by images"
DESCRIPTION = """\
Compare images with texts (image-text retrieval): the best images of every text, the best texts of
every image. With --find, each text is then looked for in its best image (region retrieval): where
is the red mug, in all of these? -o draws that, one picture for each image that is the best for a
text. The images come first, then --texts; each text is in quotes.

A score is the likeness of image and text, at most 1. Scores are to be compared with one another;
none means "yes" by itself.

An IMAGE may be a folder, which stands for the images in it. An image that cannot be read is
reported and skipped; the exit code is then 1.
"""
EXAMPLES = """\
  xdecoder-rt rank shots/ --texts "a robot arm over a table" "a kitchen"
  xdecoder-rt rank shots/ --texts "the red mug" --find -o where/
  xdecoder-rt rank a.jpg b.jpg --texts "a red mug" --json | jq '.texts[0].images[0].image'
  xdecoder-rt rank photo.jpg --texts "a kitchen" "an office" "a street"     what is it?
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``rank``."""
    add_images(parser, "--texts")
    add_plan(parser)
    parser.add_argument(
        "--texts",
        nargs="+",
        action="extend",
        required=True,
        metavar="TEXT",
        help='what to compare with, each in quotes: "a robot arm over a table"',
    )
    parser.add_argument(
        "--top",
        type=positive,
        default=5,
        metavar="N",
        help="how many of the best to print (default: %(default)s); the JSON holds all",
    )
    parser.add_argument(
        "--find", action="store_true", help="look for each text in its best image: score and box"
    )
    add_min_score(parser, "with --find what is", "0.25")
    add_strict(parser)
    output = parser.add_argument_group("output")
    add_picture(output, "with --find, the best images with what was found outlined")
    add_json(output)
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Compare all images with all texts; 1 if an image could not be read.

    Raises:
        XDecoderError: the plan, the texts or the places to write are not usable, or no image is.
    """
    if args.output is not None and not args.find:
        raise ArgumentError(
            "--output was given without --find", fix="add --find: only what it finds is drawn"
        )
    report: CommandReport = args.command_report
    images = ImageList.read(args.images)
    with open_engine(args) as engine:
        pictures = destinations(images, args.output, None, "the picture")
        jobs = [
            partial(_compare_image, engine, image, args.texts, args.strict)
            for image in images.paths
        ]
        entries: list[dict[str, Any]] = []
        texts: list[dict[str, Any]] = []
        document = {
            "plan": str(args.plan),
            "backend": engine.backend.name,
            "texts": texts,
            "images": entries,
            "left_out": images.left_out,
        }
        with report.kept(document):
            try:
                ask_all(images.paths, jobs, None, report, entries)
            finally:
                texts += _text_entries(entries, args.texts)
            if args.find:
                _find_texts(engine, entries, texts, pictures, args)
            if any("scores" in entry for entry in entries):
                report.text(_ranking_text(entries, texts, args.top))
    return int(any_failed(entries))


def _compare_image(engine: Engine, path: str, texts: list[str], strict: bool) -> dict[str, Any]:
    """Compare one image with all texts and return its entry of the JSON."""
    from xdecoder_rt.image import load_image

    pixels = load_image(path)
    ranking, milliseconds = timed(lambda: engine.rank([pixels], texts, strict=strict))
    return {
        "image": path,
        "time_ms": milliseconds,
        "picture": None,
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "scores": ranking.scores[0].tolist(),
    }


def _text_entries(entries: list[dict[str, Any]], texts: list[str]) -> list[dict[str, Any]]:
    """Return an entry of the JSON for each text: all images, the best first."""
    import numpy as np

    from xdecoder_rt.results import Ranking

    scored_entries = [entry for entry in entries if "scores" in entry]
    scores = np.array([entry["scores"] for entry in scored_entries], np.float32).reshape(
        -1, len(texts)
    )
    ranking = Ranking(tuple(texts), scores)
    return [
        {
            "text": text,
            "images": [
                {
                    "image": scored_entries[index]["image"],
                    "score": scored_entries[index]["scores"][column],
                }
                for index in ranking.images(column)
            ],
            "found": None,
        }
        for column, text in enumerate(texts)
    ]


def _find_texts(
    engine: Engine,
    entries: list[dict[str, Any]],
    texts: list[dict[str, Any]],
    pictures: Sequence[Path | None],
    args: argparse.Namespace,
) -> None:
    """Look for each text in its best image, draw that, and add both to the entries."""
    from xdecoder_rt.image import load_image
    from xdecoder_rt.results import Output

    for entry, picture in zip(entries, pictures, strict=True):
        image_texts = [
            text for text in texts if text["images"][:1] and _best_image(text) == entry["image"]
        ]
        if not image_texts:
            continue
        pixels = load_image(entry["image"])
        state = engine.encode(pixels)
        references = [
            engine.find([state], text["text"], min_score=args.min_score).reference
            for text in image_texts
        ]
        for text, reference in zip(image_texts, references, strict=True):
            text["found"] = reference.to_dict()
        if picture is not None:
            write_picture(Output(refer=references).draw(pixels, font=args.font), picture)
            entry["picture"] = str(picture)


def _best_image(text: dict[str, Any]) -> str:
    image: str = text["images"][0]["image"]
    return image


def _ranking_text(entries: list[dict[str, Any]], texts: list[dict[str, Any]], top: int) -> str:
    """Return the best images of each text, then, of several texts, the best for each image."""
    lines: list[str] = []
    for text in texts:
        images = text["images"][:top]
        rows = [
            (str(place), printable(image["image"], 200), f"{image['score']:.3f}")
            for place, image in enumerate(images, 1)
        ]
        lines += [
            printable(text["text"], CELL_LIMIT),
            format_table(("", "image", "score"), rows, 2),
        ]
        if text["found"] is not None:
            lines.append(f"  {_place_text(text['found'], images[0]['image'])}")
        lines.append("")
    if len(texts) > 1:
        for entry in entries:
            if "scores" in entry:
                lines += _image_lines(entry, texts, top)
    return "\n".join(lines)


def _place_text(reference: dict[str, Any], image: str) -> str:
    name = printable(image, 200)
    if not reference["box"][2]:
        return f"not found in {name}"
    edges = ", ".join(f"{edge:.0f}" for edge in reference["box"])
    return f"in {name} at {edges} (left, top, right, bottom), {100 * reference['score']:.0f} %"


def _image_lines(entry: dict[str, Any], texts: list[dict[str, Any]], top: int) -> list[str]:
    scores = entry["scores"]
    order = sorted(range(len(texts)), key=lambda column: -scores[column])[:top]
    rows = [
        (str(place), printable(texts[column]["text"], CELL_LIMIT), f"{scores[column]:.3f}")
        for place, column in enumerate(order, 1)
    ]
    head = headline(entry, "", "")
    return [head, format_table(("", "text", "score"), rows, 2), ""]
