"""The `workcell` domain: cells rendered by PyBullet, with the robots and models it brings along."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.scenes.catalogue import WORKCELL_NAMES
from xdecoder_rt.scenes.cell import Arrangement, Cell, FindSpot, Spot
from xdecoder_rt.scenes.meshes.paint import any_colour, tinted
from xdecoder_rt.scenes.meshes.shapes import Rng, between
from xdecoder_rt.scenes.models import ARMS, FLOOR_MODELS, TABLE_MODELS, Model
from xdecoder_rt.scenes.simulator import Camera, Light, Simulator
from xdecoder_rt.scenes.splits import novel_names

__all__ = ["WorkcellStudio", "workcell_studio"]


class WorkcellStudio(Cell):
    """Renders workcell scenes with PyBullet.

    Args:
        names: As of :class:`Cell`.
        use_synonyms: The same.
        supersampling: The same.

    Raises:
        MissingExtraError: pybullet is not installed.
    """

    table_models = TABLE_MODELS
    floor_models = FLOOR_MODELS

    def __init__(
        self, names: Iterable[str], *, use_synonyms: bool = False, supersampling: float = 1.0
    ) -> None:
        self._bodies = Simulator()
        super().__init__(
            self._bodies, names, use_synonyms=use_synonyms, supersampling=supersampling
        )

    def look(
        self, camera: Camera, light: Light, height: int, width: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]:
        """Return the room that was built last from another place; see `Simulator.look`."""
        return self._bodies.look(camera, light, height, width)

    def _put_arm(
        self, rng: Rng, plan: Arrangement, on_table: list[Spot], on_floor: list[Spot]
    ) -> None:
        """Put an arm on the table's edge, or on a pedestal beside it, bent over the table."""
        arm = ARMS[int(rng.integers(len(ARMS)))]
        world = self._bodies
        body = world.load(arm.path)
        x, y, base = self._place_for_arm(rng, plan, on_table, on_floor)
        inward = float(np.arctan2(-y, -x)) + between(rng, -0.7, 0.7)
        world.place(body, (x, y, base), (0, 0, inward))
        gripper = world.links_named(body, arm.gripper)
        fingers = world.links_named(body, (arm.finger,))
        joints = world.joints(body)
        moving = [joint for joint in joints if joint.number not in {*gripper, *fingers}]
        for attempt in range(12):
            spread = 0.5 if attempt < 10 else 0.1
            for joint, rest_value in zip(moving, arm.rest_pose, strict=False):
                world.set_joint(body, joint, rest_value + float(rng.normal(0, spread)))
            if world.link_heights(body)[2:].min() > plan.top + 0.06:
                break
        opening = between(rng, 0, arm.opening)
        for joint in joints:
            if joint.number in fingers:
                world.set_joint(body, joint, opening)
        world.give(body, self._new("robot arm"))
        world.give(body, self._new("gripper"), gripper)
        if rng.random() < 0.35:
            colours = (tinted(rng, 0.9, 0.1, 1.0), tinted(rng, 0.9, 0.05, 1.0))
            for link in range(-1, world.link_count(body)):
                world.paint(body, link, colours[link % 2])

    def _put_model(
        self, rng: Rng, name: str, model: Model, level: float, spots: list[Spot], find: FindSpot
    ) -> None:
        world = self._bodies
        body = world.load(model.path, between(rng, *model.scale))
        world.place(body, (0, 0, 10.0), (*model.tilt, between(rng, 0, 2 * np.pi)))
        low, high = world.bounds(body)
        spot = find(float(np.hypot(high[0] - low[0], high[1] - low[1])) / 2)
        if spot is None:
            world.remove(body)
            return
        spots.append(spot)
        world.shift(
            body,
            (
                spot.x - (low[0] + high[0]) / 2,
                spot.y - (low[1] + high[1]) / 2,
                level - low[2] - 0.001,
            ),
        )
        world.give(body, self._new(name))
        if model.recolour and rng.random() < 0.7:
            world.paint(body, -1, any_colour(rng))


def workcell_studio(split: str) -> WorkcellStudio:
    """Return the studio of a split: "novel" has the held-out names only, the others all but these.

    Raises:
        MissingExtraError: pybullet is not installed.
    """
    novel = novel_names()
    names = [name for name in WORKCELL_NAMES if (name in novel) == (split == "novel")]
    return WorkcellStudio(names, use_synonyms=split == "train")
