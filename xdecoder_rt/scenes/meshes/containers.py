"""Meshes of bins, crates, buckets and other things to put things in."""

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
    lathe,
    torus,
    tube,
    vessel,
)
from xdecoder_rt.scenes.textures import texture

__all__ = ["CONTAINERS"]

_GREY: Final[Colour] = (0.7, 0.7, 0.72)


def open_bin(rng: Rng) -> list[Part]:
    a, b, h, t = between(rng, 0.16, 0.36), between(rng, 0.14, 0.28), between(rng, 0.06, 0.18), 0.008
    colour = any_colour(rng)
    return [
        box((a, b, t), colour, (0, 0, t / 2)),
        *(box((a, t, h), colour, (0, s * (b - t) / 2, h / 2)) for s in (-1, 1)),
        *(box((t, b, h), colour, (s * (a - t) / 2, 0, h / 2)) for s in (-1, 1)),
    ]


def crate(rng: Rng) -> list[Part]:
    a, b, h, t = between(rng, 0.25, 0.4), between(rng, 0.18, 0.3), between(rng, 0.14, 0.24), 0.01
    wood = texture("wood", rng, 64, 64)
    parts = [box((a, b, t), (1, 1, 1), (0, 0, t / 2), wood)]
    for level in range(3):
        z = h * (0.2 + 0.3 * level)
        for s in (-1, 1):
            parts.append(box((a, t, h * 0.2), (1, 1, 1), (0, s * b / 2, z), wood))
            parts.append(box((t, b, h * 0.2), (1, 1, 1), (s * a / 2, 0, z), wood))
    parts += [
        box((2 * t, 2 * t, h), (1, 1, 1), (sx * a / 2, sy * b / 2, h / 2), wood)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    return parts


def bucket(rng: Rng) -> list[Part]:
    r, h, colour = between(rng, 0.09, 0.13), between(rng, 0.18, 0.26), any_colour(rng)
    arc = np.linspace(0, np.pi, 11)
    tilt = between(rng, -1.2, 1.2)
    path = [
        (
            r * float(np.cos(a)),
            r * float(np.sin(a) * np.sin(tilt)),
            h * 0.93 + r * float(np.sin(a) * np.cos(tilt)),
        )
        for a in arc
    ]
    return [vessel(r * 0.75, r, h, 0.005, colour), tube(path, 0.004, _GREY, sides=6)]


def trash_can(rng: Rng) -> list[Part]:
    r, h, colour = between(rng, 0.13, 0.2), between(rng, 0.35, 0.55), tinted(rng, 0.6, 0.15, 0.8)
    parts = [vessel(r * 0.8, r, h, 0.006, colour)]
    if rng.random() < 0.5:
        parts.append(
            lathe(
                [(r * 1.05, h), (r, h + 0.03), (r * 0.5, h + 0.08), (0, h + 0.09)],
                tinted(rng, 0.5, 0.15, 0.8),
            )
        )
    return parts


def barrel(rng: Rng) -> list[Part]:
    r, h, colour = between(rng, 0.16, 0.24), between(rng, 0.45, 0.7), any_colour(rng)
    wooden = rng.random() < 0.4
    bulge = 1.15 if wooden else 1.0
    picture = texture("wood", rng, 128, 128) if wooden else None
    body = lathe([(0, 0), (r, 0), (r * bulge, h / 2), (r, h), (0, h)], colour, picture=picture)
    hoop = (0.25, 0.25, 0.27) if wooden else colour
    return [
        body,
        *(torus(r * (1 + (bulge - 1) * 0.65), 0.012, hoop, h * t) for t in (0.25, 0.75)),
        torus(r, 0.012, hoop, 0.012),
        torus(r, 0.012, hoop, h - 0.012),
    ]


def flowerpot(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.05, 0.09), between(rng, 0.08, 0.14)
    colour = (0.72, 0.38, 0.24) if rng.random() < 0.6 else any_colour(rng)
    return [
        vessel(r * 0.7, r, h, 0.006, colour),
        torus(r, 0.006, colour, h),
        cylinder(r * 0.93, 0.004, (0.22, 0.14, 0.09), h * 0.88),
    ]


def vase(rng: Rng) -> list[Part]:
    h, r = between(rng, 0.15, 0.28), between(rng, 0.035, 0.065)
    z = np.linspace(0, 1, 14)
    phase, depth = between(rng, 0.5, 3.0), between(rng, 0.2, 0.45)
    outer = [(r * float(1 + depth * np.sin(phase + 4.2 * t)), h * float(t)) for t in z]
    inner = [(x * 0.9, q) for x, q in reversed(outer[2:])]
    return [lathe([(0, 0), *outer, *inner, (0, h * 0.2)], any_colour(rng))]


def jar(rng: Rng) -> list[Part]:
    r, h, colour = between(rng, 0.032, 0.05), between(rng, 0.09, 0.15), any_colour(rng)
    parts = [
        lathe([(0, 0), (r, 0.002), (r, h * 0.8), (r * 0.8, h * 0.9), (0, h * 0.9)], colour),
        cylinder(r * 0.85, h * 0.14, any_colour(rng), h * 0.88),
    ]
    if rng.random() < 0.7:
        parts.append(
            lathe(
                [(r * 1.01, h * 0.2), (r * 1.01, h * 0.65)], (1, 1, 1), picture=label_picture(rng)
            )
        )
    return parts


def traffic_cone(rng: Rng) -> list[Part]:
    r, h = between(rng, 0.07, 0.14), between(rng, 0.22, 0.45)
    colour = (0.95, between(rng, 0.3, 0.45), 0.08)

    def band(low: float, high: float) -> Part:
        return lathe(
            [(r * (1 - 0.85 * low) * 1.07, h * low), (r * (1 - 0.85 * high) * 1.07, h * high)],
            (0.95, 0.95, 0.95),
        )

    return [
        box((2.6 * r, 2.6 * r, 0.02), colour, (0, 0, 0.01)),
        lathe([(r, 0.01), (r * 0.15, h), (0, h)], colour),
        band(0.35, 0.55),
        band(0.7, 0.82),
    ]


CONTAINERS: Final[dict[str, Maker]] = {
    "bin": open_bin,
    "crate": crate,
    "bucket": bucket,
    "trash can": trash_can,
    "barrel": barrel,
    "flowerpot": flowerpot,
    "vase": vase,
    "jar": jar,
    "traffic cone": traffic_cone,
}
"""Name → maker of its parts, standing on z = 0 about the origin."""
