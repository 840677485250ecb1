"""The `photographs` domain: things cut out of photographs, put on photographed grounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from xdecoder_rt.errors import require
from xdecoder_rt.scenes.lexicons.stamps import Stamp
from xdecoder_rt.scenes.pasting import random_placement
from xdecoder_rt.scenes.photographs.grounds import (
    DEFAULT_GROUNDS_DIR,
    GROUND_STUFF,
    Grounds,
    part_of,
)
from xdecoder_rt.scenes.photographs.stamps import (
    DEFAULT_STAMPS_DIR,
    Stamps,
    stamps_of,
    usual_size,
)
from xdecoder_rt.scenes.scene import Rng, Scene, scene_size
from xdecoder_rt.scenes.sensor import photograph

__all__ = ["PhotographStudio", "photograph_studio"]

_MOST_THINGS = 5
_ATTEMPTS = 12
_LEAST_LEFT = 0.5  # a thing is never covered so far that less than this share of it is left
_LEAST_PIXELS = 150
_ENLARGED = 1.6  # stamps of few pixels stay small rather than become blurred
_SAME = 0.15
_SIMILAR = 8.0  # how many times larger one thing of a scene may be than another


@dataclass(frozen=True)
class _CutOut:
    """A thing ready to be pasted: float RGB and opacity 0..1, at its size in the scene."""

    colour: NDArray[np.float32]
    opacity: NDArray[np.float32]


class PhotographStudio:
    """Draws scenes of stamps on grounds.

    Args:
        stamps: The folder of stamps.
        chosen: The stamps to use; each name is equally likely, whatever its number of them.
        grounds: Where they are put.

    Attributes:
        vocabulary: Every label its scenes may have.
        stuff: Those that are stuff.
    """

    def __init__(self, stamps: Stamps, chosen: tuple[Stamp, ...], grounds: Grounds) -> None:
        self._stamps = stamps
        self._grounds = grounds
        self._by_name: dict[str, list[Stamp]] = {}
        for stamp in chosen:
            self._by_name.setdefault(stamp.name, []).append(stamp)
        shown = {region.label for ground in grounds.grounds for region in ground.regions}
        self.stuff = frozenset(shown) & GROUND_STUFF
        self.vocabulary = (*sorted(self._by_name), *sorted(self.stuff))

    def draw(self, rng: Rng, size: tuple[int, int] | None = None) -> Scene:
        """Draw one scene.

        Args:
            rng: Source of all its randomness.
            size: (height, width); None draws one of the usual sizes.
        """
        height, width = scene_size(rng, size)
        ground = self._grounds.grounds[int(rng.integers(len(self._grounds.grounds)))]
        scene = part_of(self._grounds.load(ground, rng), (height, width), rng)
        canvas = scene.image.astype(np.float32)
        identity = max(scene.labels, default=0)
        own_area: dict[int, int] = {}
        for stamp, longest in self._company(rng, min(height, width)):
            cut_out = self._cut_out(stamp, longest, canvas, rng)
            if cut_out is None:
                continue
            area = _paste(canvas, scene.ids, cut_out, identity + 1, own_area, rng)
            if area:
                identity += 1
                own_area[identity] = area
                scene.labels[identity] = stamp.name
        scene.image = photograph(np.clip(canvas, 0, 255).astype(np.uint8), rng)
        scene.drop_small()
        return scene

    def _company(self, rng: Rng, side: int) -> list[tuple[Stamp, float]]:
        """Choose things that may stand together, and the longest side of each in pixels."""
        names = sorted(self._by_name)
        first = self._pick(rng, names)
        metres = usual_size(first)
        similar = [
            name
            for name in names
            if 1 / _SIMILAR <= usual_size(self._by_name[name][0]) / metres <= _SIMILAR
        ]
        share = float(np.exp(rng.uniform(np.log(0.18), np.log(0.75))))
        stamps = [first]
        for _ in range(int(rng.integers(0, _MOST_THINGS))):
            again = rng.random() < _SAME
            stamps.append(self._pick(rng, [stamps[-1].name] if again else similar))
        company = []
        for stamp in stamps:
            # Perspective evens sizes out: what is small is often nearer.
            ratio = float(usual_size(stamp) / metres) ** 0.5 * float(rng.uniform(0.8, 1.25))
            company.append((stamp, min(0.85, share * ratio) * side))
        return company

    def _pick(self, rng: Rng, names: list[str]) -> Stamp:
        stamps = self._by_name[names[int(rng.integers(len(names)))]]
        return stamps[int(rng.integers(len(stamps)))]

    def _cut_out(
        self, stamp: Stamp, longest: float, canvas: NDArray[np.float32], rng: Rng
    ) -> _CutOut | None:
        picture = Image.fromarray(self._stamps.load(stamp))
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        scale = min(longest / max(picture.size), _ENLARGED)
        size = (round(picture.width * scale), round(picture.height * scale))
        if min(size) < 6:
            return None
        small = picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS)
        turned = small.rotate(float(rng.normal(0, 4)), Image.Resampling.BICUBIC, expand=True)
        soft = turned.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 0.7))))
        pixels = np.asarray(soft, np.float32)
        opacity = pixels[..., 3] / np.float32(255)
        colour = pixels[..., :3] / np.maximum(opacity, 1 / 255)[..., None]
        # The light of the ground: a part of the way to its brightness and its tint.
        mean = canvas.mean((0, 1))
        brightness = (mean.mean() / 128) ** float(rng.uniform(0.1, 0.4))
        tint = (mean / mean.mean()) ** float(rng.uniform(0.05, 0.25))
        return _CutOut(np.clip(colour * brightness * tint, 0, 255), opacity)


def _paste(
    canvas: NDArray[np.float32],
    ids: NDArray[np.uint8],
    cut_out: _CutOut,
    identity: int,
    own_area: dict[int, int],
    rng: Rng,
) -> int:
    """Blend a thing in where it hides nothing else too far; its visible pixels, or 0."""
    opacity = cut_out.opacity
    h, w = opacity.shape
    mask = opacity >= 0.5
    area = int(mask.sum())
    if area < _LEAST_PIXELS:
        return 0
    counts = np.bincount(ids.ravel(), minlength=256)
    for _ in range(_ATTEMPTS):
        top, left, outer, inner = random_placement(rng, (h, w), ids.shape)
        part = mask[inner]
        covered = np.bincount(ids[outer][part], minlength=256)
        stands = top + h > 0.45 * ids.shape[0]  # most things stand in the lower part
        if (
            stands
            and part.sum() >= 0.75 * area
            and all(counts[i] - covered[i] >= _LEAST_LEFT * own_area[i] for i in own_area)
        ):
            break
    else:
        return 0
    _shade(canvas, opacity, top, left, rng)
    weight = opacity[inner][..., None]
    canvas[outer] = canvas[outer] * (1 - weight) + cut_out.colour[inner] * weight
    ids[outer][part] = identity
    return int(part.sum())


def _shade(
    canvas: NDArray[np.float32], opacity: NDArray[np.float32], top: int, left: int, rng: Rng
) -> None:
    """Darken the ground where a thing stands, and, at times, where its shadow falls."""
    cv2: Any = require("cv2", "train")
    h, w = opacity.shape
    height, width = canvas.shape[:2]
    shade = np.zeros((height, width), np.float32)
    y, x = top + h * 0.97, left + w / 2
    axes = (max(2, round(w * 0.42)), max(2, round(h * 0.06)))
    cv2.ellipse(shade, (round(x), round(y)), axes, 0, 0, 360, float(rng.uniform(0.3, 0.6)), -1)
    shade = cv2.GaussianBlur(shade, (0, 0), max(1.0, 0.03 * max(h, w)))
    if rng.random() < 0.5:
        # The outline, laid down to one side from where the thing stands.
        lean, flat = float(rng.uniform(-0.9, 0.9)), float(rng.uniform(0.15, 0.45))
        foot = top + h - 1
        matrix = np.array([[1, lean * flat, left - lean * flat * h], [0, flat, foot - flat * h]])
        cast = cv2.warpAffine(opacity, matrix, (width, height))
        cast = cv2.GaussianBlur(cast, (0, 0), max(1.0, 0.02 * max(h, w)))
        shade = np.maximum(shade, cast * float(rng.uniform(0.2, 0.5)))
    canvas *= (1 - shade)[..., None]


@lru_cache(maxsize=4)
def _studio(split: str, stamps_dir: Path, grounds_dir: Path) -> PhotographStudio:
    return PhotographStudio(Stamps(stamps_dir), stamps_of(split), Grounds(grounds_dir, split))


def photograph_studio(
    split: str, stamps_dir: Path | None = None, grounds_dir: Path | None = None
) -> PhotographStudio:
    """Return the studio of a split.

    "train" and "val" share their names and differ in their stamps; "novel" has the held-out
    names. Grounds are those of training, or, for "val" and "novel", the held-out ones.

    Raises:
        DatasetError: the stamps or the grounds are missing.
    """
    return _studio(split, stamps_dir or DEFAULT_STAMPS_DIR, grounds_dir or DEFAULT_GROUNDS_DIR)
