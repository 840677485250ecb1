"""Composes one scene from a bank: a ground, and cut-outs on it, with shadows and light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.items import NOTHING
from xdecoder_rt.errors import require
from xdecoder_rt.scenes.bank.relief import relief
from xdecoder_rt.scenes.bank.store import Bank, CutOut, LabelledPicture
from xdecoder_rt.scenes.pasting import random_placement

__all__ = ["RELIEF", "Composer", "Composition"]

_SIZES = ((384, 384), (288, 384), (320, 384), (256, 384), (384, 288))
_WHOLE_SCENES = 0.28
"""Share of the compositions that are a scene of the bank as it is."""
_PASTED_SCENES = 0.24
"""Share that are such a scene with cut-outs on it; the rest start with a ground alone."""
_PHOTOGRAPHS = 0.4
"""Share of the grounds that are photographs, which show nothing that is named."""
_MOST_THINGS = 9
_AGAIN = 0.25
RELIEF = 0.65
"""Share of the drawings that are lit as if they were rounded bodies."""
_RELIEF_OF_RENDERINGS = 0.1
_RENDERED = 0.4
_LEAST_LEFT = 0.4  # a thing is never covered so far that less than this share of it is left
_LEAST_PIXELS = 40
_NOISE_SIDE = 512


@dataclass
class Composition:
    """A picture and its labels.

    Attributes:
        image: uint8 RGB ``[h, w, 3]``.
        ids: int16 ``[h, w]``; 0 is unlabelled, :data:`~xdecoder_rt.datasets.items.NOTHING`
            shows nothing that is named.
        labels: canonical name of each id from 1.
    """

    image: NDArray[np.uint8]
    ids: NDArray[np.int16]
    labels: dict[int, str]


class Composer:
    """Draws compositions.

    Args:
        bank: what of.
        relief: share of the drawings that are lit as if they were rounded bodies, 0 to 1.
    """

    def __init__(self, bank: Bank, relief: float = RELIEF) -> None:
        self._bank = bank
        self._relief = relief
        by_name = bank.by_name
        self._drawn = sorted(n for n, cut_outs in by_name.items() if any(c.drawn for c in cut_outs))
        self._rendered = sorted(
            n for n, cut_outs in by_name.items() if not all(c.drawn for c in cut_outs)
        )
        scenes = [s for s in bank.scenes if not set(s.labels.values()) <= bank.stuff]
        self._rooms: tuple[LabelledPicture, ...] = tuple(scenes)
        self._grounds = tuple(s for s in bank.scenes if set(s.labels.values()) <= bank.stuff)
        rng = np.random.default_rng(0)
        self._noise = rng.standard_normal((_NOISE_SIDE, _NOISE_SIDE, 3), dtype=np.float32)

    def compose(self, rng: np.random.Generator) -> Composition:
        """Draw one composition; the same generator gives the same.

        Raises:
            DatasetError: a picture of the bank is damaged.
        """
        size = _SIZES[int(rng.integers(len(_SIZES)))]
        draw = rng.random() if self._rooms else 1.0
        if not (self._grounds or self._bank.photographs):  # nothing to start with but rooms
            draw *= _WHOLE_SCENES + _PASTED_SCENES
        if draw < _WHOLE_SCENES + _PASTED_SCENES:
            scene = self._scene(self._rooms, size, rng)
            count = 0 if draw < _WHOLE_SCENES else int(rng.integers(1, 4))
        else:
            on_photograph = self._bank.photographs and (
                not self._grounds or rng.random() < _PHOTOGRAPHS
            )
            if on_photograph:
                scene = self._photograph(size, rng)
            else:
                scene = self._scene(self._grounds, size, rng)
            count = int(rng.integers(1, _MOST_THINGS + 1))
        if count:
            self._paste_all(scene, count, rng)
        scene.image = self._exposed(scene.image, rng)
        return _tidied(scene)

    def _scene(
        self,
        choices: tuple[LabelledPicture, ...],
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> Composition:
        scene = choices[int(rng.integers(len(choices)))]
        image, ids = self._bank.scene(scene)
        if choices is self._grounds:
            cut = _crop(image.shape[:2], size, rng)
            image, ids = _resized(image[cut], ids[cut], size)
        return Composition(image, ids, dict(scene.labels))

    def _photograph(self, size: tuple[int, int], rng: np.random.Generator) -> Composition:
        spans = self._bank.photographs
        image = self._bank.pixels(spans[int(rng.integers(len(spans)))], 3)
        image = np.rot90(image, int(rng.integers(4)))
        part = image[_crop(image.shape[:2], size, rng)]
        if rng.random() < 0.5:
            part = part[:, ::-1]
        if rng.random() < 0.4:
            part = part[..., rng.permutation(3)]
        ids = np.full(part.shape[:2], NOTHING, np.int16)
        return Composition(*_resized(np.ascontiguousarray(part), ids, size), {})

    def _paste_all(self, scene: Composition, count: int, rng: np.random.Generator) -> None:
        canvas = scene.image.astype(np.float32)
        counts = _counts(scene)
        own_area = {i: int(counts[i]) for i, n in scene.labels.items() if n not in self._bank.stuff}
        name = ""
        identity = max(scene.labels, default=0)
        for _ in range(count):
            if not name or rng.random() > _AGAIN:
                name = self._name(rng)
            cut_out = self._varied(self._cut_out(name, rng), count, min(scene.ids.shape), rng)
            area = _paste(canvas, scene.ids, cut_out, identity + 1, own_area, rng)
            if area:
                identity += 1
                own_area[identity] = area
                scene.labels[identity] = name
        scene.image = np.clip(canvas, 0, 255).astype(np.uint8)

    def _name(self, rng: np.random.Generator) -> str:
        rendered = self._rendered and (not self._drawn or rng.random() < _RENDERED)
        names = self._rendered if rendered else self._drawn
        return names[int(rng.integers(len(names)))]

    def _cut_out(self, name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
        cut_outs = self._bank.by_name[name]
        cut_out: CutOut = cut_outs[int(rng.integers(len(cut_outs)))]
        pixels = self._bank.pixels(cut_out.picture, 4)
        if rng.random() < (self._relief if cut_out.drawn else _RELIEF_OF_RENDERINGS):
            pixels = relief(pixels, rng)
        return pixels

    def _varied(
        self, pixels: NDArray[np.uint8], crowd: int, side: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Mirrored, recoloured, scaled and turned at random; RGBA, colours premultiplied."""
        cv2: Any = require("cv2", "train")
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        colour = np.ascontiguousarray(pixels[..., :3])
        if rng.random() < 0.5:
            gain = rng.uniform(0.7, 1.2) * rng.uniform(0.93, 1.07, 3)
            levels = np.arange(256)[:, None] / 255
            table = np.clip(levels ** rng.uniform(0.75, 1.35) * gain, 0, 1) * 255
            colour = cv2.LUT(colour, table[None].astype(np.uint8))
        if rng.random() < 0.12:
            hsv = cv2.cvtColor(colour, cv2.COLOR_RGB2HSV)
            hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(rng.integers(180))) % 180
            colour = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        opacity = pixels[..., 3:].astype(np.float32) / 255
        premultiplied = np.dstack((colour * opacity, opacity * 255)).astype(np.float32)
        largest = 0.95 if crowd <= 2 else 0.7 if crowd <= 4 else 0.5
        share = float(np.exp(rng.uniform(np.log(0.1), np.log(largest))))
        height, width = pixels.shape[:2]
        scale = max(14.0, share * side) / max(height, width)
        stretch = float(rng.uniform(0.85, 1.15)) if rng.random() < 0.3 else 1.0
        angle = float(rng.normal(0, 10)) if rng.random() < 0.85 else float(rng.uniform(-180, 180))
        if scale < 0.5:
            half = (max(2, round(width * 2 * scale)), max(2, round(height * 2 * scale)))
            premultiplied = cv2.resize(premultiplied, half, interpolation=cv2.INTER_AREA)
            scale *= width / half[0]
            height, width = premultiplied.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
        matrix[0] *= stretch
        box = np.abs(matrix[:, :2]) @ (width, height)
        out = (max(2, int(np.ceil(box[0]))), max(2, int(np.ceil(box[1]))))
        centre = matrix @ np.array([width / 2, height / 2, 1])
        matrix[:, 2] += np.array(out) / 2 - centre
        turned = cv2.warpAffine(premultiplied, matrix, out, flags=cv2.INTER_LINEAR)
        return np.asarray(turned)

    def _exposed(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Add a camera's flaws: streaks, noise, compression."""
        cv2: Any = require("cv2", "train")
        if rng.random() < 0.06:
            kernel = np.zeros((5, 5), np.float32)
            dy, dx = ((0, 1), (1, 0), (1, 1), (1, -1))[int(rng.integers(4))]
            for step in (-1, 0, 1):
                kernel[2 + step * dy, 2 + step * dx] = 1 / 3
            image = cv2.filter2D(image, -1, kernel)
        if rng.random() < 0.25:
            height, width = image.shape[:2]
            spare = np.maximum(_NOISE_SIDE - np.array([height, width]), 0)
            top, left = rng.integers(0, spare, endpoint=True)
            rows = np.arange(top, top + height) % _NOISE_SIDE
            columns = np.arange(left, left + width) % _NOISE_SIDE
            noise = self._noise[rows[:, None], columns]
            noisy = image + noise * np.float32(rng.uniform(1, 7))
            image = np.clip(noisy, 0, 255).astype(np.uint8)
        if rng.random() < 0.2:
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 85))]
            _, file = cv2.imencode(".jpg", image, quality)
            image = cv2.imdecode(file, cv2.IMREAD_UNCHANGED)
        return np.asarray(image)


def _paste(
    canvas: NDArray[np.float32],
    ids: NDArray[np.int16],
    cut_out: NDArray[np.float32],
    identity: int,
    own_area: dict[int, int],
    rng: np.random.Generator,
) -> int:
    """Blend a cut-out in where it hides nothing else too far; its visible pixels, or 0."""
    height, width = ids.shape
    h, w = cut_out.shape[:2]
    mask = cut_out[..., 3] >= 127
    area = int(np.count_nonzero(mask))
    if area < _LEAST_PIXELS:
        return 0
    highest = max(identity, *own_area, 0)
    counts = np.bincount(np.maximum(ids, 0).ravel(), minlength=highest + 1)
    for _ in range(8):
        top, left, outer, inner = random_placement(rng, (h, w), (height, width))
        part, under = mask[inner], ids[outer]
        visible = int(np.count_nonzero(part))
        covered = np.bincount(np.maximum(under[part], 0), minlength=highest + 1)
        if visible >= 0.7 * area and all(
            counts[i] - covered[i] >= _LEAST_LEFT * own_area[i] for i in own_area
        ):
            break
    else:
        return 0
    if rng.random() < 0.6:
        _shadow(canvas, cut_out[..., 3], top, left, rng)
    opacity = cut_out[inner][..., 3:] / np.float32(255)
    canvas[outer] = canvas[outer] * (1 - opacity) + cut_out[inner][..., :3]
    under[part] = identity
    return visible


def _shadow(
    canvas: NDArray[np.float32],
    alpha: NDArray[np.float32],
    top: int,
    left: int,
    rng: np.random.Generator,
) -> None:
    """Darken what is around a thing by its blurred outline, a little aside."""
    cv2: Any = require("cv2", "train")
    reach = max(2.0, 0.08 * max(alpha.shape))
    margin = int(2 * reach) + 1
    padded = cv2.copyMakeBorder(alpha, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    soft = cv2.GaussianBlur(padded, (0, 0), reach * float(rng.uniform(0.25, 0.8))) / 255
    y = top - margin + int(rng.uniform(-0.3 * reach, 1.3 * reach))
    x = left - margin + int(rng.uniform(-reach, reach))
    rows = slice(max(0, y), min(canvas.shape[0], y + soft.shape[0]))
    columns = slice(max(0, x), min(canvas.shape[1], x + soft.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    inner = soft[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
    canvas[rows, columns] *= (1 - float(rng.uniform(0.15, 0.6)) * inner)[..., None]


def _crop(
    shape: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator
) -> tuple[slice, slice]:
    """A random part of the shape that has the proportions of the size."""
    whole = min(shape[0] / size[0], shape[1] / size[1])
    scale = whole * float(rng.uniform(0.5, 1.0))
    h, w = max(2, int(size[0] * scale)), max(2, int(size[1] * scale))
    top, left = int(rng.integers(shape[0] - h + 1)), int(rng.integers(shape[1] - w + 1))
    return slice(top, top + h), slice(left, left + w)


def _resized(
    image: NDArray[np.uint8], ids: NDArray[np.int16], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    cv2: Any = require("cv2", "train")
    target = (size[1], size[0])
    shrinks = size[0] < image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return (
        cv2.resize(image, target, interpolation=method),
        cv2.resize(ids, target, interpolation=cv2.INTER_NEAREST),
    )


def _counts(scene: Composition) -> NDArray[np.int64]:
    """Pixels of each id, from 0 to the last."""
    ids = np.maximum(scene.ids, 0).ravel()
    return np.bincount(ids, minlength=max(scene.labels, default=0) + 1)


def _tidied(scene: Composition) -> Composition:
    """Unlabel what is too small to be recognised; number the ids from 1."""
    counts = _counts(scene)
    table = np.zeros(len(counts), np.int16)
    labels: dict[int, str] = {}
    for old, label in sorted(scene.labels.items()):
        if counts[old] >= _LEAST_PIXELS:
            labels[len(labels) + 1] = label
            table[old] = len(labels)
    ids = np.where(scene.ids < 0, scene.ids, table[np.maximum(scene.ids, 0)])
    return Composition(scene.image, ids.astype(np.int16), labels)
