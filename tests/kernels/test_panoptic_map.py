"""The panoptic-map kernels against their definition and against the rule on a CPU.

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

from xdecoder_rt.kernels.panoptic_map import launch, reference
from xdecoder_rt.masks.resample import bicubic_axis, mask_axis
from xdecoder_rt.pixels.letterbox import Letterbox

# A pixel is decided where the best two masks, and a mask and its edge, differ by more than this.
MARGIN = 1e-4
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that nobody wrote holds a number that is no owner."""
    empty = torch.empty

    def filled(*args: object, **options: object) -> Tensor:
        made: Tensor = empty(*args, **options)  # type: ignore[call-overload]
        return made.fill_(-7)

    monkeypatch.setattr(torch, "empty", filled)


def smooth(masks: int, size: tuple[int, int], seed: int, shift: float = 0.0) -> Tensor:
    """Blob-like mask logits ``[K, h, w]``."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, masks, 4, 4, generator=generator) * 6 + shift
    fine = torch.nn.functional.interpolate(coarse, size, mode="bicubic")[0]
    return fine + 0.1 * torch.randn(masks, *size, generator=generator)


def undecided(logits: Tensor, rows: Tensor, columns: Tensor, scores: Tensor) -> Tensor:
    """Where rounding may decide the owner, or whether it is inside its mask."""
    full = rows @ logits @ columns.T
    best = (scores.log()[:, None, None] + torch.nn.functional.logsigmoid(full)).sort(0).values
    close = best[-1] - best[-2] < MARGIN if len(best) > 1 else torch.zeros_like(best[0]).bool()
    return close | (full.abs() < MARGIN).any(dim=0)


@settings(max_examples=12, deadline=None)
@given(
    masks=st.integers(1, 30),
    source=st.tuples(st.integers(1, 24), st.integers(1, 40)),
    target=st.tuples(st.integers(1, 50), st.integers(1, 100)),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**16),
)
def test_owners_and_counts_equal_the_definition(
    device: str,
    masks: int,
    source: tuple[int, int],
    target: tuple[int, int],
    dtype: torch.dtype,
    seed: int,
) -> None:
    logits = smooth(masks, source, seed).to(device, dtype)
    scores = torch.rand(masks, generator=torch.Generator().manual_seed(seed)).to(device) + 0.1
    axes = [bicubic_axis(a, b) for a, b in zip(source, target, strict=True)]
    matrices = [torch.from_numpy(axis.matrix()).to(device) for axis in axes]
    exact = (logits.double(), *matrices, scores.double())
    winners, counts = launch.owners(logits, *axes, scores)
    expected, expected_counts = reference.owners(*exact)
    doubtful = undecided(*exact)
    assert torch.equal(winners[~doubtful], expected[~doubtful])
    assert ((counts - expected_counts).abs() <= doubtful.sum()).all()
    assert ((winners >= 0) & (winners <= masks)).all()


@pytest.mark.parametrize("masks", [0, 1, 12])
@pytest.mark.parametrize(
    ("source", "target"),
    [((90, 160), (64, 96)), ((33, 20), (64, 96)), ((64, 96), (64, 96))],
    ids=["wide", "tall", "as it is"],
)
def test_the_map_is_that_of_the_cpu(
    device: str, masks: int, source: tuple[int, int], target: tuple[int, int]
) -> None:
    postprocess = pytest.importorskip(
        "xdecoder_rt.masks.postprocess",
        reason="needs the compiled post-processing",
        exc_type=ImportError,
    )
    letterbox = Letterbox.fit(source, target)
    logits = smooth(max(masks, 1), (target[0] // 4, target[1] // 4), seed=masks, shift=2)[:masks]
    rng = np.random.default_rng(masks)
    scores = rng.uniform(0.3, 1, masks).astype(np.float32)
    labels = rng.integers(0, 4, masks)
    is_thing = np.array([True, True, False, False])
    rule = (scores, labels, logits.numpy(), letterbox, is_thing, 0.3)
    expected = postprocess.panoptic(*rule)
    segmentation, segments = launch.panoptic(
        scores, labels, logits.to(device), letterbox, is_thing, 0.3
    )
    found = segmentation.cpu().numpy()
    assert masks < 12 or len(expected.segments) > 2
    assert [s.label_id for s in segments] == [s.label_id for s in expected.segments]
    assert [s.rows for s in segments] == [s.rows for s in expected.segments]
    if masks:
        axes = (
            torch.from_numpy(
                mask_axis(logits.shape[i + 1], target[i], letterbox.valid[i], source[i]).matrix()
            )
            for i in range(2)
        )
        doubtful = undecided(logits.double(), *axes, torch.from_numpy(scores).double()).numpy()
        np.testing.assert_array_equal(found[~doubtful], expected.segmentation[~doubtful])
        areas = np.array([s.area for s in segments]) - [s.area for s in expected.segments]
        assert (abs(areas) <= doubtful.sum()).all()
    else:
        assert not found.any() and segments == ()


def test_masks_below_one_half_everywhere_own_pixels_but_keep_none(device: str) -> None:
    logits = torch.full((2, 8, 8), -3.0, device=device)
    axis = bicubic_axis(8, 20)
    winners, counts = launch.owners(logits, axis, axis, torch.tensor([0.5, 0.9], device=device))
    assert not winners.any()
    assert counts.tolist() == [[0, 400], [0, 0], [0, 0]]


def test_of_equal_masks_the_first_owns(device: str) -> None:
    logits = torch.full((3, 8, 8), 2.0, device=device)
    axis = bicubic_axis(8, 16)
    winners, counts = launch.owners(logits, axis, axis, torch.full((3,), 0.7, device=device))
    assert (winners == 1).all()
    assert counts.tolist() == [[256, 0, 0], [256, 256, 256], [256, 0, 0]]


@pytest.mark.parametrize("low", [-80.0, -1e4], ids=["small", "none"])
def test_probabilities_that_underflow_still_have_an_owner(device: str, low: float) -> None:
    logits = torch.full((2, 8, 8), low, device=device)
    logits[1] *= 2
    axis = bicubic_axis(8, 16)
    scores = torch.tensor([0.2, 0.9], device=device)
    _, counts = launch.owners(logits, axis, axis, scores)
    assert counts[0].tolist() == [256, 0]
