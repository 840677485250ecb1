"""Open Clip Art drawings as sprites: which drawing shows what, and its pixels with transparency.

`clipart_names.tsv` names the drawings of Debian's `openclipart-svg` that show one thing whose
name can be trusted. The names were written by hand from the drawings' titles and tags and checked
against their pictures, because titles alone are often a file name, an author or another language.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xdecoder_rt.atomic import atomic_writer, check_private, private_folder, remove_foreign
from xdecoder_rt.errors import DatasetError, ImageError, require
from xdecoder_rt.files.image_file import open_image
from xdecoder_rt.files.regular import read_regular
from xdecoder_rt.scenes.names import canonical

__all__ = ["DEFAULT_CLIPART_DIR", "Drawing", "SpriteCache", "lexicon"]

DEFAULT_CLIPART_DIR = Path("/usr/share/openclipart/svg")
"""Where Debian and Ubuntu install the drawings."""

_PROBE_SIDE = 64
_SIDE = 320  # longest side of a cached sprite, pixels
_LARGEST_PNG = 1 << 20  # uncompressed a sprite has 0.4 MB
_ABANDONED_SECONDS = 3600
_NO_SPRITE = np.zeros((1, 1, 4), np.uint8)  # remembers that there is nothing to draw
_LARGEST_SVG = 4 << 20  # a few drawings are many megabytes of traced paths: minutes to render
_RENDERING = b"2"  # part of the cache key; raised whenever the code below draws differently


@dataclass(frozen=True)
class Drawing:
    """A drawing of one thing.

    Attributes:
        path: SVG file, relative to the clip-art folder, with `/`.
        name: What it shows: a lower-case English noun phrase.
    """

    path: str
    name: str


@lru_cache(maxsize=1)
def lexicon() -> tuple[Drawing, ...]:
    """Return all named drawings, sorted by path."""
    table = resources.files(__package__).joinpath("clipart_names.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines() if line)
    return tuple(
        sorted((Drawing(path, canonical(name)) for path, name in rows), key=lambda d: d.path)
    )


class SpriteCache:
    """Cropped RGBA pictures of drawings, rendered once and kept as PNG files.

    Safe between processes: a file appears whole or not at all. What is kept is believed only in a
    folder into which this user alone writes, and only if it can be a sprite; else it is rendered
    again.

    Args:
        clipart_dir: The folder of SVG files.
        cache_dir: Where rendered sprites are kept; made if it does not exist. If that is
            impossible, a RuntimeWarning is given once and sprites are rendered every time.

    Raises:
        DatasetError: if the clip-art folder is missing or holds none of the named drawings.
        MissingExtraError: if resvg_py or scipy is not installed.
    """

    def __init__(self, clipart_dir: str | Path, cache_dir: str | Path) -> None:
        self._resvg: Any = require("resvg_py", "scenes")
        self._ndimage: Any = require("scipy.ndimage", "scenes")
        self.root = Path(clipart_dir)
        self.cache = Path(cache_dir)
        if not os.path.isdir(self.root):
            raise _no_clipart(f"the clip-art folder {self.root} does not exist")
        self.drawings = tuple(d for d in lexicon() if os.path.isfile(self.root / d.path))
        if not self.drawings:
            raise _no_clipart(f"none of the named drawings is in {self.root}")
        self._keeps = True
        try:
            _sweep(private_folder(self.cache))
        except OSError as error:
            self._give_up(error)

    def load(self, drawing: Drawing) -> NDArray[np.uint8] | None:
        """Return the drawing's pixels.

        Returns:
            uint8 RGBA [h, w, 4], cropped to what is visible, longest side 320; None if the
            drawing cannot be rendered or is nearly empty.
        """
        try:
            svg = read_regular(self.root / drawing.path, _LARGEST_SVG)
        except OSError:
            return None
        path = self.cache / f"{hashlib.sha256(_RENDERING + svg).hexdigest()[:24]}.png"
        pixels = _kept(path) if self._keeps else None
        if pixels is None:
            rendered = self._render(svg) if len(svg) <= _LARGEST_SVG else None
            pixels = _NO_SPRITE if rendered is None else rendered
            self._store(path, pixels)
        return pixels if pixels.shape != _NO_SPRITE.shape else None

    def _store(self, path: Path, pixels: NDArray[np.uint8]) -> None:
        """Keep a sprite; work goes on, with one warning, where that is impossible."""
        if not self._keeps:
            return
        try:
            remove_foreign(path)
            with atomic_writer(path, private=True) as file:
                Image.fromarray(pixels).save(file, format="PNG")
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._keeps = False
        warnings.warn(
            f"rendered drawings cannot be kept in {self.cache} ({error.strerror or error}); "
            "each is rendered whenever it is needed",
            RuntimeWarning,
            stacklevel=3,
        )

    def _drawn(self, svg: str, **size: int) -> NDArray[np.uint8] | None:
        """Return a drawing's RGBA pixels at a size, into which it fits; None if it is none."""
        try:
            png = self._resvg.svg_to_bytes(svg_string=svg, dpi=96.0, skip_system_fonts=True, **size)
            with open_image(bytes(png)) as (image, _):
                return np.array(image.convert("RGBA"))
        except (ValueError, RuntimeError, ImageError):
            return None

    def _render(self, svg: bytes) -> NDArray[np.uint8] | None:
        text = svg.decode("utf-8", "replace")
        # It aborts the process where the picture does not fit into memory: proportions first.
        small = self._drawn(text, width=_PROBE_SIDE, height=_PROBE_SIDE)
        if small is None or min(small.shape[:2]) == 1:
            return None
        pixels = self._drawn(text, width=2 * _SIDE)
        if pixels is None:
            return None
        solid = pixels[..., 3] >= 128
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        if rows.size < 8 or columns.size < 8:
            return None
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        pixels, solid = pixels[window], solid[window]
        silhouette = self._ndimage.binary_fill_holes(solid)
        if solid.sum() < 0.55 * silhouette.sum():
            # An outline drawing: its inside is paper, not a hole, to anyone who names the thing.
            pixels[silhouette & ~solid] = 255
            solid = silhouette
        if solid.mean() < 0.03:
            return None
        height, width = solid.shape
        scale = _SIDE / max(height, width)
        size = (max(2, round(width * scale)), max(2, round(height * scale)))
        picture = Image.fromarray(pixels).convert("RGBa").resize(size, Image.Resampling.LANCZOS)
        return np.asarray(picture.convert("RGBA"))


def _kept(path: Path) -> NDArray[np.uint8] | None:
    """Return the sprite in a file; None where there is none, or what is there cannot be one."""
    try:
        check_private(path)
        with open_image(read_regular(path, _LARGEST_PNG)) as (image, _):
            if image.format == "PNG" and image.mode == "RGBA" and max(image.size) in (1, _SIDE):
                return np.array(image, dtype=np.uint8)
    except (OSError, ImageError):
        pass
    return None


def _sweep(folder: Path) -> None:
    """Remove what writers left behind that were killed an hour ago or earlier."""
    for path in folder.glob(".*.png.*"):
        with suppress(OSError):
            if path.lstat().st_mtime < time.time() - _ABANDONED_SECONDS:
                path.unlink()


def _no_clipart(problem: str) -> DatasetError:
    return DatasetError(
        problem,
        expected="the SVG drawings of the Open Clip Art Library",
        fix='install Debian\'s package with "sudo apt-get install openclipart-svg", or unpack it '
        'without root ("apt-get download openclipart-svg" and "dpkg-deb -x openclipart-svg*.deb '
        'DIR") and give DIR/usr/share/openclipart/svg as the clip-art folder',
    )
