"""The level shrink: one launch gives each level ``R_h X R_w^T`` of the mask features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.kernels.level_features import schedule
from xdecoder_rt.kernels.level_features.specs import specs
from xdecoder_rt.kernels.level_features.tiles import (
    COLUMN_CHUNK,
    ROW_CHUNK,
    TILE_COLUMNS,
    TILE_ROWS,
    tile_plan,
)
from xdecoder_rt.kernels.spec import ELEMENTS
from xdecoder_rt.masks.resample import bicubic_matrix

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from xdecoder_rt.kernels.launch import launch  # noqa: E402
from xdecoder_rt.kernels.level_features.launch import level_features  # noqa: E402
from xdecoder_rt.kernels.level_features.reference import (  # noqa: E402
    level_features as reference,
)

HALVES = ((8, 12), (4, 6), (2, 3))

# Of the largest absolute value of the map. With fp16 and bf16 the weights, the product in between
# and the output are rounded: three roundings of a value that weights of both signs can raise.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture(params=TOLERANCE, ids=str, scope="session")
def dtype(request, device):
    if device == "cpu" and request.param == torch.bfloat16:
        pytest.skip("lacks a GPU: Triton's interpreter multiplies the bits of bf16 as integers")
    return request.param


def assert_equal(outs, x, sizes):
    expected = reference(x.double().cpu(), sizes)
    bound = TOLERANCE[x.dtype] * float(x.abs().max())
    assert len(outs) == len(sizes)
    for out, level, (height, width) in zip(outs, expected, sizes, strict=True):
        assert out.dtype == x.dtype
        assert out.is_contiguous()
        assert out.shape == (*x.shape[:2], height * width)
        np.testing.assert_allclose(out.double().cpu(), level, rtol=0, atol=bound)


def features(shape, dtype, seed, device):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(device=device, dtype=dtype)


@st.composite
def problems(draw):
    """Maps of odd sizes with levels that are halves, nearly halves, or anything below or above."""
    planes = draw(st.sampled_from([(1, 1), (2, 3), (1, 5)]))
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 90))
    ratios = draw(st.sampled_from([(2, 4, 8), (1, 3, 7), (2.3, 4.1, 30), (0.7, 1.5, 2)]))
    sizes = tuple((max(1, round(height / ratio)), max(1, round(width / ratio))) for ratio in ratios)
    return (*planes, height, width), sizes


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems(), seed=st.integers(0, 99))
def test_equals_the_reference_at_any_size(device, dtype, problem, seed):
    shape, sizes = problem
    x = features(shape, dtype, seed, device)
    assert_equal(level_features(x, sizes), x, sizes)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.permute(0, 3, 1, 2),
        lambda x: x.transpose(2, 3),
        lambda x: x.transpose(0, 1),
        lambda x: x[:, :, 1:, 3:],
        lambda x: x[:, :, ::2, ::3],
        lambda x: x[:, :1].expand(-1, 4, -1, -1),
        lambda x: x[:1].expand(3, -1, -1, -1),
    ],
    ids=["channels-last", "transposed", "planes", "crop", "steps", "channel-0", "batch-0"],
)
def test_takes_any_strides(device, dtype, view):
    x = view(features((2, 3, 19, 26), dtype, 5, device))
    sizes = tuple((max(1, x.shape[2] // n), max(1, x.shape[3] // n)) for n in (2, 4, 8))
    assert_equal(level_features(x, sizes), x, sizes)


@pytest.mark.parametrize("size", [(4, 4), (1, 1), (3, 50)])
def test_small_maps(device, dtype, size):
    x = features((1, 2, *size), dtype, 6, device)
    sizes = ((2, 2), (1, 1), (1, 3))
    assert_equal(level_features(x, sizes), x, sizes)


def test_the_sizes_of_a_plan(device):
    x = features((1, 1, 160, 160), torch.float16, 7, device)
    sizes = ((80, 80), (40, 40), (20, 20))
    assert_equal(level_features(x, sizes), x, sizes)


def test_writes_every_position_and_nothing_else(device):
    """Outputs begin as NaN between guards; the map lies in NaN that no load may touch."""
    around = torch.full((2, 2, 25, 31), float("nan"), device=device)
    around[:, :, 2:21, 3:28] = features((2, 2, 19, 25), torch.float32, 8, device)
    x = around[:, :, 2:21, 3:28]
    sizes = ((10, 13), (5, 6), (2, 3))
    plan = tile_plan((19, 25), sizes)
    counts = [4 * height * width for height, width in sizes]
    guarded = [torch.full((count + 128,), float("nan"), device=device) for count in counts]
    launch(
        schedule.call(
            "fp32",
            x,
            tuple(x.shape),
            x.stride(),
            torch.tensor(plan.table, device=device),
            len(plan.table),
            torch.tensor(plan.weights, dtype=torch.float32, device=device),
            [buffer[64:-64] for buffer in guarded],
        )
    )
    for buffer in guarded:
        assert buffer[:64].isnan().all()
        assert buffer[-64:].isnan().all()
    outs = [buffer[64:-64].view(2, 2, -1) for buffer in guarded]
    assert_equal(outs, x, sizes)


def test_constant_maps_stay_constant(device):
    x = torch.full((1, 2, 37, 41), 3.0, device=device)
    for out in level_features(x, ((19, 21), (9, 10), (5, 5))):
        np.testing.assert_allclose(out.cpu(), 3.0, rtol=2e-6)


def test_no_planes(device):
    outs = level_features(torch.empty((0, 4, 16, 24), device=device), HALVES)
    assert [tuple(out.shape) for out in outs] == [(0, 4, 96), (0, 4, 24), (0, 4, 6)]


def test_tables_made_in_inference_mode_serve_other_calls(device):
    x = features((1, 1, 17, 29), torch.float32, 9, device)
    with torch.inference_mode():
        level_features(x, HALVES)
    assert_equal(level_features(x, HALVES), x, HALVES)


@pytest.mark.parametrize(
    ("x", "sizes", "says"),
    [
        (torch.zeros(3, 16, 24), HALVES, "shape"),
        (torch.zeros(1, 3, 16, 24, dtype=torch.float64), HALVES, "float64"),
        (torch.zeros(1, 3, 16, 24), HALVES[:2], "2 levels"),
        (torch.zeros(1, 3, 16, 24), ((8, 12), (4, 6), (0, 3)), "is 0"),
    ],
    ids=["three axes", "float64", "two levels", "no rows"],
)
def test_says_what_is_wrong(device, x, sizes, says):
    with pytest.raises(ArgumentError, match=says):
        level_features(x.to(device), sizes)


def test_reference_is_the_antialiased_bicubic_resize():
    x = features((2, 3, 45, 64), torch.float64, 10, "cpu")
    sizes = ((23, 32), (12, 15), (5, 8))
    for out, size in zip(reference(x, sizes), sizes, strict=True):
        resized = torch.nn.functional.interpolate(x, size, mode="bicubic", antialias=True)
        torch.testing.assert_close(out, resized.flatten(2), rtol=0, atol=2e-5)


@settings(max_examples=40, deadline=None)
@given(problem=problems())
def test_tiles_cover_each_level_once_with_the_weights_of_the_resize(problem):
    (_, _, *size), sizes = problem
    plan = tile_plan(tuple(size), sizes)
    covered = [np.zeros(level, dtype=int) for level in sizes]
    for tile in plan.table:
        level, row, column, height, width, top, bottom, left, right, at, across = map(int, tile)
        assert (height, width) == sizes[level]
        assert 0 <= top < bottom <= size[0]
        assert 0 <= left < right
        assert left % 16 == right % 16 == at % 16 == across % 16 == 0
        rows, columns = slice(row, row + TILE_ROWS), slice(column, column + TILE_COLUMNS)
        covered[level][rows, columns] += 1

        span = -(-(bottom - top) // ROW_CHUNK) * ROW_CHUNK
        block = plan.weights[at : at + TILE_ROWS * span].reshape(TILE_ROWS, span)
        assert_block(block, bicubic_matrix(size[0], height)[rows], top)
        span = -(-(right - left) // COLUMN_CHUNK) * COLUMN_CHUNK
        block = plan.weights[across : across + TILE_COLUMNS * span].reshape(span, TILE_COLUMNS)
        assert_block(block.T, bicubic_matrix(size[1], width)[columns], left)
    assert all((count == 1).all() for count in covered)


def assert_block(block, matrix, start):
    """A block holds all non-zero weights of its outputs, and zeros around them."""
    band = matrix[:, start : start + block.shape[1]]
    inside = block[: band.shape[0], : band.shape[1]]
    np.testing.assert_array_equal(inside, band)
    assert np.count_nonzero(block) == np.count_nonzero(matrix)


def test_forms_serve_the_calls_of_their_kind():
    forms = {form.name: form for form in specs()}
    assert {form.element for form in forms.values()} == set(ELEMENTS)

    def served(shape, strides):
        made = schedule.call("fp16", 256, shape, strides, 512, 42, 768, [1024, 2048, 4096])
        assert set(made.values) == set(forms["level_features_fp16"].arguments) | set(
            forms["level_features_fp16"].constants
        )
        return {name for name, form in forms.items() if made.is_served_by(form, int)}

    aligned, general = "level_features_fp16", "level_features_fp16_any"
    assert served((1, 64, 64, 64), (262144, 4096, 64, 1)) == {aligned, general}
    assert served((1, 64, 60, 52), (199680, 3120, 52, 1)) == {general}
    assert served((1, 64, 64, 64), (262144, 1, 4096, 64)) == set()
    assert forms[general].grid.of({"planes": 512, "tiles": 42}) == (21504, 1, 1)
