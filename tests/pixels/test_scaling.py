"""Images are scaled to Pillow's bytes, whatever their size, and whatever compiled form runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module

import numpy as np
import pytest
from compiled_variants import variants
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.pixels import scaling
from xdecoder_rt.pixels.axes import fixed_axis
from xdecoder_rt.pixels.scaling import scale_into

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.fixture(params=list(variants("xdecoder_rt.pixels._scale")), scope="module", autouse=True)
def _variant(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test of this module on every variant."""
    module = import_module(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "_loops", module)
        yield


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise; with an even seed of black and white alone, where bicubic sums overshoot."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return noise if seed % 2 else np.where(noise > 127, 255, 0).astype(np.uint8)


def by_pillow(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Width first, then height: later Pillows choose the order of one call by the sizes."""
    wide = Image.fromarray(image).resize((size[1], image.shape[0]), FILTERS[interpolation])
    return np.asarray(wide.resize((size[1], size[0]), FILTERS[interpolation]))


def scaled(image: np.ndarray, size: tuple[int, int], interpolation: str, **how: int) -> np.ndarray:
    frame = np.full((*size, 3), 99, np.uint8)
    scale_into(frame, image, size, interpolation, **how)
    return frame


SIDES = st.one_of(st.integers(1, 12), st.integers(1, 300))


@settings(max_examples=200, deadline=None)
@given(
    source=st.tuples(SIDES, SIDES),
    size=st.tuples(SIDES, SIDES),
    interpolation=st.sampled_from(list(FILTERS)),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_bytes_are_pillows(
    source: tuple[int, int], size: tuple[int, int], interpolation: str, threads: int, seed: int
) -> None:
    image = picture(*source, seed)
    wanted = by_pillow(image, size, interpolation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "_PIXELS_A_THREAD", 1)
        found = scaled(image, size, interpolation, threads=threads)
        turned = scaled(image[:, :, ::-1], size, interpolation, threads=threads, turns=True)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(turned, wanted)


@pytest.mark.parametrize("interpolation", list(FILTERS))
@pytest.mark.parametrize(
    ("source", "size"),
    [
        ((720, 1280), (252, 448)),
        ((480, 640), (336, 448)),
        ((1080, 1920), (252, 448)),
        ((2160, 3840), (288, 512)),
        ((37, 61), (800, 1088)),
        ((1, 20_000), (1, 96)),
        ((20_000, 1), (96, 1)),
        ((3, 6000), (200, 2)),
        ((6000, 3), (2, 200)),
        ((1, 1), (448, 448)),
        ((448, 700), (448, 448)),
        ((700, 448), (448, 448)),
    ],
)
def test_large_small_and_narrow_images_too(
    source: tuple[int, int], size: tuple[int, int], interpolation: str
) -> None:
    image = picture(*source, 1)
    np.testing.assert_array_equal(
        scaled(image, size, interpolation, threads=2), by_pillow(image, size, interpolation)
    )


@pytest.mark.slow
@pytest.mark.parametrize("interpolation", list(FILTERS))
def test_an_image_of_8k_too(interpolation: str) -> None:
    image = picture(4320, 7680, 1)
    np.testing.assert_array_equal(
        scaled(image, (252, 448), interpolation, threads=2),
        by_pillow(image, (252, 448), interpolation),
    )


@settings(max_examples=100, deadline=None)
@given(
    source=st.integers(1, 5000),
    target=st.integers(1, 5000),
    interpolation=st.sampled_from(list(FILTERS)),
)
def test_one_line_of_steep_edges_shows_every_weight(
    source: int, target: int, interpolation: str
) -> None:
    for seed in (0, 1):
        image = picture(1, source, seed)
        wanted = by_pillow(image, (1, target), interpolation)
        np.testing.assert_array_equal(scaled(image, (1, target), interpolation), wanted)
        column = np.ascontiguousarray(image.transpose(1, 0, 2))
        np.testing.assert_array_equal(
            scaled(column, (target, 1), interpolation), wanted.transpose(1, 0, 2)
        )


def test_what_is_beside_the_image_in_the_frame_stays_as_it_is() -> None:
    frame = np.full((40, 50, 3), 7, np.uint8)
    image = picture(91, 73)
    scale_into(frame, image, (31, 43), "bicubic")
    np.testing.assert_array_equal(frame[:31, :43], by_pillow(image, (31, 43), "bicubic"))
    assert (frame[31:] == 7).all() and (frame[:, 43:] == 7).all()


def test_views_and_read_only_images_are_scaled_and_stay_as_they_were() -> None:
    image = picture(90, 120)
    before = image.copy()
    image.setflags(write=False)
    for view in (image[::-1], image[:, ::2], image[10:50, 7:99], image.transpose(1, 0, 2)):
        np.testing.assert_array_equal(
            scaled(view, (33, 44), "bilinear"),
            by_pillow(np.ascontiguousarray(view), (33, 44), "bilinear"),
        )
    np.testing.assert_array_equal(image, before)


def test_an_image_of_the_wanted_size_is_copied() -> None:
    image = picture(30, 40)
    same = scaled(image, (30, 40), "bicubic")
    np.testing.assert_array_equal(same, image)
    assert not np.shares_memory(same, image)
    turned = scaled(image, (30, 40), "bicubic", turns=True)
    np.testing.assert_array_equal(turned, image[:, :, ::-1])


def test_nothing_is_read_beyond_the_end_of_an_image() -> None:
    """Behind every image lies memory that may not be touched, so that a byte too far is a crash."""
    code = """
import ctypes, mmap, sys
from importlib import import_module
import numpy as np
from xdecoder_rt.pixels import scaling

scaling._loops = import_module(sys.argv[1])
page = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
for height, width in [(1, 1), (2, 1), (1, 2), (3, 5), (4, 4), (5, 7), (1, 700), (700, 1), (64, 48)]:
    size = 3 * height * width
    room = -(-size // page) * page
    memory = mmap.mmap(-1, room + page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert not libc.mprotect(ctypes.c_void_p(address + room), page, 0)
    image = np.frombuffer(memory, np.uint8, size, room - size).reshape(height, width, 3)
    image[:] = 255
    for target in [(1, 1), (3, 2), (16, 33), (80, 90)]:
        for interpolation in ("bilinear", "bicubic"):
            frame = np.zeros((*target, 3), np.uint8)
            scaling.scale_into(frame, image, target, interpolation)
            assert (frame == 255).all()
print("done")
"""
    command = [sys.executable, "-c", code, scaling._loops.__name__]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stdout == "done\n", (run.returncode, run.stderr)


@pytest.mark.parametrize("interpolation", list(FILTERS))
def test_rows_are_written_to_their_last_byte_and_no_further(interpolation: str) -> None:
    for width in range(1, 40):
        around = np.full((5, width + 1, 3), 7, np.uint8)
        image = picture(9, 17, 1)
        scale_into(around, image, (4, width), interpolation)
        np.testing.assert_array_equal(
            around[:4, :width], by_pillow(image, (4, width), interpolation)
        )
        assert (around[:, width] == 7).all() and (around[4] == 7).all()


def test_axes_of_usual_lengths_are_made_once_and_long_ones_are_not_kept() -> None:
    assert fixed_axis(1280, 448, "bilinear") is fixed_axis(1280, 448, "bilinear")
    assert fixed_axis(1 << 16, 4, "bilinear") is not fixed_axis(1 << 16, 4, "bilinear")


@pytest.mark.parametrize(
    ("image", "frame", "size", "interpolation", "message"),
    [
        (picture(4, 5)[:, :, :2], picture(8, 8), (8, 8), "bilinear", "of shape"),
        (picture(4, 5)[:, :, 0], picture(8, 8), (8, 8), "bilinear", "of shape"),
        (np.zeros((4, 5, 4), np.uint8), picture(8, 8), (8, 8), "bilinear", "of shape"),
        (picture(4, 5).astype(np.int8), picture(8, 8), (8, 8), "bilinear", "int8"),
        (picture(4, 5)[:0], picture(8, 8), (8, 8), "bilinear", "at least 1"),
        (picture(4, 5)[:, :0], picture(8, 8), (8, 8), "bilinear", "at least 1"),
        (picture(4, 5), picture(8, 8), (0, 8), "bilinear", "at least 1"),
        (picture(4, 5), picture(8, 8), (9, 8), "bilinear", "The frame has the shape"),
        (picture(4, 5), picture(8, 8), (8, 9), "bilinear", "The frame has the shape"),
        (picture(4, 5), picture(8, 8)[:, :, 0], (8, 8), "bilinear", "The frame has the shape"),
        (picture(4, 5), picture(8, 8), (8, 8), "nearest", "'nearest' is unknown"),
        (picture(8, 8), picture(8, 8), (8, 8), "nearest", "'nearest' is unknown"),
    ],
)
def test_what_cannot_be_scaled_is_refused(
    image: np.ndarray, frame: np.ndarray, size: tuple[int, int], interpolation: str, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        scale_into(frame, image, size, interpolation)
