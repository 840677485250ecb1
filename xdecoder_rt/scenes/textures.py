"""Procedural textures: the named *stuff* behind the things of a generated scene.

Every texture is drawn from a random generator alone, so that a scene needs no picture files
and is the same on every machine. Colours, scale and structure vary widely on purpose: a model
trained on one brick pattern learns that pattern, not bricks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.scenes.noise import (
    FloatGrid,
    courses,
    fractal_noise,
    grain,
    mix,
    scale_colour,
    shades,
    voronoi,
)

__all__ = ["TEXTURES", "texture"]

TextureFunction = Callable[[np.random.Generator, int, int], FloatGrid]


def wood(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Planks or a solid board, grain along one side."""
    turned = bool(rng.random() < 0.4)
    rows, columns = (width, height) if turned else (height, width)
    dark = shades(rng, (0.04, 0.11), (0.3, 0.75), (0.2, 0.6))
    light = scale_colour(dark, rng.uniform(1.2, 1.8))
    warp = fractal_noise(rng, rows, columns, cells=2.0, octaves=4, stretch=rng.uniform(5, 14))
    y = np.linspace(0, rng.uniform(4, 20), rows, dtype=np.float32)[:, None]
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (y + 3.0 * warp))
    fibre = fractal_noise(rng, rows, columns, cells=30, octaves=3, stretch=20)
    result = mix(0.55 * rings + 0.45 * fibre, dark, light)
    if rng.random() < 0.6:
        plank_h = rng.uniform(0.06, 0.2) * rows
        plank_w = rng.uniform(0.5, 2.0) * columns
        gap, value = courses(rng, rows, columns, plank_h, plank_w, 2.0, rng.uniform(0.2, 0.8))
        result *= (0.8 + 0.4 * value)[..., None]
        result[gap] *= 0.45
    return np.ascontiguousarray(result.transpose(1, 0, 2)) if turned else result


def brick(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """A wall of bricks in running bond."""
    brick_h = rng.uniform(0.03, 0.12) * height
    mortar, value = courses(
        rng, height, width, brick_h, brick_h * rng.uniform(1.8, 3.2), max(2.0, brick_h * 0.1), 0.5
    )
    clay = shades(rng, (-0.02, 0.08), (0.2, 0.8), (0.35, 0.85))
    rough = fractal_noise(rng, height, width, cells=20, octaves=4)
    result = np.asarray(clay, np.float32) * (0.65 + 0.35 * value + 0.3 * (rough - 0.5))[..., None]
    grey = rng.uniform(0.3, 0.85)
    result[mortar] = (grey * (0.8 + 0.3 * rough[mortar]))[..., None]
    return result


def stone(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Irregular stones in mortar."""
    ratio, number = voronoi(rng, height, width, rng.uniform(0.07, 0.2) * min(height, width))
    tone = shades(rng, (0.05, 0.15), (0.02, 0.3), (0.4, 0.8))
    values = rng.uniform(0.6, 1.2, int(number.max()) + 1).astype(np.float32)
    rough = fractal_noise(rng, height, width, cells=16, octaves=4)
    bright = values[number] * (0.75 + 0.4 * rough) * (1.05 - 0.25 * ratio)
    bright = np.where(ratio > 0.88, rng.uniform(0.25, 0.5), bright)
    return np.asarray(tone, np.float32) * bright[..., None]


def grass(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """A lawn seen from above or along the ground."""
    dark = shades(rng, (0.2, 0.36), (0.45, 0.9), (0.15, 0.4))
    light = shades(rng, (0.17, 0.33), (0.35, 0.8), (0.5, 0.85))
    blades = fractal_noise(
        rng, height, width, cells=50, octaves=3, stretch=rng.uniform(0.15, 0.8), roughness=0.8
    )
    patches = fractal_noise(rng, height, width, cells=3, octaves=4)
    fine = 0.15 * grain(rng, height, width)
    return mix(np.clip(0.7 * blades + 0.4 * patches - 0.1 + fine, 0, 1), dark, light)


def sky(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Clear, cloudy, grey or evening sky."""
    if rng.random() < 0.2:
        top = shades(rng, (0.6, 0.8), (0.2, 0.6), (0.3, 0.7))
        bottom = shades(rng, (0.0, 0.12), (0.3, 0.7), (0.7, 1.0))
    else:
        top = shades(rng, (0.54, 0.64), (0.15, 0.8), (0.5, 1.0))
        bottom = shades(rng, (0.52, 0.62), (0.02, 0.4), (0.75, 1.0))
    result = mix(
        np.repeat(np.linspace(0, 1, height, dtype=np.float32)[:, None], width, 1), top, bottom
    )
    if rng.random() < 0.75:
        noise = fractal_noise(rng, height, width, cells=2.5, octaves=6, stretch=rng.uniform(1, 3))
        low = rng.uniform(0.35, 0.65)
        cloud = np.clip((noise - low) / rng.uniform(0.15, 0.4), 0, 1)[..., None]
        result = result * (1 - cloud) + rng.uniform(0.8, 1.0) * cloud
    return result


def sand(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Sand, flat or with ripples."""
    tone = shades(rng, (0.08, 0.14), (0.15, 0.5), (0.65, 0.95))
    dunes = fractal_noise(rng, height, width, cells=3, octaves=5)
    bright = 0.8 + 0.25 * dunes + 0.07 * grain(rng, height, width)
    if rng.random() < 0.5:
        y = np.linspace(0, rng.uniform(15, 50), height, dtype=np.float32)[:, None]
        bright += 0.08 * np.sin(2 * np.pi * (y + 2.5 * dunes))
    return np.asarray(tone, np.float32) * bright[..., None]


def water(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Water with ripples and glints."""
    deep = shades(rng, (0.45, 0.63), (0.4, 0.9), (0.2, 0.6))
    light = shades(rng, (0.45, 0.58), (0.1, 0.5), (0.7, 1.0))
    warp = fractal_noise(rng, height, width, cells=4, octaves=4, stretch=rng.uniform(1.5, 4))
    y = np.linspace(0, rng.uniform(8, 30), height, dtype=np.float32)[:, None]
    waves = 0.5 + 0.5 * np.sin(2 * np.pi * (y + rng.uniform(1, 4) * warp))
    glints = fractal_noise(rng, height, width, cells=18, octaves=3, stretch=3)
    return mix(np.clip(0.5 * waves * warp + 0.9 * (glints - 0.45), 0, 1), deep, light)


def tiles(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Square or oblong ceramic tiles with grout."""
    side = rng.uniform(0.06, 0.3) * min(height, width)
    grout, value = courses(
        rng,
        height,
        width,
        side,
        side * (1.0 if rng.random() < 0.7 else 2.0),
        max(1.5, side * rng.uniform(0.02, 0.06)),
        0.0 if rng.random() < 0.7 else 0.5,
    )
    tone = shades(rng, (0, 1), (0.0, 0.4), (0.5, 0.98))
    veins = fractal_noise(rng, height, width, cells=8, octaves=5)
    result = np.asarray(tone, np.float32) * (0.88 + 0.12 * value + 0.1 * (veins - 0.5))[..., None]
    result[grout] = rng.uniform(0.25, 0.9)
    return result


def checkered(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """A board of two colours."""
    side = rng.uniform(0.05, 0.22) * min(height, width)
    y, x = np.mgrid[0:height, 0:width]
    odd = ((y // side + x // side) % 2).astype(np.float32)
    first = shades(rng, (0, 1), (0.0, 0.7), (0.0, 0.4))
    second = shades(rng, (0, 1), (0.0, 0.3), (0.65, 1.0))
    dirt = fractal_noise(rng, height, width, cells=5, octaves=5)
    return mix(odd, first, second) * (0.88 + 0.18 * dirt)[..., None]


def concrete(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Concrete, sometimes with joints."""
    tone = shades(rng, (0.05, 0.15), (0.0, 0.1), (0.4, 0.8))
    stains = fractal_noise(rng, height, width, cells=3, octaves=7, roughness=0.65)
    bright = 0.8 + 0.3 * stains + 0.05 * grain(rng, height, width)
    if rng.random() < 0.3:
        side = rng.uniform(0.3, 0.8) * min(height, width)
        joint, _ = courses(rng, height, width, side, side, 2.5, 0.0)
        bright[joint] *= 0.55
    return np.asarray(tone, np.float32) * bright[..., None]


def metal(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Brushed sheet metal, plain or with a raised pattern."""
    tone = shades(rng, (0.5, 0.7), (0.0, 0.12), (0.45, 0.8))
    brushed = fractal_noise(rng, height, width, cells=40, octaves=3, stretch=30)
    gloss = fractal_noise(rng, height, width, cells=1.5, octaves=2)
    bright = 0.65 + 0.25 * brushed + 0.45 * gloss
    if rng.random() < 0.35:
        pitch = rng.uniform(0.04, 0.1) * min(height, width)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        u, v = (x + y) / pitch, (x - y) / pitch
        bump = np.cos(np.pi * u) ** 8 * np.cos(np.pi * v / 2.5) ** 2
        bright = bright + 0.35 * bump * np.sign(np.sin(np.pi * u))
    return np.asarray(tone, np.float32) * bright[..., None]


def carpet(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Tufted carpet, plain or with a woven ornament."""
    base = shades(rng, (0, 1), (0.1, 0.8), (0.25, 0.8))
    tufts = fractal_noise(rng, height, width, cells=90, octaves=2, roughness=0.9)
    result = np.asarray(base, np.float32) * (0.65 + 0.5 * tufts)[..., None]
    if rng.random() < 0.5:
        other = np.asarray(shades(rng, (0, 1), (0.1, 0.8), (0.2, 0.9)), np.float32)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        pitch = rng.uniform(0.08, 0.3) * min(height, width)
        wave = np.cos(2 * np.pi * x / pitch) + np.cos(2 * np.pi * y / pitch)
        ring = (np.abs(wave) < rng.uniform(0.2, 0.8))[..., None]
        result = np.where(ring, other * (0.65 + 0.5 * tufts)[..., None], result)
    return result


def gravel(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Loose pebbles."""
    ratio, number = voronoi(rng, height, width, rng.uniform(0.018, 0.05) * min(height, width))
    tone = shades(rng, (0.03, 0.15), (0.0, 0.2), (0.5, 0.85))
    values = rng.uniform(0.45, 1.2, int(number.max()) + 1).astype(np.float32)
    return np.asarray(tone, np.float32) * (values[number] * (1.1 - 0.75 * ratio**2))[..., None]


def snow(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Snow with soft blue shadows."""
    shade = shades(rng, (0.55, 0.65), (0.05, 0.3), (0.7, 0.9))
    drifts = fractal_noise(rng, height, width, cells=2.5, octaves=5, stretch=rng.uniform(1, 3))
    sparkle = 0.03 * grain(rng, height, width)
    return mix(np.clip(drifts + sparkle, 0, 1), shade, (0.97, 0.98, 1.0))


def asphalt(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Dark road surface."""
    grey = rng.uniform(0.2, 0.42)
    patches = fractal_noise(rng, height, width, cells=3, octaves=5)
    fine = fractal_noise(rng, height, width, cells=120, octaves=2)
    bright = grey * (0.7 + 0.35 * patches + 0.45 * (fine - 0.3))
    return np.repeat(bright[..., None], 3, axis=2).astype(np.float32)


def fabric(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Woven cloth: plain, striped or tartan."""
    first = np.asarray(shades(rng, (0, 1), (0.05, 0.9), (0.3, 0.95)), np.float32)
    second = np.asarray(shades(rng, (0, 1), (0.05, 0.9), (0.2, 0.95)), np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    pitch = rng.uniform(0.03, 0.2) * min(height, width)
    style = int(rng.integers(3))
    across = (np.sin(2 * np.pi * x / pitch) > 0).astype(np.float32)
    along = (np.sin(2 * np.pi * y / pitch) > 0).astype(np.float32)
    weight: FloatGrid = (np.zeros_like(x), across, 0.5 * (across + along))[style]
    weave = 0.9 + 0.1 * np.sin(np.pi * x / 1.5) * np.sin(np.pi * y / 1.5)
    folds = 0.85 + 0.3 * fractal_noise(rng, height, width, cells=2, octaves=3)
    shade: FloatGrid = weave * folds
    return mix(weight, first, second) * shade[..., None]


def marble(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Polished stone with veins."""
    light = shades(rng, (0, 1), (0.0, 0.15), (0.75, 0.98))
    vein = shades(rng, (0, 1), (0.0, 0.4), (0.15, 0.6))
    if rng.random() < 0.2:
        light, vein = vein, light
    warp = fractal_noise(rng, height, width, cells=2.5, octaves=7, roughness=0.6)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / min(height, width)
    angle = rng.uniform(0, np.pi)
    line = np.abs(
        np.sin(np.pi * (rng.uniform(1, 4) * (x * np.cos(angle) + y * np.sin(angle)) + 4.0 * warp))
    )
    return mix(np.clip(1.0 - line * rng.uniform(1.5, 4.0), 0, 0.9), light, vein)


def soil(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Bare earth."""
    tone = shades(rng, (0.04, 0.1), (0.35, 0.65), (0.25, 0.55))
    clods = fractal_noise(rng, height, width, cells=10, octaves=6, roughness=0.7)
    return np.asarray(tone, np.float32) * (0.5 + clods + 0.1 * grain(rng, height, width))[..., None]


def foliage(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """A wall of leaves."""
    ratio, number = voronoi(rng, height, width, rng.uniform(0.03, 0.08) * min(height, width))
    tone = shades(rng, (0.2, 0.38), (0.4, 0.85), (0.4, 0.8))
    values = rng.uniform(0.3, 1.2, int(number.max()) + 1).astype(np.float32)
    return np.asarray(tone, np.float32) * (values[number] * (1.15 - ratio))[..., None]


def plaster(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """A painted wall, plain but for light and roughness."""
    tone = shades(rng, (0, 1), (0.0, 0.45), (0.5, 0.98))
    relief = fractal_noise(rng, height, width, cells=30, octaves=3)
    light = fractal_noise(rng, height, width, cells=1.2, octaves=2)
    return np.asarray(tone, np.float32) * (0.8 + 0.07 * relief + 0.2 * light)[..., None]


def wallpaper(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Printed paper: stripes, dots or diamonds."""
    first = shades(rng, (0, 1), (0.0, 0.5), (0.6, 0.98))
    second = shades(rng, (0, 1), (0.1, 0.7), (0.4, 0.9))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    pitch = rng.uniform(0.05, 0.2) * min(height, width)
    style = int(rng.integers(3))
    if style == 0:
        weight = (np.sin(2 * np.pi * x / pitch) > rng.uniform(-0.5, 0.8)).astype(np.float32)
    elif style == 1:
        weight = (
            np.cos(2 * np.pi * x / pitch) * np.cos(2 * np.pi * y / pitch) > rng.uniform(0.3, 0.8)
        ).astype(np.float32)
    else:
        weight = (np.abs((x + y) % pitch - np.abs((x - y) % pitch)) < 0.2 * pitch).astype(
            np.float32
        )
    light = 0.85 + 0.2 * fractal_noise(rng, height, width, cells=1.2, octaves=2)
    return mix(weight, first, second) * light[..., None]


def plain(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """A smooth backdrop with a soft gradient, as in a studio."""
    first = np.asarray(shades(rng, (0, 1), (0.0, 0.7), (0.15, 1.0)), np.float32)
    second = np.clip(first * rng.uniform(0.6, 1.4), 0, 1)
    return mix(fractal_noise(rng, height, width, cells=1.0, octaves=1), first, second)


TEXTURES: Final[dict[str, TextureFunction]] = {
    "wood": wood,
    "brick": brick,
    "stone": stone,
    "grass": grass,
    "sky": sky,
    "sand": sand,
    "water": water,
    "tiles": tiles,
    "checkered": checkered,
    "concrete": concrete,
    "metal": metal,
    "carpet": carpet,
    "gravel": gravel,
    "snow": snow,
    "asphalt": asphalt,
    "fabric": fabric,
    "marble": marble,
    "soil": soil,
    "foliage": foliage,
    "plaster": plaster,
    "wallpaper": wallpaper,
    "plain": plain,
}
"""Texture name → function of (generator, height, width) → float32 [height, width, 3], 0..1."""


def texture(name: str, rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Draw the texture `name`.

    Returns:
        uint8 RGB [height, width, 3].

    Raises:
        KeyError: `name` is not in `TEXTURES`.
    """
    values = TEXTURES[name](rng, height, width)
    return (np.clip(values, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
