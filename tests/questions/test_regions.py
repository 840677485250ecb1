"""What a caption may be confined to: masks, boxes and references, on the decoder's three grids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.questions.regions import read_region, region_levels
from xdecoder_rt.results import Reference

SIZE = (30, 40)
STRIDES = (32, 16, 8)


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def test_a_mask_is_itself() -> None:
    mask = rectangle(3, 4, 9, 20)
    assert np.array_equal(read_region(mask, SIZE), mask)


def test_a_reference_is_its_mask() -> None:
    mask = rectangle(3, 4, 9, 20)
    reference = Reference("a mug", mask, 0.5, np.array([3, 4, 9, 20], np.float32))
    assert np.array_equal(read_region(reference, SIZE), mask)


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((3, 4, 9, 20), (3, 4, 9, 20)),
        ([3.0, 4.0, 9.0, 20.0], (3, 4, 9, 20)),
        (np.array([3, 4, 9, 20]), (3, 4, 9, 20)),
        # Every pixel that the box touches.
        ((3.9, 4.9, 8.1, 19.1), (3, 4, 9, 20)),
        ((2.5, 2.5, 2.6, 2.6), (2, 2, 3, 3)),
        # What lies outside the image is cut off.
        ((-5, -5, 2, 3), (0, 0, 2, 3)),
        ((38, 28, 1e300, 99), (38, 28, 40, 30)),
        ((0, 0, 40, 30), (0, 0, 40, 30)),
    ],
    ids=repr,
)
def test_a_box_is_the_pixels_that_it_touches(
    box: object, pixels: tuple[int, int, int, int]
) -> None:
    assert np.array_equal(read_region(box, SIZE), rectangle(*pixels))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("region", "named"),
    [
        ((50, 0, 60, 10), "covers no pixel.*inside 40x30"),
        ((-9, -9, 0, 0), "covers no pixel"),
        ((9, 4, 3, 20), "covers no pixel.*left < right"),
        ((3, 4, 3, 20), "covers no pixel"),
        (np.zeros(SIZE, np.bool_), "is empty.*at least one pixel.*leave region out"),
        (np.ones((40, 30), np.bool_), "40x30 pixels.*the image's size, 30x40"),
        (np.ones(SIZE, np.uint8), "array of uint8.*bool.*mask > 0"),
        (np.ones(SIZE, np.float32), "array of float32"),
        (np.ones((1, *SIZE), np.bool_), "The region is.*a bool mask"),
        ((1, 2, 3), "The region is"),
        ((1, 2, 3, float("nan")), "The region is"),
        ((1, 2, 3, float("inf")), "The region is"),
        ("left", "The region is 'left'.*a box.*or a Reference"),
        (7, "The region is 7"),
        ([[True, False]], "The region is"),
        (["a", 2, 3, 4], "The region is"),
        (Reference("a", np.zeros(SIZE, np.bool_), 0.1, np.zeros(4, np.float32)), "is empty"),
        (Reference("a", np.ones((2, 2), np.bool_), 0.1, np.zeros(4, np.float32)), "2x2 pixels"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_regions_that_cannot_be_described(region: object, named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        read_region(region, SIZE)  # type: ignore[arg-type]


def blocks(size: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(size) < 0.3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (128, 32)])
def test_a_level_takes_the_nearest_pixel_as_the_original_does(
    size: tuple[int, int], seed: int
) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is in extra export")
    mask = blocks(size, seed)
    mask[0, 0] = True
    levels = region_levels(mask, Letterbox(size, size, size), STRIDES)
    for stride, level in zip(STRIDES, levels, strict=True):
        shape = (size[0] // stride, size[1] // stride)
        nearest = torch.nn.functional.interpolate(
            torch.from_numpy(mask)[None, None].float(), shape, mode="nearest"
        )
        assert level.dtype == np.float32
        np.testing.assert_array_equal(level == 1, nearest.flatten().numpy() == 1)
        np.testing.assert_array_equal(np.abs(level), 1)


def test_an_image_of_half_the_size_is_looked_at_where_it_is_enlarged() -> None:
    mask = np.zeros((32, 32), np.bool_)
    mask[:16] = True
    _, _, fine = region_levels(mask, Letterbox.fit((32, 32), (64, 64)), STRIDES)
    expected = np.repeat([1, -1], 4)[:, None] * np.ones((1, 8))
    np.testing.assert_array_equal(fine.reshape(8, 8), expected)


def test_the_padding_is_outside() -> None:
    box = Letterbox.fit((32, 64), (64, 64))
    assert box.valid == (32, 64)
    levels = region_levels(np.ones((32, 64), np.bool_), box, STRIDES)
    for level, size in zip(levels, (2, 4, 8), strict=True):
        grid = level.reshape(size, size)
        assert (grid[: size // 2] == 1).all()
        assert (grid[size // 2 :] == -1).all()


@settings(max_examples=100, deadline=None)
@given(
    source=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    target=st.sampled_from([(32, 32), (64, 96), (96, 32)]),
    corner=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    extent=st.integers(1, 4),
)
def test_no_region_vanishes(
    source: tuple[int, int],
    target: tuple[int, int],
    corner: tuple[float, float],
    extent: int,
) -> None:
    mask = np.zeros(source, np.bool_)
    top, left = int(corner[0] * source[0]), int(corner[1] * source[1])
    mask[top : top + extent, left : left + extent] = True
    box = Letterbox.fit(source, target)
    for stride, level in zip(STRIDES, region_levels(mask, box, STRIDES), strict=True):
        height, width = target[0] // stride, target[1] // stride
        assert level.shape == (height * width,)
        rows, columns = np.nonzero(level.reshape(height, width) == 1)
        assert len(rows), "a row that may see nothing would see everything"
        # What is inside lies where the region does, to a position.
        bottom, right = min(top + extent, source[0]), min(left + extent, source[1])
        assert rows.min() >= int(top * box.scale[0] / stride) - 1
        assert rows.max() <= bottom * box.scale[0] / stride + 1
        assert columns.min() >= int(left * box.scale[1] / stride) - 1
        assert columns.max() <= right * box.scale[1] / stride + 1
