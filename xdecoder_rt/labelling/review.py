"""The review sheet: a page of the most doubtful pictures with what was found in them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.drawing.outlines import RegionOutline
from xdecoder_rt.drawing.picture import LabelledRegion, draw_map, outline_colour
from xdecoder_rt.errors import ArgumentError, ImageError, quoted
from xdecoder_rt.files.image_file import read_image
from xdecoder_rt.labelling.pictures import Picture
from xdecoder_rt.labelling.record import Record

__all__ = ["REVIEW", "write_review"]

REVIEW = "review.html"
_SIDE = 480
_JPEG_QUALITY = 80
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 1rem; background: #fff; color: #1b1b1b }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem }
figure { margin: 0; border: 1px solid #ccc; border-radius: .4rem; overflow: hidden }
img { width: 100%; display: block; background: #eee }
figcaption { padding: .5rem .7rem; overflow-wrap: anywhere }
.doubt { float: right; font-variant-numeric: tabular-nums }
ul { margin: .3rem 0 0; padding-left: 1.1rem }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #e6e6e6 } }
"""


def write_review(
    path: Path,
    pictures: Iterable[tuple[Picture, Record]],
    number_labelled: int,
    colour_of: Callable[[str], int],
) -> None:
    """Write one file with everything in it, whole or not at all.

    Args:
        path: the file.
        pictures: those to be shown, in their order.
        number_labelled: how many pictures there are in all.
        colour_of: the place of a label, for its colour.

    Raises:
        ArgumentError: it cannot be written.
    """
    try:
        with atomic_writer(path) as file:
            file.write(_head(number_labelled).encode())
            for picture, record in pictures:
                file.write(_figure(picture, record, colour_of).encode("utf-8", "replace"))
            file.write(b"</main></body></html>\n")
    except OSError as error:
        raise ArgumentError(
            f"{quoted(str(path), 200)} cannot be written: {error.strerror or error}",
            fix="make room there; the same command then writes it and labels nothing again",
        ) from error


def _head(number: int) -> str:
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Labels to review</title><style>{_STYLE}</style></head><body>"
        f"<h1>The most doubtful of {number:,} pictures</h1>"
        "<p>The doubt of a picture is 100 % less the least score of what was found in it, and 50 % "
        "where nothing was. The most doubtful come first.</p><main>\n"
    )


def _figure(picture: Picture, record: Record, colour_of: Callable[[str], int]) -> str:
    found = [(segment.label, segment.score) for segment in record.segments]
    found += [(phrase.text, phrase.score) for phrase in record.phrases if phrase.found]
    lines = "".join(
        f"<li>{escape(label)} {100 * score:.0f} %</li>"
        for label, score in sorted(found, key=lambda pair: pair[1])
    )
    key = escape(picture.key.encode("utf-8", "replace").decode())
    caption = "" if record.caption is None else f"<p>{escape(record.caption)}</p>"
    return (
        f'<figure><img loading="lazy" alt="{key}" src="{_drawn(picture, record, colour_of)}">'
        f'<figcaption><span class="doubt">{100 * record.doubt:.0f} %</span>{key}'
        f"<ul>{lines or '<li>nothing was found</li>'}</ul>{caption}</figcaption></figure>\n"
    )


def _drawn(picture: Picture, record: Record, colour_of: Callable[[str], int]) -> str:
    """Return the picture with its labels drawn, small, as a data address; nothing if it is gone."""
    try:
        pixels = read_image(picture.path, draft=_SIDE)
    except ImageError:
        return ""
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    ids, segments = record.painted()
    rows = (np.arange(image.height) + 0.5) * record.size[0] // image.height
    columns = (np.arange(image.width) + 0.5) * record.size[1] // image.width
    grid = np.ix_(rows.astype(int), columns.astype(int))
    regions = [
        LabelledRegion(s.label, s.score, colour_of(s.label), is_quiet=not s.isthing)
        for s in segments
    ]
    outlines = [
        RegionOutline(phrase.mask[grid], str(number), outline_colour(number), phrase.score)
        for number, phrase in enumerate((p for p in record.phrases if p.found), 1)
    ]
    drawn = draw_map(np.array(image), np.ascontiguousarray(ids[grid]), regions, None, outlines)
    data = io.BytesIO()
    drawn.save(data, format="JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
