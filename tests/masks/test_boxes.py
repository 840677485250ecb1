"""Boxes of a map in one pass, beside those of its masks one by one."""

from __future__ import annotations

import numpy as np
import pytest

from xdecoder_rt.masks.boxes import boxes_of_map
from xdecoder_rt.results import Segmentation, box_of_mask


@pytest.mark.parametrize("seed", range(12))
def test_a_map_gives_the_boxes_of_its_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 90)), int(rng.integers(1, 300)))
    pieces = rng.choice([0, 1, 2, 7, 300, 100_000, -1], size=(size[0], -(-size[1] // 9)))
    segmentation = np.repeat(pieces, 9, axis=1)[:, : size[1]].astype(np.int32)
    ids = [300, 7, 1, 100_000, 50]  # 50 is nowhere
    boxes = boxes_of_map(segmentation, ids)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [box_of_mask(segmentation == number).tolist() for number in ids]


def test_a_map_without_segments_has_no_boxes() -> None:
    assert boxes_of_map(np.zeros((3, 4), np.int32), []).shape == (0, 4)


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_every_task_has_a_box_for_each_segment(task: str) -> None:
    ids = np.zeros((20, 30), np.int32)
    ids[3:9, 4:22] = 2
    masks = np.stack([ids == 2, ids == 5])
    infos = [
        {"id": number, "label_id": 0, "label": "mug", "score": 0.5, "area": 1, "isthing": True}
        for number in (2, 5)
    ]
    found = Segmentation(ids, infos, task, masks if task == "instance" else None)
    assert found.segment_boxes().tolist() == [[4, 3, 22, 9], [0, 0, 0, 0]]
