"""Models in Wavefront's OBJ and MTL: triangles by material, in metres or not, y up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.errors import DatasetError, ImageError, quoted
from xdecoder_rt.files.image_file import read_image
from xdecoder_rt.scenes.meshes.shapes import Colour, Floats64, Part

__all__ = ["read_model"]

_MOST_LINES = 2_000_000
_CLEAR = 0.25  # of a model that is not all of glass, which the renderer does not have
_LONGEST_TEXTURE = 256
_GREY: Colour = (0.7, 0.7, 0.7)


@dataclass
class _Material:
    colour: Colour = _GREY
    opacity: float = 1.0
    picture: str | None = None


def read_model(name: str, member: Callable[[str], bytes]) -> list[Part]:
    """Return a model's parts, one a material, z up; panes are left out of what is not all glass.

    Args:
        name: The OBJ file.
        member: Gives the bytes of a file beside it, by the path that the model's folder gives it;
            `KeyError` where there is none.

    Raises:
        DatasetError: It is no model, or has more lines than models have.
    """
    text = member(name).decode("utf-8", "replace")
    folder = PurePosixPath(name).parent
    try:
        points, uvs, normals, corners, libraries = _read_lines(text, name)
        materials: dict[str, _Material] = {}
        for library in libraries:
            materials.update(_materials(library, folder, member))
        shown = [(table, materials.get(key, _Material())) for key, table in corners.items()]
        solid = [(table, material) for table, material in shown if material.opacity >= _CLEAR]
        parts = [
            _part(table, points, uvs, normals, material, member)
            for table, material in solid or shown
        ]
    except (ValueError, IndexError) as error:
        raise DatasetError(
            f"{quoted(name)} is no model: {error}", fix="install it again"
        ) from error
    if not parts:
        raise DatasetError(f"{quoted(name)} has nothing that can be seen", fix="install it again")
    return parts


def _read_lines(
    text: str, name: str
) -> tuple[Floats64, Floats64, Floats64, dict[str, NDArray[np.int64]], list[str]]:
    """Return points, texture coordinates, normals, each material's corners, and libraries.

    Corners are rows of point, texture coordinate and normal, -1 for none, three a triangle.
    """
    lines = text.splitlines()
    if len(lines) > _MOST_LINES:
        raise DatasetError(f"{quoted(name)} has {len(lines):,} lines", expected="a smaller model")
    numbers: dict[str, list[str]] = {"v": [], "vt": [], "vn": []}
    meshes: dict[str, list[tuple[int, int, int]]] = {"": []}
    current, libraries = meshes[""], []
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word in numbers:
            numbers[word].append(rest)
        elif word == "f":
            counts = tuple(len(numbers[kind]) for kind in ("v", "vt", "vn"))
            corners = [_corner(corner, counts) for corner in rest.split()]
            for second in range(1, len(corners) - 1):  # a fan
                current += (corners[0], corners[second], corners[second + 1])
        elif word == "usemtl":
            current = meshes.setdefault(rest.strip(), [])
        elif word == "mtllib":
            libraries.append(rest.strip())
    tables = {key: np.array(mesh, np.int64) for key, mesh in meshes.items() if mesh}
    # A face may come before what it names: only the whole lists tell whether that is there.
    for table in tables.values():
        _check_corners(table, tuple(len(rows) for rows in numbers.values()))
    return (
        _table(numbers["v"], 3),
        _table(numbers["vt"], 2),
        _table(numbers["vn"], 3),
        tables,
        libraries,
    )


def _check_corners(corners: NDArray[np.int64], counts: tuple[int, ...]) -> None:
    kinds = ("point", "texture coordinate", "normal")
    for kind, largest, count in zip(kinds, corners.max(axis=0), counts, strict=True):
        if largest >= count:
            raise ValueError(f"a corner names {kind} {largest + 1:,} of {count:,}")


def _corner(text: str, counts: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a corner's places in the three lists, -1 where it has none.

    Args:
        text: as it stands in the file.
        counts: length of the lists so far, from which negative numbers count backwards.
    """
    places = [-1, -1, -1]
    for kind, number in enumerate(text.split("/")[:3]):
        if number:
            value = int(number)
            places[kind] = value - 1 if value > 0 else counts[kind] + value
            if value == 0 or not 0 <= places[kind] < _MOST_LINES:
                raise ValueError(f"the corner {text[:40]!r} names what is not there")
    if places[0] < 0:
        raise ValueError(f"the corner {text[:40]!r} has no point")
    return places[0], places[1], places[2]


def _table(rows: list[str], columns: int) -> Floats64:
    if not rows:
        return np.zeros((0, columns))
    values = [row.split()[:columns] for row in rows]
    table = np.array([row + ["0"] * (columns - len(row)) for row in values], np.float64)
    if not np.isfinite(table).all():
        raise ValueError("a coordinate is no finite number")
    return table


def _materials(
    library: str, folder: PurePosixPath, member: Callable[[str], bytes]
) -> dict[str, _Material]:
    try:
        text = member(str(folder / library)).decode("utf-8", "replace")
    except KeyError:
        return {}
    materials: dict[str, _Material] = {}
    material = _Material()
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if word == "newmtl":
            material = materials.setdefault(rest, _Material())
        elif word == "Kd":
            red, green, blue = (min(max(float(value), 0.0), 1.0) for value in rest.split()[:3])
            material.colour = (red, green, blue)
        elif word == "d":
            material.opacity = float(rest.split()[-1])
        elif word == "map_Kd" and rest:
            material.picture = str(folder / rest.split()[-1])
    return materials


def _part(
    corners: NDArray[np.int64],
    points: Floats64,
    uvs: Floats64,
    normals: Floats64,
    material: _Material,
    member: Callable[[str], bytes],
) -> Part:
    vertices = _upright(points[corners[:, 0]])
    triangles = vertices.reshape(-1, 3, 3)
    flat = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normal = np.repeat(flat, 3, axis=0)
    given = corners[:, 2] >= 0
    if given.any():
        normal[given] = _upright(normals[corners[given, 2]])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    uv = np.zeros((len(corners), 2))
    placed = corners[:, 1] >= 0
    picture = None
    if placed.all() and material.picture is not None:
        picture = _picture(material.picture, member)
        of_faces = uvs[corners[:, 1]].reshape(-1, 3, 2)
        # The renderer repeats a picture to the right and upwards, not below zero.
        uv = (of_faces - np.floor(of_faces.min(axis=1, keepdims=True))).reshape(-1, 2)
    faces = np.arange(len(corners)).reshape(-1, 3)
    return Part(vertices, normal, uv, faces, material.colour, picture)


def _upright(values: Floats64) -> Floats64:
    """Return points or directions with y up as such with z up."""
    return np.stack((values[:, 0], -values[:, 2], values[:, 1]), axis=1)


def _picture(path: str, member: Callable[[str], bytes]) -> NDArray[np.uint8] | None:
    try:
        pixels = read_image(member(path))
    except (KeyError, ImageError):
        return None
    step: Any = max(1, -(-max(pixels.shape[:2]) // _LONGEST_TEXTURE))
    return np.ascontiguousarray(pixels[::step, ::step])
