"""Building blocks of meshes: boxes, turned profiles, extruded outlines, bent tubes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.scenes.noise import Colour
from xdecoder_rt.scenes.scene import Rng

__all__ = [
    "Colour",
    "Floats64",
    "Maker",
    "Part",
    "Point2D",
    "Rng",
    "between",
    "bounds",
    "box",
    "cylinder",
    "extrude",
    "lathe",
    "moved",
    "regular",
    "scale_part",
    "sphere",
    "torus",
    "tube",
    "turned",
    "vessel",
]

Floats64 = NDArray[np.float64]
Point2D = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """A piece of an object with one colour or one picture on it. Metres, z up.

    Attributes:
        vertices: float [V, 3]; corners of a crease appear once for each side.
        normals: float [V, 3], unit.
        uv: float [V, 2], texture coordinates.
        faces: int [F, 3].
        colour: RGB, 0..1.
        picture: uint8 RGB [h, w, 3] to wrap on the surface instead of the colour.
    """

    vertices: Floats64
    normals: Floats64
    uv: Floats64
    faces: NDArray[np.int64]
    colour: Colour
    picture: NDArray[np.uint8] | None = None


Maker = Callable[[Rng], list[Part]]
"""Makes the parts of an object, with random proportions and colours."""


def between(rng: Rng, low: float, high: float) -> float:
    """A uniform random number."""
    return float(rng.uniform(low, high))


def _creased(
    vertices: Floats64, faces: NDArray[np.int64], uv: Floats64, colour: Colour, crease: float = 0.75
) -> Part:
    """A part whose round surfaces look round and whose edges stay sharp.

    Each corner gets the mean normal of those neighbouring faces that are turned less than
    acos(`crease`) from its own.
    """
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.linalg.norm(normal, axis=1, keepdims=True)
    unit = normal / np.maximum(size, 1e-12)
    # Vertices at one place are one vertex here, whatever their texture coordinates.
    _, place = np.unique(np.round(vertices, 7), axis=0, return_inverse=True)
    owner = place.reshape(-1)[faces.reshape(-1)]
    face_of = np.repeat(np.arange(len(faces)), 3)
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(owner.max() + 2))
    smooth = np.empty((len(owner), 3))
    for begin, end in zip(starts[:-1], starts[1:], strict=True):
        if begin == end:
            continue
        here = order[begin:end]
        around = face_of[here]
        near = unit[around] @ unit[around].T > crease
        smooth[here] = near.astype(float) @ normal[around]
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-12)
    flat = faces.reshape(-1)
    return Part(vertices[flat], smooth, uv[flat], np.arange(flat.size).reshape(-1, 3), colour)


def box(
    size: Sequence[float],
    colour: Colour,
    centre: Sequence[float] = (0.0, 0.0, 0.0),
    picture: NDArray[np.uint8] | None = None,
) -> Part:
    """A cuboid of `size` (x, y, z) with every face carrying the whole picture."""
    half = np.asarray(size, float) / 2
    vertices: list[Floats64] = []
    normals: list[Floats64] = []
    uv: list[Point2D] = []
    faces: list[tuple[int, int, int]] = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = np.zeros(3)
            normal[axis] = sign
            up = np.array([0.0, 0.0, 1.0]) if axis < 2 else np.array([0.0, 1.0, 0.0])
            right = np.cross(up, normal)
            start = len(vertices)
            for u, v in ((0, 0), (1, 0), (1, 1), (0, 1)):
                vertices.append((normal + right * (2 * u - 1) + up * (2 * v - 1)) * half)
                normals.append(normal)
                uv.append((u, v))
            faces += [(start, start + 1, start + 2), (start, start + 2, start + 3)]
    return Part(
        np.asarray(vertices) + np.asarray(centre, float),
        np.asarray(normals),
        np.asarray(uv, float),
        np.asarray(faces),
        colour,
        picture,
    )


def lathe(
    profile: Sequence[Point2D],
    colour: Colour,
    segments: int = 28,
    turn: float = 0.0,
    picture: NDArray[np.uint8] | None = None,
) -> Part:
    """Turn a profile of (radius, z) points, bottom to top outside, about the z axis."""
    radius, z = np.asarray(profile, float).T
    angle = np.linspace(0, 2 * np.pi, segments + 1) + turn
    rings = len(profile)
    x = radius[:, None] * np.cos(angle)
    y = radius[:, None] * np.sin(angle)
    vertices = np.stack([x, y, np.broadcast_to(z[:, None], x.shape)], -1).reshape(-1, 3)
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(radius), np.diff(z)))])
    uv = np.stack(
        np.broadcast_arrays(
            np.linspace(0, 1, segments + 1)[None], (along / max(along[-1], 1e-9))[:, None]
        ),
        -1,
    ).reshape(-1, 2)
    ring, step = np.meshgrid(np.arange(rings - 1), np.arange(segments), indexing="ij")
    a = (ring * (segments + 1) + step).reshape(-1)
    b = a + segments + 1
    faces = np.concatenate([np.stack([a, a + 1, b + 1], 1), np.stack([a, b + 1, b], 1)])
    corners = vertices[faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    part = _creased(vertices, faces[area > 1e-14], uv, colour)
    return replace(part, picture=picture)


def cylinder(
    radius: float,
    height: float,
    colour: Colour,
    base: float = 0.0,
    segments: int = 28,
    top: float | None = None,
    picture: NDArray[np.uint8] | None = None,
) -> Part:
    """A closed cylinder, or a truncated cone with the upper radius `top`."""
    upper = radius if top is None else top
    return lathe(
        [(0, base), (radius, base), (upper, base + height), (0, base + height)],
        colour,
        segments,
        picture=picture,
    )


def vessel(
    bottom: float,
    rim: float,
    height: float,
    wall: float,
    colour: Colour,
    picture: NDArray[np.uint8] | None = None,
) -> Part:
    """Build an open vessel: radius at the bottom and at the rim, and a wall of some thickness."""
    profile = [
        (0.0, 0.0),
        (bottom, 0.0),
        (rim, height),
        (rim - wall, height),
        (bottom - wall, wall),
        (0.0, wall),
    ]
    return lathe(profile, colour, picture=picture)


def sphere(
    radius: float,
    colour: Colour,
    centre: Sequence[float] = (0.0, 0.0, 0.0),
    squash: float = 1.0,
    picture: NDArray[np.uint8] | None = None,
) -> Part:
    """A ball; `squash` scales its height."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 17)
    profile = [(radius * float(np.cos(a)), squash * radius * float(np.sin(a))) for a in angle]
    return moved(lathe(profile, colour, picture=picture), centre)


def regular(sides: int, radius: float, turn: float = 0.0) -> list[Point2D]:
    """Return the corners of a regular polygon."""
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False) + turn
    return [(radius * float(np.cos(a)), radius * float(np.sin(a))) for a in angle]


def extrude(
    outline: Sequence[Point2D],
    height: float,
    colour: Colour,
    base: float = 0.0,
    hole: Sequence[Point2D] | None = None,
) -> Part:
    """A prism over an outline (counter-clockwise, star-shaped about its centroid).

    With a `hole` of as many points, the space between the two outlines is filled.
    """
    outer = np.asarray(outline, float)
    count = len(outer)
    inner = (
        np.asarray(hole, float)
        if hole is not None
        else np.repeat(outer.mean(0, keepdims=True), count, 0)
    )
    layers = [
        np.column_stack([p, np.full(count, z)])
        for z in (base, base + height)
        for p in (outer, inner)
    ]
    vertices = np.concatenate(layers)  # low outer, low inner, high outer, high inner
    i = np.arange(count)
    j = (i + 1) % count

    def quads(
        a: NDArray[np.int64], b: NDArray[np.int64], c: NDArray[np.int64], d: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])

    lo, li, ho, hi = i, i + count, i + 2 * count, i + 3 * count
    ljo, lji, hjo, hji = j, j + count, j + 2 * count, j + 3 * count
    pieces = [quads(lo, ljo, hjo, ho), quads(ho, hjo, hji, hi), quads(li, lji, ljo, lo)]
    if hole is not None:
        pieces.append(quads(hi, hji, lji, li))
    faces = np.concatenate(pieces)
    corners = vertices[faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    span = float(np.ptp(vertices, axis=0).max())
    return _creased(vertices, faces[area > 1e-14], vertices[:, :2] / span + 0.5, colour)


def tube(
    path: Sequence[Sequence[float]],
    radius: float | Sequence[float],
    colour: Colour,
    sides: int = 12,
    closed: bool = False,
) -> Part:
    """A round bar along a path, with flat ends unless it is closed; radius per point or one."""
    points = np.asarray(path, float)
    radii = np.broadcast_to(np.asarray(radius, float), (len(points),))
    if closed:
        tangent = np.roll(points, -1, 0) - np.roll(points, 1, 0)
    else:
        tangent = np.gradient(points, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
    side = np.cross(tangent[0], (0.0, 0.0, 1.0) if abs(tangent[0, 2]) < 0.9 else (1.0, 0.0, 0.0))
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    rings = []
    for point, ahead, r in zip(points, tangent, radii, strict=True):
        side = side - ahead * (side @ ahead)  # carried along without twist
        side /= max(float(np.linalg.norm(side)), 1e-12)
        other = np.cross(ahead, side)
        rings.append(point + r * (np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * other))
    vertices = np.concatenate(rings)
    count = len(points)
    faces = []
    for ring in range(count if closed else count - 1):
        a = ring * sides + np.arange(sides)
        a2 = ring * sides + (np.arange(sides) + 1) % sides
        b, b2 = (a + sides) % len(vertices), (a2 + sides) % len(vertices)
        faces += [np.stack([a, a2, b2], 1), np.stack([a, b2, b], 1)]
    if not closed:
        for ring, flip in ((0, True), (count - 1, False)):
            centre = len(vertices)
            vertices = np.concatenate([vertices, points[ring][None]])
            a = ring * sides + np.arange(sides)
            a2 = ring * sides + (np.arange(sides) + 1) % sides
            middle = np.full(sides, centre)
            faces.append(np.stack([middle, a2, a] if flip else [middle, a, a2], 1))
    return _creased(vertices, np.concatenate(faces), np.zeros((len(vertices), 2)), colour)


def torus(radius: float, thickness: float, colour: Colour, height: float = 0.0) -> Part:
    """A ring lying flat, its middle circle at `height`."""
    circle = [(x, y, height) for x, y in regular(32, radius)]
    return tube(circle, thickness, colour, closed=True)


def moved(part: Part, by: Sequence[float]) -> Part:
    """Build the part shifted."""
    return replace(part, vertices=part.vertices + np.asarray(by, float))


def turned(part: Part, matrix: Floats64) -> Part:
    """Build the part rotated by a 3 x 3 rotation matrix."""
    return replace(part, vertices=part.vertices @ matrix.T, normals=part.normals @ matrix.T)


def scale_part(part: Part, factor: float) -> Part:
    """Build the part made larger or smaller about the origin."""
    return replace(part, vertices=part.vertices * factor)


def bounds(parts: Sequence[Part]) -> tuple[Floats64, Floats64]:
    """Lowest and highest corner of the parts' bounding box."""
    points = np.concatenate([part.vertices for part in parts])
    return points.min(0), points.max(0)
