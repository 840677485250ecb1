"""Meshes of geometric bodies: one part in one colour each."""

from __future__ import annotations

from typing import Final

import numpy as np

from xdecoder_rt.scenes.meshes.paint import any_colour
from xdecoder_rt.scenes.meshes.shapes import (
    Maker,
    Part,
    Point2D,
    Rng,
    between,
    box,
    cylinder,
    extrude,
    lathe,
    regular,
    sphere,
    torus,
)

__all__ = ["SOLIDS"]


def cube(rng: Rng) -> list[Part]:
    a = between(rng, 0.03, 0.08)
    return [box((a, a, a), any_colour(rng), (0, 0, a / 2))]


def ball(rng: Rng) -> list[Part]:
    r = between(rng, 0.02, 0.05)
    return [sphere(r, any_colour(rng), (0, 0, r))]


def rod(rng: Rng) -> list[Part]:
    return [cylinder(between(rng, 0.018, 0.045), between(rng, 0.05, 0.14), any_colour(rng))]


def cone(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.025, 0.05), between(rng, 0.06, 0.13)
    return [lathe([(0, 0), (r, 0), (0, h)], any_colour(rng))]


def pyramid(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.035, 0.06), between(rng, 0.05, 0.09)
    return [lathe([(0, 0), (r, 0), (0, h)], any_colour(rng), segments=4, turn=np.pi / 4)]


def prism(rng: Rng) -> list[Part]:
    sides = 3 if rng.random() < 0.5 else 6
    return [
        extrude(regular(sides, between(rng, 0.025, 0.05)), between(rng, 0.03, 0.1), any_colour(rng))
    ]


def ring(rng: Rng) -> list[Part]:
    r = between(rng, 0.03, 0.06)
    t = r * between(rng, 0.18, 0.35)
    return [torus(r, t, any_colour(rng), t)]


def star(rng: Rng) -> list[Part]:
    r = between(rng, 0.03, 0.06)
    outline = [
        (x * (1 if i % 2 else 0.45), y * (1 if i % 2 else 0.45))
        for i, (x, y) in enumerate(regular(10, r))
    ]
    return [extrude(outline, between(rng, 0.015, 0.03), any_colour(rng))]


def heart(rng: Rng) -> list[Part]:
    s = between(rng, 0.0022, 0.0038)
    t = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    outline: list[Point2D] = [
        (float(a) * s, float(b) * s) for a, b in zip(x[::-1], y[::-1], strict=True)
    ]
    return [extrude(outline, between(rng, 0.015, 0.03), any_colour(rng))]


SOLIDS: Final[dict[str, Maker]] = {
    "cube": cube,
    "ball": ball,
    "cylinder": rod,
    "cone": cone,
    "pyramid": pyramid,
    "prism": prism,
    "ring": ring,
    "star": star,
    "heart": heart,
}
"""Name → maker. They may be recoloured, and called by their colour."""
