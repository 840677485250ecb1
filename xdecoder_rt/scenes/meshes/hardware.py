"""Meshes of hardware and tools."""

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
    extrude,
    lathe,
    moved,
    regular,
    tube,
    turned,
)

__all__ = ["HARDWARE"]

_STEEL: Final[Colour] = (0.62, 0.63, 0.66)
_BLACK: Final[Colour] = (0.07, 0.07, 0.08)
_UPRIGHT: Final = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # an outline made to stand


def _metal(rng: Rng) -> Colour:
    if rng.random() < 0.25:
        return (0.78, 0.6, 0.28)  # brass
    grey = between(rng, 0.3, 0.75)
    return (grey, grey, grey * 1.03)


def _hex_with_hole(radius: float, height: float, colour: Colour) -> Part:
    """A hexagon with a round hole, sampled at the same angles inside and out."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    reach = radius * np.cos(np.pi / 6) / np.cos((angle % (np.pi / 3)) - np.pi / 6)
    outer = [
        (float(q * np.cos(a)), float(q * np.sin(a))) for q, a in zip(reach, angle, strict=True)
    ]
    return extrude(outer, height, colour, hole=regular(24, radius * 0.5))


def _threaded(radius: float, low: float, high: float, colour: Colour) -> Part:
    turns = np.linspace(low, high, max(9, int((high - low) / (radius * 0.3))))
    profile = [(0.0, low)]
    for i, z in enumerate(turns):
        profile.append((radius * (1.0 if i % 2 else 0.86), float(z)))
    return lathe([*profile, (0.0, high)], colour, segments=16)


def nut(rng: Rng) -> list[Part]:
    r = between(rng, 0.014, 0.03)
    return [_hex_with_hole(r, r * 0.8, _metal(rng))]


def washer(rng: Rng) -> list[Part]:
    r = between(rng, 0.015, 0.032)
    return [extrude(regular(28, r), r * 0.12, _metal(rng), hole=regular(28, r * 0.5))]


def bolt(rng: Rng) -> list[Part]:
    r, length, colour = between(rng, 0.006, 0.011), between(rng, 0.04, 0.09), _metal(rng)
    head = extrude(regular(6, r * 1.9), r * 1.3, colour)
    return [head, _threaded(r, r * 1.3, r * 1.3 + length, colour)]


def screw(rng: Rng) -> list[Part]:
    r, length, colour = between(rng, 0.004, 0.008), between(rng, 0.04, 0.08), _metal(rng)
    head = lathe([(0, 0), (r * 1.6, 0.001), (r * 2.0, r * 0.5), (r, r * 1.4)], colour, segments=18)
    slot = box((r * 3.4, r * 0.5, 0.0012), (0.1, 0.1, 0.1), (0, 0, 0.0002))
    z = np.linspace(r * 1.4, length, 15)
    shaft = lathe(
        [
            (0, r * 1.2),
            *(
                (r * (1.0 if i % 2 else 0.7) * (1 if q < length * 0.8 else 0.6), float(q))
                for i, q in enumerate(z)
            ),
            (0, length * 1.1),
        ],
        colour,
        segments=14,
    )
    return [head, slot, shaft]


def gear(rng: Rng) -> list[Part]:
    r, teeth = between(rng, 0.025, 0.06), int(rng.integers(9, 22))
    angle = np.linspace(0, 2 * np.pi, teeth * 4, endpoint=False)
    reach = np.where((np.arange(teeth * 4) // 2) % 2 == 0, r, r * 0.82)
    outer = [
        (float(q * np.cos(a)), float(q * np.sin(a))) for q, a in zip(reach, angle, strict=True)
    ]
    colour = _metal(rng) if rng.random() < 0.6 else any_colour(rng)
    return [extrude(outer, r * between(rng, 0.2, 0.4), colour, hole=regular(teeth * 4, r * 0.25))]


def spring(rng: Rng) -> list[Part]:
    r, turns, pitch = (
        between(rng, 0.012, 0.025),
        int(rng.integers(4, 9)),
        between(rng, 0.007, 0.013),
    )
    t = np.linspace(0, turns * 2 * np.pi, turns * 16)
    path = [
        (r * float(np.cos(a)), r * float(np.sin(a)), 0.003 + pitch * float(a) / (2 * np.pi))
        for a in t
    ]
    return [tube(path, 0.0022, _metal(rng), sides=6)]


def pipe(rng: Rng) -> list[Part]:
    r, length = between(rng, 0.015, 0.035), between(rng, 0.1, 0.25)
    colour = _metal(rng) if rng.random() < 0.6 else any_colour(rng)
    return [lathe([(r * 0.8, 0), (r, 0), (r, length), (r * 0.8, length), (r * 0.8, 0)], colour)]


def bracket(rng: Rng) -> list[Part]:
    a, b, t = between(rng, 0.05, 0.09), between(rng, 0.03, 0.05), 0.004
    colour = _metal(rng)
    return [
        box((a, b, t), colour, (a / 2, 0, t / 2)),
        box((t, b, a), colour, (t / 2, 0, a / 2)),
        *(
            moved(cylinder(0.006, t * 1.2, _BLACK, segments=12), (x, 0, 0))
            for x in (a * 0.4, a * 0.75)
        ),
    ]


def wrench(rng: Rng) -> list[Part]:
    length, w, colour = between(rng, 0.12, 0.2), between(rng, 0.007, 0.011), _metal(rng)
    t = w * 0.8
    cheek = [(-1.4, 0.6), (0.2, 1.0), (2.2, 0.9), (2.0, 1.9), (0.6, 2.3), (-1.4, 1.4)]
    jaws = [
        extrude([(length + w * x, w * y * side) for x, y in cheek[::side]], t, colour)
        for side in (1, -1)
    ]
    root = box((w * 1.6, w * 2.6, t), colour, (length - w * 0.8, 0, t / 2))
    return [
        box((length, w * 1.5, t), colour, (length / 2, 0, t / 2)),
        root,
        *jaws,
        _hex_with_hole(w * 2.0, t, colour),
    ]


def hammer(rng: Rng) -> list[Part]:
    length = between(rng, 0.2, 0.3)
    grip = (0.65, 0.45, 0.25) if rng.random() < 0.6 else any_colour(rng)
    head_colour = _metal(rng)
    face = turned(cylinder(0.015, 0.05, head_colour), _UPRIGHT)
    claw = box((0.02, 0.06, 0.016), head_colour, (0, 0.03, 0))
    return [
        moved(
            tube([(0, 0, 0), (length * 0.6, 0, 0), (length, 0, 0)], [0.01, 0.011, 0.014], grip),
            (0, 0, 0.016),
        ),
        moved(face, (0, 0, 0.016)),
        moved(claw, (0, 0, 0.016)),
        box((0.03, 0.03, 0.026), head_colour, (0, 0, 0.016)),
    ]


def screwdriver(rng: Rng) -> list[Part]:
    length, colour = between(rng, 0.08, 0.15), any_colour(rng)
    shaft = tube([(0, 0, 0.013), (length, 0, 0.013)], 0.0035, _STEEL, sides=8)
    grip = tube(
        [
            (-0.09, 0, 0.013),
            (-0.08, 0, 0.013),
            (-0.04, 0, 0.013),
            (-0.008, 0, 0.013),
            (0, 0, 0.013),
        ],
        [0.008, 0.013, 0.011, 0.0125, 0.006],
        colour,
    )
    return [shaft, grip, box((0.012, 0.008, 0.002), _STEEL, (length, 0, 0.013))]


def flashlight(rng: Rng) -> list[Part]:
    length, colour = between(rng, 0.1, 0.16), tinted(rng, 0.8, 0.05, 0.7)
    body = tube(
        [(0, 0, 0.02), (length * 0.7, 0, 0.02), (length * 0.85, 0, 0.02), (length, 0, 0.02)],
        [0.013, 0.013, 0.02, 0.02],
        colour,
    )
    lens = tube([(length, 0, 0.02), (length + 0.002, 0, 0.02)], 0.017, (0.98, 0.96, 0.8))
    return [body, lens]


def battery(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.008, 0.017), between(rng, 0.045, 0.062)
    return [
        cylinder(r, h * 0.7, _BLACK if rng.random() < 0.5 else any_colour(rng)),
        cylinder(r, h * 0.27, (0.8, 0.58, 0.25), h * 0.7),
        cylinder(r * 0.35, h * 0.05, _STEEL, h * 0.97),
    ]


def light_bulb(rng: Rng) -> list[Part]:
    r = between(rng, 0.026, 0.034)
    glass = lathe(
        [(r * 0.42, r * 0.9), (r * 0.6, r * 1.3), (r, r * 2.0), (r * 0.85, r * 2.6), (0, r * 3.0)],
        (0.97, 0.96, between(rng, 0.7, 0.95)),
    )
    return [_threaded(r * 0.42, 0.0, r * 0.95, _STEEL), glass]


def funnel(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.04, 0.07), between(rng, 0.09, 0.14)
    return [
        lathe(
            [
                (r, 0),
                (r * 0.15, h * 0.6),
                (r * 0.12, h),
                (r * 0.09, h),
                (r * 0.12, h * 0.6),
                (r * 0.95, 0),
                (r, 0),
            ],
            any_colour(rng),
        )
    ]


HARDWARE: Final[dict[str, Maker]] = {
    "nut": nut,
    "washer": washer,
    "bolt": bolt,
    "screw": screw,
    "gear": gear,
    "spring": spring,
    "pipe": pipe,
    "bracket": bracket,
    "wrench": wrench,
    "hammer": hammer,
    "screwdriver": screwdriver,
    "flashlight": flashlight,
    "battery": battery,
    "light bulb": light_bulb,
    "funnel": funnel,
}
"""Name → maker of its parts, standing on z = 0 about the origin."""
