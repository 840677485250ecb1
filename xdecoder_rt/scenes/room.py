"""The empty workcell: floor, walls and table, the camera that looks at it, and the light."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.scenes.meshes.paint import tinted
from xdecoder_rt.scenes.meshes.shapes import Part, Rng, between, box
from xdecoder_rt.scenes.simulator import Camera, Light
from xdecoder_rt.scenes.textures import texture

__all__ = ["ROOM_STUFF", "camera", "floor", "light", "table_parts", "walls", "yaw"]

ROOM_STUFF: Final = frozenset({"wall", "floor"})
"""The stuff of workcell scenes; a table is a thing."""

_FLOOR_TEXTURES: Final = (
    "concrete",
    "concrete",
    "tiles",
    "wood",
    "wood",
    "checkered",
    "carpet",
    "metal",
    "marble",
    "asphalt",
    "plain",
    "gravel",
)
_WALL_TEXTURES: Final = (
    "plaster",
    "plaster",
    "plaster",
    "brick",
    "concrete",
    "wallpaper",
    "tiles",
    "wood",
    "stone",
    "metal",
    "plain",
)
_TABLE_TEXTURES: Final = ("wood", "wood", "wood", "metal", "marble", "plain", "concrete", "fabric")


def yaw(angle: float) -> NDArray[np.float64]:
    """Return the rotation about the vertical by an angle in radians."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _pick(rng: Rng, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def camera(rng: Rng, top: float) -> Camera:
    """Return a camera around a table with its top `top` metres high, near or far."""
    distance = float(np.exp(rng.uniform(np.log(0.55), np.log(2.1))))
    azimuth, elevation = between(rng, 0, 2 * np.pi), between(rng, 0.18, 1.15)
    x, y = between(rng, -0.15, 0.15), between(rng, -0.15, 0.15)
    z = top + between(rng, -0.05, 0.25)
    eye = (
        x + distance * float(np.cos(elevation) * np.cos(azimuth)),
        y + distance * float(np.cos(elevation) * np.sin(azimuth)),
        z + distance * float(np.sin(elevation)),
    )
    return Camera(eye, (x, y, z), between(rng, 38, 62))


def light(rng: Rng, view: Camera) -> Light:
    """Return a lamp high above, roughly behind the camera: unseen walls shade nothing."""
    azimuth = float(np.arctan2(view.eye[1], view.eye[0])) + between(rng, -1.4, 1.4)
    height, warmth = between(rng, 0.9, 1.45), between(rng, -0.08, 0.08)
    direction = (
        float(np.cos(azimuth) * np.cos(height)),
        float(np.sin(azimuth) * np.cos(height)),
        float(np.sin(height)),
    )
    colour = (1.0, 1.0 - abs(warmth) / 2, 1.0 - max(0.0, warmth))
    return Light(
        direction,
        colour,
        between(rng, 0.35, 0.65),
        between(rng, 0.35, 0.65),
        between(rng, 0.0, 0.3),
        bool(rng.random() < 0.65),
    )


def floor(rng: Rng) -> list[Part]:
    """Build the ground, 16 metres square."""
    slab = box(
        (16, 16, 0.02),
        (1, 1, 1),
        (0, 0, -0.011),
        texture(_pick(rng, _FLOOR_TEXTURES), rng, 512, 512),
    )
    return [replace(slab, uv=slab.uv * between(rng, 4, 12))]


def walls(rng: Rng, view: Camera) -> list[Part]:
    """Build the walls of a square room that the camera may see; those behind it are left out."""
    half, tall = between(rng, 2.0, 4.0), between(rng, 2.4, 3.2)
    paper = texture(_pick(rng, _WALL_TEXTURES), rng, 256, 512)
    slab = box((0.05, 12.0, tall), (1, 1, 1), (half + 0.025, 0, tall / 2), paper)
    slab = replace(slab, uv=slab.uv * (3.0, 1.0))
    looks = np.asarray(view.target) - np.asarray(view.eye)
    turn = between(rng, -0.4, 0.4)
    parts = []
    for side in range(4):
        angle = turn + side * np.pi / 2
        outward = np.array([np.cos(angle), np.sin(angle)])
        if outward @ looks[:2] > -0.35 * float(np.linalg.norm(looks)):
            rotation = yaw(angle)
            parts.append(
                replace(
                    slab, vertices=slab.vertices @ rotation.T, normals=slab.normals @ rotation.T
                )
            )
    return parts


def table_parts(rng: Rng, size: tuple[float, float], top: float) -> list[Part]:
    """A table with its top at a height, on four legs or on a solid foot."""
    thick = between(rng, 0.025, 0.06)
    surface = texture(_pick(rng, _TABLE_TEXTURES), rng, 256, 384)
    board = box((*size, thick), (1, 1, 1), (0, 0, top - thick / 2), surface)
    colour, below = tinted(rng, 0.5, 0.1, 0.9), top - thick
    if rng.random() < 0.15:
        return [board, box((size[0] * 0.95, size[1] * 0.95, below), colour, (0, 0, below / 2))]
    leg = between(rng, 0.03, 0.08)
    corners = [
        (sx * (size[0] / 2 - leg), sy * (size[1] / 2 - leg)) for sx in (-1, 1) for sy in (-1, 1)
    ]
    return [board, *(box((leg, leg, below), colour, (x, y, below / 2)) for x, y in corners)]
