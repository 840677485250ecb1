"""``xdecoder-rt label``: label folders and videos, and write data sets."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdecoder_rt.cli.images import quantity
from xdecoder_rt.cli.options import (
    add_caption,
    add_engine,
    add_json,
    add_plan,
    add_segments_and_phrases,
    has_words,
    positive,
    read_vocabulary,
)
from xdecoder_rt.cli.output import CommandReport, note, progress_bar
from xdecoder_rt.errors import ArgumentError, printable, quoted
from xdecoder_rt.labelling.progress import Progress

if TYPE_CHECKING:
    from xdecoder_rt.labelling.asking import Request
    from xdecoder_rt.labelling.run import LabelSummary

SUMMARY = "label folders and videos: a labelled folder, COCO, YOLO, masks, CVAT"
DESCRIPTION = """\
Label pictures with a plan, and write them as data sets: to train on, or to be corrected in CVAT or
Label Studio. A SOURCE is a folder (with all folders below it), a video, a text file of paths, a
line each, or an image. What is looked for is said as for xdecoder-rt run: words, phrases, a
caption.

The folder -o gets a sub-folder for each form of --format:

  folder        a labelled folder, as xdecoder-rt train and eval read it
  coco          COCO instances with run-length masks, and captions.json
  coco-panoptic COCO panoptic: a map for each picture
  yolo          YOLO-seg: data.yaml, images/, labels/
  masks         Pascal VOC: masks of classes, labelmap.txt
  cvat          CVAT for images 1.1, to be imported into a task of the same pictures
  labelstudio   Label Studio: tasks with predictions, and the labelling interface

and review.html, the pictures to look at first: those whose least score is lowest.

A run that ends, by Ctrl-C, a full disk or a power cut, goes on when the same command is given
again; no picture is asked twice or lost, and pictures that have come since are added. Results are
kept in labels.jsonl, a line for each picture. A picture that cannot be read is reported and left
out; the exit code is then 1.

--jobs runs several processes with one text cache. --ray runs them on a Ray cluster, whose machines
must see the plan and the pictures under the same paths. Needs: pip install "xdecoder_rt[ray]".
"""
EXAMPLES = """\
  xdecoder-rt label shots/ --words-file kitchen.txt -o labelled/kitchen
  xdecoder-rt label shots/ --words mug "robot arm" --stuff floor -o arms --format folder,yolo
  xdecoder-rt label drive.mp4 --every 2 --words mug hand -o drive --format coco,cvat
  xdecoder-rt label shots/ --words mug --phrases "the red mug" --caption -o told --jobs 2
  xdecoder-rt label shots/ --words mug --min-score 0.5 --task instance -o sure --review 50
  xdecoder-rt label /shared/shots --words mug -o /shared/labelled --ray auto --jobs 16
"""
_SILENCE = 10.0  # seconds between lines of progress where there is no terminal
_FORMATS = ("folder", "coco", "coco-panoptic", "yolo", "masks", "cvat", "labelstudio")
_LOCAL = "local"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``label``."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folders, videos, lists (.txt) or images, before --words",
    )
    add_plan(parser)
    add_segments_and_phrases(parser)
    caption = parser.add_argument_group("caption")
    caption.add_argument("--caption", action="store_true", help="describe every picture")
    add_caption(caption)
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="the folder of the run"
    )
    output.add_argument(
        "--format",
        type=_formats,
        default=("folder",),
        metavar="FORM,...",
        help=f"forms, joined by commas: {','.join(_FORMATS)} (default: folder)",
    )
    output.add_argument(
        "--unlabelled",
        choices=("unknown", "nothing"),
        default="unknown",
        help="what the labelled folder says of pixels of no segment (default: %(default)s)",
    )
    output.add_argument(
        "--review",
        type=_number,
        default=100,
        metavar="N",
        help="how many pictures the review sheet shows; 0 for none (default: %(default)s)",
    )
    output.add_argument(
        "--every",
        type=positive,
        default=1,
        metavar="N",
        help="of a video, label each Nth frame (default: 1)",
    )
    add_json(output)
    add_engine(parser)
    work = parser.add_argument_group("work")
    work.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="processes that label; they share the cores if --threads is not given (default: 1)",
    )
    work.add_argument(
        "--ray",
        nargs="?",
        const=_LOCAL,
        metavar="ADDRESS",
        help="label on a Ray cluster with --jobs workers: its address, auto for the running one; "
        "without ADDRESS, one on this machine",
    )


def run(args: argparse.Namespace) -> int:
    """Label, write, and say what was done; 1 if a picture was left out.

    Raises:
        XDecoderError: the plan, the words, the sources or the folder are not usable.
    """
    from xdecoder_rt.labelling.asking import EngineOptions
    from xdecoder_rt.labelling.run import LabelOptions, label

    report: CommandReport = args.command_report
    engine = EngineOptions(
        str(args.plan),
        args.backend,
        args.threads,
        None if args.cache_dir is None else str(args.cache_dir),
        args.device,
    )
    options = LabelOptions(
        args.output, args.format, args.every, args.jobs, args.ray, args.review, args.unlabelled
    )
    with ShownProgress() as progress:
        summary = label(args.sources, engine, _request(args), options, progress)
    for text in summary.notes:
        note(f"note: {text}")
    report.text(_summary_text(summary))
    report.document({"plan": str(args.plan), **asdict(summary), "complete": True})
    return int(bool(summary.failed))


def _request(args: argparse.Namespace) -> Request:
    from xdecoder_rt.labelling.asking import Request

    words = read_vocabulary(args) if has_words(args) else None
    if words is None and not args.phrases and not args.caption:
        raise ArgumentError(
            "Nothing is asked of the pictures",
            expected="at least one of --words, --words-file, --vocabulary, --phrases and --caption",
        )
    if args.prompt is not None and not args.caption:
        raise ArgumentError("--prompt was given without --caption", fix="add --caption")
    return Request(
        words,
        args.task,
        args.min_score,
        args.object_threshold,
        args.overlap_threshold,
        tuple(args.phrases),
        args.joint,
        args.caption,
        args.prompt,
        args.beams,
        args.max_tokens,
    )


class ShownProgress(Progress):
    """Shows progress: bars on a terminal, elsewhere a line now and then; a context manager."""

    def __init__(self) -> None:
        self._bars = ExitStack()
        self._embedding: Any = None
        self._bar: Any = None
        self._said = time.monotonic()

    def __enter__(self) -> ShownProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.close()

    def step(self, text: str) -> None:
        """Show a sentence before a part of the run."""
        self._bars.close()
        self._bar = None
        note(text)

    def embedded(self, done: int, total: int) -> None:
        """Move the bar of embedded sentences."""
        if self._embedding is None:
            self._embedding = self._bars.enter_context(progress_bar("sentences embedded"))
        self._embedding(done, total)

    def labelled(self, done: int, total: int, seconds: float) -> None:
        """Move the bar of pictures, or write a line now and then."""
        if sys.stderr.isatty():
            if self._bar is None:
                self._bars.close()
                self._bar = self._bars.enter_context(progress_bar("pictures"))
            self._bar(done, total)
        elif time.monotonic() - self._said >= _SILENCE:
            self._said = time.monotonic()
            left = seconds / done * (total - done)
            note(
                f"{done:,} of {total:,} pictures, {done / seconds:.2f} a second, "
                f"{_duration(left)} left"
            )

    def failed(self, error: str) -> None:
        """Show what a picture failed with."""
        note(f"error: {printable(error, 1000)}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _summary_text(summary: LabelSummary) -> str:
    lines = [
        f"{quantity(summary.pictures, 'picture')}: {summary.labelled:,} labelled"
        + (f" in {_duration(summary.seconds)}" if summary.labelled else "")
        + (f" ({summary.rate:.2f} a second)" if summary.labelled else "")
        + (f", {summary.earlier:,} earlier" if summary.earlier else "")
        + (f", {len(summary.failed):,} left out" if summary.failed else "")
    ]
    lines += [f"  {name:14}{printable(path, 200)}" for name, path in summary.written.items()]
    return "\n".join(lines)


def _formats(text: str) -> tuple[str, ...]:
    """Return distinct names of forms from ``A,B``, for argparse."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in _FORMATS:
            raise argparse.ArgumentTypeError(
                f"there is no form {quoted(name)}; forms are {', '.join(_FORMATS)}"
            )
    return names


def _number(text: str) -> int:
    """Return a whole number from 0, for argparse."""
    return 0 if text == "0" else positive(text)
