"""Noise, cells and courses of bricks: the parts of procedural textures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "Colour",
    "FloatGrid",
    "courses",
    "fractal_noise",
    "grain",
    "mix",
    "scale_colour",
    "shades",
    "voronoi",
]

FloatGrid = NDArray[np.float32]
Colour = tuple[float, float, float]


def _resized(grid: FloatGrid, height: int, width: int) -> FloatGrid:
    image = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)


def _smooth(
    rng: np.random.Generator, height: int, width: int, rows: int, columns: int
) -> FloatGrid:
    """Smooth noise in about [0, 1] with `rows` x `columns` random values across the area."""
    rows, columns = max(2, min(rows, height)), max(2, min(columns, width))
    return _resized(rng.random((rows, columns), dtype=np.float32), height, width)


def fractal_noise(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    cells: float = 4.0,
    octaves: int = 5,
    stretch: float = 1.0,
    roughness: float = 0.5,
) -> FloatGrid:
    """Sum of noise octaves, scaled to [0, 1].

    Args:
        rng: Source of randomness.
        height: Rows of the result.
        width: Columns of the result.
        cells: Random values along the shorter side in the first octave.
        octaves: How many times the frequency doubles.
        stretch: Above 1 the noise is elongated along x, below 1 along y.
        roughness: Amplitude ratio of one octave to the one before.

    Returns:
        float32 [height, width].
    """
    total = np.zeros((height, width), dtype=np.float32)
    amplitude = 1.0
    per_pixel = cells / min(height, width)
    for octave in range(octaves):
        rows = int(height * per_pixel * 2**octave * max(1.0, stretch)) + 2
        columns = int(width * per_pixel * 2**octave * max(1.0, 1.0 / stretch)) + 2
        if rows > height and columns > width:
            break
        total += amplitude * _smooth(rng, height, width, rows, columns)
        amplitude *= roughness
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def grain(rng: np.random.Generator, height: int, width: int) -> FloatGrid:
    """Per-pixel noise in [-1, 1]."""
    return rng.random((height, width), dtype=np.float32) * 2.0 - 1.0


def mix(weight: FloatGrid, first: Colour | FloatGrid, second: Colour | FloatGrid) -> FloatGrid:
    """From `first` where the weight is 0 to `second` where it is 1; colours or pictures."""
    w = weight[..., None]
    return (1.0 - w) * np.asarray(first, np.float32) + w * np.asarray(second, np.float32)


def shades(
    rng: np.random.Generator,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Colour:
    """Draw a random colour, 0..1, from ranges of hue, saturation and value."""
    h = (rng.uniform(*hue) % 1.0) * 6.0
    s, v = rng.uniform(*saturation), rng.uniform(*value)
    sector, fraction = int(h) % 6, h - int(h)
    p, q, t = v * (1 - s), v * (1 - s * fraction), v * (1 - s * (1 - fraction))
    return ((v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q))[sector]


def scale_colour(colour: Colour, factor: float) -> Colour:
    """Return the colour, brighter or darker."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def voronoi(
    rng: np.random.Generator, height: int, width: int, size: float
) -> tuple[FloatGrid, NDArray[np.int64]]:
    """Jittered Voronoi cells: distance ratio of the two nearest seeds, and the cell's number."""
    rows, columns = int(height / size) + 3, int(width / size) + 3
    seeds_y = (np.arange(rows)[:, None] + rng.uniform(0.1, 0.9, (rows, columns)) - 1.0) * size
    seeds_x = (np.arange(columns)[None, :] + rng.uniform(0.1, 0.9, (rows, columns)) - 1.0) * size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    row = (y / size).astype(np.int64) + 1
    column = (x / size).astype(np.int64) + 1
    nearest = np.full((height, width), 1e9, np.float32)
    second = nearest.copy()
    number = np.zeros((height, width), np.int64)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            r = np.clip(row + dy, 0, rows - 1)
            c = np.clip(column + dx, 0, columns - 1)
            distance = ((seeds_y[r, c] - y) ** 2 + (seeds_x[r, c] - x) ** 2).astype(np.float32)
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            number = np.where(closer, r * columns + c, number)
            nearest = np.minimum(nearest, distance)
    return np.sqrt(nearest / np.maximum(second, 1e-6)), number


def courses(
    rng: np.random.Generator,
    height: int,
    width: int,
    brick_h: float,
    brick_w: float,
    gap: float,
    bond: float,
) -> tuple[NDArray[np.bool_], FloatGrid]:
    """Mortar mask and a random value per brick, rows shifted by `bond` of a brick."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    row = np.floor(y / brick_h)
    shifted = x + (row % 2) * bond * brick_w
    column = np.floor(shifted / brick_w)
    mortar = ((y - row * brick_h) < gap) | ((shifted - column * brick_w) < gap)
    values = rng.random((int(height / brick_h) + 2, int(width / brick_w) + 4), dtype=np.float32)
    return mortar, values[row.astype(int), column.astype(int)]
