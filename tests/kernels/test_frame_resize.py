"""Frames scaled by the kernels: the bytes of the CPU's letterbox.

On a GPU they run for real; elsewhere in Triton's interpreter.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton")

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.image import letterbox
from xdecoder_rt.kernels.frame_resize import launch, reference
from xdecoder_rt.pixels import axes
from xdecoder_rt.pixels.axes import fixed_axis

INTERPOLATIONS = ("bilinear", "bicubic")
SIDES = st.integers(1, 40)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that nobody wrote holds neither zeros nor an image."""
    empty = torch.empty

    def filled(*args: object, **options: object) -> Tensor:
        made: Tensor = empty(*args, **options)  # type: ignore[call-overload]
        return made.fill_(0xA5)

    monkeypatch.setattr(torch, "empty", filled)


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Noise; with an even seed of black and white alone, where bicubic sums overshoot."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    return noise if seed % 2 else np.where(noise > 127, 255, 0).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    source=st.tuples(st.integers(1, 250), st.integers(1, 250)),
    target=st.tuples(SIDES, SIDES),
    interpolation=st.sampled_from(INTERPOLATIONS),
    seed=st.integers(0, 99),
)
def test_the_definition_is_the_letterbox_of_the_cpu(
    source: tuple[int, int], target: tuple[int, int], interpolation: str, seed: int
) -> None:
    image = picture(*source, seed)
    expected, box = letterbox(image, target, interpolation)
    rows, columns = (fixed_axis(source[i], box.valid[i], interpolation) for i in range(2))
    found = reference.letterboxed(torch.from_numpy(image), rows, columns, target)
    np.testing.assert_array_equal(found.numpy(), expected)


@settings(max_examples=20, deadline=None)
@given(
    source=st.tuples(SIDES, SIDES),
    target=st.tuples(SIDES, SIDES),
    interpolation=st.sampled_from(INTERPOLATIONS),
    gap=st.sampled_from([0, 1, 5]),
    seed=st.integers(0, 99),
)
def test_the_kernels_make_the_same_bytes(
    device: str,
    source: tuple[int, int],
    target: tuple[int, int],
    interpolation: str,
    gap: int,
    seed: int,
) -> None:
    image = picture(*source, seed)
    wide = torch.full((source[0], source[1] + gap, 3), 99, dtype=torch.uint8)
    wide[:, : source[1]] = torch.from_numpy(image)
    expected, box = letterbox(image, target, interpolation)
    found, geometry = launch.letterbox(wide.to(device)[:, : source[1]], target, interpolation)
    assert geometry == box
    np.testing.assert_array_equal(found.cpu().numpy(), expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_line_of_several_blocks(device: str, interpolation: str) -> None:
    image = picture(7, 500, 0)
    expected, _ = letterbox(image, (9, 420), interpolation)
    found, _ = launch.letterbox(torch.from_numpy(image).to(device), (9, 420), interpolation)
    np.testing.assert_array_equal(found.cpu().numpy(), expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_an_axis_reads_nothing_beyond_its_end_and_sums_fit(interpolation: str) -> None:
    """Sums are of 32 bits, and a tap beyond the end has no weight."""
    for source, target in [(1, 1), (1, 9), (9, 1), (7, 5), (500, 33), (33, 500), (4000, 512)]:
        axis = fixed_axis(source, target, interpolation)
        beyond = axis.first + np.arange(axis.taps)[:, None] >= source
        assert not axis.weights[beyond].any()
        assert (axis.first >= 0).all()
        largest = 255 * np.abs(axis.weights.astype(np.int64)).sum(axis=0).max()
        assert largest + (1 << (axes.PRECISION - 1)) < 2**31
        error = abs(axis.weights.sum(axis=0) - (1 << axes.PRECISION)).max()
        assert error <= axis.taps


def test_what_is_no_frame_is_refused(device: str) -> None:
    for wrong in (
        torch.zeros(4, 5, 3, device=device),
        torch.zeros(3, 4, 5, dtype=torch.uint8, device=device),
        torch.zeros(4, 5, dtype=torch.uint8, device=device),
    ):
        with pytest.raises(ArgumentError, match="uint8"):
            launch.letterbox(wrong, (8, 8))
    with pytest.raises(ArgumentError, match="'nearest'"):
        fixed_axis(4, 5, "nearest")
    with pytest.raises(ArgumentError, match="at least 1"):
        fixed_axis(0, 5, "bilinear")
