"""Meshes of food and its packages."""

from __future__ import annotations

from typing import Final

import numpy as np

from xdecoder_rt.scenes.meshes.paint import label_picture, tinted
from xdecoder_rt.scenes.meshes.shapes import (
    Maker,
    Part,
    Rng,
    between,
    box,
    extrude,
    lathe,
    regular,
    sphere,
    torus,
    tube,
)

__all__ = ["GROCERIES"]


def cereal_box(rng: Rng) -> list[Part]:
    size = (between(rng, 0.15, 0.21), between(rng, 0.045, 0.07), between(rng, 0.22, 0.31))
    return [box(size, (1, 1, 1), (0, 0, size[2] / 2), label_picture(rng))]


def milk_carton(rng: Rng) -> list[Part]:
    a, h = between(rng, 0.06, 0.09), between(rng, 0.14, 0.2)
    picture = label_picture(rng)
    roof = extrude([(-a / 2, 0), (a / 2, 0), (0, a * 0.5)], a, tinted(rng, 0.3, 0.7, 1.0), -a / 2)
    upright = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    roof = Part(
        roof.vertices @ upright.T + (0, 0, h),
        roof.normals @ upright.T,
        roof.uv,
        roof.faces,
        roof.colour,
    )
    return [
        box((a, a, h), (1, 1, 1), (0, 0, h / 2), picture),
        roof,
        box((0.006, a, 0.02), (0.95, 0.95, 0.95), (0, 0, h + a * 0.5)),
    ]


def apple(rng: Rng) -> list[Part]:
    r = between(rng, 0.032, 0.044)
    colour = ((0.8, 0.1, 0.1), (0.55, 0.75, 0.2), (0.9, 0.75, 0.25), (0.7, 0.15, 0.2))[
        int(rng.integers(4))
    ]
    profile = [
        (0, 0.006),
        (r * 0.4, 0),
        (r * 0.8, r * 0.4),
        (r, r * 1.0),
        (r * 0.85, r * 1.55),
        (r * 0.4, r * 1.75),
        (0, r * 1.6),
    ]
    return [
        lathe(profile, colour),
        tube([(0, 0, r * 1.55), (0.004, 0, r * 2.0)], 0.002, (0.35, 0.22, 0.1), sides=6),
    ]


def pear(rng: Rng) -> list[Part]:
    r = between(rng, 0.03, 0.04)
    colour = (between(rng, 0.6, 0.85), between(rng, 0.68, 0.8), between(rng, 0.15, 0.3))
    return [
        lathe(
            [
                (0, 0),
                (r * 0.6, r * 0.1),
                (r, r * 0.8),
                (r * 0.85, r * 1.4),
                (r * 0.45, r * 2),
                (r * 0.35, r * 2.5),
                (0, r * 2.7),
            ],
            colour,
        ),
        tube([(0, 0, r * 2.6), (0.004, 0, r * 3.1)], 0.002, (0.35, 0.22, 0.1), sides=6),
    ]


def orange(rng: Rng) -> list[Part]:
    r = between(rng, 0.034, 0.044)
    return [sphere(r, (0.95, between(rng, 0.45, 0.6), 0.08), (0, 0, r))]


def lemon(rng: Rng) -> list[Part]:
    r = between(rng, 0.024, 0.032)
    body = lathe(
        [
            (0, -r * 1.7),
            (r * 0.25, -r * 1.5),
            (r * 0.85, -r * 0.7),
            (r, 0),
            (r * 0.85, r * 0.7),
            (r * 0.25, r * 1.5),
            (0, r * 1.7),
        ],
        (0.95, 0.85, 0.15),
    )
    lying = np.array([[0, 0, 1.0], [0, 1.0, 0], [-1.0, 0, 0]])
    return [
        Part(
            body.vertices @ lying.T + (0, 0, r),
            body.normals @ lying.T,
            body.uv,
            body.faces,
            body.colour,
        )
    ]


def tomato(rng: Rng) -> list[Part]:
    r = between(rng, 0.028, 0.04)
    leaves = extrude(
        [
            (x * (1.0 if i % 2 else 0.3), y * (1.0 if i % 2 else 0.3))
            for i, (x, y) in enumerate(regular(10, r * 0.6))
        ],
        0.002,
        (0.2, 0.5, 0.15),
        r * 1.58,
    )
    return [sphere(r, (0.85, 0.12, 0.08), (0, 0, r * 0.82), squash=0.82), leaves]


def watermelon(rng: Rng) -> list[Part]:
    r = between(rng, 0.09, 0.13)
    stripes = np.zeros((32, 64, 3), np.uint8)
    stripes[:] = (60, 130, 50)
    stripes[:, np.sin(np.arange(64) * 2 * np.pi / 8) > 0.2] = (25, 75, 30)
    return [sphere(r, (1, 1, 1), (0, 0, r * 0.9), squash=0.9, picture=stripes)]


def banana(rng: Rng) -> list[Part]:
    bend, length = between(rng, 0.07, 0.11), between(rng, 1.1, 1.5)
    angle = np.linspace(-length / 2, length / 2, 13)
    path = [(bend * float(np.sin(a)), bend * (1 - float(np.cos(a))), 0.016) for a in angle]
    radius = [
        0.004,
        0.006,
        0.011,
        0.015,
        0.0165,
        0.017,
        0.017,
        0.017,
        0.0165,
        0.015,
        0.011,
        0.006,
        0.004,
    ]
    return [tube(path, radius, (0.95, between(rng, 0.78, 0.88), 0.2), sides=8)]


def carrot(rng: Rng) -> list[Part]:
    length = between(rng, 0.11, 0.18)
    parts = [
        tube(
            [(0, 0, 0.015), (length * 0.5, 0, 0.012), (length, 0, 0.006)],
            [0.016, 0.011, 0.002],
            (0.93, 0.45, 0.1),
        )
    ]
    for side in (-0.3, 0.0, 0.3):
        parts.append(
            tube(
                [(0, 0, 0.015), (-0.03, side * 0.05, 0.018), (-0.06, side * 0.14, 0.014)],
                0.003,
                (0.2, 0.55, 0.15),
                sides=6,
            )
        )
    return parts


def egg(rng: Rng) -> list[Part]:
    r = between(rng, 0.02, 0.025)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 15)
    profile = [
        (r * float(np.cos(a)), r * float(1.25 + np.sin(a) * (1.45 if a > 0 else 1.15)))
        for a in angle
    ]
    return [lathe(profile, (0.95, between(rng, 0.8, 0.95), between(rng, 0.65, 0.92)))]


def loaf_of_bread(rng: Rng) -> list[Part]:
    length, w = between(rng, 0.14, 0.24), between(rng, 0.045, 0.06)
    angle = np.linspace(0, np.pi, 11)
    outline = [
        (w, 0.0),
        *((w * 1.1 * float(np.cos(a)), w * (0.9 + 0.6 * float(np.sin(a)))) for a in angle),
        (-w, 0.0),
    ]
    loaf = extrude(
        outline, length, (between(rng, 0.65, 0.78), between(rng, 0.42, 0.52), 0.24), -length / 2
    )
    lying = np.array([[0, 0, 1.0], [1.0, 0, 0], [0, 1.0, 0]])
    return [Part(loaf.vertices @ lying.T, loaf.normals @ lying.T, loaf.uv, loaf.faces, loaf.colour)]


def doughnut(rng: Rng) -> list[Part]:
    r = between(rng, 0.028, 0.036)
    icing = tinted(rng, 0.7, 0.3, 0.95)
    return [torus(r, r * 0.55, (0.78, 0.55, 0.3), r * 0.55), torus(r, r * 0.5, icing, r * 0.72)]


def cheese(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.08, 0.11), between(rng, 0.035, 0.06)
    arc = np.linspace(0, between(rng, 0.6, 1.1), 7)
    outline = [(0.0, 0.0), *((r * float(np.cos(a)), r * float(np.sin(a))) for a in arc)]
    return [extrude(outline, h, (0.96, between(rng, 0.75, 0.85), 0.3))]


GROCERIES: Final[dict[str, Maker]] = {
    "cereal box": cereal_box,
    "milk carton": milk_carton,
    "apple": apple,
    "pear": pear,
    "orange": orange,
    "lemon": lemon,
    "tomato": tomato,
    "watermelon": watermelon,
    "banana": banana,
    "carrot": carrot,
    "egg": egg,
    "loaf of bread": loaf_of_bread,
    "doughnut": doughnut,
    "cheese": cheese,
}
"""Name → maker of its parts, standing on z = 0 about the origin."""
