"""From an id map to targets."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_targets import target_masks

from xdecoder_rt.datasets.items import NOTHING as UNNAMED
from xdecoder_rt.datasets.items import Phrase, Segment
from xdecoder_rt.training.dataset import Example, collate
from xdecoder_rt.training.targets import IGNORE, NO_TARGET, Targets, make_targets


def masks_of(targets: Targets) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for label, row in zip(targets.labels, targets.membership, strict=True):
        found.setdefault(label, []).append(row[targets.ids])
    return found


def test_stuff_of_one_name_is_one_target_and_things_stay_apart() -> None:
    ids = np.zeros((16, 16), np.int32)
    ids[:4], ids[12:], ids[5:9, :8], ids[5:9, 8:] = 1, 2, 300, 70000
    segments = [
        Segment(1, "grass", False, 64),
        Segment(2, "grass", False, 64),
        Segment(300, "cat", True, 32),
        Segment(70000, "cat", True, 32),
    ]
    masks = masks_of(make_targets(ids, segments, 16))
    assert np.array_equal(masks["grass"][0], (ids == 1) | (ids == 2))
    assert len(masks["grass"]) == 1
    assert len(masks["cat"]) == 2
    assert np.array_equal(masks["cat"][0] | masks["cat"][1], ids > 2)


def test_pixels_known_to_show_nothing_named_are_negatives_and_unlabelled_ones_ignored() -> None:
    ids = np.zeros((16, 16), np.int16)
    ids[:6], ids[6:10] = UNNAMED, 1
    segments = [Segment(1, "cup", True, 64)]
    phrases = [Phrase("the cup", (1,))]
    targets = make_targets(ids, segments, 16, phrases=phrases)
    assert (targets.ids[:6] == NO_TARGET).all()
    assert (targets.ids[10:] == IGNORE).all()
    assert targets.labels == ("cup",)
    assert targets.phrases == ("the cup",)
    empty = make_targets(np.full((16, 16), UNNAMED, np.int16), segments, 16)
    assert (empty.ids == NO_TARGET).all()
    assert empty.labels == ()


def test_slivers_are_no_targets_but_known_to_be_none_and_crowds_are_ignored() -> None:
    ids = np.zeros((16, 16), np.uint8)
    ids[0, :15], ids[4:8], ids[8:12] = 1, 2, 3
    segments = [
        Segment(1, "cup", True, 15),
        Segment(2, "bin", True, 64),
        Segment(3, "people", True, 64, iscrowd=True),
    ]
    targets = make_targets(ids, segments, 16, min_pixels=16)
    assert targets.labels == ("bin",)
    assert (targets.ids[0, :15] == NO_TARGET).all()
    assert (targets.ids[8:12] == IGNORE).all()
    assert (targets.ids[12:] == IGNORE).all()


def test_a_crowd_that_a_phrase_means_is_still_unknown_to_segmentation() -> None:
    ids = np.kron([[1, 2], [3, 0]], np.ones((8, 8), np.int64))
    segments = [Segment(1, "cup", True, 64), Segment(2, "people", True, 64, iscrowd=True)]
    targets = make_targets(ids, segments, 16, [Phrase("all of them", (2,)), Phrase("it", (3,))])
    assert np.array_equal(targets.membership[1, targets.ids], ids == 2)
    assert np.array_equal(targets.known_ids[targets.ids], ids == 1)
    points = (np.argwhere(np.ones((16, 16)))[:, ::-1] + 0.5).astype(np.float32)
    image, ones = np.zeros((16, 16, 3), np.uint8), np.ones(256, np.float32)
    batch = collate([Example(image, (16, 16), True, targets, points, ones, 0)])
    assert np.array_equal(batch.known_weights()[0].reshape(16, 16) > 0, ids == 1)


def test_padding_is_known_to_be_no_target() -> None:
    targets = make_targets(np.ones((8, 10), np.uint8), [Segment(1, "bin", True, 80)], 16)
    assert (targets.ids[8:] == NO_TARGET).all()
    assert (targets.ids[:, 10:] == NO_TARGET).all()
    assert targets.boxes.tolist() == [[0, 0, 10, 8]]


def test_a_segment_out_of_view_is_no_target() -> None:
    segments = [Segment(1, "bin", True, 64), Segment(2, "cup", True, 64)]
    assert make_targets(np.ones((8, 8), np.uint8), segments, 8).labels == ("bin",)


def test_an_image_without_labels_has_no_targets() -> None:
    targets = make_targets(np.zeros((8, 8), np.uint8), [], 8)
    assert targets.labels == ()
    assert targets.membership.shape[0] == 0
    assert (targets.ids == IGNORE).all()


def test_a_phrase_means_the_visible_pixels_of_its_segments() -> None:
    ids = np.zeros((16, 16), np.uint8)
    ids[:4], ids[4:8], ids[8, :3] = 1, 2, 3
    segments = [
        Segment(1, "cup", True, 64),
        Segment(2, "cup", True, 64),
        Segment(3, "nut", True, 3),
    ]
    phrases = [Phrase("the cups", (1, 2)), Phrase("the top", (1,)), Phrase("the nut", (3,))]
    targets = make_targets(ids, segments, 16, [*phrases, Phrase("the absent one", (7,))])
    assert targets.labels == ("cup", "cup")
    assert targets.phrases == ("the cups", "the top")
    cups, top = targets.membership[2:, targets.ids]
    assert np.array_equal(cups, (ids == 1) | (ids == 2))
    assert np.array_equal(top, ids == 1)
    assert targets.boxes[2:].tolist() == [[0, 0, 16, 8], [0, 0, 16, 4]]


def test_phrases_need_no_labels() -> None:
    ids = np.kron([[5, 0], [0, 6]], np.ones((8, 8), np.int64))
    targets = make_targets(ids, [], 16, [Phrase("the one above", (5,))])
    assert targets.labels == ()
    assert np.array_equal(targets.membership[0, targets.ids], ids == 5)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 8))
def test_masks_and_boxes_are_those_of_the_segments(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, count + 1, (4, 6))
    ids = np.kron(small, np.ones((4, 4), np.int64))
    segments = [Segment(i, f"name {i}", True, int((ids == i).sum())) for i in range(1, count + 1)]
    targets = make_targets(ids, segments, 32)
    masks = masks_of(targets)
    assert set(masks) == {s.label for s in segments if s.area}
    for label, box in zip(targets.labels, targets.boxes, strict=True):
        wanted = np.zeros((32, 32), bool)
        wanted[:16, :24] = ids == int(label.split()[1])
        assert np.array_equal(masks[label][0], wanted)
        rows, columns = np.nonzero(wanted)
        assert box.tolist() == [
            columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        ]  # fmt: skip


def test_points_of_a_batch_take_the_values_of_the_masks() -> None:
    rng = np.random.default_rng(1)
    examples = []
    for count in (3, 1, 0):
        ids = rng.integers(0, count + 1, (16, 16))
        segments = [Segment(i, f"n{i}", True, 9) for i in range(1, count + 1)]
        targets = make_targets(ids, segments, 16, min_pixels=1)
        points = (rng.random((50, 2)) * 16).astype(np.float32)
        image = np.zeros((16, 16, 3), np.uint8)
        weights = np.ones(50, np.float32)
        examples.append(Example(image, (16, 16), count > 0, targets, points, weights, 0))
    batch = collate(examples)
    masks, at_points = target_masks(batch), batch.point_targets()
    assert masks.shape == (3, 3, 16, 16)
    assert at_points.shape == (3, 3, 50)
    assert not at_points[1, 1:].any()
    assert not at_points[2].any()
    for image, example in enumerate(examples):
        x, y = torch.from_numpy(example.points).long().unbind(dim=1)
        assert torch.equal(at_points[image], masks[image][:, y, x].float())
        ignored = torch.from_numpy(example.targets.ids)[y, x] == IGNORE
        assert torch.equal(batch.known_weights()[image] == 0, ignored)
        # What a phrase does not mean is known everywhere.
        assert (batch.point_weights[image] == 1).all()
    assert batch.segmented.tolist() == [True, True, False]


def test_what_is_called_background_is_known_to_be_part_of_no_target() -> None:
    ids = np.repeat(np.array([0, 1, 2, 2], np.uint8), 64).reshape(16, 16)
    segments = [Segment(1, "cup", True, 64), Segment(2, "Background", False, 128)]
    targets = make_targets(ids, segments, 16)
    assert targets.labels == ("cup",)
    assert (targets.ids[8:] == NO_TARGET).all()
    assert (targets.ids[:4] == IGNORE).all()
