"""The Triton kernels of masked attention against the reference.

On a GPU they run for real; elsewhere in Triton's interpreter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton")

from xdecoder_rt.kernels.masked_attention import launch, op, reference, schedule
from xdecoder_rt.kernels.masked_attention.schedule import Problem, Schedule, Tiles

# Rows past the last query, which are not stored.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in divide")

SMALL = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FEW = settings(SMALL, max_examples=5)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
if torch.cuda.is_available():
    # The interpreter multiplies the bit patterns of bf16 as integers.
    DTYPES["bf16"] = torch.bfloat16
# Of outputs of unit size: rounding of the weights and of the output.
TOLERANCE = {torch.float32: 2e-5, torch.float16: 3e-3, torch.bfloat16: 2.5e-2}
NARROW = Schedule(schedule.NARROW, schedule.BITS)
SCHEDULES = {
    "two kernels": Schedule(schedule.WIDE, schedule.BITS),
    "two kernels, narrow": NARROW,
    "two kernels, keys split": Schedule(schedule.WIDE, schedule.BITS, splits=2),
    "two kernels, plain tiles": Schedule(schedule.NARROW_PLAIN, schedule.BITS_PLAIN, splits=4),
    "two kernels, wide tiles": Schedule(Tiles(64, 128), Tiles(16, 128)),
}


def plain(way: Schedule) -> torch.dtype:
    """fp32, where a schedule serves it: on a GPU not with tiles that take tensor cores.

    There two such schedules failed, one with an illegal access, and nobody knows why
    (docs/measured/kernels.md); no form that is compiled for fp32 has such tiles.
    """
    large = way.tiles.query * way.tiles.key > 2 * schedule.NARROW.query * schedule.NARROW.key
    return torch.float16 if large and torch.cuda.is_available() else torch.float32


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that nobody wrote holds NaN, and all bits where it holds integers."""
    empty = torch.empty

    def filled(*args: object, **options: object) -> Tensor:
        made: Tensor = empty(*args, **options)  # type: ignore[call-overload]
        return made.fill_(float("nan") if made.is_floating_point() else -1)

    monkeypatch.setattr(torch, "empty", filled)


@dataclass
class Case:
    """Inputs whose mask logits are small integers, exact in every type."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask_embedding: Tensor
    mask_features: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.query, self.key, self.value, self.mask_embedding, self.mask_features

    @property
    def expected(self) -> Tensor:
        return reference.masked_attention(*(t.double() for t in self.tensors))

    @property
    def logits(self) -> Tensor:
        return self.mask_embedding.double() @ self.mask_features.double()


def case(
    device: str,
    batch: int = 1,
    heads: int = 2,
    queries: int = 5,
    keys: int = 70,
    width: int = 16,
    channels: int = 3,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    threshold: int = 1,
) -> Case:
    """Random inputs; the higher the threshold, the fewer positions are open."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    def integer(*shape: int) -> Tensor:
        return torch.randint(-2, 3, shape, generator=generator).to(device, dtype)

    embedding, features = integer(batch, queries, channels), integer(batch, channels, keys)
    features[:, 0] = 1
    embedding[:, :, 0] -= threshold
    return Case(
        normal(batch, heads, queries, width),
        # As the model lays keys out.
        normal(batch, heads, width, keys).transpose(-1, -2),
        normal(batch, heads, keys, width),
        embedding,
        features,
    )


def assert_close(out: Tensor, expected: Tensor) -> None:
    tolerance = TOLERANCE[out.dtype]
    torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=tolerance)


shapes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 2),
        "heads": st.integers(1, 3),
        "queries": st.integers(1, 40),
        "keys": st.integers(1, 200),
        "width": st.integers(16, 64),
        "channels": st.integers(1, 70),
        "dtype": st.sampled_from(list(DTYPES.values())),
        "seed": st.integers(0, 2**16),
        "threshold": st.integers(-2, 6),
    }
)


@pytest.mark.parametrize("way", SCHEDULES.values(), ids=SCHEDULES)
@FEW
@given(shape=shapes)
def test_every_schedule_equals_the_reference(
    device: str, way: Schedule, shape: dict[str, int]
) -> None:
    if shape["dtype"] == torch.float32:
        shape = shape | {"dtype": plain(way)}
    inputs = case(device, **shape)
    assert_close(launch.masked_attention(*inputs.tensors, way), inputs.expected)


@settings(SMALL, max_examples=8)
@given(
    queries=st.integers(1, 600),
    keys=st.integers(1, 5000),
    seed=st.integers(0, 2**16),
    threshold=st.integers(0, 5),
    splits=st.sampled_from((1, 4)),
)
def test_many_queries_and_many_keys(
    device: str, queries: int, keys: int, seed: int, threshold: int, splits: int
) -> None:
    inputs = case(
        device, 1, 1, queries, keys, width=32, seed=seed, threshold=threshold, dtype=torch.float16
    )
    # Wide tiles: the interpreter's time goes with their number.
    way = Schedule(Tiles(128, 128), Tiles(128, 128), splits)
    assert_close(launch.masked_attention(*inputs.tensors, way), inputs.expected)


@pytest.mark.parametrize("way", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("open_keys", ["none", "all", "first", "last", "across a tile"])
def test_rows_with_nothing_everything_or_one_key_open(
    device: str, way: Schedule, open_keys: str
) -> None:
    inputs = case(device, queries=18, keys=131, channels=2, dtype=plain(way))
    is_open = torch.zeros(131, dtype=torch.bool)
    chosen = {"none": [], "all": slice(None), "first": 0, "last": 130, "across a tile": [63, 64]}
    is_open[chosen[open_keys]] = True
    # Every other row: its neighbours in the block see everything.
    inputs.mask_features[:, 0] = torch.where(is_open, 1.0, -1.0).to(inputs.key)
    inputs.mask_features[:, 1] = 1
    inputs.mask_embedding[:, :, 0] = 1
    inputs.mask_embedding[:, :, 1] = (torch.arange(18) % 2 * 5).to(device)
    assert_close(launch.masked_attention(*inputs.tensors, way), inputs.expected)


def test_a_logit_of_zero_is_open_and_the_smallest_negative_is_not(device: str) -> None:
    inputs = case(device, heads=1, queries=1, keys=3, channels=1)
    inputs.mask_embedding[:] = 1
    inputs.mask_features[:] = torch.tensor([0.0, -1e-30, -0.0])
    seen = launch.masked_attention(*inputs.tensors, NARROW)
    without = [t[:, :, [0, 2]] for t in (inputs.key, inputs.value)]
    open_features = torch.zeros(1, 1, 2, device=device)
    expected = reference.masked_attention(
        inputs.query, *without, inputs.mask_embedding, open_features
    )
    torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize("name", DTYPES)
def test_extreme_logits_and_scores(device: str, name: str) -> None:
    inputs = case(device, queries=20, keys=90, dtype=DTYPES[name])
    inputs.mask_embedding.mul_(2.0**12)
    inputs.mask_features.mul_(2.0**12)
    inputs.query.mul_(200)
    # Scores this far apart leave a row one key: the weights are 0 and 1.
    assert_close(launch.masked_attention(*inputs.tensors, NARROW), inputs.expected)


def strided(tensor: Tensor, kind: str) -> Tensor:
    """The same values laid out otherwise."""
    if kind == "contiguous":
        return tensor.contiguous()
    if kind == "last axis first":
        return tensor.movedim(-1, 0).contiguous().movedim(0, -1)
    if kind == "gaps":
        wide = torch.full((*tensor.shape[:-1], tensor.shape[-1] * 2 + 3), float("nan"))
        wide = wide.to(tensor)
        wide[..., : tensor.shape[-1]] = tensor
        return wide[..., : tensor.shape[-1]]
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


@FEW
@given(
    kinds=st.lists(
        st.sampled_from(("contiguous", "last axis first", "gaps", "batch inside")),
        min_size=5,
        max_size=5,
    )
)
@pytest.mark.parametrize(
    "way", [NARROW, SCHEDULES["two kernels, keys split"]], ids=["whole", "split"]
)
def test_any_strides(device: str, way: Schedule, kinds: list[str]) -> None:
    inputs = case(device, batch=2, queries=9, keys=70)
    laid_out = Case(*map(strided, inputs.tensors, kinds))
    assert_close(launch.masked_attention(*laid_out.tensors, way), inputs.expected)


def test_one_image_and_one_head_serve_many_by_stride_zero(device: str) -> None:
    inputs = case(device, batch=3, heads=2, queries=9, keys=70)
    shared = Case(
        inputs.query,
        inputs.key[:1, :1].expand_as(inputs.key),
        inputs.value[:1, :1].expand_as(inputs.value),
        inputs.mask_embedding,
        inputs.mask_features[:1].expand_as(inputs.mask_features),
    )
    assert 0 in shared.key.stride() and 0 in shared.mask_features.stride()
    assert_close(launch.masked_attention(*shared.tensors, NARROW), shared.expected)


@FEW
@given(shape=shapes)
def test_a_mask_that_exists(device: str, shape: dict[str, int]) -> None:
    inputs = case(device, **shape)
    attention = inputs.tensors[:3]
    boolean = launch.attention_under_mask(*attention, inputs.logits >= 0)
    assert_close(boolean, inputs.expected)
    logits = inputs.logits.to(inputs.query.dtype)
    assert_close(launch.attention_under_mask(*attention, logits), inputs.expected)
    flipped = logits.transpose(1, 2).contiguous().transpose(1, 2)
    assert_close(launch.attention_under_mask(*attention, flipped), inputs.expected)


def test_tiles_that_no_query_of_a_block_may_see_are_not_read(device: str) -> None:
    inputs = case(device, queries=16, keys=512, channels=1)
    inputs.mask_embedding[:] = 1
    inputs.mask_features[:] = -1
    inputs.mask_features[:, :, 130:180] = 1
    expected = inputs.expected
    # Tiles of 64 keys: the third is the only one with an open key.
    for tensor in (inputs.key, inputs.value):
        tensor[:, :, :128] = float("nan")
        tensor[:, :, 192:] = float("nan")
    assert_close(launch.masked_attention(*inputs.tensors, NARROW), expected)


@SMALL
@given(
    queries=st.integers(1, 600),
    keys=st.integers(1, 16384),
    heads=st.integers(1, 16),
    batch=st.integers(1, 16),
    multiprocessors=st.integers(1, 160),
)
def test_the_chosen_schedule_fills_the_chip_and_covers_the_keys(
    queries: int, keys: int, heads: int, batch: int, multiprocessors: int
) -> None:
    problem = Problem(batch, heads, queries, keys, 64, 65, "fp16")
    way = schedule.choose(problem, schedule.DeviceTraits(multiprocessors, (8, 7)))
    tiles = math.ceil(keys / way.tiles.key)
    assert way.splits == 1 or tiles / way.splits >= schedule.LEAST_SPLIT
    programs = batch * heads * math.ceil(queries / way.tiles.query)
    # No split that the queries alone make needless.
    assert way.splits == 1 or programs * way.splits < 2 * schedule.ENOUGH_PROGRAMS * multiprocessors


def test_bits_take_one_bit_a_position_shared_by_all_heads() -> None:
    problem = Problem(4, 8, 101, 4096, 64, 513, "fp16")
    (shape, kind) = schedule.workspace(problem, NARROW)["bits"]
    assert (math.prod(shape) * 32, kind) == (4 * 101 * 4096, "int32")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_operator_runs_the_kernels_on_cuda() -> None:
    inputs = case("cuda", queries=65, keys=1000, width=64, channels=65, dtype=torch.float16)
    assert_close(op.masked_attention(*inputs.tensors), inputs.expected)
    leaves = tuple(t.float().requires_grad_(i < 3) for i, t in enumerate(inputs.tensors))
    torch.library.opcheck(op.masked_attention, leaves)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_types_without_a_kernel_fall_back_to_the_reference() -> None:
    inputs = case("cuda", dtype=torch.float32)
    wide = [t.double() for t in inputs.tensors]
    torch.testing.assert_close(op.masked_attention(*wide), inputs.expected)
