"""Contours enclose exactly the pixels of a mask; simplified and joined ones nearly, and as one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from xdecoder_rt.masks.contours import contours, joined, polygons_of, simplified


def area(ring: npt.NDArray[np.float64]) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def filled(ring: npt.NDArray[np.float64], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    coco = pytest.importorskip("pycocotools.mask", reason="it fills polygons")
    (runs,) = coco.frPyObjects([ring.ravel().tolist()], *size)
    mask: npt.NDArray[np.bool_] = coco.decode(runs).astype(bool)
    return mask


@pytest.mark.parametrize("seed", range(40))
def test_a_joined_contour_filled_again_is_the_mask_with_its_pieces_and_holes(seed: int) -> None:
    draw = np.random.default_rng(seed)
    mask = draw.random(draw.integers(1, 14, 2)) < draw.choice([0.2, 0.5, 0.8])
    rings = contours(mask)
    assert sum(area(ring) for ring in rings) == mask.sum()
    if rings:
        np.testing.assert_array_equal(filled(joined(rings), mask.shape), mask)


def test_an_empty_mask_has_no_contour_and_a_full_one_the_corners_of_the_image() -> None:
    assert contours(np.zeros((3, 4), bool)) == []
    (ring,) = contours(np.ones((3, 4), bool))
    assert sorted(map(tuple, ring.tolist())) == [(0, 0), (0, 3), (4, 0), (4, 3)]


def test_pieces_that_touch_at_a_corner_are_two_rings() -> None:
    assert len(contours(np.eye(2, dtype=bool))) == 2


def test_holes_turn_the_other_way() -> None:
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    assert sorted(area(ring) for ring in contours(mask)) == [-1, 25]


def test_a_simplified_disc_with_a_hole_has_few_corners_and_differs_at_its_rim_alone() -> None:
    y, x = np.mgrid[:300, :400]
    away = (y - 150) ** 2 + (x - 200) ** 2
    mask = (away < 120**2) & (away > 40**2)
    rings = polygons_of(mask)
    assert sum(map(len, rings)) < 150
    again = filled(joined(rings), mask.shape)
    assert (again & mask).sum() / (again | mask).sum() > 0.98


def test_a_triangle_is_not_simplified_to_a_line() -> None:
    ring = np.array([[0.0, 0], [9, 0], [9, 0.5]])
    np.testing.assert_array_equal(simplified(ring), ring)
