"""The names of what may stand in a workcell scene."""

from __future__ import annotations

from typing import Final

from xdecoder_rt.scenes.meshes.objects import MADE
from xdecoder_rt.scenes.models import FLOOR_MODELS, TABLE_MODELS

__all__ = ["WORKCELL_NAMES"]

WORKCELL_NAMES: Final = tuple(
    sorted({"robot arm", "gripper", "table", *TABLE_MODELS, *FLOOR_MODELS, *MADE})
)
"""Every thing of the domain, by its canonical name."""
