"""Lights a flat drawing as if it were a rounded body: a bridge from drawings to things."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.errors import require

__all__ = ["relief"]


def relief(cut_out: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Puff up a cut-out and light it.

    Its outline's distance transform is the profile of a rounded body and its brightness a fine
    relief on it; the body is lit by one lamp, with a highlight and darker edges.

    Args:
        cut_out: uint8 RGBA ``[h, w, 4]``.
        rng: source of randomness: how round, how glossy, where the lamp is.
    """
    cv2: Any = require("cv2", "train")
    alpha = cut_out[..., 3]
    padded = cv2.copyMakeBorder(alpha, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inside = (padded > 127).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
    radius = max(2.0, float(distance.max())) * float(rng.uniform(0.35, 1.0))
    rise = 1 - np.clip(distance / radius, 0, 1)
    height = np.sqrt(np.maximum(0, 1 - rise * rise)) * (radius * float(rng.uniform(0.5, 1.3)))
    colour = cut_out[..., :3].astype(np.float32)
    if rng.random() < 0.5:
        grey = cv2.cvtColor(cut_out[..., :3], cv2.COLOR_RGB2GRAY).astype(np.float32)
        height = height + cv2.GaussianBlur(grey, (0, 0), 1.2) * float(rng.uniform(-0.015, 0.015))
    height = cv2.GaussianBlur(height.astype(np.float32), (0, 0), 0.6 + 0.06 * radius)
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    length = np.sqrt(slope_x * slope_x + slope_y * slope_y + 1)
    turn, lift = rng.uniform(-np.pi, 0) + rng.normal(0, 0.3), rng.uniform(0.6, 1.3)
    lamp = np.array([np.cos(turn) * np.cos(lift), np.sin(turn) * np.cos(lift), np.sin(lift)])
    lit = (-slope_x * lamp[0] - slope_y * lamp[1] + lamp[2]) / length
    ambient = float(rng.uniform(0.35, 0.75))
    shade = ambient + (1.15 - ambient) * np.clip(lit, 0, 1)
    if rng.random() < 0.5:
        shade = shade * (1 - float(rng.uniform(0.1, 0.35)) * rise * rise)
    result = colour * shade[..., None].astype(np.float32)
    if rng.random() < 0.7:
        half = lamp + np.array([0, 0, 1.0])
        half /= np.linalg.norm(half)
        gloss = (-slope_x * half[0] - slope_y * half[1] + half[2]) / length
        power, strength = float(rng.uniform(8, 60)), float(rng.uniform(40, 180))
        result += (strength * np.clip(gloss, 0, 1) ** power)[..., None].astype(np.float32)
    if rng.random() < 0.3:
        # Smooth plastic: flat regions of a drawing run into one another a little.
        result = cv2.GaussianBlur(result, (0, 0), float(rng.uniform(0.5, 1.5)))
    return np.dstack((np.clip(result, 0, 255).astype(np.uint8), alpha))
