"""Photographed grounds: wallpapers and templates of Debian's packages, and what they show.

`grounds.json` lists those that were looked at. Of each it has the package, the split, and its
regions: a label with an outline, with none (everything), or for what is transparent, which is
filled with a sky. Later regions lie over earlier ones; what no region covers is unlabelled.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from xdecoder_rt.errors import DatasetError, ImageError
from xdecoder_rt.files.image_file import open_image
from xdecoder_rt.files.regular import read_regular
from xdecoder_rt.json_reader import Rule, parse_json, read_object
from xdecoder_rt.scenes.scene import Rng, Scene
from xdecoder_rt.scenes.textures import texture

__all__ = [
    "DEFAULT_GROUNDS_DIR",
    "GROUND_STUFF",
    "Ground",
    "Grounds",
    "Region",
    "grounds_of",
    "part_of",
]

DEFAULT_GROUNDS_DIR = Path("/usr/share")
"""Where Debian and Ubuntu install what the packages share."""

_LIST = "grounds.json"
_LIST_LIMIT = 1 << 20
_LARGEST_FILE = 64 << 20
_LONGEST = 1024  # pixels; the wallpapers have up to 3840
_LEAST_PART = 0.5  # of a side of what of a ground has the proportions of its part


@dataclass(frozen=True)
class Region:
    """A part of a ground.

    Attributes:
        label: What it shows: a stuff.
        outline: Corners, as shares of width and height; empty where it is everything.
        clear: Whether it is what is transparent.
    """

    label: str
    outline: tuple[tuple[float, float], ...] = ()
    clear: bool = False


@dataclass(frozen=True)
class Ground:
    """A photograph without anything in the foreground.

    Attributes:
        path: File, relative to `/usr/share`.
        package: Debian's package that brings it.
        split: "train" or "val".
        regions: What it shows.
    """

    path: str
    package: str
    split: str
    regions: Annotated[tuple[Region, ...], Rule(most=100)]


@dataclass(frozen=True)
class _List:
    grounds: Annotated[tuple[Ground, ...], Rule(most=1000)]


@lru_cache(maxsize=1)
def _all_grounds() -> tuple[Ground, ...]:
    data = resources.files(__package__).joinpath(_LIST).read_bytes()
    document = parse_json(data, _LIST, _LIST_LIMIT, DatasetError)
    return read_object(document, _List, _LIST, DatasetError).grounds


def grounds_of(split: str) -> tuple[Ground, ...]:
    """Return the grounds of a split; "val" and "novel" share the held-out ones."""
    wanted = "train" if split == "train" else "val"
    return tuple(ground for ground in _all_grounds() if ground.split == wanted)


GROUND_STUFF: Final[frozenset[str]] = frozenset(
    region.label for ground in _all_grounds() for region in ground.regions
)
"""Every label that a ground may have."""


class Grounds:
    """The grounds of a split, read from the folder that Debian's packages share.

    Args:
        folder: `/usr/share`, or that folder of packages unpacked elsewhere.
        split: "train", "val" or "novel".

    Attributes:
        grounds: Those of the split; of "train" those that are there.

    Raises:
        DatasetError: there is none, or a held-out one is missing: what is measured must not
            depend on which packages a machine has.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        self.root = Path(folder)
        wanted = grounds_of(split)
        self.grounds = tuple(g for g in wanted if os.path.isfile(self.root / g.path))
        missing = [ground for ground in wanted if ground not in self.grounds]
        if not self.grounds or (missing and split != "train"):
            packages = " ".join(sorted({ground.package for ground in missing}))
            raise DatasetError(
                f"{self.root} has no {missing[0].path}",
                expected="the photographs of Debian's packages",
                fix=f'install them with "sudo apt-get install {packages}", or unpack them without '
                'root ("dpkg-deb -x PACKAGE.deb DIR") and give DIR/usr/share',
            )

    def load(self, ground: Ground, rng: Rng) -> Scene:
        """Return a ground as a scene of stuff, longest side at most 1024.

        Args:
            ground: Which.
            rng: Decides the sky that a transparent one gets.

        Raises:
            DatasetError: the file cannot be read.
        """
        pixels = _pixels(self.root / ground.path)
        height, width = pixels.shape[:2]
        opacity = pixels[..., 3]
        colours = pixels[..., :3]
        if opacity.min() < 255:
            weight = opacity[..., None] / np.float32(255)
            sky = texture("sky", rng, height, width)
            colours = (colours * weight + sky * (1 - weight)).astype(np.uint8)
        ids = np.zeros((height, width), np.uint8)
        labels: dict[int, str] = {}
        for number, region in enumerate(ground.regions, start=1):
            if region.clear:
                ids[opacity < 128] = number
            elif region.outline:
                mask = Image.new("1", (width, height))
                corners = [(x * width, y * height) for x, y in region.outline]
                ImageDraw.Draw(mask).polygon(corners, fill=1)
                ids[np.asarray(mask)] = number
            else:
                ids[:] = number
            labels[number] = region.label
        return Scene(np.ascontiguousarray(colours), ids, labels)


@lru_cache(maxsize=16)
def _pixels(path: Path) -> NDArray[np.uint8]:
    """Return a ground's pixels, uint8 RGBA [h, w, 4]; those of a split are asked for in turn."""
    try:
        with open_image(read_regular(path, _LARGEST_FILE)) as (image, _):
            image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
            pixels = np.array(image.convert("RGBA"), np.uint8)
    except (OSError, ImageError) as error:
        raise DatasetError(f"{path} cannot be read: {error}", fix="install it again") from error
    pixels.setflags(write=False)
    return pixels


def part_of(scene: Scene, size: tuple[int, int], rng: Rng) -> Scene:
    """Return a random part of a ground at a size: from all of it down to its own resolution.

    Args:
        scene: The ground.
        size: Height and width of the part.
        rng: Decides which part.
    """
    height, width = scene.ids.shape
    whole = min(height / size[0], width / size[1])
    scale = whole * float(rng.uniform(min(1.0, max(_LEAST_PART, 1 / whole)), 1))
    h, w = max(2, int(size[0] * scale)), max(2, int(size[1] * scale))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    part = (slice(top, top + h), slice(left, left + w))
    target = (size[1], size[0])
    image = Image.fromarray(scene.image[part]).resize(target, Image.Resampling.LANCZOS)
    ids = np.asarray(Image.fromarray(scene.ids[part]).resize(target, Image.Resampling.NEAREST))
    seen = set(np.unique(ids).tolist())
    labels = {number: label for number, label in scene.labels.items() if number in seen}
    return Scene(np.array(image), ids.copy(), labels)
