"""PyBullet's bundled models: what each is called and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

__all__ = ["ARMS", "FLOOR_MODELS", "TABLE_MODELS", "Arm", "Model"]


@dataclass(frozen=True)
class Model:
    """A model file.

    Attributes:
        path: File, relative to pybullet_data.
        scale: Range of the scale it is loaded with.
        tilt: Roll and pitch that make it stand.
        recolour: Whether any colour suits its base.
    """

    path: str
    scale: tuple[float, float] = (1.0, 1.0)
    tilt: tuple[float, float] = (0.0, 0.0)
    recolour: bool = False


@dataclass(frozen=True)
class Arm:
    """A robot arm with a gripper.

    Attributes:
        path: File, relative to pybullet_data.
        gripper: Words in the names of the links that are its gripper.
        rest_pose: Joint values of a natural pose, from the base up.
        finger: Word in the names of the links that open.
        opening: How far they open, radians or metres.
    """

    path: str
    gripper: tuple[str, ...]
    rest_pose: tuple[float, ...]
    finger: str = "finger"
    opening: float = 0.04


ARMS: Final = (
    Arm("franka_panda/panda.urdf", ("panda_hand", "finger"), (0.0, 0.2, 0.0, -1.9, 0.0, 2.1, 0.78)),
    Arm(
        "kuka_iiwa/kuka_with_gripper2.sdf",
        ("base_link", "finger"),
        (0.0, 0.5, 0.0, -1.5, 0.0, 1.1, 0.0),
        "finger",
        0.2,
    ),
    Arm(
        "xarm/xarm6_with_gripper.urdf",
        ("gripper", "knuckle", "finger"),
        (0.0, -0.3, -0.9, 0.0, 1.1, 0.0),
        "knuckle",
        0.6,
    ),
)

TABLE_MODELS: Final[dict[str, tuple[Model, ...]]] = {
    "rubber duck": (Model("duck_vhacd.urdf", (0.8, 1.8), (np.pi / 2, 0.0)),),
    "teddy bear": (Model("teddy_vhacd.urdf", (1.2, 2.6), (np.pi / 2, 0.0)),),
    "mug": (Model("objects/mug.urdf", (0.9, 1.2), recolour=True),),
    "toy brick": (Model("lego/lego.urdf", (1.2, 2.5), recolour=True),),
    "soccer ball": (Model("soccerball.urdf", (0.08, 0.22)),),
    "domino": (Model("domino/domino.urdf", (1.0, 2.0)),),
    "toy car": (Model("racecar/racecar.urdf", (0.3, 0.6)),),
    "tray": (
        Model("tray/traybox.urdf", (0.35, 0.7), recolour=True),
        Model("tray/tray.urdf", (0.35, 0.7)),
    ),
}
"""Name → the models that show it, for table tops."""

FLOOR_MODELS: Final[dict[str, tuple[Model, ...]]] = {
    "mobile robot": (
        Model("husky/husky.urdf", (0.7, 1.0)),
        Model("racecar/racecar.urdf", (1.2, 1.8)),
    ),
    "robot": (Model("r2d2.urdf", (0.7, 1.2)),),
    "quadruped robot": (
        Model("a1/a1.urdf"),
        Model("aliengo/aliengo.urdf"),
        Model("quadruped/minitaur.urdf"),
    ),
    "shelf": (Model("kiva_shelf/model.sdf", (0.6, 0.8)),),
    "teddy bear": (Model("teddy_large.urdf", (0.15, 0.3), (np.pi / 2, 0.0)),),
    "soccer ball": (Model("soccerball.urdf", (0.2, 0.24)),),
}
"""Name → the models that show it, for the floor."""
