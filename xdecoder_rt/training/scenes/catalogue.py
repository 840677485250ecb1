"""The names of what may stand in a workcell scene."""

from __future__ import annotations

from typing import Final

__all__ = ["MODEL_NAMES", "ROBOT_NAMES", "WORKCELL_NAMES"]

ROBOT_NAMES: Final = (
    "robot arm", "gripper", "mobile robot", "quadruped robot", "humanoid robot", "robot",
)
"""Parts and kinds of the simulator's robots."""

MODEL_NAMES: Final = (
    "table", "tray", "rubber duck", "teddy bear", "mug", "toy brick", "soccer ball", "domino",
    "wooden block", "toy car", "shelf", "rock",
)
"""Objects that the simulator ships as models."""

SHAPED_NAMES: Final = (
    "cube", "ball", "cylinder", "cone", "pyramid", "prism", "ring", "bolt", "nut", "washer",
    "screw", "gear", "spring", "pipe", "bottle", "can", "cup", "bowl", "plate", "wine glass",
    "frying pan", "pot", "spoon", "wrench", "hammer", "screwdriver", "bin", "crate",
    "cardboard box", "cereal box", "milk carton", "book", "mobile phone", "apple", "pear",
    "orange", "lemon", "banana", "carrot", "egg", "tomato", "loaf of bread", "pencil",
    "traffic cone", "barrel", "bucket", "vase", "candle", "light bulb", "battery", "flashlight",
    "dumbbell", "tape roll", "spool", "funnel", "bracket", "dice", "star", "heart", "chair",
    "stool", "cabinet", "laptop", "monitor", "keyboard", "pallet", "trash can", "flowerpot",
    "teapot", "jar", "ladder", "knife", "cutting board", "doughnut", "cheese", "watermelon",
)
"""Objects whose shapes are made here."""

WORKCELL_NAMES: Final = tuple(sorted({*ROBOT_NAMES, *MODEL_NAMES, *SHAPED_NAMES}))
