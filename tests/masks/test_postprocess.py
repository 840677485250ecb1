"""The compiled post-processing against its NumPy reference, and its rules one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import numpy as np
import plain_postprocess
import pytest
from compiled_variants import variants
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plain_postprocess import sigmoid

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.masks import grid as mask_grid
from xdecoder_rt.masks import postprocess
from xdecoder_rt.masks.classification import Selection, top_instances
from xdecoder_rt.pixels.letterbox import Letterbox

VARIANTS = list(variants("xdecoder_rt.masks._postprocess"))


@pytest.fixture(params=VARIANTS, scope="module", autouse=True)
def _variant(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test of this module on every variant."""
    module = import_module(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_grid, "kernels", module)
        patch.setattr(postprocess, "kernels", module)
        yield


# ------------------------------------------------------------------------------------------ cases


@dataclass(frozen=True)
class Case:
    mask_logits: np.ndarray
    letterbox: Letterbox
    class_logits: np.ndarray
    is_thing: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        probabilities = postprocess.class_probabilities(self.class_logits)
        return probabilities[:, :-1].max(axis=1)

    @property
    def labels(self) -> np.ndarray:
        return self.class_logits[:, :-1].argmax(axis=1)

    def panoptic(self, form: ModuleType, overlap: float = 0.8, **options: int):  # noqa: ANN201
        return form.panoptic(
            self.scores,
            self.labels,
            self.mask_logits,
            self.letterbox,
            self.is_thing,
            overlap,
            **options,
        )


def blobs(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """Masks as a model draws them: an inside, an outside, a soft border."""
    y, x = np.mgrid[:height, :width]
    centres = rng.uniform(0, 1, (count, 2)) * (height, width)
    radii = rng.uniform(0.05, 0.5, count) * max(height, width)
    distances = np.hypot(y - centres[:, :1, None], x - centres[:, 1:, None])
    return np.clip((radii[:, None, None] - distances) * rng.uniform(0.5, 5), -12, 12)


def noise(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    return rng.normal(0, rng.choice([0.1, 3, 15]), (count, height, width))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    masks, classes = draw(st.integers(0, 9)), draw(st.integers(1, 6))
    target = (4 * height, 4 * width)
    valid = draw(st.integers(1, target[0])), draw(st.integers(1, target[1]))
    source = draw(st.one_of(st.just(valid), st.tuples(st.integers(1, 150), st.integers(1, 150))))
    draw_masks: Callable[..., np.ndarray] = draw(st.sampled_from([blobs, noise]))
    return Case(
        draw_masks(rng, masks, height, width).astype(np.float32),
        Letterbox(source, target, valid),
        rng.normal(0, draw(st.sampled_from([0.5, 4])), (masks, classes + 1)).astype(np.float32),
        rng.random(classes) < 0.5,
    )


def case(seed: int, masks: int, source: tuple[int, int], valid: tuple[int, int]) -> Case:
    """A case of the size that is met in practice: 512 x 512 in, masks of 128 x 128."""
    rng = np.random.default_rng(seed)
    return Case(
        (blobs(rng, masks, 128, 128) + rng.normal(0, 0.3, (masks, 128, 128))).astype(np.float32),
        Letterbox(source, (512, 512), valid),
        rng.normal(0, 4, (masks, 21)).astype(np.float32),
        np.arange(20) < 12,
    )


def near_ties(values: np.ndarray, share: float = 1e-5) -> np.ndarray:
    """Where the two largest of axis 0 are within float noise of each other."""
    if len(values) < 2:
        return np.zeros(values.shape[1:], dtype=bool)
    second, first = np.sort(values, axis=0)[-2:]
    return first - second <= share * first


def near_zero(logits: np.ndarray) -> np.ndarray:
    """Where the sign of a logit is float noise."""
    return np.abs(logits) < 1e-5 * max(1, np.abs(logits).max(initial=0))


# --------------------------------------------------------------- compiled loops against reference


def undecided_pixels(case: Case, overlap: float) -> tuple[np.ndarray, bool]:
    """Pixels whose owner is float noise, and whether they sway which queries become segments."""
    logits = plain_postprocess.full_size_logits(case.mask_logits, case.letterbox)
    if not len(logits):
        return np.zeros(case.letterbox.source, dtype=bool), False
    probabilities = sigmoid(logits)
    weighted = case.scores[:, None, None] * probabilities
    best = weighted.max(axis=0)
    owned, inside = weighted == best, logits >= 0
    ties = near_ties(weighted) & (weighted >= best * (1 - 1e-5))
    border = near_zero(logits)
    at_stake = ties | (owned & border)

    def count(pixels: np.ndarray) -> np.ndarray:
        return pixels.sum(axis=(1, 2))

    low = (count(owned) - count(ties)) / np.maximum(count(inside) + count(border), 1)
    high = (count(owned) + count(ties)) / np.maximum(count(inside) - count(border), 1)
    share_sways = (count(ties | border) > 0) & (low <= overlap) & (overlap <= high)
    existence_sways = (count(at_stake) > 0) & (count(owned & inside) <= count(at_stake))
    return at_stake.any(axis=0), bool((share_sways | existence_sways).any())


def assert_same_panoptic(case: Case, overlap: float, threads: int, undecided: np.ndarray) -> None:
    expected = case.panoptic(plain_postprocess, overlap)
    found = case.panoptic(postprocess, overlap, threads=threads)
    assert found.segmentation.dtype == np.int32
    different = found.segmentation != expected.segmentation
    assert not (different & ~undecided).any()
    assert len(found.segments) == len(expected.segments)
    for mine, theirs in zip(found.segments, expected.segments, strict=True):
        assert (mine.id, mine.label_id, mine.isthing, mine.rows) == (
            theirs.id,
            theirs.label_id,
            theirs.isthing,
            theirs.rows,
        )
        assert mine.score == pytest.approx(theirs.score, rel=1e-6)
        assert mine.area == (found.segmentation == mine.id).sum()


@given(cases(), st.floats(0, 1), st.integers(1, 3))
@settings(deadline=None)
def test_panoptic(case: Case, overlap: float, threads: int) -> None:
    undecided, sways = undecided_pixels(case, overlap)
    assume(not sways)
    assert_same_panoptic(case, overlap, threads, undecided)


def assert_same_semantic(case: Case, keep_void: bool, threads: int) -> None:
    arguments = case.class_logits, case.mask_logits, case.letterbox
    expected = plain_postprocess.semantic_scores(*arguments, keep_void=keep_void)
    scores = postprocess.semantic_scores(*arguments, keep_void=keep_void, threads=threads)
    np.testing.assert_allclose(scores, expected, rtol=2e-4, atol=1e-6)
    classes = postprocess.semantic(*arguments, keep_void=keep_void, threads=threads)
    best = plain_postprocess.semantic(*arguments, keep_void=keep_void)
    assert classes.dtype == np.int32
    assert not ((classes != best) & ~near_ties(expected)).any()


@given(cases(), st.booleans(), st.integers(1, 3))
@settings(deadline=None)
def test_semantic(case: Case, keep_void: bool, threads: int) -> None:
    assert_same_semantic(case, keep_void, threads)


def assert_same_instances(case: Case, threads: int) -> None:
    chosen = top_instances(case.class_logits, 20, case.is_thing)
    logits = case.mask_logits[chosen.unique_queries]
    expected = plain_postprocess.instance(chosen, logits, case.letterbox)
    full = plain_postprocess.full_size_logits(logits, case.letterbox)
    assume(not near_zero(full).any())
    found = postprocess.instance(chosen, logits, case.letterbox, threads=threads)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    # Equal scores may come in either order: compare the sets.
    theirs = {
        (int(q), int(label)): i
        for i, (q, label) in enumerate(zip(expected.queries, expected.label_ids, strict=True))
    }
    assert len(theirs) == len(found.scores)
    for i, key in enumerate(zip(found.queries, found.label_ids, strict=True)):
        j = theirs[int(key[0]), int(key[1])]
        np.testing.assert_array_equal(found.masks[i], expected.masks[j])
        np.testing.assert_array_equal(found.boxes[i], expected.boxes[j])
        assert found.areas[i] == expected.areas[j]


@given(cases(), st.integers(1, 3))
@settings(deadline=None)
def test_instance(case: Case, threads: int) -> None:
    assert_same_instances(case, threads)


@given(cases(), st.integers(1, 3))
@settings(deadline=None)
def test_full_size_logits(case: Case, threads: int) -> None:
    arguments = case.mask_logits, case.letterbox
    found = postprocess.full_size_logits(*arguments, threads=threads)
    expected = plain_postprocess.full_size_logits(*arguments)
    np.testing.assert_allclose(found, expected, atol=2e-6 * max(1, np.abs(expected).max(initial=0)))


# Whole tiles are skipped or filled only where masks are larger than the tiles.
@pytest.mark.parametrize(
    ("source", "valid"),
    [((512, 512), (512, 512)), ((480, 640), (384, 512)), ((100, 75), (512, 384))],
)
@pytest.mark.parametrize("masks", [1, 12])
def test_images_of_usual_size(source: tuple[int, int], valid: tuple[int, int], masks: int) -> None:
    usual = case(masks, masks, source, valid)
    undecided, sways = undecided_pixels(usual, 0.3)
    assert not sways
    assert undecided.mean() < 1e-3
    assert_same_panoptic(usual, 0.3, 2, undecided)
    assert_same_semantic(usual, keep_void=True, threads=2)
    arguments = usual.mask_logits, usual.letterbox
    found = postprocess.binary_masks(*arguments, threads=2)
    expected = plain_postprocess.binary_masks(*arguments)
    full = plain_postprocess.full_size_logits(*arguments)
    assert not ((found.masks != expected.masks) & ~near_zero(full)).any()
    np.testing.assert_allclose(found.certainty, expected.certainty, atol=1e-4)


# ------------------------------------------------------------------------------------------ rules

SQUARE = Letterbox((16, 16), (16, 16), (16, 16))


def halves(*logits: float) -> np.ndarray:
    """Masks [K, 4, 4] that are constant but for the sign: plus on the left, minus on the right."""
    sides = np.repeat([[1.0, 1.0, -1.0, -1.0]], 4, axis=0)
    return np.array([value * sides for value in logits], dtype=np.float32)


def everywhere(*logits: float) -> np.ndarray:
    return np.array([np.full((4, 4), value) for value in logits], dtype=np.float32)


def test_the_larger_product_of_score_and_probability_owns_the_pixel() -> None:
    masks = np.concatenate([everywhere(3.0), halves(8.0)])
    found = postprocess.panoptic([0.9, 0.95], [0, 1], masks, SQUARE, [True, True], 0.4)
    assert [segment.label_id for segment in found.segments] == [0, 1]
    assert (found.segmentation[:, :7] == 2).all()
    assert (found.segmentation[:, 9:] == 1).all()


def test_a_mostly_covered_query_is_dropped_and_leaves_a_hole() -> None:
    masks = np.concatenate([everywhere(3.0), halves(8.0)])
    found = postprocess.panoptic([0.9, 0.95], [0, 1], masks, SQUARE, [True, True], 0.8)
    assert [segment.label_id for segment in found.segments] == [1]
    assert (found.segmentation[:, :7] == 1).all()
    assert (found.segmentation[:, 9:] == 0).all()


def test_a_pixel_of_low_probability_is_owned_but_not_covered() -> None:
    found = postprocess.panoptic([0.9], [0], halves(8.0), SQUARE, [True], 0.8)
    assert (found.segmentation[:, 9:] == 0).all()
    assert found.segments[0].area == (found.segmentation == 1).sum()


def test_a_query_whose_mask_is_nowhere_is_no_segment() -> None:
    found = postprocess.panoptic([0.9], [0], everywhere(-2.0), SQUARE, [True], 0.0)
    assert found.segments == ()
    assert not found.segmentation.any()


def test_a_probability_of_exactly_one_half_is_inside() -> None:
    found = postprocess.panoptic([0.9], [0], everywhere(0.0), SQUARE, [True], 0.8)
    assert (found.segmentation == 1).all()
    assert not postprocess.binary_masks(everywhere(0.0), SQUARE).masks.any()


def test_stuff_of_one_class_is_one_segment_and_things_are_not() -> None:
    masks = np.concatenate([halves(8.0), halves(-8.0)])
    stuff = postprocess.panoptic([0.9, 0.95], [1, 1], masks, SQUARE, [True, False], 0.8)
    assert [(s.id, s.isthing, s.rows) for s in stuff.segments] == [(1, False, (0, 1))]
    assert stuff.segments[0].score == pytest.approx(0.95)
    assert stuff.segments[0].area == stuff.segmentation.sum()
    things = postprocess.panoptic([0.9, 0.95], [0, 0], masks, SQUARE, [True, False], 0.8)
    assert [(s.id, s.isthing, s.rows) for s in things.segments] == [
        (1, True, (0,)),
        (2, True, (1,)),
    ]


def test_equal_queries_the_first_wins() -> None:
    found = postprocess.panoptic([0.9, 0.9], [0, 1], everywhere(4.0, 4.0), SQUARE, [True, True], 0)
    assert [segment.rows for segment in found.segments] == [(0,)]


def test_saturated_logits_are_harmless() -> None:
    masks = everywhere(-1e30, 1e30, -300.0)
    found = postprocess.panoptic([1e-30, 0.9, 1], [0] * 3, masks, SQUARE, [True], 0)
    assert (found.segmentation == 1).all()
    assert [segment.rows for segment in found.segments] == [(1,)]


def test_nothing_kept_gives_an_empty_map() -> None:
    found = postprocess.panoptic([], [], np.zeros((0, 4, 4)), SQUARE, [True], 0.8)
    assert found.segments == ()
    assert found.segmentation.shape == (16, 16)
    assert not found.segmentation.any()


def test_void_is_minus_one_where_it_takes_part_and_wins() -> None:
    class_logits = [[9.0, 0.0], [0.0, 9.0]]
    masks = np.concatenate([halves(8.0), halves(-8.0)])
    found = postprocess.semantic(class_logits, masks, SQUARE, keep_void=True)
    assert (found[:, :7] == 0).all()
    assert (found[:, 9:] == -1).all()
    assert (postprocess.semantic(class_logits, masks, SQUARE) == 0).all()


def test_binary_masks_measure_themselves() -> None:
    found = postprocess.binary_masks(np.concatenate([halves(8.0), everywhere(-8.0)]), SQUARE)
    assert found.masks.dtype == np.bool_
    np.testing.assert_array_equal(found.boxes, [[0, 0, 8, 16], [0, 0, 0, 0]])
    np.testing.assert_array_equal(found.areas, [128, 0])
    assert found.certainty[0] > 0.9
    assert found.certainty[1] == 0


def test_the_image_is_cut_out_of_the_padding() -> None:
    # Content fills the left half of the input; what the padding holds does not come out.
    letterbox = Letterbox((32, 16), (16, 16), (16, 8))
    found = postprocess.binary_masks(halves(8.0), letterbox)
    assert found.masks.shape == (1, 32, 16)
    assert found.masks.all()


def test_instances_are_ordered_by_their_final_score() -> None:
    chosen = Selection(np.array([2, 7, 2]), np.float32([0.9, 0.8, 0.7]), np.array([0, 1, 2]))
    found = postprocess.instance(chosen, everywhere(0.1, 9.0), SQUARE)
    np.testing.assert_array_equal(found.queries, [7, 2, 2])
    np.testing.assert_array_equal(found.label_ids, [1, 0, 2])
    np.testing.assert_allclose(found.scores, [0.8, 0.9 * 0.525, 0.7 * 0.525], rtol=1e-3)
    assert found.masks.shape == (3, 16, 16)


def test_paint_shows_the_first_of_overlapping_masks() -> None:
    found = postprocess.binary_masks(np.concatenate([halves(8.0), everywhere(8.0)]), SQUARE)
    painted = postprocess.paint_masks(found.masks, found.boxes, (16, 16))
    assert (painted[:, :8] == 1).all()
    assert (painted[:, 8:] == 2).all()
    assert not postprocess.paint_masks(found.masks[:0], found.boxes[:0], (16, 16)).any()


def test_arguments_of_other_types_and_layouts_are_taken() -> None:
    masks = np.random.default_rng(0).normal(0, 3, (4, 4, 2)).astype(np.float16)
    read_only = masks.transpose(2, 0, 1)
    read_only.flags.writeable = False
    expected = postprocess.binary_masks(np.ascontiguousarray(read_only), SQUARE)
    np.testing.assert_array_equal(postprocess.binary_masks(read_only, SQUARE).masks, expected.masks)


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("scores", "labels", "masks", "message"),
    [
        ([0.9], [0, 0], everywhere(1.0, 1.0), "1 scores and 2 masks"),
        ([0.9, 0.9], [0], everywhere(1.0, 1.0), "1 labels and 2 masks"),
        ([0.0], [0], everywhere(1.0), "not positive"),
        ([np.nan], [0], everywhere(1.0), "not positive"),
        ([0.9], [1], everywhere(1.0), "outside the vocabulary"),
        ([0.9], [-1], everywhere(1.0), "outside the vocabulary"),
        ([0.9], [0], np.zeros((4, 4)), "have shape"),
        ([0.9], [0], np.zeros((1, 0, 4)), "have shape"),
    ],
)
def test_panoptic_refuses(scores: list, labels: list, masks: np.ndarray, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        postprocess.panoptic(scores, labels, masks, SQUARE, [True], 0.8)


def test_class_logits_of_another_number_of_queries_are_refused() -> None:
    with pytest.raises(ArgumentError, match="3 rows of class logits and 2 masks"):
        postprocess.semantic(np.zeros((3, 4)), everywhere(1.0, 1.0), SQUARE)


def test_masks_of_another_number_of_queries_are_refused() -> None:
    chosen = Selection(np.array([0]), np.float32([0.9]), np.array([0]))
    with pytest.raises(ArgumentError, match="1 selected queries and 2 masks"):
        postprocess.instance(chosen, everywhere(1.0, 1.0), SQUARE)
