"""The background of a clip-art scene: one to three regions of named stuff."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xdecoder_rt.scenes.scene import Scene
from xdecoder_rt.scenes.textures import texture

__all__ = ["BACKDROP_STUFF", "backdrop"]

# What a texture is called when it fills a flat region. Plain backdrops have no name.
_FLAT: Final[dict[str, str]] = {
    "wood": "wood",
    "brick": "brick wall",
    "stone": "stone wall",
    "grass": "grass",
    "sky": "sky",
    "sand": "sand",
    "water": "water",
    "tiles": "tiles",
    "checkered": "checkered floor",
    "concrete": "concrete",
    "metal": "metal",
    "carpet": "carpet",
    "gravel": "gravel",
    "snow": "snow",
    "asphalt": "road",
    "fabric": "fabric",
    "marble": "marble",
    "soil": "soil",
    "foliage": "leaves",
}
_GROUND: Final = ("grass", "sand", "water", "snow", "gravel", "asphalt", "soil")
_WALLS: Final = ("plaster", "plaster", "wallpaper", "brick", "stone", "concrete", "wood", "tiles")
_FLOORS: Final = ("wood", "wood", "tiles", "carpet", "concrete", "marble", "checkered")

BACKDROP_STUFF: Final[frozenset[str]] = frozenset({*_FLAT.values(), "wall", "floor"})
"""Every stuff label that a clip-art scene may have."""


def backdrop(rng: np.random.Generator, height: int, width: int) -> Scene:
    """A scene with stuff only.

    Three kinds: one texture over everything; a landscape (sky above ground, sometimes with
    something between); a room (wall above floor). Regions meet at a slightly tilted or wavy line.

    Returns:
        A scene whose stuff has the ids from 1; plain backdrops are left unlabelled.
    """
    kind = rng.random()
    if kind < 0.1:
        image = texture("plain", rng, height, width)
        return Scene(image, np.zeros((height, width), np.uint8), {})
    if kind < 0.4:
        name = _choice(rng, tuple(_FLAT))
        image = texture(name, rng, height, width)
        return Scene(image, np.ones((height, width), np.uint8), {1: _FLAT[name]})
    horizon = rng.uniform(0.25, 0.75)
    if kind < 0.7:
        layers = [("sky", "sky", 0.0)]
        if rng.random() < 0.35:
            middle = _choice(rng, ("foliage", "water", "stone", "brick"))
            layers.append((middle, _FLAT[middle], horizon))
            horizon += rng.uniform(0.12, 0.22)
        below = _choice(rng, tuple(g for g in _GROUND if g != layers[-1][0]))
        layers.append((below, _FLAT[below], horizon))
    else:
        wall, floor = _choice(rng, _WALLS), _choice(rng, _FLOORS)
        layers = [(wall, "wall", 0.0), (floor, "floor", horizon)]
    return _stack_layers(rng, height, width, layers)


def _choice(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _stack_layers(
    rng: np.random.Generator, height: int, width: int, layers: list[tuple[str, str, float]]
) -> Scene:
    """Layers from top to bottom: (texture, label, where it begins as a share of the height)."""
    image = np.zeros((height, width, 3), np.uint8)
    ids = np.zeros((height, width), np.uint8)
    labels: dict[int, str] = {}
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    indoors = layers[0][1] == "wall"
    for number, (name, label, begin) in enumerate(layers, start=1):
        if number == 1:
            region = np.ones((height, width), bool)
        else:
            line = begin * height + rng.normal(0, 0.03) * (x - width / 2)
            if not indoors and rng.random() < 0.5:
                bumps = rng.uniform(0.01, 0.04) * height
                line = line + bumps * np.sin(x / width * rng.uniform(4, 14) + rng.uniform(0, 6))
            region = y >= line
        flat = texture(name, rng, height, width)
        if number > 1 and name not in ("sky", "foliage", "stone", "brick"):
            flat = _receding(flat, begin)
        image[region] = flat[region]
        ids[region] = number
        labels[number] = label
    if indoors and rng.random() < 0.5:
        shade = np.clip((y - layers[1][2] * height) / (0.15 * height), -1, 1)
        image = (image * (0.8 + 0.2 * np.abs(shade))[..., None]).astype(np.uint8)
    return Scene(image, ids, labels)


def _receding(flat: NDArray[np.uint8], begin: float) -> NDArray[np.uint8]:
    """Return the texture as a plane that goes away from the viewer, its horizon above `begin`."""
    height, width = flat.shape[:2]
    top = max(0.0, begin - 0.12) * height  # regions may begin a little higher at one side
    squeeze = 0.35  # how narrow the far edge is on the texture, relative to the near one
    source = _perspective(
        [(0, top), (width, top), (width, height), (0, height)],
        [
            (0, 0),
            (width, 0),
            (width * (1 + squeeze) / 2, height),
            (width * (1 - squeeze) / 2, height),
        ],
    )
    image = Image.fromarray(flat).transform(
        (width, height), Image.Transform.PERSPECTIVE, source, Image.Resampling.BICUBIC
    )
    return np.asarray(image)


def _perspective(
    target: list[tuple[float, float]], source: list[tuple[float, float]]
) -> tuple[float, ...]:
    """Pillow's eight coefficients that map the four `target` points to the `source` points."""
    rows: list[list[float]] = []
    values: list[float] = []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
        values.extend((u, v))
    return tuple(float(c) for c in np.linalg.solve(np.asarray(rows), np.asarray(values)))
