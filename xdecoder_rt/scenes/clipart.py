"""The `clipart` domain: Open Clip Art drawings composed over named textures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from xdecoder_rt.errors import ArgumentError, DatasetError, quoted
from xdecoder_rt.scenes.backdrop import BACKDROP_STUFF, backdrop
from xdecoder_rt.scenes.names import synonyms
from xdecoder_rt.scenes.pasting import random_placement
from xdecoder_rt.scenes.scene import Scene, scene_size, unit_hash
from xdecoder_rt.scenes.sensor import photograph
from xdecoder_rt.scenes.splits import SPLITS, novel_names
from xdecoder_rt.scenes.sprites import DEFAULT_CLIPART_DIR, Drawing, SpriteCache, lexicon

__all__ = ["ClipartStudio", "clipart_studio", "drawn_names", "training_drawings"]

_MOST_THINGS = 8
_VAL_NAMES = 115
_VAL_SHARE = 0.2
_LEAST_LEFT = 0.45  # a thing is never covered so far that less than this share of it is left


class ClipartStudio:
    """Draws clip-art scenes.

    Args:
        sprites: Where the drawings come from.
        drawings: The drawings to use; each name is equally likely, whatever its number of them.
        use_synonyms: Whether a thing may be called by a synonym of its canonical name.
    """

    def __init__(
        self,
        sprites: SpriteCache,
        drawings: Sequence[Drawing],
        *,
        use_synonyms: bool = False,
    ) -> None:
        self._sprites = sprites
        self._by_name: dict[str, list[Drawing]] = {}
        for drawing in drawings:
            self._by_name.setdefault(drawing.name, []).append(drawing)
        self._names = sorted(self._by_name)
        self._use_synonyms = use_synonyms
        words = {w for n in self._names for w in (synonyms(n) if use_synonyms else (n,))}
        self.stuff = BACKDROP_STUFF
        self.vocabulary = (*sorted(words), *sorted(BACKDROP_STUFF))

    def draw(self, rng: np.random.Generator, size: tuple[int, int] | None = None) -> Scene:
        """Draw one scene.

        Args:
            rng: Source of all its randomness.
            size: (height, width); None draws one of the usual sizes.
        """
        height, width = scene_size(rng, size)
        scene = backdrop(rng, height, width)
        canvas = scene.image.astype(np.float32)
        own_area: dict[int, int] = {}
        identity = max(scene.labels, default=0) + 1
        count = int(rng.integers(1, _MOST_THINGS + 1))
        word: dict[str, str] = {}
        name = self._pick(rng, self._names)
        for number in range(count):
            if number and rng.random() > 0.2:  # else another one of the same kind
                name = self._pick(rng, self._names)
            sprite = self._sprite(rng, name)
            if sprite is None:
                continue
            pasted = self._paste(rng, canvas, scene, sprite, identity, own_area, count)
            if not pasted:
                continue
            if name not in word:
                words = synonyms(name)
                use_synonym = self._use_synonyms and len(words) > 1 and rng.random() < 0.35
                word[name] = words[int(rng.integers(1, len(words)))] if use_synonym else name
            scene.labels[identity] = word[name]
            identity += 1
        scene.image = photograph(np.clip(canvas, 0, 255).astype(np.uint8), rng)
        scene.drop_small()
        return scene

    def _pick(self, rng: np.random.Generator, names: Sequence[str]) -> str:
        return names[int(rng.integers(len(names)))]

    def _sprite(self, rng: np.random.Generator, name: str) -> NDArray[np.uint8] | None:
        drawings = self._by_name[name]
        return self._sprites.load(drawings[int(rng.integers(len(drawings)))])

    def _paste(
        self,
        rng: np.random.Generator,
        canvas: NDArray[np.float32],
        scene: Scene,
        sprite: NDArray[np.uint8],
        identity: int,
        own_area: dict[int, int],
        crowd: int,
    ) -> bool:
        """Blend a transformed sprite into the scene where it hides nothing else too far."""
        height, width = scene.ids.shape
        largest = 0.95 if crowd <= 2 else 0.75 if crowd <= 4 else 0.5
        share = float(np.exp(rng.uniform(np.log(0.2), np.log(largest))))
        picture = transformed(rng, sprite, max(16, int(share * min(height, width))))
        alpha = np.asarray(picture, dtype=np.float32)[..., 3] / 255.0
        h, w = alpha.shape
        mask = alpha >= 0.5
        area = int(mask.sum())
        if area < 80:
            return False
        counts = {i: int((scene.ids == i).sum()) for i in own_area}
        for _ in range(12):
            top, left, outer, inner = random_placement(rng, (h, w), (height, width))
            ids, part = scene.ids[outer], mask[inner]
            if part.sum() < 0.7 * area:
                continue
            covered = np.bincount(ids[part], minlength=256)
            if all(counts[i] - covered[i] >= _LEAST_LEFT * own_area[i] for i in own_area):
                break
        else:
            return False
        if rng.random() < 0.5:
            _cast_shadow(rng, canvas, alpha, top, left)
        weight = alpha[inner][..., None]
        colour = np.asarray(picture, dtype=np.float32)[..., :3][inner]
        canvas[outer] = canvas[outer] * (1 - weight) + colour * weight
        ids[part] = identity
        own_area[identity] = int(part.sum())
        return True


def transformed(rng: np.random.Generator, sprite: NDArray[np.uint8], longest: int) -> Image.Image:
    """Return the sprite flipped, recoloured, lit, turned and scaled at random; RGBA."""
    picture = Image.fromarray(sprite)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    alpha = picture.getchannel("A")
    colour = picture.convert("RGB")
    if rng.random() < 0.5:
        colour = ImageEnhance.Color(colour).enhance(float(rng.uniform(0.5, 1.4)))
        colour = ImageEnhance.Brightness(colour).enhance(float(rng.uniform(0.75, 1.15)))
        colour = ImageEnhance.Contrast(colour).enhance(float(rng.uniform(0.75, 1.2)))
    if rng.random() < 0.15:
        hue, saturation, value = colour.convert("HSV").split()
        shift = int(rng.integers(256))
        hue = hue.point([(i + shift) % 256 for i in range(256)])
        colour = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    if rng.random() < 0.4:
        colour = _embossed(rng, colour, alpha)
    picture = colour.copy()
    picture.putalpha(alpha)
    scale = longest / max(picture.size)
    squeeze = float(rng.uniform(0.85, 1.15)) if rng.random() < 0.3 else 1.0
    size = (max(4, round(picture.width * scale * squeeze)), max(4, round(picture.height * scale)))
    angle = float(rng.normal(0, 12)) if rng.random() < 0.8 else float(rng.uniform(-180, 180))
    premultiplied = picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS)
    turned = premultiplied.rotate(angle, Image.Resampling.BICUBIC, expand=True).convert("RGBA")
    return turned.crop(turned.getchannel("A").getbbox() or (0, 0, 4, 4))


def _embossed(rng: np.random.Generator, colour: Image.Image, alpha: Image.Image) -> Image.Image:
    """Light a flat drawing as if it bulged towards the viewer."""
    padded = Image.new("L", (alpha.width + 32, alpha.height + 32))
    padded.paste(alpha, (16, 16))
    bulge = padded.filter(ImageFilter.GaussianBlur(float(rng.uniform(4, 12))))
    height = np.asarray(bulge, dtype=np.float32)[16:-16, 16:-16] / 255.0
    slope_y, slope_x = np.gradient(height)
    angle = rng.uniform(0, 2 * np.pi)
    light = 1.0 + float(rng.uniform(4, 14)) * (slope_x * np.cos(angle) + slope_y * np.sin(angle))
    lit = np.asarray(colour, dtype=np.float32) * np.clip(light, 0.45, 1.5)[..., None]
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _cast_shadow(
    rng: np.random.Generator,
    canvas: NDArray[np.float32],
    alpha: NDArray[np.float32],
    top: int,
    left: int,
) -> None:
    """Darken the canvas by the blurred outline of what is about to be pasted, a little aside."""
    height, width = canvas.shape[:2]
    reach = max(2.0, 0.06 * max(alpha.shape))
    layer = Image.new("L", (width, height))
    offset = (left + int(rng.uniform(-reach, reach)), top + int(rng.uniform(0, reach)))
    layer.paste(Image.fromarray((alpha * 255).astype(np.uint8)), offset)
    shade = (
        np.asarray(
            layer.filter(ImageFilter.GaussianBlur(reach * float(rng.uniform(0.2, 0.7)))),
            dtype=np.float32,
        )
        / 255.0
    )
    canvas *= (1.0 - float(rng.uniform(0.2, 0.6)) * shade)[..., None]


@lru_cache(maxsize=1)
def _val_drawings() -> frozenset[Drawing]:
    """Drawings that training never sees, of names that it sees in others.

    The choice depends on the file's name alone: the library has copies of a drawing in several
    folders, and all of them must be on one side.
    """
    drawings = [d for d in lexicon() if d.name not in novel_names()]
    reserved = {
        d for d in drawings if unit_hash(d.path.rsplit("/", 1)[-1], "val drawings") < _VAL_SHARE
    }
    total = Counter(d.name for d in drawings)
    reserved_count = Counter(d.name for d in reserved)
    return frozenset(
        d for d in reserved if total[d.name] >= 3 and reserved_count[d.name] < total[d.name]
    )


def training_drawings(sprites: SpriteCache) -> list[Drawing]:
    """Return the drawings that training may use."""
    reserved, novel = _val_drawings(), novel_names()
    return [d for d in sprites.drawings if d.name not in novel and d not in reserved]


@lru_cache(maxsize=1)
def drawn_names() -> frozenset[str]:
    """Return the names that training sees drawn, wherever all drawings are."""
    return frozenset(d.name for d in lexicon() if d not in _val_drawings()) - novel_names()


def _drawings_of(split: str, sprites: SpriteCache) -> list[Drawing]:
    """Return the drawings of a split, those of them that are there."""
    if split == "train":
        return training_drawings(sprites)
    novel = novel_names()
    if split == "novel":
        return [d for d in sprites.drawings if d.name in novel]
    reserved = _val_drawings()
    candidates = [d for d in sprites.drawings if d.name not in novel and d in reserved]
    names = sorted({d.name for d in candidates}, key=lambda n: unit_hash(n, "val names"))
    return [d for d in candidates if d.name in set(names[:_VAL_NAMES])]


def clipart_studio(
    split: str, clipart_dir: Path | None, cache_dir: Path, names: Sequence[str] = ()
) -> ClipartStudio:
    """Return the studio of a split.

    "train" and "val" share their names and differ in their drawings; "novel" has the held-out
    names. "val" uses a fixed part of the names only, so that its vocabulary stays askable.

    Args:
        split: "train", "val" or "novel".
        clipart_dir: folder of the drawings; None takes where Debian puts them.
        cache_dir: where rendered drawings are kept.
        names: draw things of these names alone; all of the split where it is empty.

    Raises:
        ArgumentError: the split has no drawing of one of the names.
        DatasetError: there are no drawings, or none for this split.
        MissingExtraError: resvg_py or scipy is not installed.
    """
    sprites = SpriteCache(clipart_dir or DEFAULT_CLIPART_DIR, cache_dir)
    drawings = _drawings_of(split, sprites)
    if not drawings:
        raise DatasetError(
            f"{sprites.root} has no drawing for the split {split!r}",
            expected="the whole openclipart-svg package",
        )
    known = {drawing.name for drawing in drawings}
    if missing := [name for name in names if name not in known]:
        drawn = [s for s in SPLITS if missing[0] in {d.name for d in _drawings_of(s, sprites)}]
        raise ArgumentError(
            f"the split {split!r} has no drawing of {quoted(missing[0])}",
            expected="names among " + ", ".join(sorted(known)[:8]) + f", … ({len(known)} in all)",
            fix=f"take the split {drawn[0]!r}, which has one" if drawn else None,
        )
    if names:
        drawings = [drawing for drawing in drawings if drawing.name in names]
    return ClipartStudio(sprites, drawings, use_synonyms=split == "train" and not names)
