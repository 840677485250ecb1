"""``xdecoder-rt data``: look at data sets before training on them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from xdecoder_rt.cli.images import quantity
from xdecoder_rt.cli.options import add_json, positive
from xdecoder_rt.cli.output import CommandReport, format_table, note, progress_bar
from xdecoder_rt.errors import printable, require
from xdecoder_rt.files.output_file import check_writable

if TYPE_CHECKING:
    from xdecoder_rt.datasets.inspection import Duplicate, Inspection

SUMMARY = "look at data sets before training: classes, sizes, what is empty, odd or twice"
DESCRIPTION = """\
Read every image and map of data sets, in any form that xdecoder-rt train reads, and print what they
hold: classes, with images, segments and the part of an image that a segment covers; sizes; images
without a segment; segments too small to be meant; what cannot be read, and why; images that look
the same, within a data set and, which spoils a score, over two (training and validation).

With -o the first images are drawn side by side with the borders of their segments. The exit code
is 1 if something is broken or an image is in two data sets.
"""
EXAMPLES = """\
  xdecoder-rt data inspect scenes/held_out
  xdecoder-rt data inspect roboflow/train roboflow/valid -o sheet.jpg
  xdecoder-rt data inspect yolo/data.yaml 'yolo/data.yaml#val' --json found.json
"""
_LISTED = 5
_SCENES_OF_A_BANK = 200
"""Inspected by default of a bank, which composes another scene for every sample."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``data``."""
    parser.add_argument("action", choices=("inspect",), help="what to do")
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="data sets")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="JPEG",
        help="a sheet of the first data set's first images",
    )
    parser.add_argument(
        "--count",
        type=positive,
        default=24,
        metavar="N",
        help="pictures of the sheet (default: %(default)s)",
    )
    parser.add_argument(
        "--limit",
        type=positive,
        metavar="N",
        help="first images of each data set (default: all; of a bank, whose scenes do not end, "
        f"{_SCENES_OF_A_BANK})",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Inspect, print, draw; 1 if something is broken or in two data sets.

    Raises:
        XDecoderError: a data set cannot be opened, or the sheet not be written.
    """
    require("torch", "train")  # the room of training opens data sets
    from xdecoder_rt.datasets.inspection import Duplicates, inspect_dataset
    from xdecoder_rt.scenes.bank.composed import ComposedScenes
    from xdecoder_rt.training.sheet import write_sheet
    from xdecoder_rt.training.sources import open_dataset

    report: CommandReport = args.command_report
    if args.output is not None:
        check_writable(args.output, "the sheet")
    datasets = {source: open_dataset(Path(source)) for source in args.sources}
    duplicates = Duplicates()
    inspections = {}
    for source, dataset in datasets.items():
        limit = args.limit
        if limit is None and isinstance(dataset, ComposedScenes):
            limit = _SCENES_OF_A_BANK
            note(f"{printable(source, 200)} is a bank: its first {limit} scenes")
        with progress_bar("images") as progress:
            inspections[source] = inspect_dataset(source, dataset, duplicates, progress, limit)
        report.text(_text(source, inspections[source]))
    across = [pair for pair in duplicates.found if pair.is_across]
    within = [pair for pair in duplicates.found if not pair.is_across]
    for pairs, place in ((within, "one data set"), (across, "two data sets")):
        if pairs:
            report.text(_pairs_text(pairs, place))
    if args.output is not None:
        write_sheet(next(iter(datasets.values())), args.output, args.count)
        note(f"{printable(str(args.output), 200)}: the first images")
    report.document(
        {
            "sources": {source: one.to_dict() for source, one in inspections.items()},
            "duplicates": [
                [[pair.first[0], str(pair.first[1])], [pair.second[0], str(pair.second[1])]]
                for pair in duplicates.found
            ],
            "complete": True,
        }
    )
    return int(bool(across) or any(one.broken for one in inspections.values()))


def _text(source: str, found: Inspection) -> str:
    sizes = ", ".join(
        f"{width} x {height} ({count})"
        for (height, width), count in islice(found.sizes.most_common(), _LISTED)
    )
    lines = [
        f"{printable(source, 200)}: {quantity(found.images, 'image')}, "
        f"{100 * found.unlabelled:.0f} % of their pixels in no segment",
        f"  sizes: {sizes}" + (" and others" if len(found.sizes) > _LISTED else ""),
    ]
    if found.texts:
        texts = ", ".join(f"{count} {name}" for name, count in found.texts.items())
        lines.append(f"  texts: {texts}")
    rows = [
        (printable(label), str(one.images), str(one.segments), f"{100 * one.median_share:.1f} %")
        for label, one in sorted(found.classes.items(), key=lambda pair: -pair[1].segments)
    ]
    lines.append(format_table(("class", "images", "segments", "median area"), rows))
    if found.unused:
        unused = ", ".join(printable(label) for label in found.unused[:_LISTED])
        lines.append(f"  never there: {unused}" + (" …" if len(found.unused) > _LISTED else ""))
    small = sum(found.small.values())
    for paths, remark in (
        (found.empty, f"{quantity(len(found.empty), 'image')} without a segment"),
        (list(found.small), f"{quantity(small, 'segment')} too small to be meant"),
    ):
        if paths:
            lines.append(f"  {remark}: {_some(paths)}")
    if found.broken:
        lines.append(f"  {quantity(len(found.broken), 'image')} cannot be read:")
        lines += [f"    {printable(text, 1000)}" for text in islice(found.broken.values(), _LISTED)]
    return "\n".join([*lines, ""])


def _pairs_text(pairs: Sequence[Duplicate], place: str) -> str:
    lines = [f"{quantity(len(pairs), 'image')} that looks like another, in {place}:"]
    lines += [
        f"  {printable(str(pair.second[1]), 200)} like {printable(str(pair.first[1]), 200)}"
        for pair in pairs[:_LISTED]
    ]
    return "\n".join([*lines, "  …"] if len(pairs) > _LISTED else lines)


def _some(paths: Sequence[Path]) -> str:
    shown = ", ".join(printable(path.name) for path in paths[:_LISTED])
    return shown + (" …" if len(paths) > _LISTED else "")
