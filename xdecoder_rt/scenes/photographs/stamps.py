"""The stamps of Debian's `tuxpaint-stamps-default`: things cut out of photographs, and splits."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.errors import DatasetError, ImageError
from xdecoder_rt.files.image_file import open_image
from xdecoder_rt.files.regular import read_regular
from xdecoder_rt.scenes.catalogue import WORKCELL_NAMES
from xdecoder_rt.scenes.clipart import drawn_names
from xdecoder_rt.scenes.lexicons.stamps import Stamp, stamp_lexicon
from xdecoder_rt.scenes.scene import unit_hash
from xdecoder_rt.scenes.splits import novel_names

__all__ = ["DEFAULT_STAMPS_DIR", "Stamps", "stamps_of", "usual_size"]

DEFAULT_STAMPS_DIR = Path("/usr/share/tuxpaint/stamps")
"""Where Debian and Ubuntu install the stamps."""

_VAL_SHARE = 0.4
_LARGEST_FILE = 16 << 20
_LARGEST_PIXELS = 4 << 20
_LEAST_SHARE = 0.02

_METRES: Final[dict[str, float]] = {
    "animals": 1.0,
    "animals/amphibians": 0.15,
    "animals/birds": 0.45,
    "animals/fish": 0.3,
    "animals/insects": 0.06,
    "animals/mammals": 1.5,
    "animals/mammals/bears/toys": 0.3,
    "animals/mammals/dogs": 0.9,
    "animals/mammals/rodents": 0.3,
    "animals/shellfish": 0.1,
    "clothes": 0.1,
    "food": 0.12,
    "hobbies": 0.2,
    "hobbies/music": 0.9,
    "household": 0.3,
    "household/arttools": 0.15,
    "medical": 0.2,
    "military": 4.0,
    "military/ammunition": 0.5,
    "naturalforces": 1.0,
    "people": 1.7,
    "people/toys": 0.3,
    "plants": 0.5,
    "plants/flowers": 0.1,
    "plants/mushrooms": 0.15,
    "plants/trees": 4.0,
    "seasonal": 0.3,
    "seasonal/halloween": 1.0,
    "space": 4.0,
    "sports": 0.3,
    "town": 1.0,
    "vehicles": 4.0,
    "vehicles/cycle": 0.8,
}


class Stamps:
    """The named stamps of a folder.

    Args:
        folder: `stamps` as Tux Paint has it.

    Attributes:
        root: The folder.
        stamps: Those of the named stamps that are there.

    Raises:
        DatasetError: the folder is missing, or has none of them.
    """

    def __init__(self, folder: str | Path) -> None:
        self.root = Path(folder)
        self.stamps = tuple(s for s in stamp_lexicon() if os.path.isfile(self.root / s.path))
        if not self.stamps:
            raise DatasetError(
                f"{self.root} has none of the named stamps",
                expected="the stamps of Tux Paint",
                fix='install them with "sudo apt-get install tuxpaint-stamps-default", or unpack '
                'them without root ("dpkg-deb -x tuxpaint-stamps-default*.deb DIR") and give '
                "DIR/usr/share/tuxpaint/stamps",
            )

    def load(self, stamp: Stamp) -> NDArray[np.uint8]:
        """Return a stamp's pixels, uint8 RGBA [h, w, 4], cropped to what is visible.

        Raises:
            DatasetError: the file is no picture of a thing, or larger than stamps are.
        """
        path = self.root / stamp.path
        try:
            with open_image(read_regular(path, _LARGEST_FILE)) as (image, _):
                if image.width * image.height > _LARGEST_PIXELS:
                    raise DatasetError(
                        f"{path} has {image.width} x {image.height} pixels",
                        expected=f"at most {_LARGEST_PIXELS:,}",
                    )
                pixels = np.array(image.convert("RGBA"), np.uint8)
        except (OSError, ImageError) as error:
            raise DatasetError(f"{path} cannot be read: {error}", fix="install it again") from error
        solid = pixels[..., 3] >= 128
        if solid.mean() < _LEAST_SHARE:
            raise DatasetError(f"{path} shows next to nothing", fix="install it again")
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def usual_size(stamp: Stamp) -> float:
    """Return about how large such a thing is, in metres, by the folder that it is in."""
    folder = stamp.path
    while "/" in folder:
        folder = folder.rsplit("/", 1)[0]
        if folder in _METRES:
            return _METRES[folder]
    return 0.5


@lru_cache(maxsize=3)
def stamps_of(split: str) -> tuple[Stamp, ...]:
    """Return the stamps of a split, whatever a machine has of them.

    "novel" has the held-out names. "val" has pictures of names that training knows by other
    pictures: another stamp, a drawing, a model. "train" has the rest. Which picture goes where
    depends on its path alone.

    Args:
        split: "train", "val" or "novel".
    """
    novel = novel_names()
    if split == "novel":
        return tuple(s for s in stamp_lexicon() if s.name in novel)
    known = drawn_names() | set(WORKCELL_NAMES)
    by_name: dict[str, list[Stamp]] = {}
    for stamp in stamp_lexicon():
        if stamp.name not in novel:
            by_name.setdefault(stamp.name, []).append(stamp)
    val: set[Stamp] = set()
    for name, stamps in by_name.items():
        ranked = sorted(stamps, key=lambda stamp: unit_hash(stamp.path, "val stamps"))
        spare = ranked if name in known else ranked[:-1]
        val.update(s for s in spare if unit_hash(s.path, "val stamps") < _VAL_SHARE)
    in_val = split == "val"
    return tuple(s for s in stamp_lexicon() if s.name not in novel and (s in val) == in_val)
