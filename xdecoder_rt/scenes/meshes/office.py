"""Meshes of office things and toys."""

from __future__ import annotations

from dataclasses import replace
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
    regular,
    sphere,
    tube,
    turned,
)
from xdecoder_rt.scenes.textures import texture

__all__ = ["OFFICE"]

_STEEL: Final[Colour] = (0.62, 0.63, 0.66)
_BLACK: Final[Colour] = (0.07, 0.07, 0.08)


def dumbbell(rng: Rng) -> list[Part]:
    r, length, colour = (
        between(rng, 0.03, 0.05),
        between(rng, 0.12, 0.2),
        tinted(rng, 0.7, 0.05, 0.8),
    )
    lying = np.array([[0, 0, 1.0], [0, 1.0, 0], [-1.0, 0, 0]])
    plates = [
        moved(turned(cylinder(r, 0.05, colour, segments=6), lying), (x, 0, r * 0.87))
        for x in (-length / 2 - 0.05, length / 2)
    ]
    bar = tube([(-length / 2, 0, r * 0.87), (length / 2, 0, r * 0.87)], 0.012, _STEEL)
    return [bar, *plates]


def tape_roll(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.035, 0.055), between(rng, 0.015, 0.05)
    return [
        extrude(regular(32, r), h, any_colour(rng), hole=regular(32, r * 0.72)),
        extrude(regular(32, r * 0.72), h, (0.75, 0.6, 0.42), hole=regular(32, r * 0.66)),
    ]


def spool(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.03, 0.07), between(rng, 0.03, 0.06)
    flange = tinted(rng, 0.6, 0.15, 0.9)
    return [
        cylinder(r, h * 0.08, flange),
        cylinder(r, h * 0.08, flange, h * 0.92),
        cylinder(r * 0.7, h * 0.84, any_colour(rng), h * 0.08),
    ]


def dice(rng: Rng) -> list[Part]:
    a, ground = between(rng, 0.02, 0.05), tinted(rng, 0.8, 0.6, 1.0)
    dot = _BLACK if sum(ground) > 1.2 else (0.95, 0.95, 0.95)
    parts = [box((a, a, a), ground, (0, 0, a / 2))]
    for axis, spots in ((2, 5), (0, 3), (1, 2)):
        where = {
            5: ((-1, -1), (1, 1), (1, -1), (-1, 1), (0, 0)),
            3: ((-1, -1), (0, 0), (1, 1)),
            2: ((-1, 1), (1, -1)),
        }[spots]
        for u, v in where:
            for sign in (-1.0, 1.0):
                spot = [0.25 * a * u, 0.25 * a * v]
                spot.insert(axis, sign * a * 0.47)
                size = [a * 0.16] * 3
                size[axis] = a * 0.07
                parts.append(box(size, dot, (spot[0], spot[1], spot[2] + a / 2)))
    return parts


def pencil(rng: Rng) -> list[Part]:
    length, colour = between(rng, 0.1, 0.18), any_colour(rng)
    body = tube([(0, 0, 0.005), (length, 0, 0.005)], 0.0045, colour, sides=6)
    tip = tube(
        [(length, 0, 0.005), (length + 0.015, 0, 0.005)],
        [0.0045, 0.0006],
        (0.85, 0.68, 0.45),
        sides=6,
    )
    return [body, tip, tube([(-0.012, 0, 0.005), (0, 0, 0.005)], 0.0045, (0.9, 0.5, 0.5), sides=8)]


def mobile_phone(rng: Rng) -> list[Part]:
    a, b = between(rng, 0.065, 0.08), between(rng, 0.13, 0.165)
    screen = label_picture(rng) if rng.random() < 0.6 else None
    return [
        box((a, b, 0.009), tinted(rng, 0.4, 0.05, 0.9), (0, 0, 0.0045)),
        box(
            (a * 0.93, b * 0.92, 0.001),
            (1, 1, 1) if screen is not None else _BLACK,
            (0, 0, 0.0095),
            screen,
        ),
    ]


def keyboard(rng: Rng) -> list[Part]:
    a, b = between(rng, 0.32, 0.44), between(rng, 0.12, 0.15)
    ground = tinted(rng, 0.15, 0.05, 0.9)
    keys: Colour = (0.9, 0.9, 0.9) if sum(ground) < 1.2 else (0.2, 0.2, 0.22)
    picture = np.full((40, 120, 3), [int(255 * c) for c in ground], np.uint8)
    for row in range(5):
        for column in range(15):
            picture[2 + row * 8 : 8 + row * 8, 2 + column * 8 : 8 + column * 8] = [
                int(255 * c) for c in keys
            ]
    return [
        box((a, b, 0.02), ground, (0, 0, 0.01)),
        box((a * 0.96, b * 0.9, 0.002), (1, 1, 1), (0, 0, 0.021), picture),
    ]


def laptop(rng: Rng) -> list[Part]:
    a, b, colour = between(rng, 0.28, 0.36), between(rng, 0.19, 0.24), tinted(rng, 0.15, 0.1, 0.85)
    lean = between(rng, 0.1, 0.5)
    tilt = np.array(
        [[1.0, 0, 0], [0, np.sin(lean), -np.cos(lean)], [0, np.cos(lean), np.sin(lean)]]
    )
    lid = [
        box((a, b, 0.008), colour, (0, b / 2, 0)),
        box((a * 0.94, b * 0.9, 0.001), (1, 1, 1), (0, b / 2, 0.0045), label_picture(rng)),
    ]
    return [
        box((a, b, 0.016), colour, (0, 0, 0.008)),
        box((a * 0.9, b * 0.5, 0.001), _BLACK, (0, b * 0.15, 0.0165)),
        *(moved(turned(part, tilt), (0, b / 2, 0.016)) for part in lid),
    ]


def monitor(rng: Rng) -> list[Part]:
    a, b = between(rng, 0.4, 0.6), between(rng, 0.26, 0.36)
    frame = tinted(rng, 0.1, 0.05, 0.5)
    return [
        box((a, 0.03, b), frame, (0, 0, 0.12 + b / 2)),
        box((a * 0.95, 0.002, b * 0.92), (1, 1, 1), (0, -0.016, 0.12 + b / 2), label_picture(rng)),
        box((0.05, 0.03, 0.14), frame, (0, 0.02, 0.07)),
        box((0.22, 0.16, 0.012), frame, (0, 0.02, 0.006)),
    ]


def book(rng: Rng) -> list[Part]:
    a, b, c = between(rng, 0.12, 0.2), between(rng, 0.17, 0.27), between(rng, 0.015, 0.045)
    cover = any_colour(rng)
    pages = box((a * 0.97, b * 0.96, c * 0.8), (0.95, 0.93, 0.86), (a * 0.012, 0, c / 2))
    picture = label_picture(rng)
    return [
        box((a, b, c * 0.1), cover, (0, 0, c * 0.05)),
        pages,
        box((a, b, c * 0.1), (1, 1, 1), (0, 0, c * 0.95), picture),
        box((c * 0.1, b, c), cover, (-a / 2, 0, c / 2)),
    ]


def candle(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.012, 0.035), between(rng, 0.06, 0.18)
    return [
        cylinder(r, h, tinted(rng, 0.6, 0.7, 1.0)),
        cylinder(0.0015, 0.012, (0.1, 0.1, 0.1), h),
        lathe([(0, h + 0.01), (0.005, h + 0.018), (0, h + 0.035)], (1.0, 0.75, 0.2)),
    ]


def rock(rng: Rng) -> list[Part]:
    ball = sphere(between(rng, 0.02, 0.06), (1, 1, 1), squash=between(rng, 0.55, 0.9))
    bumps = np.zeros(len(ball.vertices))
    for _ in range(7):
        direction = rng.normal(size=3) * between(rng, 20, 60)
        bumps += np.sin(ball.vertices @ direction + between(rng, 0, 6))
    vertices = ball.vertices * (1 + 0.05 * bumps)[:, None]
    lowest = float(vertices[:, 2].min())
    vertices[:, 2] -= lowest
    return [replace(ball, vertices=vertices, picture=texture("concrete", rng, 64, 64))]


def wooden_block(rng: Rng) -> list[Part]:
    size = (between(rng, 0.05, 0.14), between(rng, 0.03, 0.06), between(rng, 0.02, 0.05))
    return [box(size, (1, 1, 1), (0, 0, size[2] / 2), texture("wood", rng, 64, 96))]


def cardboard_box(rng: Rng) -> list[Part]:
    a, b, c = between(rng, 0.1, 0.35), between(rng, 0.1, 0.28), between(rng, 0.06, 0.25)
    brown = (between(rng, 0.6, 0.78), between(rng, 0.44, 0.58), between(rng, 0.28, 0.4))
    parts = [box((a, b, c), brown, (0, 0, c / 2))]
    if rng.random() < 0.7:
        parts.append(box((a * 1.003, 0.045, c * 1.003), (0.85, 0.78, 0.62), (0, 0, c / 2)))
    return parts


OFFICE: Final[dict[str, Maker]] = {
    "dumbbell": dumbbell,
    "tape roll": tape_roll,
    "spool": spool,
    "dice": dice,
    "pencil": pencil,
    "mobile phone": mobile_phone,
    "keyboard": keyboard,
    "laptop": laptop,
    "monitor": monitor,
    "book": book,
    "candle": candle,
    "rock": rock,
    "wooden block": wooden_block,
    "cardboard box": cardboard_box,
}
"""Name → maker of its parts, standing on z = 0 about the origin."""
