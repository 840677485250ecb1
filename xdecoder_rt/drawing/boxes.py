"""Boxes in space over their image, with distances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["draw_boxes"]

_EDGES = [(a, a | 1 << i) for a in range(8) for i in range(3) if not a >> i & 1]
_COLOUR, _SHADE = (255, 255, 255), (0, 0, 0)
_NEAREST = 0.01  # metres; nothing nearer can be drawn


class Placed(Protocol):
    """What has a box and a distance: :class:`xdecoder_rt.space.places.Place`."""

    @property
    def box(self) -> Any:
        """With ``corners()``, float64 ``[8, 3]``."""

    @property
    def distance(self) -> float:
        """Metres."""


def draw_boxes(picture: Image.Image, places: Iterable[Placed], intrinsics: Any) -> None:
    """Draw the edges of boxes and their distances over a picture, in place.

    Args:
        picture: RGB.
        places: of things in the camera's optical frame, metres.
        intrinsics: the 3 x 3 matrix K, its 9 numbers, or fx, fy, cx and cy, of this picture.
    """
    numbers = np.asarray(intrinsics, np.float64).ravel()
    fx, fy, cx, cy = numbers[[0, 4, 2, 5]] if len(numbers) == 9 else numbers
    pen = ImageDraw.Draw(picture)
    width = max(1, round(min(picture.size) / 300))
    for place in places:
        corners = place.box.corners()
        if corners[:, 2].min() < _NEAREST:
            continue
        u = corners[:, 0] * fx / corners[:, 2] + cx
        v = corners[:, 1] * fy / corners[:, 2] + cy
        points = list(zip(u.tolist(), v.tolist(), strict=True))
        for colour, thickness in ((_SHADE, width + 2), (_COLOUR, width)):
            for first, second in _EDGES:
                pen.line((points[first], points[second]), colour, thickness)
        pen.text(
            (float(u.mean()), float(v.min())), f"{place.distance:.2f} m", _COLOUR,
            stroke_width=2, stroke_fill=_SHADE, anchor="md",
        )  # fmt: skip
