"""Rendered sequences with a camera that moves, true ids and true depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.scenes.scene import Rng
from xdecoder_rt.scenes.simulator import Camera
from xdecoder_rt.scenes.workcell import WorkcellStudio

__all__ = ["MovingFrame", "walk"]


@dataclass(frozen=True, eq=False)
class MovingFrame:
    """A frame of a sequence and all that is true of it.

    Attributes:
        image: uint8 RGB ``[h, w, 3]``.
        ids: int64 ``[h, w]``: the number of the thing at each pixel, the same in all frames; 0 for
            what has no label.
        labels: the label of each number.
        depth: float32 ``[h, w]``, metres along the optical axis; NaN where there is nothing.
        intrinsics: fx, fy, cx and cy, pixels.
    """

    image: NDArray[np.uint8]
    ids: NDArray[np.int64]
    labels: dict[int, str]
    depth: NDArray[np.float32]
    intrinsics: tuple[float, float, float, float]


def walk(
    studio: WorkcellStudio,
    rng: Rng,
    frames: int,
    size: tuple[int, int] = (336, 448),
    degrees: float = 0.8,
    sway: float = 0.01,
) -> Iterator[MovingFrame]:
    """Build a room and carry a camera around its table, there and back.

    Args:
        studio: builds and renders.
        rng: source of randomness.
        frames: how many.
        size: (height, width).
        degrees: turn of the camera around the table from one frame to the next.
        sway: how far the hand that carries it trembles, metres.
    """
    plan = studio.arrange(rng)
    labels = studio.names_of_things
    height, width = size
    focal = height / 2 / float(np.tan(np.radians(plan.camera.field_of_view) / 2))
    intrinsics = (focal, focal, (width - 1) / 2, (height - 1) / 2)
    known = np.array(sorted(labels))
    for number in range(frames):
        # A whole period: the camera comes back to where it began.
        turn = np.radians(degrees) * frames / (2 * np.pi) * np.sin(2 * np.pi * number / frames)
        camera = _turned(plan.camera, turn, rng.normal(0, sway, 3))
        image, things, depth = studio.look(camera, plan.light, height, width)
        ids = np.where(np.isin(things, known), things, 0)
        yield MovingFrame(image, ids, labels, depth, intrinsics)


def _turned(camera: Camera, turn: float, shake: NDArray[np.float64]) -> Camera:
    """Return a camera carried around what it looks at by an angle, radians."""
    eye, target = np.array(camera.eye), np.array(camera.target)
    x, y, z = eye - target
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    moved = target + (cos * x - sin * y, sin * x + cos * y, z) + shake
    return replace(camera, eye=(float(moved[0]), float(moved[1]), float(moved[2])))
