"""Twenty photographs that may be shown, with what a plan makes of them and whether that is right.

    sudo apt-get install gcompris-qt-data puzzle-jigsaw
    python benchmarks/studies/photograph_sheet.py model.plan -o docs/images/photographs.webp

`photograph_sheet.json` lists photographs that are in the public domain or under CC0, by the
package's copyright file and by digest, and of each the word of what it shows, where that is, and
whose it is. All words are asked for at once, with those of `photograph_points.json`. Under each
photograph stands what the plan calls the marked place: green where that is right.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from photographs import POINTS, labels_at, packaged
from PIL import Image, ImageDraw, ImageFont

from xdecoder_rt import Engine, XDecoderError
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.files.image_file import read_image
from xdecoder_rt.files.output_file import check_writable

LIST = Path(__file__).with_name("photograph_sheet.json")
COLUMNS, CELL, LINE = 5, 300, 24
RIGHT, WRONG, NOTHING = (20, 120, 40), (180, 30, 30), (90, 90, 90)


def words_asked(entries: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the vocabulary, and those of it that are stuff."""
    known = json.loads(POINTS.read_bytes())
    shown = {word for entry in entries for word in entry["words"]}
    return sorted({*known["vocabulary"], *shown}), known["stuff"]


def verdict(entry: dict[str, Any], label: str | None) -> tuple[str, tuple[int, int, int]]:
    """Return what stands under a photograph, and in which colour."""
    right = entry["words"][0]
    if label is None:
        return f"nothing (is: {right})", NOTHING
    if label in entry["words"]:
        return label, RIGHT
    return f"{label} (is: {right})", WRONG


def cell(
    engine: Engine, data: bytes, entry: dict[str, Any], words: Sequence[str], stuff: Sequence[str]
) -> tuple[Image.Image, bool]:
    """Return a photograph with its segments and the verdict, and whether that is good."""
    photograph = Image.fromarray(read_image(data))
    photograph.thumbnail((2 * CELL, 2 * CELL))
    pixels = np.asarray(photograph)
    result = engine.segment(pixels, words, stuff=stuff)
    (label,) = labels_at(result, [entry["at"]])
    drawn = result.draw(pixels)
    drawn.thumbnail((CELL - 6, CELL - LINE - 6))
    text, colour = verdict(entry, label)
    place = Image.new("RGB", (CELL, CELL), "white")
    place.paste(drawn, ((CELL - drawn.width) // 2, (CELL - LINE - drawn.height) // 2))
    ImageDraw.Draw(place).text(
        (CELL // 2, CELL - LINE // 2), text, colour, ImageFont.load_default(17), anchor="mm"
    )
    return place, colour == RIGHT


def main() -> int:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path)
    parser.add_argument("--share", type=Path, default=Path("/usr/share"), metavar="DIR")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="WEBP")
    args = parser.parse_args()
    entries = json.loads(LIST.read_bytes())["photographs"]
    words, stuff = words_asked(entries)
    rows = -(-len(entries) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * CELL), "white")
    right = 0
    try:
        check_writable(args.output, "the sheet")
        with Engine(args.plan) as engine:
            for number, data in enumerate(packaged(entries, args.share)):
                place, good = cell(engine, data, entries[number], words, stuff)
                sheet.paste(place, (number % COLUMNS * CELL, number // COLUMNS * CELL))
                right += good
    except (ValueError, XDecoderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with atomic_writer(args.output) as file:
        sheet.save(file, format="WEBP", quality=60, method=6)
    print(f"{args.output}: {right} of {len(entries)} named right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
