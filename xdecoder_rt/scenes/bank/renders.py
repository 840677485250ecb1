"""Renders single things from all sides, as cut-outs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xdecoder_rt.scenes.interiors.library import FurnitureLibrary
from xdecoder_rt.scenes.lexicons.furniture import Furniture
from xdecoder_rt.scenes.meshes.objects import LIE_DOWN, MADE, SOLIDS
from xdecoder_rt.scenes.meshes.paint import any_colour, named_colour
from xdecoder_rt.scenes.meshes.shapes import Part, Rng, between, bounds
from xdecoder_rt.scenes.models import ARMS, FLOOR_MODELS, TABLE_MODELS, Model
from xdecoder_rt.scenes.room import yaw
from xdecoder_rt.scenes.simulator import Camera, Light, Simulator, merged

__all__ = ["THINGS", "furniture_views", "renderings"]

THINGS = tuple(sorted({"robot arm", *MADE, *TABLE_MODELS, *FLOOR_MODELS}))
"""The names of what can be rendered."""

_SUPERSAMPLING = 2  # the renderer does not smooth edges
_LEAST_SHARE = 0.02
_MARGIN = 1.15
_ALL_ROUND = (0.0, 2 * np.pi)
_IN_FRONT = (-np.pi / 2 - 1.3, -np.pi / 2 + 1.3)  # backs of cupboards say little
_MOST_FACES = 43_000  # of a body: the renderer takes 131,072 vertices of one
_ON_ITS_SIDE = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])


def renderings(name: str, count: int, side: int, rng: Rng) -> Iterator[NDArray[np.uint8]]:
    """Views of things of one name, each another thing, from another side, in another light.

    Args:
        name: one of :data:`THINGS`.
        count: how many views are tried; one that shows next to nothing is left out.
        side: longest side of a cut-out, pixels.
        rng: source of all randomness.

    Yields:
        uint8 RGBA ``[h, w, 4]``, cropped.

    Raises:
        MissingExtraError: pybullet is not installed.
    """
    world = Simulator()
    try:
        for _ in range(count):
            world.clear()
            low, high = _put(world, name, rng)
            cut_out = _view(world, low, high, side, rng)
            if cut_out is not None:
                yield cut_out
    finally:
        world.close()


def furniture_views(
    library: FurnitureLibrary, model: Furniture, count: int, side: int, rng: Rng
) -> Iterator[NDArray[np.uint8]]:
    """Views of a model from the front and its sides, each in another light.

    Args:
        library: Has the model.
        model: Which.
        count: how many views are tried; one that shows next to nothing is left out, and so is a
            model of more faces of one material than the renderer takes.
        side: longest side of a cut-out, pixels.
        rng: source of all randomness.

    Yields:
        uint8 RGBA ``[h, w, 4]``, cropped.

    Raises:
        DatasetError: the model is damaged.
        MissingExtraError: pybullet is not installed.
    """
    parts = library.load(model)
    if max(len(part.faces) for part in merged(parts)) > _MOST_FACES:
        return
    world = Simulator()
    try:
        low, high = _add(world, parts)
        for _ in range(count):
            cut_out = _view(world, low, high, side, rng, _IN_FRONT)
            if cut_out is not None:
                yield cut_out
    finally:
        world.close()


def _put(world: Simulator, name: str, rng: Rng) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Put one thing at the origin; its lowest and highest corner."""
    if name == "robot arm":
        return _arm(world, rng)
    models = (*TABLE_MODELS.get(name, ()), *FLOOR_MODELS.get(name, ()))
    if models and (name not in MADE or rng.random() < 0.5):
        return _model(world, models[int(rng.integers(len(models)))], rng)
    parts = MADE[name](rng)
    if name in SOLIDS and rng.random() < 0.7:
        _, colour = named_colour(rng)
        parts = [replace(part, colour=colour) for part in parts]
    rotation = yaw(between(rng, 0, 2 * np.pi))
    if name in LIE_DOWN and rng.random() < 0.35:
        rotation = rotation @ _ON_ITS_SIDE @ yaw(between(rng, 0, 2 * np.pi))
    parts = [replace(part, vertices=part.vertices @ rotation.T) for part in parts]
    parts = [replace(part, normals=part.normals @ rotation.T) for part in parts]
    return _add(world, parts)


def _add(world: Simulator, parts: list[Part]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Add parts at half a metre; small things would fall before the near plane."""
    low, high = bounds(parts)
    factor = 0.5 / float((high - low).max())
    parts = [replace(part, vertices=part.vertices * factor) for part in parts]
    world.add_parts(parts, 1, (0.0, 0.0, 0.0), np.eye(3))
    return low * factor, high * factor


def _model(
    world: Simulator, model: Model, rng: Rng
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    body = world.load(model.path, between(rng, *model.scale))
    world.place(body, (0, 0, 0), (*model.tilt, between(rng, 0, 2 * np.pi)))
    world.give(body, 1)
    if model.recolour and rng.random() < 0.7:
        world.paint(body, -1, any_colour(rng))
    return world.bounds(body)


def _arm(world: Simulator, rng: Rng) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return an arm in a pose near its rest, any of its links another colour at times."""
    arm = ARMS[int(rng.integers(len(ARMS)))]
    body = world.load(arm.path)
    world.place(body, (0, 0, 0), (0, 0, between(rng, 0, 2 * np.pi)))
    gripper = world.links_named(body, arm.gripper)
    gripper_links = {*gripper, *world.links_named(body, (arm.finger,))}
    moving = [joint for joint in world.joints(body) if joint.number not in gripper_links]
    for joint, rest_value in zip(moving, arm.rest_pose, strict=False):
        world.set_joint(body, joint, rest_value + float(rng.normal(0, 0.5)))
    world.give(body, 1)
    # In whole scenes the gripper is a thing of its own.
    world.give(body, 2, gripper)
    if rng.random() < 0.5:
        colours = (any_colour(rng), any_colour(rng))
        for link in range(-1, world.link_count(body)):
            world.paint(body, link, colours[link % 2])
    return world.bounds(body)


def _view(
    world: Simulator,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    side: int,
    rng: Rng,
    turns: tuple[float, float] = _ALL_ROUND,
) -> NDArray[np.uint8] | None:
    middle, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    field_of_view = between(rng, 20, 55)
    distance = _MARGIN * radius / float(np.sin(np.radians(field_of_view / 2)))
    turn, rise = between(rng, *turns), np.radians(between(rng, 5, 60))
    direction = (np.cos(turn) * np.cos(rise), np.sin(turn) * np.cos(rise), np.sin(rise))
    eye = middle + distance * np.asarray(direction)
    camera = Camera(_triple(eye), _triple(middle), field_of_view)
    lamp = between(rng, 0, 2 * np.pi)
    tint = 1 + rng.normal(0, 0.04, 3)
    light = Light(
        (float(np.cos(lamp)), float(np.sin(lamp)), between(rng, 0.5, 2.0)),
        _triple(tint),
        between(rng, 0.35, 0.7),
        between(rng, 0.3, 0.7),
        between(rng, 0.0, 0.5),
        False,
    )
    size = side * _SUPERSAMPLING
    picture, things = world.render(camera, light, size, size)
    mask = things == 1
    if mask.mean() < _LEAST_SHARE:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    pixels = np.dstack((picture, mask.astype(np.uint8) * 255))[part]
    scale = side / max(pixels.shape[:2])
    target = (max(2, round(pixels.shape[1] * scale)), max(2, round(pixels.shape[0] * scale)))
    smooth = Image.fromarray(pixels).convert("RGBa").resize(target, Image.Resampling.BOX)
    return np.asarray(smooth.convert("RGBA"))


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
