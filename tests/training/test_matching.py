"""Matching equals trying every assignment, and its costs equal their definitions."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

pytest.importorskip("scipy", reason="matching needs scipy")

from xdecoder_rt.training.matching import UNMATCHED, CostWeights, assign, class_costs, mask_costs


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 2),
    st.integers(1, 5),
    st.integers(0, 4),
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.integers(0, 2**31),
)
def test_assignment_is_the_cheapest(
    layers: int, queries: int, width: int, counts: list[int], seed: int
) -> None:
    counts = [min(count, width) for count in counts]
    generator = torch.Generator().manual_seed(seed)
    cost = torch.randn(layers, len(counts), queries, width, generator=generator)
    assigned = assign(cost, counts)
    assert assigned.shape == (layers, len(counts), width)
    for layer in range(layers):
        for image, count in enumerate(counts):
            row = assigned[layer, image].tolist()
            assert all(query == UNMATCHED for query in row[count:])
            pairs = [(q, t) for t, q in enumerate(row[:count]) if q != UNMATCHED]
            assert len(pairs) == len({q for q, _ in pairs}) == min(queries, count)
            table = cost[layer, image].tolist()
            total = sum(table[q][t] for q, t in pairs)
            assert total == pytest.approx(cheapest(table, queries, count), abs=1e-5)


def cheapest(table: list[list[float]], queries: int, targets: int) -> float:
    if queries >= targets:
        choices = permutations(range(queries), targets)
        return min(sum(table[q][t] for t, q in enumerate(choice)) for choice in choices)
    choices = permutations(range(targets), queries)
    return min(sum(table[q][t] for q, t in enumerate(choice)) for choice in choices)


def test_a_diverged_cost_still_gives_an_assignment() -> None:
    cost = torch.tensor([[[[float("nan"), 1.0], [float("inf"), 0.0], [2.0, 3.0]]]])
    assert assign(cost, [2])[0, 0].tolist() == [2, 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(4, 12), st.integers(0, 2**31))
def test_mask_costs_are_cross_entropy_and_dice_of_every_pair(
    queries: int, targets: int, points: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, queries, points, generator=generator)
    masks = (torch.rand(2, targets, points, generator=generator) < 0.5).float()
    usable = (torch.rand(2, points, generator=generator) < 0.7).float()
    usable[:, 0] = 1
    cost = mask_costs(logits, masks, usable, CostWeights(mask=2.0, dice=3.0))
    for b in range(2):
        kept = usable[b] > 0
        for q in range(queries):
            for t in range(targets):
                x, y = logits[b, q, kept], masks[b, t, kept]
                entropy = F.binary_cross_entropy_with_logits(x, y)
                p = x.sigmoid()
                share = len(x) / points
                dice = 1 - (2 * (p * y).sum() + share) / (p.sum() + y.sum() + share)
                assert cost[b, q, t].item() == pytest.approx(
                    (2 * entropy + 3 * dice).item(), rel=1e-4
                )


def test_class_cost_is_minus_the_probability() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 6)
    class_ids = torch.tensor([[3, 0], [5, -1]])
    cost = class_costs(logits, class_ids)
    probability = logits.softmax(dim=-1)
    torch.testing.assert_close(cost[0, :, 0], -probability[0, :, 3])
    torch.testing.assert_close(cost[1, :, 0], -probability[1, :, 5])
