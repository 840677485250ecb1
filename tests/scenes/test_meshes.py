"""Made-up meshes and textures: sound geometry, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from xdecoder_rt.scenes.meshes.objects import FLOOR_OBJECTS, MADE, SOLIDS, TABLE_OBJECTS
from xdecoder_rt.scenes.meshes.shapes import (
    Part,
    bounds,
    box,
    cylinder,
    extrude,
    regular,
    sphere,
    torus,
    tube,
)
from xdecoder_rt.scenes.textures import TEXTURES, texture

GREY = (0.5, 0.5, 0.5)


def volume(part: Part) -> float:
    """Signed volume: positive if and only if the faces look outwards."""
    a, b, c = (part.vertices[part.faces[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (box((1, 2, 3), GREY), 6.0),
        (cylinder(1.0, 2.0, GREY, segments=96), 2 * np.pi),
        (cylinder(1.0, 3.0, GREY, top=0.0, segments=96), np.pi),
        (sphere(1.0, GREY), 4 / 3 * np.pi),
        (extrude(regular(4, np.sqrt(0.5)), 2.0, GREY), 2.0),
        (extrude(regular(64, 2.0), 1.0, GREY, hole=regular(64, 1.0)), 3 * np.pi),
        (tube([(0, 0, 0), (1, 0, 0), (2, 0, 0)], 0.1, GREY, sides=64), 0.02 * np.pi),
        (torus(1.0, 0.2, GREY), 2 * np.pi**2 * 0.04),
    ],
)
def test_building_blocks_are_closed_and_look_outwards(part: Part, expected: float) -> None:
    assert volume(part) == pytest.approx(expected, rel=0.06)
    face_normals = np.cross(
        part.vertices[part.faces[:, 1]] - part.vertices[part.faces[:, 0]],
        part.vertices[part.faces[:, 2]] - part.vertices[part.faces[:, 0]],
    )
    agreement = np.einsum("ij,ij->i", face_normals, part.normals[part.faces[:, 0]])
    assert (agreement > -1e-9).all()


@pytest.mark.parametrize("name", sorted(MADE))
def test_every_object_is_finite_stands_near_the_ground_and_repeats(name: str) -> None:
    parts = MADE[name](np.random.default_rng(3))
    for part in parts:
        assert np.isfinite(part.vertices).all()
        assert np.isfinite(part.uv).all()
        assert part.faces.min() >= 0
        assert part.faces.max() < len(part.vertices) == len(part.normals) == len(part.uv)
        assert np.linalg.norm(part.normals, axis=1) == pytest.approx(1.0, abs=1e-6)
        assert all(0.0 <= channel <= 1.0 for channel in part.colour)
        assert part.picture is None or part.picture.dtype == np.uint8
    low, high = bounds(parts)
    assert abs(low[2]) < 0.02
    assert 0.015 < (high - low).max() < 2.6
    again = MADE[name](np.random.default_rng(3))
    for part, other in zip(parts, again, strict=True):
        assert np.array_equal(part.vertices, other.vertices)
        assert part.colour == other.colour


def test_every_object_has_a_place() -> None:
    assert set(MADE) == TABLE_OBJECTS | FLOOR_OBJECTS
    assert set(SOLIDS) <= TABLE_OBJECTS


@pytest.mark.parametrize("name", sorted(TEXTURES))
def test_textures_repeat_for_a_seed_and_differ_between_seeds(name: str) -> None:
    first = texture(name, np.random.default_rng(0), 64, 80)
    assert first.shape == (64, 80, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, texture(name, np.random.default_rng(0), 64, 80))
    assert not np.array_equal(first, texture(name, np.random.default_rng(1), 64, 80))


@pytest.mark.parametrize("shape", [(16, 300), (300, 16), (17, 23)])
@pytest.mark.parametrize("name", sorted(TEXTURES))
def test_textures_fill_any_shape(name: str, shape: tuple[int, int]) -> None:
    assert texture(name, np.random.default_rng(5), *shape).shape == (*shape, 3)
