"""The order of samples: seeded, endless, and known at any position."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.training.sampler import SampleOrder


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=3),
    st.integers(0, 2**31),
    st.integers(0, 9000),
)
def test_a_position_means_the_same_sample_however_it_is_reached(
    lengths: list[int], seed: int, position: int
) -> None:
    order = SampleOrder(lengths, [1.0] * len(lengths), seed)
    walked = list(islice(order.starting_at(0), position, position + 5))
    assert list(islice(order.starting_at(position), 5)) == walked
    assert [key.position for key in walked] == list(range(position, position + 5))


def test_every_item_is_drawn_once_a_pass_and_passes_differ() -> None:
    keys = list(islice(SampleOrder([10], [1.0], 3).starting_at(0), 20))
    first, second = [k.item for k in keys[:10]], [k.item for k in keys[10:]]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_sources_are_drawn_by_weight_whatever_their_sizes() -> None:
    keys = islice(SampleOrder([5, 5000], [3.0, 1.0], 0).starting_at(0), 8000)
    share = Counter(key.source for key in keys)[0] / 8000
    assert share == pytest.approx(0.75, abs=0.02)


def test_processes_share_the_samples_of_a_step() -> None:
    order = SampleOrder([100], [1.0], 0)
    alone = next(order.batches(12, 6))
    parts = [next(order.batches(12, 2, rank, 3)) for rank in range(3)]
    assert sum(parts, []) == alone


@pytest.mark.parametrize(("lengths", "weights"), [([], []), ([0], [1.0]), ([3], [0.0]), ([3], [])])
def test_what_cannot_be_sampled_is_refused(lengths: list[int], weights: list[float]) -> None:
    with pytest.raises(ArgumentError):
        SampleOrder(lengths, weights, 0)
