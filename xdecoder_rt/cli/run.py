"""``xdecoder-rt run``: several tasks at once, and one picture of all."""

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
    timed,
)
from xdecoder_rt.cli.options import (
    add_caption,
    add_choices,
    add_engine,
    add_json,
    add_plan,
    add_segments_and_phrases,
    add_strict,
    has_words,
    read_choices,
    read_vocabulary,
)
from xdecoder_rt.cli.output import CommandReport, harmless, progress_bar
from xdecoder_rt.cli.pictures import add_picture, destinations, write_picture
from xdecoder_rt.cli.tables import CELL_LIMIT, answer_line, reference_table, segment_table
from xdecoder_rt.errors import ArgumentError, printable

if TYPE_CHECKING:
    from xdecoder_rt.engine import Engine
    from xdecoder_rt.words.vocabulary import Vocabulary

SUMMARY = "do several tasks on images at once: one picture, JSON"
DESCRIPTION = """\
Do several tasks on images at once: segment words, find what phrases mean, write a caption, answer a
question, embed the image. An image is looked at once and all tasks share one decode; each result is
the same as from its own command. With -o everything is drawn into one picture: segments, numbered
outlines for the phrases, and under the image the phrases, the caption and the answer.

At least one of --words, --phrases, --caption, --question and --embed is needed. The images come
first.

An IMAGE may be a folder, which stands for the images in it. With several images, one that cannot
be read is reported and skipped; the exit code is then 1.
"""
EXAMPLES = """\
  xdecoder-rt run desk.jpg --words mug laptop --phrases "the red mug" --caption -o all.png
  xdecoder-rt run desk.jpg --phrases "the largest box" --question "is it open?" --choices yes,no
  xdecoder-rt run shots/ --words mug box --caption --prompt "a photo of" -o drawn/ --json all.json
  xdecoder-rt run desk.jpg --caption --embed --json | jq '.images[0] | .caption.text, .embed'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``run``."""
    add_images(parser, "the options")
    add_plan(parser)
    add_segments_and_phrases(parser)
    caption = parser.add_argument_group("caption")
    caption.add_argument("--caption", action="store_true", help="describe the image")
    add_caption(caption)
    question = parser.add_argument_group("question")
    question.add_argument(
        "--question", metavar="TEXT", help='what to answer: "what is on the table?"'
    )
    add_choices(question)
    parser.add_argument("--embed", action="store_true", help="embed the image, for the JSON")
    add_strict(parser)
    output = parser.add_argument_group("output")
    add_picture(output, "the image with everything drawn and written")
    add_json(output)
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Do what was asked on every image; 1 if one of them could not be read.

    Raises:
        XDecoderError: nothing was asked, or the plan, a text or the places to write are not usable.
    """
    from xdecoder_rt.words.files import plain_entries

    report: CommandReport = args.command_report
    words = read_vocabulary(args) if has_words(args) else None
    _refuse_half_questions(args, words)
    images = ImageList.read(args.images)
    choices = read_choices(args)
    with open_engine(args) as engine:
        pictures = destinations(images, args.output, None, "the picture")
        if words is not None:
            with progress_bar("sentences embedded") as progress:
                engine.warm(words, progress)
        jobs = [
            partial(_run_image, engine, image, words, choices, args, picture)
            for image, picture in zip(images.paths, pictures, strict=True)
        ]
        text = partial(_results_text, question=args.question)
        entries: list[dict[str, Any]] = []
        document = {
            "plan": str(args.plan),
            "backend": engine.backend.name,
            "task": args.task,
            "vocabulary": None if words is None else plain_entries(words.words),
            "stuff": None if words is None else [w.name for w in words.words if w.stuff],
            "phrases": args.phrases,
            "joint": args.joint,
            "prompt": args.prompt,
            "question": args.question,
            "choices": choices,
            "images": entries,
            "left_out": images.left_out,
        }
        with report.kept(document):
            ask_all(images.paths, jobs, text, report, entries)
    return int(any_failed(entries))


def _refuse_half_questions(args: argparse.Namespace, words: Vocabulary | None) -> None:
    """Refuse a command line that asks nothing, or half of something."""
    if not (words or args.phrases or args.caption or args.question is not None or args.embed):
        raise ArgumentError(
            "Nothing was asked",
            expected="at least one of --words, --phrases, --caption, --question and --embed",
        )
    if args.prompt is not None and not args.caption:
        raise ArgumentError("--prompt was given without --caption", fix="add --caption")
    if args.choices is not None and args.question is None:
        raise ArgumentError("--choices were given without --question", fix="add --question")


def _run_image(
    engine: Engine,
    path: str,
    words: Vocabulary | None,
    choices: list[str] | None,
    args: argparse.Namespace,
    picture: Path | None,
) -> dict[str, Any]:
    """Do everything on one image, draw it, and return its entry of the JSON."""
    from xdecoder_rt.image import load_image

    pixels = load_image(path)
    output, milliseconds = timed(
        lambda: engine.run(
            pixels,
            segment=words,
            task=args.task,
            min_score=args.min_score,
            object_threshold=args.object_threshold,
            overlap_threshold=args.overlap_threshold,
            refer=args.phrases or None,
            joint=args.joint,
            caption=args.caption,
            prompt=args.prompt,
            beams=args.beams,
            max_tokens=args.max_tokens,
            answer=args.question,
            choices=choices,
            embed=args.embed,
            strict=args.strict,
        )
    )
    if picture is not None:
        drawing = output.draw(pixels, font=args.font, question=args.question)
        write_picture(drawing, picture)
    return {
        "image": path,
        "time_ms": milliseconds,
        "picture": None if picture is None else str(picture),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        **output.to_dict(),
    }


def _results_text(entry: dict[str, Any], remark: str, question: str | None) -> str:
    lines = [headline(entry, "", remark)]
    if "segment" in entry:
        lines += segment_table(entry["segment"]) or ["  no segments"]
    if "refer" in entry:
        lines += reference_table(entry["refer"])
    if "caption" in entry:
        lines.append(f"  {harmless(entry['caption']['text'])}")
    if "answer" in entry and question is not None:
        lines += [
            f"  {printable(question, CELL_LIMIT)}",
            f"    {answer_line(entry['answer'])}",
        ]
    if "embed" in entry:
        lines.append(f"  embedding of {len(entry['embed'])} values")
    return "\n".join([*lines, ""])
