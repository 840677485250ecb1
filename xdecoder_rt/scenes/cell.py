"""Rooms with a robot, a table, and things on and around it, whatever renders them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from xdecoder_rt.scenes import room
from xdecoder_rt.scenes.meshes.objects import (
    FLOOR_OBJECTS,
    HOLD_OTHERS,
    LIE_DOWN,
    MADE,
    SMALL,
    SOLIDS,
    TABLE_OBJECTS,
)
from xdecoder_rt.scenes.meshes.paint import named_colour, tinted
from xdecoder_rt.scenes.meshes.shapes import Floats64, Part, Rng, between, bounds, box, scale_part
from xdecoder_rt.scenes.models import Model
from xdecoder_rt.scenes.names import synonyms
from xdecoder_rt.scenes.room import ROOM_STUFF, yaw
from xdecoder_rt.scenes.scene import Scene, scene_size
from xdecoder_rt.scenes.sensor import photograph
from xdecoder_rt.scenes.simulator import Camera, Light
from xdecoder_rt.scenes.textures import texture

__all__ = ["Arrangement", "Cell", "CellRenderer", "FindSpot", "Spot"]


_TINY: Final = 0.09  # metres; smaller things are sometimes made larger, or few would be seen
_ON_ITS_SIDE: Final = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])


@dataclass(frozen=True)
class Spot:
    """A circle on the floor or on the table that is taken."""

    x: float
    y: float
    radius: float

    def clear_of(self, others: Iterable[Spot]) -> bool:
        """Return whether it touches none of the others."""
        return all(np.hypot(self.x - o.x, self.y - o.y) >= self.radius + o.radius for o in others)


FindSpot = Callable[[float], Spot | None]


@dataclass(frozen=True)
class Arrangement:
    """The contents of a scene, where not left to chance.

    Attributes:
        objects: Names of what stands on the table.
        around: Names of what stands on the floor.
        arm: Whether there is a robot arm.
        size: Width and depth of the table, metres.
        top: Height of the table, metres.
        camera: Where the picture is taken from.
        light: How it is lit.
    """

    objects: tuple[str, ...]
    around: tuple[str, ...]
    arm: bool
    size: tuple[float, float]
    top: float
    camera: Camera
    light: Light


class CellRenderer(Protocol):
    """The interface of a cell's renderer: :class:`~.simulator.Simulator` has it, and more."""

    def clear(self) -> None:
        """Remove everything."""

    def add_parts(
        self, parts: Sequence[Part], thing: int, position: Sequence[float], rotation: Floats64
    ) -> None:
        """Place made parts of a thing, rotated by a 3 x 3 matrix and then moved."""

    def render(
        self, camera: Camera, light: Light, height: int, width: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """RGB [height, width, 3], and each pixel's thing: 0 for none, -1 where there is nothing."""


class Cell:
    """Draws robot cells; where models and arms come from is left to who knows the renderer.

    Args:
        world: The renderer.
        names: The names that may be used; what else must be there is left unlabelled.
        use_synonyms: Whether a thing may be called by a synonym of its canonical name.
        supersampling: Pictures are rendered this many times larger and reduced, because the
            renderer does not smooth edges. Time grows with its square.

    Attributes:
        stuff: The labels that are stuff.
        vocabulary: Every label.
        table_models: Name -> models that show it beside the made meshes, for the table.
        floor_models: Name -> models for the floor.
    """

    table_models: Mapping[str, Sequence[Model]] = {}
    floor_models: Mapping[str, Sequence[Model]] = {}

    def __init__(
        self,
        world: CellRenderer,
        names: Iterable[str],
        *,
        use_synonyms: bool = False,
        supersampling: float = 1.0,
    ) -> None:
        self._allowed = frozenset(names)
        self._table_names = sorted((TABLE_OBJECTS | set(self.table_models)) & self._allowed)
        self._floor_names = sorted((FLOOR_OBJECTS | set(self.floor_models)) & self._allowed)
        self._use_synonyms = use_synonyms
        self._supersampling = supersampling
        words = {w for n in self._allowed for w in (synonyms(n) if use_synonyms else (n,))}
        self.stuff = ROOM_STUFF
        self.vocabulary = (*sorted(words), *sorted(ROOM_STUFF))
        self._world = world
        self._labels: dict[int, str] = {}
        self._colours: dict[int, str] = {}

    def draw(self, rng: Rng, size: tuple[int, int] | None = None) -> Scene:
        """Draw one scene.

        Args:
            rng: Source of all its randomness.
            size: (height, width); None draws one of the usual sizes.
        """
        height, width = scene_size(rng, size)
        scene = self.arranged(rng, self._plan(rng), height, width)
        scene.image = photograph(scene.image, rng)
        return scene

    def arranged(self, rng: Rng, plan: Arrangement, height: int, width: int) -> Scene:
        """Draw the scene of an arrangement, as the renderer sees it, without a camera's flaws."""
        self._build(rng, plan)
        h, w = round(height * self._supersampling), round(width * self._supersampling)
        picture, things = self._world.render(plan.camera, plan.light, h, w)
        if (things == -1).any():
            picture[things == -1] = texture("plain", rng, h, w)[things == -1]
        image = Image.fromarray(picture)
        if self._supersampling == 1.0:
            image = image.filter(ImageFilter.GaussianBlur(0.45))  # takes the stairs off edges
        image = image.resize((width, height), Image.Resampling.BOX)
        rows = ((np.arange(height) + 0.5) * h / height).astype(int)
        columns = ((np.arange(width) + 0.5) * w / width).astype(int)
        return self._labelled(rng, np.asarray(image), things[rows][:, columns])

    def arrange(self, rng: Rng) -> Arrangement:
        """Build a room by chance, and return what it holds; `names_of_things` has their labels."""
        plan = self._plan(rng)
        self._build(rng, plan)
        return plan

    @property
    def names_of_things(self) -> dict[int, str]:
        """The label of each thing of the room that was built last, by its number."""
        return {i: name for i, name in self._labels.items() if name in self._allowed | ROOM_STUFF}

    def _labelled(self, rng: Rng, image: NDArray[np.uint8], numbers: NDArray[np.int64]) -> Scene:
        word: dict[str, str] = {}
        for name in sorted(set(self._labels.values())):
            words = synonyms(name)
            use_synonym = self._use_synonyms and len(words) > 1 and rng.random() < 0.35
            word[name] = words[int(rng.integers(1, len(words)))] if use_synonym else name
        labels = {i: word[n] for i, n in self._labels.items() if n in self._allowed | ROOM_STUFF}
        ids = np.where(np.isin(numbers, list(labels)), numbers, 0).astype(np.uint8)
        scene = Scene(image, ids, labels, dict(self._colours))
        scene.drop_small()
        return scene

    def _plan(self, rng: Rng) -> Arrangement:
        size, top = (between(rng, 0.8, 1.7), between(rng, 0.6, 1.1)), between(rng, 0.5, 0.95)
        view = room.camera(rng, top)
        objects: list[str] = []
        for _ in range(int(rng.integers(3, 14))):
            again = objects and rng.random() < 0.2
            objects.append(objects[-1] if again else _pick(rng, self._table_names))
        count = int(rng.integers(0, 5)) if self._floor_names else 0
        around = tuple(_pick(rng, self._floor_names) for _ in range(count))
        return Arrangement(
            tuple(objects),
            around,
            bool(rng.random() < 0.72),
            size,
            top,
            view,
            room.light(rng, view),
        )

    def _build(self, rng: Rng, plan: Arrangement) -> None:
        self._world.clear()
        self._labels, self._colours = {}, {}
        still = np.eye(3)
        self._world.add_parts(room.floor(rng), self._new("floor"), (0, 0, 0), still)
        self._world.add_parts(room.walls(rng, plan.camera), self._new("wall"), (0, 0, 0), still)
        self._world.add_parts(
            room.table_parts(rng, plan.size, plan.top), self._new("table"), (0, 0, 0), still
        )
        on_table: list[Spot] = []
        on_floor = [Spot(0.0, 0.0, 0.55 * float(np.hypot(*plan.size)))]
        if plan.arm:
            self._put_arm(rng, plan, on_table, on_floor)

        def on_top(radius: float) -> Spot | None:
            return _place_on_table(rng, radius, plan, on_table)

        def around(radius: float) -> Spot | None:
            return _place_on_floor(rng, radius, plan.camera, on_floor)

        for name in plan.objects:
            self._put(rng, name, plan.top, on_table, on_top, self.table_models.get(name, ()))
        for name in plan.around:
            self._put(rng, name, 0.0, on_floor, around, self.floor_models.get(name, ()))

    def _new(self, name: str, colour: str = "") -> int:
        number = len(self._labels) + 1
        self._labels[number] = name
        if colour:
            self._colours[number] = colour
        return number

    def _put_arm(
        self, rng: Rng, plan: Arrangement, on_table: list[Spot], on_floor: list[Spot]
    ) -> None:
        """Put an arm on the table's edge, or on a pedestal beside it, bent over the table."""
        raise NotImplementedError

    def _place_for_arm(
        self, rng: Rng, plan: Arrangement, on_table: list[Spot], on_floor: list[Spot]
    ) -> tuple[float, float, float]:
        """Take a spot on the table's edge, or stand a pedestal beside it: x, y and height."""
        side = between(rng, 0, 2 * np.pi)
        if rng.random() < 0.6:
            x = float(np.clip(np.cos(side), -0.8, 0.8)) * (plan.size[0] / 2 - 0.14)
            y = float(np.clip(np.sin(side), -0.8, 0.8)) * (plan.size[1] / 2 - 0.14)
            on_table.append(Spot(x, y, 0.13))
            return x, y, plan.top
        reach = float(np.hypot(*plan.size)) / 2 + 0.05
        x, y, height = reach * float(np.cos(side)), reach * float(np.sin(side)), plan.top * 0.8
        foot = box((0.24, 0.24, height), tinted(rng, 0.3, 0.1, 0.8), (x, y, height / 2))
        self._world.add_parts([foot], 0, (0, 0, 0), np.eye(3))
        on_floor.append(Spot(x, y, 0.3))
        return x, y, height

    def _put_model(
        self, rng: Rng, name: str, model: Model, level: float, spots: list[Spot], find: FindSpot
    ) -> None:
        """Stand one of :attr:`table_models` or :attr:`floor_models` on a level."""
        raise NotImplementedError

    def _put(
        self,
        rng: Rng,
        name: str,
        level: float,
        spots: list[Spot],
        find: FindSpot,
        models: Sequence[Model],
    ) -> None:
        """Stand something on a level where there is room for it; else leave it out."""
        if models and (name not in MADE or rng.random() < 0.5):
            self._put_model(rng, name, models[int(rng.integers(len(models)))], level, spots, find)
            return
        parts, colour = _make_parts(rng, name)
        rotation = yaw(between(rng, 0, 2 * np.pi))
        if name in LIE_DOWN and rng.random() < 0.35:
            rotation = rotation @ _ON_ITS_SIDE @ yaw(between(rng, 0, 2 * np.pi))
        low, high = bounds([replace(p, vertices=p.vertices @ rotation.T) for p in parts])
        spot = find(float(np.hypot(high[0] - low[0], high[1] - low[1])) / 2)
        if spot is None:
            return
        spots.append(spot)
        middle = (low + high) / 2
        where = (spot.x - middle[0], spot.y - middle[1], level - low[2])
        self._world.add_parts(parts, self._new(name, colour), where, rotation)
        if name in HOLD_OTHERS and rng.random() < 0.5:
            self._fill(rng, spot, level, float((high - low)[:2].min()))

    def _fill(self, rng: Rng, spot: Spot, level: float, extent: float) -> None:
        """Put a few small things into an open vessel."""
        names = [n for n in self._table_names if n in SMALL]
        for index in range(int(rng.integers(1, 5)) if names else 0):
            name = _pick(rng, names)
            parts, colour = _make_parts(rng, name)
            angle = index * 2.4 + between(rng, 0, 0.5)
            where = (
                spot.x + 0.25 * extent * float(np.cos(angle)),
                spot.y + 0.25 * extent * float(np.sin(angle)),
                level + 0.012,
            )
            self._world.add_parts(
                parts, self._new(name, colour), where, yaw(between(rng, 0, 2 * np.pi))
            )


def _pick(rng: Rng, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _make_parts(rng: Rng, name: str) -> tuple[list[Part], str]:
    """Return the parts of a made thing, and its colour word if it has one."""
    parts = MADE[name](rng)
    low, high = bounds(parts)
    if float((high - low).max()) < _TINY:
        factor = between(rng, 1.0, 1.6)
        parts = [scale_part(part, factor) for part in parts]
    if name in SOLIDS and rng.random() < 0.7:
        word, colour = named_colour(rng)
        return [replace(part, colour=colour) for part in parts], word
    return parts, ""


def _place_on_table(
    rng: Rng, radius: float, plan: Arrangement, spots: Sequence[Spot]
) -> Spot | None:
    """A free place for something of this radius, which may stick out a little.

    Most things stand where the camera looks: much of a table is often out of the picture.
    """
    half = [max(0.02, side / 2 - 0.7 * radius) for side in plan.size]
    spread = 0.25 * float(np.linalg.norm(np.subtract(plan.camera.eye, plan.camera.target)))
    for attempt in range(20):
        if attempt < 10:
            x, y = rng.normal(plan.camera.target[:2], spread).tolist()
        else:
            x, y = between(rng, -half[0], half[0]), between(rng, -half[1], half[1])
        spot = Spot(x, y, 0.85 * radius)
        if abs(x) <= half[0] and abs(y) <= half[1] and spot.clear_of(spots):
            return spot
    return None


def _place_on_floor(rng: Rng, radius: float, camera: Camera, spots: Sequence[Spot]) -> Spot | None:
    """A free place around the table, not in front of the lens."""
    for _ in range(14):
        angle, far = between(rng, 0, 2 * np.pi), between(rng, 0.8, 2.2)
        spot = Spot(far * float(np.cos(angle)), far * float(np.sin(angle)), radius)
        apart = float(np.hypot(camera.eye[0] - spot.x, camera.eye[1] - spot.y))
        if spot.clear_of(spots) and apart > radius + 0.5:
            return spot
    return None
