"""Masks without specks: the compiled labelling against flood filling, and its rule."""

from __future__ import annotations

import numpy as np
import plain_pieces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xdecoder_rt.masks import pieces
from xdecoder_rt.masks.panoptic_rule import MapSegment
from xdecoder_rt.results import box_of_mask

Mask = np.ndarray


def sparse(values: int) -> st.SearchStrategy[np.ndarray]:
    """Maps in which runs are long and short, and wider than what is compared at once."""
    sizes = st.tuples(st.integers(1, 12), st.integers(1, 70))

    def of_size(size: tuple[int, int]) -> st.SearchStrategy[np.ndarray]:
        dense = arrays(np.int32, size, elements=st.integers(0, values))
        filled = arrays(np.int32, size, elements=st.integers(0, values), fill=st.just(1))
        repeated = st.tuples(dense, st.integers(1, 20)).map(
            lambda pair: np.repeat(pair[0], pair[1], axis=1)
        )
        return st.one_of(dense, filled, repeated)

    return sizes.flatmap(of_size)


SHARES = st.one_of(st.sampled_from([0.0, 0.02, 0.1, 0.2, 0.5, 1.0]), st.floats(0, 1))


def boxes_of(masks: Mask) -> np.ndarray:
    return np.stack([box_of_mask(mask) for mask in masks]).astype(np.int64)


def clean(mask: Mask, share: float) -> tuple[Mask, int, list[int]]:
    masks = mask[None].copy()
    areas, boxes = pieces.clean_masks(masks, boxes_of(masks), share)
    return masks[0], int(areas[0]), boxes[0].tolist()


def segments_of(segmentation: np.ndarray, stuff: frozenset[int] = frozenset()) -> list[MapSegment]:
    count = int(segmentation.max(initial=0))
    return [
        MapSegment(id_, id_ - 1, id_ not in stuff, 0.5, int((segmentation == id_).sum()))
        for id_ in range(1, count + 1)
    ]


# ------------------------------------------------------------------- against filling pixel by pixel


@settings(max_examples=200, deadline=None)
@given(sparse(1), SHARES)
def test_a_cleaned_mask_is_that_of_flood_filling(pixels: np.ndarray, share: float) -> None:
    mask = pixels.astype(bool)
    found, area, box = clean(mask, share)
    np.testing.assert_array_equal(found, plain_pieces.cleaned(mask, share))
    assert area == np.count_nonzero(found)
    assert box == box_of_mask(found).tolist()
    assert not (found & ~mask).any()
    assert found.any() == mask.any()
    again, *_ = clean(found, share)
    np.testing.assert_array_equal(again, found)


@settings(max_examples=200, deadline=None)
@given(sparse(4), SHARES, st.frozensets(st.integers(1, 4)))
def test_every_segment_of_a_map_is_cleaned_for_itself(
    segmentation: np.ndarray, share: float, stuff: frozenset[int]
) -> None:
    found = segmentation.copy()
    before = segments_of(segmentation, stuff)
    after = pieces.clean_map(found, before, share)
    for old, new in zip(before, after, strict=True):
        mask = segmentation == old.id
        expected = plain_pieces.cleaned(mask, share) if old.isthing else mask
        np.testing.assert_array_equal(found == old.id, expected)
        assert new.area == np.count_nonzero(expected)
        assert (new.id, new.label_id, new.isthing, new.score, new.rows) == (
            (old.id, old.label_id, old.isthing, old.score, old.rows)
        )
    again = found.copy()
    assert pieces.clean_map(again, after, share) == after
    np.testing.assert_array_equal(again, found)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_masks_are_cleaned_alike_alone_and_together_by_any_number_of_threads(
    seed: int, threads: int
) -> None:
    masks = np.random.default_rng(seed).random((5, 9, 40)) < 0.35
    masks[3] = False
    expected = [clean(mask, 0.2) for mask in masks]
    areas, boxes = pieces.clean_masks(masks, boxes_of(masks), 0.2, threads=threads)
    for index, (mask, area, box) in enumerate(expected):
        np.testing.assert_array_equal(masks[index], mask)
        assert (areas[index], boxes[index].tolist()) == (area, box)


# ------------------------------------------------------------------------------- the rule in words


def drawing(*rows: str) -> np.ndarray:
    return np.array([[int(letter) for letter in row.replace(".", "0")] for row in rows], np.int32)


def test_a_speck_far_from_its_thing_does_not_stretch_the_box() -> None:
    found, area, box = clean(drawing("1111......", "1111.....1", "1111......").astype(bool), 0.2)
    assert (area, box) == (12, [0, 0, 4, 3])
    assert not found[:, 4:].any()


def test_a_thing_behind_a_pole_keeps_both_of_its_pieces() -> None:
    mask = drawing("111.11", "111.11").astype(bool)
    np.testing.assert_array_equal(clean(mask, 0.2)[0], mask)


def test_a_piece_of_exactly_the_share_stays() -> None:
    mask = drawing("11111.1").astype(bool)
    assert clean(mask, 0.2)[1] == 6
    assert clean(mask, np.nextafter(0.2, 1))[1] == 5


def test_pixels_that_touch_at_a_corner_are_of_one_piece() -> None:
    for picture in (("11..", "..11"), ("..11", "11..")):
        assert clean(drawing(*picture).astype(bool), 1.0)[1] == 4
    both = drawing("1122", "2211")
    assert [one.area for one in pieces.clean_map(both, segments_of(both), 1.0)] == [4, 4]


def test_arms_that_meet_below_are_one_piece() -> None:
    mask = drawing("1.1.1.1", "1.1.1.1", "1111111").astype(bool)
    assert clean(mask, 1.0)[1] == mask.sum()


def test_what_is_left_out_of_a_map_is_nothing_and_stuff_keeps_its_pieces() -> None:
    segmentation = drawing("1111.22222", "1111...1.2", "2.........")
    after = pieces.clean_map(segmentation, segments_of(segmentation, frozenset([2])), 0.2)
    np.testing.assert_array_equal(segmentation, drawing("1111.22222", "1111.....2", "2........."))
    assert [segment.area for segment in after] == [8, 7]


def test_a_checkerboard_of_any_size_is_labelled() -> None:
    """More runs than there was room for at first; all touch at corners, those of rows do not."""
    mask = np.indices((61, 403)).sum(axis=0) % 2 == 0
    assert clean(mask, 1.0)[1] == mask.sum()
    rows = np.zeros((61, 403), bool)
    rows[::2, ::2] = True
    rows[30, 200:203] = True
    assert clean(rows, 0.5)[1:] == (3, [200, 30, 203, 31])


def test_nothing_is_cleaned_without_a_share_or_a_segment() -> None:
    segmentation = drawing("111.1")
    before = segments_of(segmentation)
    assert pieces.clean_map(segmentation, before, 0.0) == tuple(before)
    assert segmentation.tolist() == drawing("111.1").tolist()
    empty = np.zeros((3, 4), np.int32)
    assert pieces.clean_map(empty, [], 0.5) == ()
    areas, boxes = pieces.clean_masks(np.zeros((0, 3, 4), bool), np.zeros((0, 4), np.int64), 0.5)
    assert areas.shape == (0,) and boxes.shape == (0, 4)
