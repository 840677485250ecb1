"""Segments in metres, from depth that is true, noisy, full of holes, or not of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.results import Segmentation
from xdecoder_rt.space.places import Intrinsics

H, W = 240, 320
CAMERA = (300.0, 310.0, 158.5, 121.0)


def info(number: int, label: str = "box") -> dict[str, Any]:
    return {
        "id": number, "label_id": 0, "label": label, "score": 0.9, "area": 1, "isthing": True,
    }  # fmt: skip


def wall_with_a_box(
    turned: float = 0.0, size: tuple[float, float] = (0.3, 0.2), far: float = 1.0
) -> tuple[Segmentation, np.ndarray]:
    """Return a plate of a size in front of a wall at 2 m, turned in the image plane, and depth."""
    fx, fy, cx, cy = CAMERA
    v, u = np.mgrid[:H, :W]
    x, y = (u - cx) * far / fx - 0.1, (v - cy) * far / fy + 0.05
    across = np.cos(turned) * x + np.sin(turned) * y
    along = -np.sin(turned) * x + np.cos(turned) * y
    plate = (np.abs(across) <= size[0] / 2) & (np.abs(along) <= size[1] / 2)
    depth = np.where(plate, far, 2.0).astype(np.float32)
    return Segmentation(plate.astype(np.int32), [info(1)]), depth


def test_a_plate_is_where_it_is_to_a_few_millimetres() -> None:
    segments, depth = wall_with_a_box()
    (place,) = segments.in_space(depth, CAMERA)
    assert place is not None
    assert np.allclose(place.median, (0.1, -0.05, 1.0), atol=0.003)
    assert place.distance == pytest.approx(np.linalg.norm((0.1, -0.05, 1.0)), abs=0.003)
    assert np.allclose(place.high - place.low, (0.3, 0.2, 0.0), atol=0.012)
    assert np.allclose(place.box.size, (0.3, 0.2, 0.0), atol=0.012)
    assert np.allclose(place.box.centre, (0.1, -0.05, 1.0), atol=0.004)
    assert np.linalg.det(place.box.axes) == pytest.approx(1.0)
    assert place.share > 0.9
    assert place.to_dict()["label"] == "box"


@pytest.mark.parametrize("turned", [0.2, 0.7, 1.2, 2.5])
def test_the_box_turns_with_the_thing(turned: float) -> None:
    segments, depth = wall_with_a_box(turned, size=(0.4, 0.1))
    (place,) = segments.in_space(depth, CAMERA)
    assert place is not None
    assert np.allclose(place.box.size[:2], (0.4, 0.1), atol=0.015)
    assert abs(place.box.axes[:, 0] @ (np.cos(turned), np.sin(turned), 0)) > 0.999
    corners = place.box.corners()
    assert corners.shape == (8, 3)
    assert np.allclose(corners.mean(axis=0), place.box.centre)


@pytest.mark.parametrize("form", ["uint16", "float32", "float64", "float16"])
def test_millimetres_and_metres_say_the_same(form: str) -> None:
    segments, depth = wall_with_a_box()
    other = (depth * 1000).astype(np.uint16) if form == "uint16" else depth.astype(form)
    (place,) = segments.in_space(other, CAMERA)
    assert place is not None and place.median[2] == pytest.approx(1.0, abs=0.002)


@pytest.mark.parametrize("hole", [np.nan, 0.0, -1.0, np.inf])
def test_holes_count_for_nothing(hole: float) -> None:
    segments, depth = wall_with_a_box()
    holes = np.random.default_rng(0).random(depth.shape) < 0.4
    depth[holes] = hole
    (place,) = segments.in_space(depth, CAMERA)
    assert place is not None
    assert np.allclose(place.median, (0.1, -0.05, 1.0), atol=0.005)
    assert 0.2 < place.share < 0.61


def test_a_mask_that_bleeds_over_its_edge_takes_no_wall_along() -> None:
    segments, depth = wall_with_a_box()
    mask = segments.segmentation.astype(bool)
    wider = mask.copy()
    for _ in range(4):
        wider[1:] |= wider[:-1].copy()
        wider[:-1] |= wider[1:].copy()
        wider[:, 1:] |= wider[:, :-1].copy()
        wider[:, :-1] |= wider[:, 1:].copy()
    (place,) = Segmentation(wider.astype(np.int32), [info(1)]).in_space(depth, CAMERA)
    assert place is not None
    assert np.allclose(place.high - place.low, (0.3, 0.2, 0.0), atol=0.012)


def test_points_between_two_surfaces_are_left_out() -> None:
    segments, depth = wall_with_a_box()
    smooth = depth.copy()  # as a stereo camera smears an edge
    for axis in (0, 1):
        smooth = (np.roll(smooth, 1, axis) + smooth + np.roll(smooth, -1, axis)) / 3
    (place,) = segments.in_space(smooth, CAMERA)
    assert place is not None
    assert place.high[2] - place.low[2] < 0.02
    assert np.allclose(place.box.size[:2], (0.3, 0.2), atol=0.03)


def test_a_thing_that_goes_far_back_is_kept_whole() -> None:
    fx, fy, cx, cy = CAMERA
    v, u = np.mgrid[:H, :W]
    floor = v > 150  # 0.5 m under the camera
    depth = np.where(floor, 0.5 * fy / np.maximum(v - cy, 1), 20.0)
    (place,) = Segmentation(floor.astype(np.int32), [info(1, "floor")]).in_space(depth, CAMERA)
    assert place is not None
    assert place.low[2] == pytest.approx(0.5 * fy / (H - 1 - cy), rel=0.03)
    assert place.high[2] > 4.0
    assert place.median[1] == pytest.approx(0.5, abs=0.005)
    assert place.box.size[2] < 0.01


def test_a_segment_without_depth_has_no_place_and_keeps_its_turn() -> None:
    segments, depth = wall_with_a_box()
    two = segments.segmentation.copy()
    two[:20, :20] = 2
    depth[:20, :20] = np.nan
    places = Segmentation(two, [info(2), info(1)]).in_space(depth, CAMERA)
    assert places[0] is None and places[1] is not None and places[1].id == 1
    assert Segmentation(np.zeros((H, W), np.int32), []).in_space(depth, CAMERA) == []


@pytest.mark.parametrize(
    "camera",
    [
        Intrinsics(*CAMERA),
        list(CAMERA),
        np.array([[CAMERA[0], 0, CAMERA[2]], [0, CAMERA[1], CAMERA[3]], [0, 0, 1]]),
        np.array([CAMERA[0], 0, CAMERA[2], 0, CAMERA[1], CAMERA[3], 0, 0, 1]),
    ],
    ids=["Intrinsics", "four numbers", "K", "K by rows"],
)
def test_intrinsics_have_many_forms(camera: Any) -> None:
    segments, depth = wall_with_a_box()
    (place,) = segments.in_space(depth, camera)
    assert place is not None and np.allclose(place.median, (0.1, -0.05, 1.0), atol=0.003)


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ((300, 300, 640, 360), "outside its 320 x 240 pixels"),
        ((0, 300, 160, 120), "fx, fy, cx and cy"),
        ((300, np.nan, 160, 120), "fx, fy, cx and cy"),
        (np.eye(4), "3 x 3 matrix K"),
        (np.zeros(9), "3 x 3 matrix K"),
        ("camera", "3 x 3 matrix K"),
        (None, "3 x 3 matrix K"),
    ],
)
def test_intrinsics_that_are_not_the_images_are_refused(camera: Any, message: str) -> None:
    segments, depth = wall_with_a_box()
    with pytest.raises(ArgumentError, match=message):
        segments.in_space(depth, camera)


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (np.zeros((H // 2, W // 2), np.uint16), "aligned"),
        (np.zeros((H, W, 1), np.float32), "aligned"),
        (np.zeros((H, W), np.uint8), "uint16 in millimetres"),
        (np.zeros((H, W), np.int32), "uint16 in millimetres"),
        ("depth.png", "aligned"),
        (None, "aligned"),
    ],
)
def test_depth_that_is_not_the_images_is_refused(depth: Any, message: str) -> None:
    segments, _ = wall_with_a_box()
    with pytest.raises(ArgumentError, match=message):
        segments.in_space(depth, CAMERA)
