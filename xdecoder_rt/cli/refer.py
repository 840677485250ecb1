"""``xdecoder-rt refer``: find what phrases mean in images."""

from __future__ import annotations

import argparse
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
    add_phrases,
    add_plan,
    add_strict,
)
from xdecoder_rt.cli.output import CommandReport
from xdecoder_rt.cli.pictures import add_picture, destinations, write_picture
from xdecoder_rt.cli.tables import reference_table

if TYPE_CHECKING:
    from xdecoder_rt.engine import Engine

SUMMARY = "find what phrases mean in images: a table, a picture, JSON"
DESCRIPTION = """\
Find what phrases mean (referring segmentation): one region a phrase, told by score and box, drawn
with -o as numbered outlines with the phrases under the image. A phrase may tell things apart by
colour, size or place: "the largest screw", "the cube left of the bin". The images come first, then
--phrases; each phrase is in quotes.

The score says how sure the model is that the phrase means anything at all; below --min-score a
phrase is not found and has no region. Phrases do not disturb one another unless --joint is given.

An IMAGE may be a folder, which stands for the images in it. With several images, one that cannot
be read is reported and skipped; the exit code is then 1.
"""
EXAMPLES = """\
  xdecoder-rt refer desk.jpg --phrases "the red mug" "the cable left of the laptop" -o found.png
  xdecoder-rt refer desk.jpg --phrases "the red mug" --json | jq '.images[0].refer[].box'
  xdecoder-rt refer shots/ --phrases "the robot's gripper" -o drawn/ --json found.json
  xdecoder-rt refer desk.jpg --phrases "the mug" "the left mug" --joint     as the original does
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``refer``."""
    add_images(parser, "--phrases")
    add_plan(parser)
    add_phrases(parser)
    add_min_score(parser, "phrases", "0.25")
    add_strict(parser)
    output = parser.add_argument_group("output")
    add_picture(output, "the image with the regions outlined and the phrases under it")
    add_json(output)
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Refer in every image; 1 if one of them could not be read.

    Raises:
        XDecoderError: the plan, the phrases or the places to write are not usable.
    """
    report: CommandReport = args.command_report
    images = ImageList.read(args.images)
    with open_engine(args) as engine:
        pictures = destinations(images, args.output, None, "the picture")
        jobs = [
            partial(_refer_in_image, engine, image, args, picture)
            for image, picture in zip(images.paths, pictures, strict=True)
        ]
        entries: list[dict[str, Any]] = []
        document = {
            "plan": str(args.plan),
            "backend": engine.backend.name,
            "phrases": args.phrases,
            "joint": args.joint,
            "images": entries,
            "left_out": images.left_out,
        }
        with report.kept(document):
            ask_all(images.paths, jobs, _references_text, report, entries)
    return int(any_failed(entries))


def _refer_in_image(
    engine: Engine, path: str, args: argparse.Namespace, picture: Path | None
) -> dict[str, Any]:
    """Refer in one image, draw it, and return its entry of the JSON."""
    from xdecoder_rt.image import load_image
    from xdecoder_rt.results import Output

    pixels = load_image(path)
    references, milliseconds = timed(
        lambda: engine.refer(
            pixels,
            args.phrases,
            joint=args.joint,
            strict=args.strict,
            min_score=args.min_score,
        )
    )
    output = Output(refer=references)
    if picture is not None:
        write_picture(output.draw(pixels, font=args.font), picture)
    return {
        "image": path,
        "time_ms": milliseconds,
        "picture": None if picture is None else str(picture),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        **output.to_dict(),
    }


def _references_text(entry: dict[str, Any], remark: str) -> str:
    head = headline(entry, quantity(len(entry["refer"]), "phrase"), remark)
    return "\n".join([head, *reference_table(entry["refer"]), ""])
