"""Sequences with a camera that moves: true ids, true depth, and places in metres from both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pybullet", reason="sequences are rendered by PyBullet (extra scenes)")

from xdecoder_rt.results import Segmentation  # noqa: E402
from xdecoder_rt.scenes.meshes.shapes import box  # noqa: E402
from xdecoder_rt.scenes.moving import walk  # noqa: E402
from xdecoder_rt.scenes.simulator import Camera, Light, Simulator  # noqa: E402
from xdecoder_rt.scenes.workcell import workcell_studio  # noqa: E402
from xdecoder_rt.tracking.tracker import Tracker  # noqa: E402

LIGHT = Light((0.0, -1.0, 1.0), (1.0, 1.0, 1.0), 0.6, 0.4, 0.0, False)


def segments_of(ids: np.ndarray, names: dict[int, str]) -> Segmentation:
    infos: list[dict[str, Any]] = [
        {
            "id": number, "label_id": number, "label": names[number], "score": 0.9,
            "area": int((ids == number).sum()), "isthing": True,
        }
        for number in np.unique(ids).tolist() if number > 0
    ]  # fmt: skip
    return Segmentation(np.maximum(ids, 0).astype(np.int32), infos)


@pytest.fixture
def world() -> Iterator[Simulator]:
    simulator = Simulator()
    yield simulator
    simulator.close()


@pytest.mark.parametrize("far", [0.6, 1.0, 2.0])
def test_a_box_of_known_size_is_measured_to_a_centimetre_a_metre(
    world: Simulator, far: float
) -> None:
    size, left, high = (0.3, 0.2, 0.2), 0.1, 0.05
    part = box(size, (0.8, 0.2, 0.1), (0.0, 0.0, 0.0))
    wall = box((8.0, 0.1, 8.0), (0.7, 0.7, 0.7), (0.0, 0.0, 0.0))
    # Its front is `far` in front of the camera, which looks along y from a height of 1 m.
    world.add_parts([part], 1, (left, far + size[1] / 2, 1 + high), np.eye(3))
    world.add_parts([wall], 2, (0.0, 3.5, 1.0), np.eye(3))
    camera = Camera((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), 50.0)
    height, width = 480, 640
    _, things, depth = world.look(camera, LIGHT, height, width)
    focal = height / 2 / np.tan(np.radians(25.0))
    intrinsics = (focal, focal, (width - 1) / 2, (height - 1) / 2)
    found = segments_of(things, {1: "box", 2: "wall"}).in_space(depth, intrinsics)
    place, behind = found
    assert place is not None and behind is not None
    limit = 0.01 * max(far, 1.0)
    assert place.median[2] == pytest.approx(far, abs=limit)
    assert place.low[:2] == pytest.approx((left - 0.15, -high - 0.1), abs=limit)
    assert place.high[:2] == pytest.approx((left + 0.15, -high + 0.1), abs=limit)
    assert behind.median[2] == pytest.approx(3.45, abs=0.035)


def test_things_keep_their_numbers_while_the_camera_moves() -> None:
    frames = list(walk(workcell_studio("val"), np.random.default_rng(3), 6, (120, 160)))
    assert len(frames) == 6 and all(frame.labels == frames[0].labels for frame in frames)
    assert any((frame.image != frames[0].image).any() for frame in frames[1:])
    for frame in frames:
        assert frame.image.shape == (120, 160, 3) and frame.depth.shape == (120, 160)
        assert set(np.unique(frame.ids)) <= {0, *frame.labels}
        assert np.nanmin(frame.depth) > 0.02 and np.nanmax(frame.depth) <= 20.0


def test_true_masks_keep_their_ids_over_a_walk() -> None:
    tracker = Tracker()
    given: dict[int, set[int]] = {}
    for frame in walk(workcell_studio("val"), np.random.default_rng(4), 20, (180, 240)):
        counts = np.bincount(frame.ids.ravel())
        seen = np.where(counts[frame.ids] >= 40, frame.ids, 0)
        found = segments_of(seen, frame.labels)
        for before, after in zip(
            found.segments_info, tracker.update(found).segments_info, strict=True
        ):
            given.setdefault(before["id"], set()).add(after["id"])
    assert len(given) >= 4
    assert sum(len(ids) > 1 for ids in given.values()) <= len(given) // 5
