"""``xdecoder-rt answer``: answer questions on images."""

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
    add_choices,
    add_engine,
    add_json,
    add_plan,
    add_strict,
    read_choices,
)
from xdecoder_rt.cli.output import CommandReport
from xdecoder_rt.cli.pictures import add_picture, destinations, write_picture
from xdecoder_rt.cli.tables import CELL_LIMIT, answer_line
from xdecoder_rt.errors import printable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from xdecoder_rt.engine import Engine
    from xdecoder_rt.results import Answer

SUMMARY = "answer questions on images"
DESCRIPTION = """\
Answer questions on images (visual question answering) by choosing among possible answers: those
under --choices, or the ones that the plan was trained on. Scores are probabilities among the
choices. An image is looked at once for all questions. The images come first, then --question; each
question is in quotes.

An IMAGE may be a folder, which stands for the images in it. With several images, one that cannot
be read is reported and skipped; the exit code is then 1.
"""
EXAMPLES = """\
  xdecoder-rt answer desk.jpg --question "what is left of the laptop?"
  xdecoder-rt answer desk.jpg --question "is there a mug?" --choices yes,no
  xdecoder-rt answer desk.jpg --question "what colour is it?" --choices red green "dark blue"
  xdecoder-rt answer desk.jpg --question "is there a mug?" "is there a fork?" --choices yes no
  xdecoder-rt answer shots/ --question "is the gripper open?" --choices yes no --json answers.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``answer``."""
    add_images(parser, "--question")
    add_plan(parser)
    parser.add_argument(
        "--question",
        nargs="+",
        action="extend",
        required=True,
        metavar="TEXT",
        help='what to answer, each in quotes: "how many mugs are there?"',
    )
    add_choices(parser)
    add_strict(parser)
    output = parser.add_argument_group("output")
    add_picture(output, "the image with questions and answers under it")
    add_json(output)
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Answer on every image; 1 if one of them could not be read.

    Raises:
        XDecoderError: the plan, a question, the choices or the places to write are not usable.
    """
    report: CommandReport = args.command_report
    images = ImageList.read(args.images)
    choices = read_choices(args)
    with open_engine(args) as engine:
        pictures = destinations(images, args.output, None, "the picture")
        jobs = [
            partial(_answer_image, engine, image, args, choices, picture)
            for image, picture in zip(images.paths, pictures, strict=True)
        ]
        entries: list[dict[str, Any]] = []
        document = {
            "plan": str(args.plan),
            "backend": engine.backend.name,
            "questions": args.question,
            "choices": choices,
            "images": entries,
            "left_out": images.left_out,
        }
        with report.kept(document):
            ask_all(images.paths, jobs, _answers_text, report, entries)
    return int(any_failed(entries))


def _answer_image(
    engine: Engine,
    path: str,
    args: argparse.Namespace,
    choices: list[str] | None,
    picture: Path | None,
) -> dict[str, Any]:
    """Answer on one image, draw it, and return its entry of the JSON."""
    from xdecoder_rt.image import load_image

    pixels = load_image(path)

    def ask() -> list[Answer]:
        state = engine.encode(pixels)
        return [engine.answer(state, text, choices, strict=args.strict) for text in args.question]

    answers, milliseconds = timed(ask)
    if picture is not None:
        _draw_answers(pixels, args.question, answers, args.font, picture)
    return {
        "image": path,
        "time_ms": milliseconds,
        "picture": None if picture is None else str(picture),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "answers": [
            {"question": question, **answer.to_dict()}
            for question, answer in zip(args.question, answers, strict=True)
        ],
    }


def _draw_answers(
    pixels: npt.NDArray[np.uint8],
    questions: list[str],
    answers: list[Answer],
    font: str | None,
    picture: Path,
) -> None:
    from xdecoder_rt.drawing.certainty import is_unsure
    from xdecoder_rt.drawing.picture import as_image
    from xdecoder_rt.drawing.strip import Note, with_strip

    notes = [
        Note(answer.text, question, f"{100 * answer.score:.0f}%", is_unsure(answer.score))
        for question, answer in zip(questions, answers, strict=True)
    ]
    write_picture(with_strip(as_image(pixels), notes=notes, font=font), picture)


def _answers_text(entry: dict[str, Any], remark: str) -> str:
    lines = [headline(entry, quantity(len(entry["answers"]), "question"), remark)]
    for answer in entry["answers"]:
        lines += [
            f"  {printable(answer['question'], CELL_LIMIT)}",
            f"    {answer_line(answer)}",
        ]
    return "\n".join([*lines, ""])
