"""A sheet of pictures of a data set: what training sees, at a glance.

``python -m xdecoder_rt.training.sheet data/bank bank.jpg`` draws one.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.datasets.items import PanopticDataset, PanopticItem
from xdecoder_rt.errors import ArgumentError, DatasetError, XDecoderError
from xdecoder_rt.training.sources import open_dataset

__all__ = ["main", "write_sheet"]

_MOST = 400
_GAP = 4
_LINE = 14
_QUALITY = 82


def write_sheet(
    source: PanopticDataset, out: Path, count: int = 24, columns: int = 6, width: int = 224
) -> None:
    """Draw items of a data set side by side, the borders of their segments on them.

    Below each stands the first phrase that is said of it.

    Args:
        source: a labelled folder, a bank, or any other source.
        out: the JPEG file to write.
        count: how many items, from the first; fewer where there are fewer.
        columns: pictures in a row.
        width: of one picture, pixels.

    Raises:
        ArgumentError: a number is out of range.
        DatasetError: an item is broken, or the file cannot be written.
    """
    for name, value, low, high in (
        ("count", count, 1, _MOST),
        ("columns", columns, 1, 40),
        ("width", width, 64, 1024),
    ):
        if not low <= value <= high:
            raise ArgumentError(f"{name} is {value}", expected=f"{low} to {high}")
    tiles = [_tile(item, width) for item in source.items[:count]]
    height = max(tile.height for tile in tiles)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    size = (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP)
    sheet = Image.new("RGB", size, (255, 255, 255))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=_QUALITY)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(out) as writer:
            writer.write(file.getvalue())
    except OSError as error:
        raise DatasetError(f"{out} cannot be written: {error.strerror or error}") from error


def _tile(item: PanopticItem, width: int) -> Image.Image:
    image, ids = item.load_image(), np.asarray(item.load_panoptic(), np.int64)
    height = round(width * 0.75)
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    pixels = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)).copy()
    small = np.asarray(Image.fromarray(ids.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
    pixels[_borders(small)] = (255, 235, 60)
    tile = Image.new("RGB", (width, height + _LINE), (255, 255, 255))
    tile.paste(Image.fromarray(pixels), ((width - size[0]) // 2, (height - size[1]) // 2))
    if item.phrases:
        ImageDraw.Draw(tile).text((2, height), item.phrases[0].text[: width // 6], (40, 40, 40))
    return tile


def _borders(ids: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour is of another segment."""
    border = np.zeros(ids.shape, bool)
    border[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    border[:-1] |= ids[:-1] != ids[1:]
    return border


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw a sheet; 1 and one line on an error of ours."""
    parser = argparse.ArgumentParser(
        prog="python -m xdecoder_rt.training.sheet",
        description="Draw the first items of a data set side by side.",
    )
    parser.add_argument("source", type=Path, help="a bank, a labelled folder, or any other source")
    parser.add_argument("out", type=Path, help="the JPEG to write")
    parser.add_argument("--count", type=int, default=24, metavar="N", help="(default: 24)")
    parser.add_argument("--columns", type=int, default=6, metavar="N", help="(default: 6)")
    parser.add_argument(
        "--width", type=int, default=224, metavar="N", help="of one picture, pixels (default: 224)"
    )
    args = parser.parse_args(arguments)
    try:
        source = open_dataset(args.source)
        write_sheet(source, args.out, args.count, args.columns, args.width)
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.out}: {min(args.count, len(source.items))} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
