"""Meshes of geometric bodies, hardware, tools, office things and furniture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from xdecoder_rt.training.scenes.paint import any_colour, label_picture, tinted
from xdecoder_rt.training.scenes.shapes import (
    Colour,
    Part,
    Point,
    box,
    cylinder,
    extrude,
    lathe,
    moved,
    regular,
    sphere,
    torus,
    tube,
    turned,
)
from xdecoder_rt.training.scenes.textures import texture

__all__ = ["FURNITURE", "PLAIN_SHAPES", "WORKSHOP"]

Rng = np.random.Generator
Maker = Callable[[Rng], list[Part]]
_STEEL: Final[Colour] = (0.62, 0.63, 0.66)
_BLACK: Final[Colour] = (0.07, 0.07, 0.08)
_UPRIGHT: Final = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # an outline made to stand


def _u(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _metal(rng: Rng) -> Colour:
    if rng.random() < 0.25:
        return (0.78, 0.6, 0.28)  # brass
    grey = _u(rng, 0.3, 0.75)
    return (grey, grey, grey * 1.03)


def cube(rng: Rng) -> list[Part]:
    a = _u(rng, 0.03, 0.08)
    return [box((a, a, a), any_colour(rng), (0, 0, a / 2))]


def ball(rng: Rng) -> list[Part]:
    r = _u(rng, 0.02, 0.05)
    return [sphere(r, any_colour(rng), (0, 0, r))]


def rod(rng: Rng) -> list[Part]:
    return [cylinder(_u(rng, 0.018, 0.045), _u(rng, 0.05, 0.14), any_colour(rng))]


def cone(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.025, 0.05), _u(rng, 0.06, 0.13)
    return [lathe([(0, 0), (r, 0), (0, h)], any_colour(rng))]


def pyramid(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.035, 0.06), _u(rng, 0.05, 0.09)
    return [lathe([(0, 0), (r, 0), (0, h)], any_colour(rng), segments=4, turn=np.pi / 4)]


def prism(rng: Rng) -> list[Part]:
    sides = 3 if rng.random() < 0.5 else 6
    return [extrude(regular(sides, _u(rng, 0.025, 0.05)), _u(rng, 0.03, 0.1), any_colour(rng))]


def ring(rng: Rng) -> list[Part]:
    r = _u(rng, 0.03, 0.06)
    t = r * _u(rng, 0.18, 0.35)
    return [torus(r, t, any_colour(rng), t)]


def star(rng: Rng) -> list[Part]:
    r = _u(rng, 0.03, 0.06)
    outline = [(x * (1 if i % 2 else 0.45), y * (1 if i % 2 else 0.45))
               for i, (x, y) in enumerate(regular(10, r))]
    return [extrude(outline, _u(rng, 0.015, 0.03), any_colour(rng))]


def heart(rng: Rng) -> list[Part]:
    s = _u(rng, 0.0022, 0.0038)
    t = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    outline: list[Point] = [(float(a) * s, float(b) * s)
                            for a, b in zip(x[::-1], y[::-1], strict=True)]
    return [extrude(outline, _u(rng, 0.015, 0.03), any_colour(rng))]


PLAIN_SHAPES: Final[dict[str, Maker]] = {
    "cube": cube, "ball": ball, "cylinder": rod, "cone": cone, "pyramid": pyramid, "prism": prism,
    "ring": ring, "star": star, "heart": heart,
}
"""One part in one colour each: they may be recoloured and called by their colour."""


def nut(rng: Rng) -> list[Part]:
    r = _u(rng, 0.014, 0.03)
    return [_hex_with_hole(r, r * 0.8, _metal(rng))]


def _hex_with_hole(radius: float, height: float, colour: Colour) -> Part:
    """A hexagon with a round hole, sampled at the same angles inside and out."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    reach = radius * np.cos(np.pi / 6) / np.cos((angle % (np.pi / 3)) - np.pi / 6)
    outer = [(float(q * np.cos(a)), float(q * np.sin(a)))
             for q, a in zip(reach, angle, strict=True)]
    return extrude(outer, height, colour, hole=regular(24, radius * 0.5))


def washer(rng: Rng) -> list[Part]:
    r = _u(rng, 0.015, 0.032)
    return [extrude(regular(28, r), r * 0.12, _metal(rng), hole=regular(28, r * 0.5))]


def _threaded(radius: float, low: float, high: float, colour: Colour) -> Part:
    turns = np.linspace(low, high, max(9, int((high - low) / (radius * 0.5))))
    profile = [(0.0, low)]
    for i, z in enumerate(turns):
        profile.append((radius * (1.0 if i % 2 else 0.8), float(z)))
    return lathe([*profile, (0.0, high)], colour, segments=16)


def bolt(rng: Rng) -> list[Part]:
    r, length, colour = _u(rng, 0.006, 0.011), _u(rng, 0.04, 0.09), _metal(rng)
    head = extrude(regular(6, r * 1.9), r * 1.3, colour)
    return [head, _threaded(r, r * 1.3, r * 1.3 + length, colour)]


def screw(rng: Rng) -> list[Part]:
    r, length, colour = _u(rng, 0.004, 0.008), _u(rng, 0.04, 0.08), _metal(rng)
    head = lathe([(0, 0), (r * 1.6, 0.001), (r * 2.0, r * 0.5), (r, r * 1.4)], colour, segments=18)
    slot = box((r * 3.4, r * 0.5, 0.0012), (0.1, 0.1, 0.1), (0, 0, 0.0002))
    z = np.linspace(r * 1.4, length, 15)
    shaft = lathe([(0, r * 1.2), *((r * (1.0 if i % 2 else 0.7) * (1 if q < length * 0.8 else 0.6),
                                    float(q)) for i, q in enumerate(z)), (0, length * 1.1)], colour,
                  segments=14)
    return [head, slot, shaft]


def gear(rng: Rng) -> list[Part]:
    r, teeth = _u(rng, 0.025, 0.06), int(rng.integers(9, 22))
    angle = np.linspace(0, 2 * np.pi, teeth * 4, endpoint=False)
    reach = np.where((np.arange(teeth * 4) // 2) % 2 == 0, r, r * 0.82)
    outer = [(float(q * np.cos(a)), float(q * np.sin(a)))
             for q, a in zip(reach, angle, strict=True)]
    colour = _metal(rng) if rng.random() < 0.6 else any_colour(rng)
    return [extrude(outer, r * _u(rng, 0.2, 0.4), colour, hole=regular(teeth * 4, r * 0.25))]


def spring(rng: Rng) -> list[Part]:
    r, turns, pitch = _u(rng, 0.012, 0.025), int(rng.integers(4, 9)), _u(rng, 0.007, 0.013)
    t = np.linspace(0, turns * 2 * np.pi, turns * 16)
    path = [(r * float(np.cos(a)), r * float(np.sin(a)), 0.003 + pitch * float(a) / (2 * np.pi))
            for a in t]
    return [tube(path, 0.0022, _metal(rng), sides=6)]


def pipe(rng: Rng) -> list[Part]:
    r, length = _u(rng, 0.015, 0.035), _u(rng, 0.1, 0.25)
    colour = _metal(rng) if rng.random() < 0.6 else any_colour(rng)
    return [lathe([(r * 0.8, 0), (r, 0), (r, length), (r * 0.8, length), (r * 0.8, 0)], colour)]


def bracket(rng: Rng) -> list[Part]:
    a, b, t = _u(rng, 0.05, 0.09), _u(rng, 0.03, 0.05), 0.004
    colour = _metal(rng)
    return [box((a, b, t), colour, (a / 2, 0, t / 2)), box((t, b, a), colour, (t / 2, 0, a / 2)),
            *(moved(cylinder(0.006, t * 1.2, _BLACK, segments=12), (x, 0, 0))
              for x in (a * 0.4, a * 0.75))]


def wrench(rng: Rng) -> list[Part]:
    length, w, colour = _u(rng, 0.12, 0.2), _u(rng, 0.007, 0.011), _metal(rng)
    t = w * 0.8
    cheek = [(-1.4, 0.6), (0.2, 1.0), (2.2, 0.9), (2.0, 1.9), (0.6, 2.3), (-1.4, 1.4)]
    jaws = [extrude([(length + w * x, w * y * side) for x, y in cheek[::side]], t, colour)
            for side in (1, -1)]
    root = box((w * 1.6, w * 2.6, t), colour, (length - w * 0.8, 0, t / 2))
    return [box((length, w * 1.5, t), colour, (length / 2, 0, t / 2)), root, *jaws,
            _hex_with_hole(w * 2.0, t, colour)]


def hammer(rng: Rng) -> list[Part]:
    length = _u(rng, 0.2, 0.3)
    grip = (0.65, 0.45, 0.25) if rng.random() < 0.6 else any_colour(rng)
    head_colour = _metal(rng)
    face = turned(cylinder(0.015, 0.05, head_colour), _UPRIGHT)
    claw = box((0.02, 0.06, 0.016), head_colour, (0, 0.03, 0))
    return [moved(tube([(0, 0, 0), (length * 0.6, 0, 0), (length, 0, 0)], [0.01, 0.011, 0.014],
                       grip), (0, 0, 0.016)), moved(face, (0, 0, 0.016)),
            moved(claw, (0, 0, 0.016)), box((0.03, 0.03, 0.026), head_colour, (0, 0, 0.016))]


def screwdriver(rng: Rng) -> list[Part]:
    length, colour = _u(rng, 0.08, 0.15), any_colour(rng)
    shaft = tube([(0, 0, 0.013), (length, 0, 0.013)], 0.0035, _STEEL, sides=8)
    grip = tube([(-0.09, 0, 0.013), (-0.08, 0, 0.013), (-0.04, 0, 0.013), (-0.008, 0, 0.013),
                 (0, 0, 0.013)], [0.008, 0.013, 0.011, 0.0125, 0.006], colour)
    return [shaft, grip, box((0.012, 0.008, 0.002), _STEEL, (length, 0, 0.013))]


def flashlight(rng: Rng) -> list[Part]:
    length, colour = _u(rng, 0.1, 0.16), tinted(rng, 0.8, 0.05, 0.7)
    body = tube([(0, 0, 0.02), (length * 0.7, 0, 0.02), (length * 0.85, 0, 0.02),
                 (length, 0, 0.02)], [0.013, 0.013, 0.02, 0.02], colour)
    lens = tube([(length, 0, 0.02), (length + 0.002, 0, 0.02)], 0.017, (0.98, 0.96, 0.8))
    return [body, lens]


def battery(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.008, 0.017), _u(rng, 0.045, 0.062)
    return [cylinder(r, h * 0.7, _BLACK if rng.random() < 0.5 else any_colour(rng)),
            cylinder(r, h * 0.27, (0.8, 0.58, 0.25), h * 0.7),
            cylinder(r * 0.35, h * 0.05, _STEEL, h * 0.97)]


def light_bulb(rng: Rng) -> list[Part]:
    r = _u(rng, 0.026, 0.034)
    glass = lathe([(r * 0.42, r * 0.9), (r * 0.6, r * 1.3), (r, r * 2.0), (r * 0.85, r * 2.6),
                   (0, r * 3.0)], (0.97, 0.96, _u(rng, 0.7, 0.95)))
    return [_threaded(r * 0.42, 0.0, r * 0.95, _STEEL), glass]


def dumbbell(rng: Rng) -> list[Part]:
    r, length, colour = _u(rng, 0.03, 0.05), _u(rng, 0.12, 0.2), tinted(rng, 0.7, 0.05, 0.8)
    lying = np.array([[0, 0, 1.0], [0, 1.0, 0], [-1.0, 0, 0]])
    plates = [moved(turned(cylinder(r, 0.05, colour, segments=6), lying), (x, 0, r * 0.87))
              for x in (-length / 2 - 0.05, length / 2)]
    bar = tube([(-length / 2, 0, r * 0.87), (length / 2, 0, r * 0.87)], 0.012, _STEEL)
    return [bar, *plates]


def tape_roll(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.035, 0.055), _u(rng, 0.015, 0.05)
    return [extrude(regular(32, r), h, any_colour(rng), hole=regular(32, r * 0.72)),
            extrude(regular(32, r * 0.72), h, (0.75, 0.6, 0.42), hole=regular(32, r * 0.66))]


def spool(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.03, 0.07), _u(rng, 0.04, 0.09)
    flange = tinted(rng, 0.6, 0.15, 0.9)
    return [cylinder(r, h * 0.08, flange), cylinder(r, h * 0.08, flange, h * 0.92),
            cylinder(r * 0.8, h * 0.84, any_colour(rng), h * 0.08)]


def funnel(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.04, 0.07), _u(rng, 0.09, 0.14)
    return [lathe([(r, 0), (r * 0.15, h * 0.6), (r * 0.12, h), (r * 0.09, h), (r * 0.12, h * 0.6),
                   (r * 0.95, 0), (r, 0)], any_colour(rng))]


def dice(rng: Rng) -> list[Part]:
    a, ground = _u(rng, 0.02, 0.05), tinted(rng, 0.8, 0.6, 1.0)
    dot = _BLACK if sum(ground) > 1.2 else (0.95, 0.95, 0.95)
    parts = [box((a, a, a), ground, (0, 0, a / 2))]
    for axis, spots in ((2, 5), (0, 3), (1, 2)):
        where = {5: ((-1, -1), (1, 1), (1, -1), (-1, 1), (0, 0)), 3: ((-1, -1), (0, 0), (1, 1)),
                 2: ((-1, 1), (1, -1))}[spots]
        for u, v in where:
            for sign in (-1.0, 1.0):
                spot = [0.25 * a * u, 0.25 * a * v]
                spot.insert(axis, sign * a * 0.47)
                parts.append(sphere(a * 0.1, dot, (spot[0], spot[1], spot[2] + a / 2)))
    return parts


def pencil(rng: Rng) -> list[Part]:
    length, colour = _u(rng, 0.1, 0.18), any_colour(rng)
    body = tube([(0, 0, 0.005), (length, 0, 0.005)], 0.0045, colour, sides=6)
    tip = tube([(length, 0, 0.005), (length + 0.015, 0, 0.005)], [0.0045, 0.0006],
               (0.85, 0.68, 0.45), sides=6)
    return [body, tip, tube([(-0.012, 0, 0.005), (0, 0, 0.005)], 0.0045, (0.9, 0.5, 0.5), sides=8)]


def mobile_phone(rng: Rng) -> list[Part]:
    a, b = _u(rng, 0.065, 0.08), _u(rng, 0.13, 0.165)
    screen = label_picture(rng) if rng.random() < 0.6 else None
    return [box((a, b, 0.009), tinted(rng, 0.4, 0.05, 0.9), (0, 0, 0.0045)),
            box((a * 0.93, b * 0.92, 0.001), (1, 1, 1) if screen is not None else _BLACK,
                (0, 0, 0.0095), screen)]


def keyboard(rng: Rng) -> list[Part]:
    a, b = _u(rng, 0.32, 0.44), _u(rng, 0.12, 0.15)
    ground = tinted(rng, 0.15, 0.05, 0.9)
    keys: Colour = (0.9, 0.9, 0.9) if sum(ground) < 1.2 else (0.2, 0.2, 0.22)
    picture = np.full((40, 120, 3), [int(255 * c) for c in ground], np.uint8)
    for row in range(5):
        for column in range(15):
            picture[2 + row * 8 : 8 + row * 8, 2 + column * 8 : 8 + column * 8] = [
                int(255 * c) for c in keys]
    return [box((a, b, 0.02), ground, (0, 0, 0.01)),
            box((a * 0.96, b * 0.9, 0.002), (1, 1, 1), (0, 0, 0.021), picture)]


def laptop(rng: Rng) -> list[Part]:
    a, b, colour = _u(rng, 0.28, 0.36), _u(rng, 0.19, 0.24), tinted(rng, 0.15, 0.1, 0.85)
    lean = _u(rng, 0.1, 0.5)
    tilt = np.array([[1.0, 0, 0], [0, np.sin(lean), -np.cos(lean)], [0, np.cos(lean),
                                                                    np.sin(lean)]])
    lid = [box((a, b, 0.008), colour, (0, b / 2, 0)),
           box((a * 0.94, b * 0.9, 0.001), (1, 1, 1), (0, b / 2, 0.0045), label_picture(rng))]
    return [box((a, b, 0.016), colour, (0, 0, 0.008)),
            box((a * 0.9, b * 0.5, 0.001), _BLACK, (0, b * 0.15, 0.0165)),
            *(moved(turned(part, tilt), (0, b / 2, 0.016)) for part in lid)]


def monitor(rng: Rng) -> list[Part]:
    a, b = _u(rng, 0.4, 0.6), _u(rng, 0.26, 0.36)
    frame = tinted(rng, 0.1, 0.05, 0.5)
    return [box((a, 0.03, b), frame, (0, 0, 0.12 + b / 2)),
            box((a * 0.95, 0.002, b * 0.92), (1, 1, 1), (0, -0.016, 0.12 + b / 2),
                label_picture(rng)),
            box((0.05, 0.03, 0.14), frame, (0, 0.02, 0.07)),
            box((0.22, 0.16, 0.012), frame, (0, 0.02, 0.006))]


def open_bin(rng: Rng) -> list[Part]:
    a, b, h, t = _u(rng, 0.16, 0.36), _u(rng, 0.14, 0.28), _u(rng, 0.06, 0.18), 0.008
    colour = any_colour(rng)
    return [box((a, b, t), colour, (0, 0, t / 2)),
            *(box((a, t, h), colour, (0, s * (b - t) / 2, h / 2)) for s in (-1, 1)),
            *(box((t, b, h), colour, (s * (a - t) / 2, 0, h / 2)) for s in (-1, 1))]


def crate(rng: Rng) -> list[Part]:
    a, b, h, t = _u(rng, 0.25, 0.4), _u(rng, 0.18, 0.3), _u(rng, 0.14, 0.24), 0.01
    wood = texture("wood", rng, 64, 64)
    parts = [box((a, b, t), (1, 1, 1), (0, 0, t / 2), wood)]
    for level in range(3):
        z = h * (0.2 + 0.3 * level)
        for s in (-1, 1):
            parts.append(box((a, t, h * 0.2), (1, 1, 1), (0, s * b / 2, z), wood))
            parts.append(box((t, b, h * 0.2), (1, 1, 1), (s * a / 2, 0, z), wood))
    parts += [box((2 * t, 2 * t, h), (1, 1, 1), (sx * a / 2, sy * b / 2, h / 2), wood)
              for sx in (-1, 1) for sy in (-1, 1)]
    return parts


def traffic_cone(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.07, 0.14), _u(rng, 0.22, 0.45)
    colour = (0.95, _u(rng, 0.3, 0.45), 0.08)

    def band(low: float, high: float) -> Part:
        return lathe([(r * (1 - 0.85 * low) * 1.01, h * low), (r * (1 - 0.85 * high) * 1.01,
                                                              h * high)], (0.95, 0.95, 0.95))
    return [box((2.6 * r, 2.6 * r, 0.02), colour, (0, 0, 0.01)),
            lathe([(r, 0.01), (r * 0.15, h), (0, h)], colour), band(0.35, 0.55), band(0.7, 0.82)]


def chair(rng: Rng) -> list[Part]:
    w, h, colour = _u(rng, 0.36, 0.46), _u(rng, 0.4, 0.48), tinted(rng, 0.8, 0.15, 0.9)
    leg = 0.035
    legs = [box((leg, leg, h), colour, (sx * (w - leg) / 2, sy * (w - leg) / 2, h / 2))
            for sx in (-1, 1) for sy in (-1, 1)]
    back = [box((w, 0.03, 0.12), colour, (0, w / 2 - 0.015, h + z)) for z in (0.14, 0.36)]
    posts = [box((leg, leg, 0.45), colour, (s * (w - leg) / 2, w / 2 - leg / 2, h + 0.225))
             for s in (-1, 1)]
    return [box((w, w, 0.04), any_colour(rng) if rng.random() < 0.4 else colour, (0, 0, h)),
            *legs, *back, *posts]


def stool(rng: Rng) -> list[Part]:
    r, h, colour = _u(rng, 0.14, 0.19), _u(rng, 0.4, 0.65), any_colour(rng)
    legs = [tube([(x, y, 0), (x * 0.6, y * 0.6, h)], 0.016, tinted(rng, 0.4, 0.2, 0.7))
            for x, y in regular(4 if rng.random() < 0.5 else 3, r * 1.1)]
    return [cylinder(r, 0.05, colour, h), *legs]


def cabinet(rng: Rng) -> list[Part]:
    a, b, h = _u(rng, 0.5, 0.9), _u(rng, 0.35, 0.5), _u(rng, 0.6, 1.5)
    wooden = rng.random() < 0.6
    colour = tinted(rng, 0.3, 0.4, 0.95)
    picture = texture("wood", rng, 96, 96) if wooden else None
    parts = [box((a, b, h), (1, 1, 1) if wooden else colour, (0, 0, h / 2), picture)]
    rows = int(rng.integers(1, 4))
    for row in range(rows):
        for s in (-1, 1):
            z, height = h * (row + 0.5) / rows, h / rows
            parts.append(box((a * 0.47, 0.02, height * 0.92), (1, 1, 1) if wooden else colour,
                             (s * a * 0.245, -b / 2 - 0.01, z), picture))
            parts.append(sphere(0.015, _STEEL, (s * a * 0.05, -b / 2 - 0.035, z)))
    return parts


def ladder(rng: Rng) -> list[Part]:
    w, h, colour = _u(rng, 0.3, 0.4), _u(rng, 1.2, 2.0), tinted(rng, 0.7, 0.4, 0.95)
    lean = 0.25 * h
    rails = [tube([(s * w / 2, -lean, 0), (s * w / 2, 0, h)], 0.022, colour, sides=8)
             for s in (-1, 1)]
    rungs = [tube([(-w / 2, -lean * (1 - t), h * t), (w / 2, -lean * (1 - t), h * t)], 0.016, colour,
                  sides=8) for t in np.linspace(0.1, 0.92, int(h / 0.28))]
    return [*rails, *rungs]


def pallet(rng: Rng) -> list[Part]:
    wood = texture("wood", rng, 64, 64)
    return [*(box((0.8, 0.09, 0.02), (1, 1, 1), (0, y, 0.12), wood)
              for y in np.linspace(-0.25, 0.25, 5)),
            *(box((0.09, 0.6, 0.09), (1, 1, 1), (x, 0, 0.06), wood) for x in (-0.35, 0, 0.35))]


def shelf(rng: Rng) -> list[Part]:
    a, b, h = _u(rng, 0.6, 1.1), _u(rng, 0.25, 0.4), _u(rng, 0.9, 1.8)
    wooden, colour = rng.random() < 0.5, tinted(rng, 0.4, 0.2, 0.9)
    picture = texture("wood", rng, 96, 96) if wooden else None
    boards = int(rng.integers(3, 6))
    return [*(box((a, b, 0.025), (1, 1, 1) if wooden else colour, (0, 0, z), picture)
              for z in np.linspace(0.08, h, boards)),
            *(box((0.025, b, h), (1, 1, 1) if wooden else colour, (s * a / 2, 0, h / 2), picture)
              for s in (-1, 1))]


FURNITURE: Final[dict[str, Maker]] = {
    "chair": chair, "stool": stool, "cabinet": cabinet, "ladder": ladder, "pallet": pallet,
    "shelf": shelf,
}
"""What stands on the floor rather than on a table."""

WORKSHOP: Final[dict[str, Maker]] = {
    "nut": nut, "washer": washer, "bolt": bolt, "screw": screw, "gear": gear, "spring": spring,
    "pipe": pipe, "bracket": bracket, "wrench": wrench, "hammer": hammer,
    "screwdriver": screwdriver, "flashlight": flashlight, "battery": battery,
    "light bulb": light_bulb, "dumbbell": dumbbell, "tape roll": tape_roll, "spool": spool,
    "funnel": funnel, "dice": dice, "pencil": pencil, "mobile phone": mobile_phone,
    "keyboard": keyboard, "laptop": laptop, "monitor": monitor, "bin": open_bin, "crate": crate,
    "traffic cone": traffic_cone,
}
"""Name → maker of its parts, standing on z = 0 about the origin."""
