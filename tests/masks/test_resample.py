"""The resampling matrices against PyTorch's antialiased bicubic interpolation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.masks.resample import bicubic_axis, bicubic_matrix, mask_axis, resample

LENGTHS = st.integers(1, 300)

# Enlarging, reducing, odd and equal lengths, down to one value and up from one.
PAIRS = [
    (128, 512),
    (24, 96),
    (512, 720),
    (512, 333),
    (100, 37),
    (37, 100),
    (20, 19),
    (19, 20),
    (1000, 999),
    (2048, 100),
    (5, 5),
    (1, 7),
    (7, 1),
    (2, 3),
    (3, 2),
]


def interpolate(values: np.ndarray, height: int, width: int) -> np.ndarray:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: export)")
    return torch.nn.functional.interpolate(
        torch.from_numpy(values)[None],
        size=(height, width),
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )[0].numpy()


@pytest.mark.parametrize(
    ("source", "target", "along"),
    [(*pair, "rows") for pair in PAIRS]
    # PyTorch 2.13 computes something else where the output is a single column.
    + [(*pair, "columns") for pair in PAIRS if pair[1] > 1],
)
def test_equals_pytorch(source: int, target: int, along: str) -> None:
    values = np.random.default_rng(source).standard_normal((3, source, 40)).astype(np.float32)
    rows, columns = bicubic_axis(source, target), bicubic_axis(40, 13)
    if along == "columns":
        values, rows, columns = values.transpose(0, 2, 1).copy(), columns, rows
    expected = interpolate(values, rows.target, columns.target)
    np.testing.assert_allclose(resample(values, rows, columns), expected, atol=2e-6)


def test_mask_axis_equals_two_interpolations_with_the_crop_between() -> None:
    values = np.random.default_rng(0).standard_normal((4, 16, 24)).astype(np.float32)
    padded = interpolate(values, 64, 96)
    expected = interpolate(np.ascontiguousarray(padded[:, :50, :70]), 75, 105)
    found = resample(values, mask_axis(16, 64, 50, 75), mask_axis(24, 96, 70, 105))
    np.testing.assert_allclose(found, expected, atol=2e-6)


@given(LENGTHS, LENGTHS)
@settings(deadline=None)
def test_axis_is_a_band_of_its_matrix(source: int, target: int) -> None:
    axis = bicubic_axis(source, target)
    assert (axis.source, axis.target) == (source, target)
    assert axis.first.min() >= 0
    assert axis.first.max() + axis.taps <= source
    assert (np.diff(axis.first) >= 0).all()
    np.testing.assert_allclose(axis.weights.sum(axis=1), 1, atol=1e-12)
    matrix = bicubic_matrix(source, target)
    for i in range(target):
        band = matrix[i, axis.first[i] : axis.first[i] + axis.taps]
        np.testing.assert_array_equal(band, axis.weights[i])


@given(LENGTHS, LENGTHS, LENGTHS, st.data())
@settings(deadline=None)
def test_mask_axis_is_the_product_of_its_steps(
    logits: int, padded: int, source: int, data: st.DataObject
) -> None:
    valid = data.draw(st.integers(1, padded))
    axis = mask_axis(logits, padded, valid, source)
    product = bicubic_matrix(valid, source) @ bicubic_matrix(logits, padded)[:valid]
    np.testing.assert_allclose(axis.matrix(), product, atol=1e-12)
    assert (np.diff(axis.first) >= 0).all()


@given(LENGTHS, LENGTHS)
@settings(deadline=None)
def test_outputs_stay_within_the_overshoot(source: int, target: int) -> None:
    axis = bicubic_axis(source, target)
    values = np.random.default_rng(source).uniform(-1, 1, source)
    out = axis.matrix() @ values
    slack = axis.negative * np.ptp(values) + 1e-12
    assert out.max() <= values.max() + slack
    assert out.min() >= values.min() - slack


def test_equal_sizes_cost_nothing() -> None:
    same = bicubic_axis(720, 720)
    assert same.taps == 1 and (same.weights == 1).all()
    assert bicubic_axis(720, 719).taps > 1
    # Stride 4 to the padded size alone: four taps, none for the identity after it.
    assert mask_axis(128, 512, 512, 512).taps == 4


def test_axes_are_shared_and_cannot_be_changed() -> None:
    axis = bicubic_axis(10, 20)
    assert bicubic_axis(10, 20) is axis
    with pytest.raises(ValueError, match="read-only"):
        axis.weights[0, 0] = 1


@pytest.mark.parametrize("lengths", [(0, 5), (5, 0), (-1, 5)])
def test_lengths_below_one_are_refused(lengths: tuple[int, int]) -> None:
    with pytest.raises(ArgumentError, match="at least 1"):
        bicubic_axis(*lengths)


def test_a_valid_area_beyond_the_padding_is_refused() -> None:
    with pytest.raises(ArgumentError, match="exceeds the padded length"):
        mask_axis(4, 16, 17, 10)


def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(ArgumentError, match="10 x 10"):
        resample(np.zeros((2, 9, 10)), bicubic_axis(10, 5), bicubic_axis(10, 5))
