"""``xdecoder-rt caption``: describe images, or a part of them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
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
    add_caption,
    add_engine,
    add_json,
    add_min_score,
    add_plan,
    add_strict,
    parse_box,
)
from xdecoder_rt.cli.output import CommandReport, harmless
from xdecoder_rt.cli.pictures import add_picture, destinations, write_picture
from xdecoder_rt.errors import ArgumentError, ImageError, quoted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from xdecoder_rt.engine import Engine
    from xdecoder_rt.results import Caption
    from xdecoder_rt.state import ImageState

    Pixels = npt.NDArray[np.uint8]

SUMMARY = "describe images, or a part of them, in a sentence"
DESCRIPTION = """\
Describe images in a sentence each. --prompt gives the words that it begins with. --region confines
it to what a phrase means, --box to a rectangle (referring captioning). --stream prints the words as
they come, with one beam.

The score is the mean log-probability of a token: the nearer to 0, the surer.

An IMAGE may be a folder, which stands for the images in it. With several images, one that cannot
be read, or holds nothing of the region, is reported and skipped; the exit code is then 1.
"""
EXAMPLES = """\
  xdecoder-rt caption desk.jpg
  xdecoder-rt caption desk.jpg --prompt "a photo of" --beams 3
  xdecoder-rt caption desk.jpg --region "the red mug" -o told.png
  xdecoder-rt caption desk.jpg --box 120,80,360,300
  xdecoder-rt caption desk.jpg --stream
  xdecoder-rt caption shots/ --json | jq -r '.images[].caption.text'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``caption``."""
    add_images(parser, "the options")
    add_plan(parser)
    add_caption(parser)
    parser.add_argument(
        "--stream", action="store_true", help="print the words as they come, and nothing else"
    )
    region = parser.add_mutually_exclusive_group()
    region.add_argument(
        "--region", metavar="PHRASE", help='describe what a phrase means: "the red mug"'
    )
    region.add_argument(
        "--box",
        type=parse_box,
        metavar="L,T,R,B",
        help="describe a rectangle: left, top, right, bottom in pixels",
    )
    add_min_score(parser, "a --region", "0.25")
    add_strict(parser)
    output = parser.add_argument_group("output")
    add_picture(output, "the image with its region outlined and the caption under it")
    add_json(output)
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Describe every image; 1 if one of them could not be read.

    Raises:
        XDecoderError: the plan, a text, a number or the places to write are not usable.
    """
    if args.stream and (args.json or args.output or (args.beams or 1) > 1):
        raise ArgumentError(
            "--stream was given with --json, --output or --beams",
            expected="one of them: a stream is one beam, printed as it comes",
        )
    report: CommandReport = args.command_report
    images = ImageList.read(args.images)
    with open_engine(args) as engine:
        pictures = destinations(images, args.output, None, "the picture")
        jobs = [
            partial(_caption_image, engine, image, args, picture, report)
            for image, picture in zip(images.paths, pictures, strict=True)
        ]
        entries: list[dict[str, Any]] = []
        document = {
            "plan": str(args.plan),
            "backend": engine.backend.name,
            "prompt": args.prompt,
            "region": args.region,
            "box": args.box,
            "beams": args.beams,
            "max_tokens": args.max_tokens,
            "images": entries,
            "left_out": images.left_out,
        }
        with report.kept(document):
            ask_all(
                images.paths, jobs, _stream_text if args.stream else _caption_text, report, entries
            )
    return int(any_failed(entries))


@dataclass(frozen=True, eq=False)
class _ImagePart:
    """A part of an image.

    Attributes:
        name: for people.
        mask: bool ``[H, W]``.
        entry: of the JSON.
    """

    name: str
    mask: npt.NDArray[np.bool_]
    entry: dict[str, Any]


def _caption_image(
    engine: Engine, path: str, args: argparse.Namespace, picture: Path | None, report: CommandReport
) -> dict[str, Any]:
    """Describe one image, draw it, and return its entry of the JSON."""
    from xdecoder_rt.image import load_image

    pixels = load_image(path)

    def ask() -> tuple[Caption | None, _ImagePart | None]:
        state = engine.encode(pixels)
        region = _image_part(engine, state, path, args)
        mask = None if region is None else region.mask
        if args.stream:
            pieces = engine.caption_stream(
                state, args.prompt, mask, max_tokens=args.max_tokens, strict=args.strict
            )
            for piece in pieces:
                report.piece(harmless(piece))
            report.text()
            return None, region
        caption = engine.caption(
            state,
            args.prompt,
            mask,
            beams=args.beams,
            max_tokens=args.max_tokens,
            strict=args.strict,
        )
        return caption, region

    (caption, region), milliseconds = timed(ask)
    if picture is not None and caption is not None:
        _draw_caption(pixels, caption, region, args.font, picture)
    return {
        "image": path,
        "time_ms": milliseconds,
        "picture": None if picture is None else str(picture),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "region": None if region is None else region.entry,
        "caption": None if caption is None else caption.to_dict(),
    }


def _image_part(
    engine: Engine, state: ImageState, path: str, args: argparse.Namespace
) -> _ImagePart | None:
    """Return the part of an image that its caption is to be about.

    Raises:
        ImageError: the image holds nothing of it.
    """
    from xdecoder_rt.questions.regions import read_region

    if args.region is not None:
        (reference,) = engine.refer(
            state, [args.region], strict=args.strict, min_score=args.min_score
        )
        if not reference.found:
            raise ImageError(
                f"{quoted(path, 200)} holds nothing that {quoted(args.region)} means",
                fix="describe it otherwise, lower --min-score, or give --box",
            )
        return _ImagePart(args.region, reference.mask, reference.to_dict())
    if args.box is not None:
        try:
            mask = read_region(args.box, state.letterbox.source)
        except ArgumentError as error:
            raise ImageError(
                f"{quoted(path, 200)}: {error.what}", expected=error.expected, fix=error.fix
            ) from error
        return _ImagePart(
            f"box {','.join(f'{edge:g}' for edge in args.box)}", mask, {"box": args.box}
        )
    return None


def _draw_caption(
    pixels: Pixels, caption: Caption, region: _ImagePart | None, font: str | None, picture: Path
) -> None:
    import numpy as np

    from xdecoder_rt.drawing.outlines import RegionOutline
    from xdecoder_rt.drawing.picture import draw_map, outline_colour
    from xdecoder_rt.drawing.strip import Note, with_strip

    outlines = [] if region is None else [RegionOutline(region.mask, "", outline_colour(0))]
    no_segments = np.zeros(pixels.shape[:2], np.int32)
    drawing = draw_map(pixels, no_segments, [], font, outlines)
    note = Note(caption.text, "" if region is None else region.name)
    write_picture(with_strip(drawing, notes=[note], font=font), picture)


def _caption_text(entry: dict[str, Any], remark: str) -> str:
    caption = entry["caption"]
    head = headline(entry, f"score {caption['score']:.2f}", remark)
    return f"{head}\n  {harmless(caption['text'])}\n"


def _stream_text(entry: dict[str, Any], remark: str) -> str:
    return headline(entry, "", remark) + "\n"
