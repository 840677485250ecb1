"""Every object that is made rather than loaded, and how each is used in a scene."""

from __future__ import annotations

from typing import Final

from xdecoder_rt.scenes.meshes.containers import CONTAINERS
from xdecoder_rt.scenes.meshes.furniture import FURNITURE
from xdecoder_rt.scenes.meshes.groceries import GROCERIES
from xdecoder_rt.scenes.meshes.hardware import HARDWARE
from xdecoder_rt.scenes.meshes.kitchen import KITCHEN
from xdecoder_rt.scenes.meshes.office import OFFICE
from xdecoder_rt.scenes.meshes.shapes import Maker
from xdecoder_rt.scenes.meshes.solids import SOLIDS

__all__ = ["FLOOR_OBJECTS", "HOLD_OTHERS", "LIE_DOWN", "MADE", "SMALL", "SOLIDS", "TABLE_OBJECTS"]

MADE: Final[dict[str, Maker]] = {
    **SOLIDS,
    **HARDWARE,
    **OFFICE,
    **KITCHEN,
    **GROCERIES,
    **CONTAINERS,
    **FURNITURE,
}
"""Name → maker of its parts, standing on z = 0 about the origin."""

_FLOOR_ONLY: Final = frozenset({*FURNITURE, "barrel", "trash can"})

FLOOR_OBJECTS: Final = _FLOOR_ONLY | {
    "crate",
    "cardboard box",
    "bucket",
    "traffic cone",
    "flowerpot",
    "bin",
}
"""Names of things that may stand on the floor."""

TABLE_OBJECTS: Final = frozenset(MADE) - _FLOOR_ONLY
"""Names of things that may stand on a table."""

LIE_DOWN: Final = frozenset(
    {
        "bottle",
        "can",
        "cylinder",
        "cone",
        "bolt",
        "screw",
        "candle",
        "pipe",
        "battery",
        "cereal box",
        "milk carton",
        "book",
        "prism",
        "cup",
        "mug",
        "spool",
        "jar",
        "light bulb",
        "pear",
        "spring",
        "ring",
    }
)
"""Names of things that may lie on their side."""

SMALL: Final = frozenset(
    {
        "bolt",
        "screw",
        "nut",
        "washer",
        "gear",
        "spring",
        "cube",
        "ball",
        "battery",
        "apple",
        "orange",
        "banana",
        "egg",
        "tomato",
        "pear",
        "cylinder",
        "dice",
        "carrot",
    }
)
"""Names of things that are put into bins and bowls."""

HOLD_OTHERS: Final = frozenset({"bin", "bowl", "crate", "frying pan", "plate"})
"""Open vessels that small things may lie in."""
