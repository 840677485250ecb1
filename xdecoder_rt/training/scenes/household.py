"""Meshes of kitchen things, groceries and furniture, made up anew for every scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.training.scenes.paint import any_colour, label_picture, tinted
from xdecoder_rt.training.scenes.shapes import (
    Colour,
    Part,
    box,
    cylinder,
    extrude,
    lathe,
    moved,
    regular,
    sphere,
    torus,
    tube,
)
from xdecoder_rt.training.scenes.textures import texture

__all__ = ["HOUSEHOLD"]

Rng = np.random.Generator
Maker = Callable[[Rng], list[Part]]
_GREY: Final[Colour] = (0.7, 0.7, 0.72)


def _u(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _handle(radius: float, low: float, high: float, colour: Colour, reach: float) -> Part:
    """A C-shaped handle on the +x side of something round."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 9)
    middle, half = (low + high) / 2, (high - low) / 2
    path = [(radius * 0.97 + reach * float(np.cos(a)), 0.0, middle + half * float(np.sin(a)))
            for a in angle]
    return tube(path, 0.12 * (high - low), colour, sides=8)


def _vessel(
    r0: float, r1: float, height: float, wall: float, colour: Colour,
    picture: NDArray[np.uint8] | None = None,
) -> Part:
    """An open vessel with a wall of some thickness."""
    return lathe([(0, 0), (r0, 0), (r1, height), (r1 - wall, height), (r0 - wall, wall), (0, wall)],
                 colour, picture=picture)


def bottle(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.028, 0.045), _u(rng, 0.18, 0.3)
    neck, colour = r * _u(rng, 0.3, 0.5), any_colour(rng)
    shoulder = h * _u(rng, 0.5, 0.72)
    body = lathe([(0, 0), (r, 0.002), (r, shoulder), (r * 0.85, shoulder + 0.12 * h),
                  (neck, h * 0.86), (neck, h), (0, h)], colour)
    parts = [body, cylinder(neck * 1.15, 0.07 * h, any_colour(rng), h * 0.95)]
    if rng.random() < 0.8:
        low = shoulder * _u(rng, 0.2, 0.35)
        band = lathe([(r * 1.01, low), (r * 1.01, shoulder * 0.85)], (1, 1, 1),
                     picture=label_picture(rng))
        parts.append(band)
    return parts


def can(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.03, 0.045), _u(rng, 0.08, 0.14)
    side = lathe([(r, 0.05 * h), (r, 0.94 * h)], (1, 1, 1), picture=label_picture(rng))
    ends = lathe([(0, 0), (r * 0.9, 0), (r, 0.05 * h), (r, 0.94 * h), (r * 0.9, h),
                  (r * 0.86, h * 0.98), (0, h * 0.98)], _GREY)
    return [ends, side]


def cup(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.03, 0.042), _u(rng, 0.08, 0.12)
    picture = label_picture(rng) if rng.random() < 0.4 else None
    return [_vessel(r * _u(rng, 0.65, 0.95), r, h, 0.004, any_colour(rng), picture)]


def mug(rng: Rng) -> list[Part]:
    r, h, colour = _u(rng, 0.036, 0.048), _u(rng, 0.08, 0.11), any_colour(rng)
    inside = cylinder(r * 0.88, 0.002, (0.25, 0.14, 0.08), h * 0.8)
    return [_vessel(r, r, h, 0.005, colour), _handle(r, 0.2 * h, 0.8 * h, colour, 0.028), inside]


def bowl(rng: Rng) -> list[Part]:
    r, depth = _u(rng, 0.06, 0.11), _u(rng, 0.4, 0.6)
    angle = np.linspace(0.25, np.pi / 2, 9)
    outer = [(r * float(np.sin(a)), depth * r * (1 - float(np.cos(a)))) for a in angle]
    inner = [(x * 0.94, z + 0.004) for x, z in reversed(outer[:-1])]
    return [lathe([(0, 0), *outer, (r * 0.95, outer[-1][1]), *inner, (0, 0.006)],
                  any_colour(rng))]


def plate(rng: Rng) -> list[Part]:
    r, colour = _u(rng, 0.09, 0.14), tinted(rng, 0.3, 0.75, 1.0)
    rim = torus(r * 0.98, 0.003, any_colour(rng), 0.018)
    return [lathe([(0, 0), (0.6 * r, 0), (r, 0.016), (r, 0.02), (0.62 * r, 0.006), (0, 0.006)],
                  colour), rim]


def wine_glass(rng: Rng) -> list[Part]:
    r, h, colour = _u(rng, 0.03, 0.04), _u(rng, 0.16, 0.22), tinted(rng, 0.12, 0.75, 0.95)
    wine = cylinder(r * 0.8, 0.03 * h, (0.45, 0.03, 0.1), h * 0.68, top=r * 0.9)
    return [lathe([(0, 0), (r * 0.9, 0.001), (r * 0.85, 0.006), (0.005, 0.02), (0.005, h * 0.45),
                   (r * 0.7, h * 0.55), (r, h * 0.72), (r * 0.8, h), (r * 0.77, h),
                   (r * 0.95, h * 0.72), (0, h * 0.5)], colour), wine]


def frying_pan(rng: Rng) -> list[Part]:
    r, colour = _u(rng, 0.08, 0.13), tinted(rng, 0.2, 0.1, 0.5)
    bar = tube([(r, 0, 0.035), (r + 0.06, 0, 0.045), (r + 0.18, 0, 0.055)], 0.009,
               any_colour(rng) if rng.random() < 0.4 else (0.1, 0.1, 0.1))
    return [_vessel(r * 0.85, r, 0.04, 0.004, colour), bar]


def pot(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.08, 0.12), _u(rng, 0.09, 0.15)
    colour = _GREY if rng.random() < 0.5 else any_colour(rng)
    grip: Colour = (0.1, 0.1, 0.1) if rng.random() < 0.5 else colour
    parts = [_vessel(r, r, h, 0.005, colour)]
    for side in (-1, 1):
        path = [(side * r, -0.03, h * 0.8), (side * (r + 0.03), -0.02, h * 0.82),
                (side * (r + 0.03), 0.02, h * 0.82), (side * r, 0.03, h * 0.8)]
        parts.append(tube(path, 0.006, grip))
    if rng.random() < 0.5:
        parts += [lathe([(r * 1.02, h), (r * 0.5, h + 0.02), (0, h + 0.025)], colour),
                  sphere(0.014, grip, (0, 0, h + 0.035))]
    return parts


def spoon(rng: Rng) -> list[Part]:
    length, colour = _u(rng, 0.13, 0.22), _GREY if rng.random() < 0.6 else tinted(rng, 0.5, 0.4, 0.8)
    head = moved(sphere(0.022, colour, squash=0.3), (0, 0, 0.008))
    return [head, tube([(0.018, 0, 0.008), (length * 0.5, 0, 0.014), (length, 0, 0.006)],
                       [0.0035, 0.003, 0.006], colour, sides=8)]


def knife(rng: Rng) -> list[Part]:
    length = _u(rng, 0.1, 0.18)
    blade = extrude([(0, -0.012), (length * 0.8, -0.012), (length, 0.012), (0, 0.012)], 0.002, _GREY,
                    0.006)
    return [blade, box((0.1, 0.022, 0.014), tinted(rng, 0.6, 0.1, 0.5), (-0.05, 0, 0.007))]


def cutting_board(rng: Rng) -> list[Part]:
    size = (_u(rng, 0.24, 0.36), _u(rng, 0.16, 0.24), 0.018)
    return [box(size, (1, 1, 1), (0, 0, 0.009), texture("wood", rng, 96, 128))]


def jar(rng: Rng) -> list[Part]:
    r, h, colour = _u(rng, 0.032, 0.05), _u(rng, 0.09, 0.15), any_colour(rng)
    parts = [lathe([(0, 0), (r, 0.002), (r, h * 0.8), (r * 0.8, h * 0.9), (0, h * 0.9)], colour),
             cylinder(r * 0.85, h * 0.14, any_colour(rng), h * 0.88)]
    if rng.random() < 0.7:
        parts.append(lathe([(r * 1.01, h * 0.2), (r * 1.01, h * 0.65)], (1, 1, 1),
                           picture=label_picture(rng)))
    return parts


def teapot(rng: Rng) -> list[Part]:
    r, colour = _u(rng, 0.06, 0.08), any_colour(rng)
    body = sphere(r, colour, (0, 0, r * 0.8), squash=0.8)
    spout = tube([(-r * 0.8, 0, r * 0.6), (-r * 1.3, 0, r * 0.9), (-r * 1.6, 0, r * 1.5)],
                 [0.02, 0.014, 0.009], colour)
    lid = lathe([(r * 0.5, r * 1.5), (r * 0.3, r * 1.65), (0, r * 1.7)], colour)
    knob = sphere(0.012, colour, (0, 0, r * 1.78))
    return [body, spout, lid, knob, _handle(r, r * 0.35, r * 1.35, colour, 0.045)]


def vase(rng: Rng) -> list[Part]:
    h, r = _u(rng, 0.15, 0.28), _u(rng, 0.035, 0.065)
    z = np.linspace(0, 1, 14)
    phase, depth = _u(rng, 0.5, 3.0), _u(rng, 0.2, 0.45)
    outer = [(r * float(1 + depth * np.sin(phase + 4.2 * t)), h * float(t)) for t in z]
    inner = [(x * 0.9, q) for x, q in reversed(outer[2:])]
    return [lathe([(0, 0), *outer, *inner, (0, h * 0.2)], any_colour(rng))]


def candle(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.012, 0.035), _u(rng, 0.06, 0.18)
    return [cylinder(r, h, tinted(rng, 0.6, 0.7, 1.0)), cylinder(0.0015, 0.012, (0.1, 0.1, 0.1), h),
            lathe([(0, h + 0.01), (0.005, h + 0.018), (0, h + 0.035)], (1.0, 0.75, 0.2))]


def flowerpot(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.05, 0.09), _u(rng, 0.08, 0.14)
    colour = (0.72, 0.38, 0.24) if rng.random() < 0.6 else any_colour(rng)
    return [_vessel(r * 0.7, r, h, 0.006, colour), torus(r, 0.006, colour, h),
            cylinder(r * 0.93, 0.004, (0.22, 0.14, 0.09), h * 0.88)]


def bucket(rng: Rng) -> list[Part]:
    r, h, colour = _u(rng, 0.09, 0.13), _u(rng, 0.18, 0.26), any_colour(rng)
    arc = np.linspace(0, np.pi, 11)
    tilt = _u(rng, -1.2, 1.2)
    path = [(r * float(np.cos(a)), r * float(np.sin(a) * np.sin(tilt)),
             h * 0.93 + r * float(np.sin(a) * np.cos(tilt))) for a in arc]
    return [_vessel(r * 0.75, r, h, 0.005, colour), tube(path, 0.004, _GREY, sides=6)]


def trash_can(rng: Rng) -> list[Part]:
    r, h, colour = _u(rng, 0.13, 0.2), _u(rng, 0.35, 0.55), tinted(rng, 0.6, 0.15, 0.8)
    parts = [_vessel(r * 0.8, r, h, 0.006, colour)]
    if rng.random() < 0.5:
        parts.append(lathe([(r * 1.05, h), (r, h + 0.03), (r * 0.5, h + 0.08), (0, h + 0.09)],
                           tinted(rng, 0.5, 0.15, 0.8)))
    return parts


def barrel(rng: Rng) -> list[Part]:
    r, h, colour = _u(rng, 0.16, 0.24), _u(rng, 0.45, 0.7), any_colour(rng)
    wooden = rng.random() < 0.4
    bulge = 1.15 if wooden else 1.0
    picture = texture("wood", rng, 128, 128) if wooden else None
    body = lathe([(0, 0), (r, 0), (r * bulge, h / 2), (r, h), (0, h)], colour, picture=picture)
    hoop = (0.25, 0.25, 0.27) if wooden else colour
    return [body, *(torus(r * (1 + (bulge - 1) * 0.65), 0.012, hoop, h * t) for t in (0.25, 0.75)),
            torus(r, 0.012, hoop, 0.012), torus(r, 0.012, hoop, h - 0.012)]


def _carton(
    rng: Rng, size: tuple[float, float, float], picture: NDArray[np.uint8] | None, colour: Colour
) -> Part:
    return box(size, colour, (0, 0, size[2] / 2), picture)


def cereal_box(rng: Rng) -> list[Part]:
    size = (_u(rng, 0.15, 0.21), _u(rng, 0.045, 0.07), _u(rng, 0.22, 0.31))
    return [_carton(rng, size, label_picture(rng), (1, 1, 1))]


def cardboard_box(rng: Rng) -> list[Part]:
    a, b, c = _u(rng, 0.1, 0.35), _u(rng, 0.1, 0.28), _u(rng, 0.06, 0.25)
    brown = (_u(rng, 0.6, 0.78), _u(rng, 0.44, 0.58), _u(rng, 0.28, 0.4))
    parts = [_carton(rng, (a, b, c), None, brown)]
    if rng.random() < 0.7:
        parts.append(box((a * 1.003, 0.045, c * 1.003), (0.85, 0.78, 0.62), (0, 0, c / 2)))
    return parts


def milk_carton(rng: Rng) -> list[Part]:
    a, h = _u(rng, 0.06, 0.09), _u(rng, 0.14, 0.2)
    picture = label_picture(rng)
    roof = extrude([(-a / 2, 0), (a / 2, 0), (0, a * 0.5)], a, tinted(rng, 0.3, 0.7, 1.0), -a / 2)
    upright = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    roof = Part(roof.vertices @ upright.T + (0, 0, h), roof.normals @ upright.T, roof.uv,
                roof.faces, roof.colour)
    return [box((a, a, h), (1, 1, 1), (0, 0, h / 2), picture), roof,
            box((0.006, a, 0.02), (0.95, 0.95, 0.95), (0, 0, h + a * 0.5))]


def book(rng: Rng) -> list[Part]:
    a, b, c = _u(rng, 0.12, 0.2), _u(rng, 0.17, 0.27), _u(rng, 0.015, 0.045)
    cover = any_colour(rng)
    pages = box((a * 0.97, b * 0.96, c * 0.8), (0.95, 0.93, 0.86), (a * 0.012, 0, c / 2))
    picture = label_picture(rng)
    return [box((a, b, c * 0.1), cover, (0, 0, c * 0.05)), pages,
            box((a, b, c * 0.1), (1, 1, 1), (0, 0, c * 0.95), picture),
            box((c * 0.1, b, c), cover, (-a / 2, 0, c / 2))]


def apple(rng: Rng) -> list[Part]:
    r = _u(rng, 0.032, 0.044)
    colour = ((0.8, 0.1, 0.1), (0.55, 0.75, 0.2), (0.9, 0.75, 0.25), (0.7, 0.15, 0.2))[
        int(rng.integers(4))]
    profile = [(0, 0.006), (r * 0.4, 0), (r * 0.8, r * 0.4), (r, r * 1.0), (r * 0.85, r * 1.55),
               (r * 0.4, r * 1.75), (0, r * 1.6)]
    return [lathe(profile, colour), tube([(0, 0, r * 1.55), (0.004, 0, r * 2.0)], 0.002,
                                         (0.35, 0.22, 0.1), sides=6)]


def pear(rng: Rng) -> list[Part]:
    r = _u(rng, 0.03, 0.04)
    colour = (_u(rng, 0.6, 0.85), _u(rng, 0.68, 0.8), _u(rng, 0.15, 0.3))
    return [lathe([(0, 0), (r * 0.6, r * 0.1), (r, r * 0.8), (r * 0.85, r * 1.4), (r * 0.45, r * 2),
                   (r * 0.35, r * 2.5), (0, r * 2.7)], colour),
            tube([(0, 0, r * 2.6), (0.004, 0, r * 3.1)], 0.002, (0.35, 0.22, 0.1), sides=6)]


def orange(rng: Rng) -> list[Part]:
    r = _u(rng, 0.034, 0.044)
    return [sphere(r, (0.95, _u(rng, 0.45, 0.6), 0.08), (0, 0, r))]


def lemon(rng: Rng) -> list[Part]:
    r = _u(rng, 0.024, 0.032)
    body = lathe([(0, -r * 1.7), (r * 0.25, -r * 1.5), (r * 0.85, -r * 0.7), (r, 0),
                  (r * 0.85, r * 0.7), (r * 0.25, r * 1.5), (0, r * 1.7)], (0.95, 0.85, 0.15))
    lying = np.array([[0, 0, 1.0], [0, 1.0, 0], [-1.0, 0, 0]])
    return [Part(body.vertices @ lying.T + (0, 0, r), body.normals @ lying.T, body.uv, body.faces,
                 body.colour)]


def tomato(rng: Rng) -> list[Part]:
    r = _u(rng, 0.028, 0.04)
    leaves = extrude([(x * (1.0 if i % 2 else 0.3), y * (1.0 if i % 2 else 0.3))
                      for i, (x, y) in enumerate(regular(10, r * 0.6))], 0.002, (0.2, 0.5, 0.15),
                     r * 1.58)
    return [sphere(r, (0.85, 0.12, 0.08), (0, 0, r * 0.82), squash=0.82), leaves]


def watermelon(rng: Rng) -> list[Part]:
    r = _u(rng, 0.09, 0.13)
    stripes = np.zeros((32, 64, 3), np.uint8)
    stripes[:] = (60, 130, 50)
    stripes[:, np.sin(np.arange(64) * 2 * np.pi / 8) > 0.2] = (25, 75, 30)
    return [sphere(r, (1, 1, 1), (0, 0, r * 0.9), squash=0.9, picture=stripes)]


def banana(rng: Rng) -> list[Part]:
    bend, length = _u(rng, 0.07, 0.11), _u(rng, 1.1, 1.5)
    angle = np.linspace(-length / 2, length / 2, 13)
    path = [(bend * float(np.sin(a)), bend * (1 - float(np.cos(a))), 0.016) for a in angle]
    radius = [0.004, 0.006, 0.011, 0.015, 0.0165, 0.017, 0.017, 0.017, 0.0165, 0.015, 0.011, 0.006,
              0.004]
    return [tube(path, radius, (0.95, _u(rng, 0.78, 0.88), 0.2), sides=8)]


def carrot(rng: Rng) -> list[Part]:
    length = _u(rng, 0.11, 0.18)
    parts = [tube([(0, 0, 0.015), (length * 0.5, 0, 0.012), (length, 0, 0.006)],
                  [0.016, 0.011, 0.002], (0.93, 0.45, 0.1))]
    for side in (-0.3, 0.0, 0.3):
        parts.append(tube([(0, 0, 0.015), (-0.03, side * 0.05, 0.018), (-0.06, side * 0.14, 0.014)],
                          0.003, (0.2, 0.55, 0.15), sides=6))
    return parts


def egg(rng: Rng) -> list[Part]:
    r = _u(rng, 0.02, 0.025)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 15)
    profile = [(r * float(np.cos(a)), r * float(1.25 + np.sin(a) * (1.45 if a > 0 else 1.15)))
               for a in angle]
    return [lathe(profile, (0.95, _u(rng, 0.8, 0.95), _u(rng, 0.65, 0.92)))]


def loaf_of_bread(rng: Rng) -> list[Part]:
    length, w = _u(rng, 0.14, 0.24), _u(rng, 0.045, 0.06)
    angle = np.linspace(0, np.pi, 11)
    outline = [(w, 0.0), *((w * 1.1 * float(np.cos(a)), w * (0.9 + 0.6 * float(np.sin(a))))
                           for a in angle), (-w, 0.0)]
    loaf = extrude(outline, length, (_u(rng, 0.65, 0.78), _u(rng, 0.42, 0.52), 0.24), -length / 2)
    lying = np.array([[0, 0, 1.0], [1.0, 0, 0], [0, 1.0, 0]])
    return [Part(loaf.vertices @ lying.T, loaf.normals @ lying.T, loaf.uv, loaf.faces, loaf.colour)]


def doughnut(rng: Rng) -> list[Part]:
    r = _u(rng, 0.028, 0.036)
    icing = tinted(rng, 0.7, 0.3, 0.95)
    return [torus(r, r * 0.55, (0.78, 0.55, 0.3), r * 0.55), torus(r, r * 0.5, icing, r * 0.72)]


def cheese(rng: Rng) -> list[Part]:
    r, h = _u(rng, 0.08, 0.11), _u(rng, 0.035, 0.06)
    arc = np.linspace(0, _u(rng, 0.6, 1.1), 7)
    outline = [(0.0, 0.0), *((r * float(np.cos(a)), r * float(np.sin(a))) for a in arc)]
    return [extrude(outline, h, (0.96, _u(rng, 0.75, 0.85), 0.3))]


HOUSEHOLD: Final[dict[str, Maker]] = {
    "bottle": bottle, "can": can, "cup": cup, "mug": mug, "bowl": bowl, "plate": plate,
    "wine glass": wine_glass, "frying pan": frying_pan, "pot": pot, "spoon": spoon, "knife": knife,
    "cutting board": cutting_board, "jar": jar, "teapot": teapot, "vase": vase, "candle": candle,
    "flowerpot": flowerpot, "bucket": bucket, "trash can": trash_can, "barrel": barrel,
    "cereal box": cereal_box, "cardboard box": cardboard_box, "milk carton": milk_carton,
    "book": book, "apple": apple, "pear": pear, "orange": orange, "lemon": lemon, "tomato": tomato,
    "watermelon": watermelon, "banana": banana, "carrot": carrot, "egg": egg,
    "loaf of bread": loaf_of_bread, "doughnut": doughnut, "cheese": cheese,
}
"""Name → maker of its parts, standing on z = 0 about the origin."""
