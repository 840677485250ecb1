"""Meshes of furniture, and of large things that stand on floors."""

from __future__ import annotations

from typing import Final

import numpy as np

from xdecoder_rt.scenes.meshes.paint import any_colour, tinted
from xdecoder_rt.scenes.meshes.shapes import (
    Colour,
    Maker,
    Part,
    Rng,
    between,
    box,
    cylinder,
    regular,
    sphere,
    tube,
)
from xdecoder_rt.scenes.textures import texture

__all__ = ["FURNITURE"]

_STEEL: Final[Colour] = (0.62, 0.63, 0.66)


def chair(rng: Rng) -> list[Part]:
    w, h, colour = between(rng, 0.36, 0.46), between(rng, 0.4, 0.48), tinted(rng, 0.8, 0.15, 0.9)
    leg = 0.035
    legs = [
        box((leg, leg, h), colour, (sx * (w - leg) / 2, sy * (w - leg) / 2, h / 2))
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    back = [box((w, 0.03, 0.12), colour, (0, w / 2 - 0.015, h + z)) for z in (0.14, 0.36)]
    posts = [
        box((leg, leg, 0.45), colour, (s * (w - leg) / 2, w / 2 - leg / 2, h + 0.225))
        for s in (-1, 1)
    ]
    return [
        box((w, w, 0.04), any_colour(rng) if rng.random() < 0.4 else colour, (0, 0, h)),
        *legs,
        *back,
        *posts,
    ]


def stool(rng: Rng) -> list[Part]:
    r, h, colour = between(rng, 0.14, 0.19), between(rng, 0.4, 0.65), any_colour(rng)
    legs = [
        tube([(x, y, 0), (x * 0.6, y * 0.6, h)], 0.016, tinted(rng, 0.4, 0.2, 0.7))
        for x, y in regular(4 if rng.random() < 0.5 else 3, r * 1.1)
    ]
    return [cylinder(r, 0.05, colour, h), *legs]


def cabinet(rng: Rng) -> list[Part]:
    a, b, h = between(rng, 0.5, 0.9), between(rng, 0.35, 0.5), between(rng, 0.6, 1.5)
    wooden = rng.random() < 0.6
    colour = tinted(rng, 0.3, 0.4, 0.95)
    picture = texture("wood", rng, 96, 96) if wooden else None
    parts = [box((a, b, h), (1, 1, 1) if wooden else colour, (0, 0, h / 2), picture)]
    rows = int(rng.integers(1, 4))
    for row in range(rows):
        for s in (-1, 1):
            z, height = h * (row + 0.5) / rows, h / rows
            parts.append(
                box(
                    (a * 0.47, 0.02, height * 0.92),
                    (1, 1, 1) if wooden else colour,
                    (s * a * 0.245, -b / 2 - 0.01, z),
                    picture,
                )
            )
            parts.append(sphere(0.015, _STEEL, (s * a * 0.05, -b / 2 - 0.035, z)))
    return parts


def ladder(rng: Rng) -> list[Part]:
    w, h, colour = between(rng, 0.3, 0.4), between(rng, 1.2, 2.0), tinted(rng, 0.7, 0.4, 0.95)
    lean = 0.25 * h
    rails = [
        tube([(s * w / 2, -lean, 0), (s * w / 2, 0, h)], 0.022, colour, sides=8) for s in (-1, 1)
    ]
    rungs = [
        tube(
            [(-w / 2, -lean * (1 - t), h * t), (w / 2, -lean * (1 - t), h * t)],
            0.016,
            colour,
            sides=8,
        )
        for t in np.linspace(0.1, 0.92, int(h / 0.28))
    ]
    return [*rails, *rungs]


def pallet(rng: Rng) -> list[Part]:
    wood = texture("wood", rng, 64, 64)
    return [
        *(
            box((0.8, 0.09, 0.02), (1, 1, 1), (0, y, 0.12), wood)
            for y in np.linspace(-0.25, 0.25, 5)
        ),
        *(box((0.09, 0.6, 0.09), (1, 1, 1), (x, 0, 0.06), wood) for x in (-0.35, 0, 0.35)),
    ]


def shelf(rng: Rng) -> list[Part]:
    a, b, h = between(rng, 0.6, 1.1), between(rng, 0.25, 0.4), between(rng, 0.9, 1.8)
    wooden, colour = rng.random() < 0.5, tinted(rng, 0.4, 0.2, 0.9)
    picture = texture("wood", rng, 96, 96) if wooden else None
    boards = int(rng.integers(3, 6))
    return [
        *(
            box((a, b, 0.025), (1, 1, 1) if wooden else colour, (0, 0, z), picture)
            for z in np.linspace(0.08, h, boards)
        ),
        *(
            box((0.025, b, h), (1, 1, 1) if wooden else colour, (s * a / 2, 0, h / 2), picture)
            for s in (-1, 1)
        ),
    ]


FURNITURE: Final[dict[str, Maker]] = {
    "chair": chair,
    "stool": stool,
    "cabinet": cabinet,
    "ladder": ladder,
    "pallet": pallet,
    "shelf": shelf,
}
"""Things that stand on the floor only: name → maker of its parts, on z = 0 about the origin."""
