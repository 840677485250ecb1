"""Meshes of vessels and kitchen tools."""

from __future__ import annotations

from typing import Final

import numpy as np

from xdecoder_rt.scenes.meshes.paint import any_colour, label_picture, tinted
from xdecoder_rt.scenes.meshes.shapes import (
    Colour,
    Maker,
    Part,
    Rng,
    between,
    box,
    cylinder,
    extrude,
    lathe,
    moved,
    sphere,
    torus,
    tube,
    vessel,
)
from xdecoder_rt.scenes.textures import texture

__all__ = ["KITCHEN"]

_GREY: Final[Colour] = (0.7, 0.7, 0.72)


def _handle(radius: float, low: float, high: float, colour: Colour, reach: float) -> Part:
    """A C-shaped handle on the +x side of something round."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 9)
    middle, half = (low + high) / 2, (high - low) / 2
    path = [
        (radius * 0.97 + reach * float(np.cos(a)), 0.0, middle + half * float(np.sin(a)))
        for a in angle
    ]
    return tube(path, 0.12 * (high - low), colour, sides=8)


def bottle(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.028, 0.045), between(rng, 0.18, 0.3)
    neck, colour = r * between(rng, 0.3, 0.5), any_colour(rng)
    shoulder = h * between(rng, 0.5, 0.72)
    body = lathe(
        [
            (0, 0),
            (r, 0.002),
            (r, shoulder),
            (r * 0.85, shoulder + 0.12 * h),
            (neck, h * 0.86),
            (neck, h),
            (0, h),
        ],
        colour,
    )
    parts = [body, cylinder(neck * 1.15, 0.07 * h, any_colour(rng), h * 0.95)]
    if rng.random() < 0.8:
        low = shoulder * between(rng, 0.2, 0.35)
        band = lathe(
            [(r * 1.01, low), (r * 1.01, shoulder * 0.85)], (1, 1, 1), picture=label_picture(rng)
        )
        parts.append(band)
    return parts


def can(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.03, 0.045), between(rng, 0.08, 0.14)
    side = lathe(
        [(r * 1.01, 0.06 * h), (r * 1.01, 0.93 * h)], (1, 1, 1), picture=label_picture(rng)
    )
    ends = lathe(
        [
            (0, 0),
            (r * 0.9, 0),
            (r, 0.05 * h),
            (r, 0.94 * h),
            (r * 0.9, h),
            (r * 0.86, h * 0.98),
            (0, h * 0.98),
        ],
        _GREY,
    )
    return [ends, side]


def cup(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.03, 0.042), between(rng, 0.08, 0.12)
    picture = label_picture(rng) if rng.random() < 0.4 else None
    return [vessel(r * between(rng, 0.65, 0.95), r, h, 0.004, any_colour(rng), picture)]


def mug(rng: Rng) -> list[Part]:
    r, h, colour = between(rng, 0.036, 0.048), between(rng, 0.08, 0.11), any_colour(rng)
    inside = cylinder(r * 0.88, 0.002, (0.25, 0.14, 0.08), h * 0.8)
    return [vessel(r, r, h, 0.005, colour), _handle(r, 0.2 * h, 0.8 * h, colour, 0.028), inside]


def bowl(rng: Rng) -> list[Part]:
    r, depth = between(rng, 0.06, 0.11), between(rng, 0.4, 0.6)
    angle = np.linspace(0.25, np.pi / 2, 9)
    outer = [(r * float(np.sin(a)), depth * r * (1 - float(np.cos(a)))) for a in angle]
    inner = [(x * 0.94, z + 0.004) for x, z in reversed(outer[:-1])]
    return [lathe([(0, 0), *outer, (r * 0.95, outer[-1][1]), *inner, (0, 0.006)], any_colour(rng))]


def plate(rng: Rng) -> list[Part]:
    r, colour = between(rng, 0.09, 0.14), tinted(rng, 0.3, 0.75, 1.0)
    rim = torus(r * 0.98, 0.003, any_colour(rng), 0.018)
    return [
        lathe([(0, 0), (0.6 * r, 0), (r, 0.016), (r, 0.02), (0.62 * r, 0.006), (0, 0.006)], colour),
        rim,
    ]


def wine_glass(rng: Rng) -> list[Part]:
    r, h, colour = between(rng, 0.03, 0.04), between(rng, 0.16, 0.22), tinted(rng, 0.12, 0.75, 0.95)
    wine = cylinder(r * 0.8, 0.03 * h, (0.45, 0.03, 0.1), h * 0.68, top=r * 0.9)
    return [
        lathe(
            [
                (0, 0),
                (r * 0.9, 0.001),
                (r * 0.85, 0.006),
                (0.005, 0.02),
                (0.005, h * 0.45),
                (r * 0.7, h * 0.55),
                (r, h * 0.72),
                (r * 0.8, h),
                (r * 0.77, h),
                (r * 0.95, h * 0.72),
                (0, h * 0.5),
            ],
            colour,
        ),
        wine,
    ]


def frying_pan(rng: Rng) -> list[Part]:
    r, colour = between(rng, 0.08, 0.13), tinted(rng, 0.2, 0.1, 0.5)
    bar = tube(
        [(r, 0, 0.035), (r + 0.06, 0, 0.045), (r + 0.18, 0, 0.055)],
        0.009,
        any_colour(rng) if rng.random() < 0.4 else (0.1, 0.1, 0.1),
    )
    return [vessel(r * 0.85, r, 0.04, 0.004, colour), bar]


def pot(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.08, 0.12), between(rng, 0.09, 0.15)
    colour = _GREY if rng.random() < 0.5 else any_colour(rng)
    grip: Colour = (0.1, 0.1, 0.1) if rng.random() < 0.5 else colour
    parts = [vessel(r, r, h, 0.005, colour)]
    for side in (-1, 1):
        path = [
            (side * r, -0.03, h * 0.8),
            (side * (r + 0.03), -0.02, h * 0.82),
            (side * (r + 0.03), 0.02, h * 0.82),
            (side * r, 0.03, h * 0.8),
        ]
        parts.append(tube(path, 0.006, grip))
    if rng.random() < 0.5:
        parts += [
            lathe([(r * 1.02, h), (r * 0.5, h + 0.02), (0, h + 0.025)], colour),
            sphere(0.014, grip, (0, 0, h + 0.035)),
        ]
    return parts


def spoon(rng: Rng) -> list[Part]:
    length, colour = (
        between(rng, 0.13, 0.22),
        _GREY if rng.random() < 0.6 else tinted(rng, 0.5, 0.4, 0.8),
    )
    head = moved(sphere(0.022, colour, squash=0.3), (0, 0, 0.008))
    return [
        head,
        tube(
            [(0.018, 0, 0.008), (length * 0.5, 0, 0.014), (length, 0, 0.006)],
            [0.0035, 0.003, 0.006],
            colour,
            sides=8,
        ),
    ]


def knife(rng: Rng) -> list[Part]:
    length = between(rng, 0.1, 0.18)
    blade = extrude(
        [(0, -0.012), (length * 0.8, -0.012), (length, 0.012), (0, 0.012)], 0.002, _GREY, 0.006
    )
    return [blade, box((0.1, 0.022, 0.014), tinted(rng, 0.6, 0.1, 0.5), (-0.05, 0, 0.007))]


def cutting_board(rng: Rng) -> list[Part]:
    size = (between(rng, 0.24, 0.36), between(rng, 0.16, 0.24), 0.018)
    return [box(size, (1, 1, 1), (0, 0, 0.009), texture("wood", rng, 96, 128))]


def teapot(rng: Rng) -> list[Part]:
    r, colour = between(rng, 0.06, 0.08), any_colour(rng)
    body = sphere(r, colour, (0, 0, r * 0.8), squash=0.8)
    spout = tube(
        [(-r * 0.8, 0, r * 0.6), (-r * 1.3, 0, r * 0.9), (-r * 1.6, 0, r * 1.5)],
        [0.02, 0.014, 0.009],
        colour,
    )
    lid = lathe([(r * 0.5, r * 1.5), (r * 0.3, r * 1.65), (0, r * 1.7)], colour)
    knob = sphere(0.012, colour, (0, 0, r * 1.78))
    return [body, spout, lid, knob, _handle(r, r * 0.35, r * 1.35, colour, 0.045)]


KITCHEN: Final[dict[str, Maker]] = {
    "bottle": bottle,
    "can": can,
    "cup": cup,
    "mug": mug,
    "bowl": bowl,
    "plate": plate,
    "wine glass": wine_glass,
    "frying pan": frying_pan,
    "pot": pot,
    "spoon": spoon,
    "knife": knife,
    "cutting board": cutting_board,
    "teapot": teapot,
}
"""Name → maker of its parts, standing on z = 0 about the origin."""
