"""An image and a vocabulary to measure with where nothing real is at hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_NOUNS = (
    "mug", "table", "robot arm", "chair", "lamp", "bottle", "keyboard", "cable", "wall", "floor",
    "box", "screwdriver", "cup", "plate", "door", "window", "book", "plant", "hand", "person",
    "shelf", "drawer", "bowl", "spoon", "knife", "fork", "banana", "apple", "ball", "tray",
    "gripper", "conveyor belt", "camera", "monitor", "mouse", "pen", "paper", "scissors", "tape",
    "hammer", "wrench", "drill", "glove", "helmet", "shoe", "bag", "basket", "bin", "sofa", "bed",
)  # fmt: skip
_ADJECTIVES = (
    "red", "green", "blue", "yellow", "black", "white", "small", "large", "old", "wooden", "metal",
    "plastic", "round", "square", "broken", "empty", "full", "open", "closed",
)  # fmt: skip
_SHAPES = 24
_GRAIN = 4  # pixels


def image(size: tuple[int, int], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Draw rectangles and ellipses of random colours over a gradient, with grain.

    It is made small and enlarged: the peak memory of a measured process must be the engine's.

    Args:
        size: (height, width).
        seed: another picture for each.

    Returns:
        uint8 ``[height, width, 3]``.
    """
    height, width = size
    small = _shapes((-(-height // _GRAIN), -(-width // _GRAIN)), seed)
    rows, columns = np.arange(height) // _GRAIN, np.arange(width) // _GRAIN
    return small[rows[:, None], columns[None, :]]


def _shapes(size: tuple[int, int], seed: int) -> npt.NDArray[np.uint8]:
    height, width = size
    generator = np.random.default_rng(seed)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(0, 1, width, dtype=np.float32)[None, :]
    corners = generator.uniform(40, 215, (2, 3)).astype(np.float32)
    slope = ((rows + columns) / 2)[:, :, None]
    pixels = corners[0] + slope * (corners[1] - corners[0])
    for _ in range(_SHAPES):
        y, x, radius_y, radius_x = generator.uniform((0, 0, 0.03, 0.03), (1, 1, 0.2, 0.2))
        down, across = np.abs(rows - y) / radius_y, np.abs(columns - x) / radius_x
        is_ellipse = generator.random() < 0.5
        inside = down**2 + across**2 < 1 if is_ellipse else np.maximum(down, across) < 1
        pixels[inside] = generator.uniform(0, 255, 3)
    pixels += generator.normal(0, 4, (height, width, 1)).astype(np.float32)
    result: npt.NDArray[np.uint8] = pixels.round().clip(0, 255).astype(np.uint8)
    return result


def words(count: int, variant: int | None = None) -> list[str]:
    """Return different class names, the plain ones first.

    Args:
        count: how many.
        variant: a number to put into every name, for names that no cache knows yet.
    """
    names = [*_NOUNS, *(f"{adjective} {noun}" for adjective in _ADJECTIVES for noun in _NOUNS)]
    repeats = -(-count // len(names))
    names = [name if part == 0 else f"{name} {part}" for part in range(repeats) for name in names]
    return [name if variant is None else f"{name} number {variant}" for name in names[:count]]
