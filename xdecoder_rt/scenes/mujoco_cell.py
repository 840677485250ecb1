"""The `mujoco` domain: cells of another renderer and of robots that training never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from xdecoder_rt.scenes.cell import Arrangement, Cell, Spot
from xdecoder_rt.scenes.meshes.objects import MADE
from xdecoder_rt.scenes.meshes.shapes import Colour, Floats64, Part, Rng, between, tube
from xdecoder_rt.scenes.mujoco_world import MujocoWorld
from xdecoder_rt.scenes.splits import novel_names

__all__ = ["MujocoStudio", "mujoco_studio"]

_LIVERIES: Final[tuple[tuple[Colour, Colour], ...]] = (
    ((0.93, 0.93, 0.92), (0.15, 0.15, 0.17)),
    ((0.95, 0.45, 0.05), (0.1, 0.1, 0.1)),
    ((0.95, 0.8, 0.1), (0.2, 0.2, 0.22)),
    ((0.2, 0.35, 0.65), (0.85, 0.85, 0.85)),
    ((0.6, 0.62, 0.65), (0.3, 0.5, 0.75)),
    ((0.12, 0.12, 0.13), (0.7, 0.1, 0.1)),
)
"""Colours of an arm's links and of its joints."""


class MujocoStudio(Cell):
    """Renders cells with MuJoCo: made things only, and an arm put together here.

    Args:
        names: As of :class:`Cell`.
        supersampling: The same.

    Raises:
        MissingExtraError: mujoco is not installed.
        BackendError: OpenGL cannot be loaded.
    """

    def __init__(self, names: Sequence[str], *, supersampling: float = 2.0) -> None:
        self._meshes = MujocoWorld()
        super().__init__(self._meshes, names, supersampling=supersampling)

    def _put_arm(
        self, rng: Rng, plan: Arrangement, on_table: list[Spot], on_floor: list[Spot]
    ) -> None:
        x, y, base = self._place_for_arm(rng, plan, on_table, on_floor)
        away = float(np.hypot(x, y))
        inward = float(np.arctan2(-y, -x)) + between(rng, -0.5, 0.5)
        far = between(rng, 0.3, min(0.75, max(0.35, away)))
        target = np.array([far * np.cos(inward), far * np.sin(inward), 0.0])
        target[2] = plan.top - base + between(rng, 0.12, 0.4)
        arm, gripper = _arm(rng, target)
        still, where = np.eye(3), (x, y, base)
        shine = between(rng, 0.1, 0.8)
        self._meshes.add_parts(arm, self._new("robot arm"), where, still, shine)
        self._meshes.add_parts(gripper, self._new("gripper"), where, still, shine)


@dataclass(frozen=True)
class _Chain:
    """Joints of an arm from its foot to its wrist, metres."""

    joints: Floats64
    reaching: Floats64


def _arm(rng: Rng, target: Floats64) -> tuple[list[Part], list[Part]]:
    """Return an arm on the origin whose fingers point at a place, and its gripper."""
    links, dark = _LIVERIES[int(rng.integers(len(_LIVERIES)))]
    thick = between(rng, 0.035, 0.06)
    chain = _bent(rng, target)
    parts = [_rod([(0, 0, 0), (0, 0, 0.04)], 2.2 * thick, dark)]
    for number, (start, end) in enumerate(zip(chain.joints[:-1], chain.joints[1:], strict=True)):
        radius = thick * (1.15 - 0.15 * number)
        parts.append(_rod([start, end], radius, links))
        if number:
            across = np.cross(end - start, (0.0, 0.0, 1.0))
            length = float(np.linalg.norm(across))
            across = across / length if length > 1e-6 else np.array([1.0, 0.0, 0.0])
            hub = 1.35 * radius * across
            parts.append(_rod([start - hub, start + hub], 1.2 * radius, dark))
    wrist, ahead = chain.joints[-1], chain.reaching
    return parts, _gripper(rng, wrist, ahead, thick, links if rng.random() < 0.3 else dark)


def _bent(rng: Rng, target: Floats64) -> _Chain:
    """Return two links bent in a vertical plane, a third that points down or a little aside."""
    ahead = np.array([between(rng, -0.5, 0.5), between(rng, -0.5, 0.5), -1.0])
    ahead /= np.linalg.norm(ahead)
    wrist = target - between(rng, 0.1, 0.16) * ahead
    hand = wrist - between(rng, 0.06, 0.1) * ahead
    shoulder = np.array([0.0, 0.0, between(rng, 0.22, 0.36)])
    span = hand - shoulder
    distance = float(np.linalg.norm(span))
    upper = max(between(rng, 0.32, 0.45), 0.56 * distance)
    lower = max(between(rng, 0.28, 0.4), 0.56 * distance)
    along = (distance**2 + upper**2 - lower**2) / (2 * distance)
    high = float(np.sqrt(max(0.0, upper**2 - along**2)))
    unit = span / distance
    up = np.array([0.0, 0.0, 1.0]) - unit[2] * unit
    up /= np.linalg.norm(up)
    elbow = shoulder + along * unit + high * up
    return _Chain(np.stack([np.zeros(3), shoulder, elbow, hand, wrist]), ahead)


def _gripper(
    rng: Rng, wrist: Floats64, ahead: Floats64, thick: float, colour: Colour
) -> list[Part]:
    """A palm across the wrist and two fingers."""
    across = np.cross(ahead, rng.normal(size=3))
    across /= np.linalg.norm(across)
    wide, opening = between(rng, 0.05, 0.08), between(rng, 0.015, 0.045)
    palm = wrist + 0.03 * ahead
    finger = between(rng, 0.06, 0.1)
    parts = [
        _rod([wrist, palm], 0.9 * thick, colour),
        _rod([palm - wide * across, palm + wide * across], 0.55 * thick, colour),
    ]
    for side in (-1, 1):
        root = palm + side * opening * across
        parts.append(_rod([root, root + finger * ahead], 0.3 * thick, colour))
    return parts


def _rod(points: Sequence[Sequence[float] | Floats64], radius: float, colour: Colour) -> Part:
    return tube([tuple(map(float, point)) for point in points], radius, colour)


def mujoco_studio(split: str) -> MujocoStudio:
    """Return the studio of a split: "novel" has the held-out names only, "val" all but these.

    Raises:
        MissingExtraError: mujoco is not installed.
        BackendError: OpenGL cannot be loaded.
    """
    novel = novel_names()
    names = sorted({"robot arm", "gripper", "table", *MADE})
    return MujocoStudio([name for name in names if (name in novel) == (split == "novel")])
