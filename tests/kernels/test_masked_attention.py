"""Masked cross-attention: the operator, its gradient and its ONNX form against the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xdecoder_rt.kernels.masked_attention import reference
from xdecoder_rt.kernels.masked_attention.op import masked_attention, trained

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def make(
    batch: int = 2,
    heads: int = 3,
    queries: int = 5,
    keys: int = 7,
    width: int = 4,
    channels: int = 6,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    blocked: bool = True,
) -> Inputs:
    """Random inputs whose mask logits are integers but zero, exact in every dtype.

    With ``blocked`` the first query's row is blocked everywhere.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    signs = torch.randint(0, 2, (batch, queries, channels), generator=generator) * 2 - 1
    features = torch.randint(0, 2, (batch, channels, keys), generator=generator) * 2 - 1
    # An even number of signs could add up to zero.
    signs[:, :, 0] *= 2 if channels % 2 == 0 else 1
    if blocked:
        features[:, 0] = 1
        signs[:, 0, 0] = -100
    return (
        normal(batch, heads, queries, width),
        normal(batch, heads, keys, width),
        normal(batch, heads, keys, width),
        signs.to(dtype),
        features.to(dtype),
    )


def naive(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, features: Tensor) -> Tensor:
    """One query of one head at a time, over the keys that it may see."""
    out = torch.empty_like(query)
    logits = torch.einsum("bqc,bcn->bqn", mask, features)
    for b, h, q in np.ndindex(*query.shape[:3]):
        seen = [n for n in range(key.shape[2]) if logits[b, q, n] >= 0]
        seen = seen or list(range(key.shape[2]))
        scores = key[b, h, seen] @ query[b, h, q] / math.sqrt(query.shape[-1])
        out[b, h, q] = scores.softmax(0) @ value[b, h, seen]
    return out


@settings(max_examples=25, deadline=None)
@given(
    shape=st.fixed_dictionaries(
        {
            "batch": st.integers(1, 2),
            "heads": st.integers(1, 3),
            "queries": st.integers(1, 6),
            "keys": st.integers(1, 9),
            "width": st.integers(1, 8),
            "channels": st.integers(1, 5),
            "blocked": st.booleans(),
        }
    ),
    seed=st.integers(0, 2**16),
)
def test_operator_and_reference_equal_the_naive_form(shape: dict[str, int], seed: int) -> None:
    inputs = make(**shape, seed=seed, dtype=torch.float64)
    expected = naive(*inputs)
    torch.testing.assert_close(reference.masked_attention(*inputs), expected)
    torch.testing.assert_close(masked_attention(*inputs), expected)


def test_a_query_that_may_see_nothing_sees_everything() -> None:
    query, key, value, _, _ = make(batch=1, heads=1, queries=2, keys=3)
    mask = torch.tensor([[[-1.0], [1.0]]])
    features = torch.ones(1, 1, 3)
    everything = torch.ones(1, 2, 1), features
    out = masked_attention(query, key, value, mask, features)
    torch.testing.assert_close(out, masked_attention(query, key, value, *everything))


def test_a_logit_of_zero_is_open() -> None:
    mask, features = torch.tensor([[[1.0]]]), torch.tensor([[[0.0, -1.0, 1.0]]])
    assert reference.open_positions(mask, features).tolist() == [[[True, False, True]]]


def test_a_blocked_key_has_no_influence() -> None:
    query, key, value, _, _ = make(batch=1, heads=2, queries=1, keys=3)
    mask, features = torch.tensor([[[1.0]]]), torch.tensor([[[1.0, -1.0, 1.0]]])
    changed = value.clone()
    changed[:, :, 1] = 1e6
    expected = masked_attention(query, key, value, mask, features)
    torch.testing.assert_close(masked_attention(query, key, changed, mask, features), expected)


def test_operator_is_well_formed() -> None:
    inputs = make()
    leaves = tuple(t.clone().requires_grad_(i < 3) for i, t in enumerate(inputs))
    # Schema, fake tensor, autograd registration and tracing with symbolic shapes.
    torch.library.opcheck(masked_attention, leaves)


def test_gradient_equals_that_of_the_reference() -> None:
    inputs = make(queries=4, dtype=torch.float64)
    assert ((inputs[3] @ inputs[4]) < 0).all(dim=-1).any()
    gradients = []
    for function in (masked_attention, reference.masked_attention):
        leaves = [t.clone().requires_grad_() for t in inputs[:3]]
        function(*leaves, *inputs[3:]).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected)

    def of_leaves(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return masked_attention(query, key, value, *inputs[3:])

    assert torch.autograd.gradcheck(of_leaves, [t.clone().requires_grad_() for t in inputs[:3]])


@pytest.mark.parametrize("blocked", [True, False])
def test_the_form_for_training_equals_the_operator_in_value_and_gradient(blocked: bool) -> None:
    results = []
    for attention in (masked_attention, trained):
        inputs = make(seed=3, blocked=blocked)
        for tensor in inputs[:3]:
            tensor.requires_grad_()
        out = attention(*inputs)
        (out * torch.arange(out.numel()).reshape(out.shape).cos()).sum().backward()
        results.append([out.detach(), *(tensor.grad for tensor in inputs[:3])])
        assert all(tensor.grad is None for tensor in inputs[3:])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_the_mask_gets_no_gradient() -> None:
    inputs = [t.requires_grad_() for t in make()]
    masked_attention(*inputs).sum().backward()
    assert [t.grad is None for t in inputs] == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)], ids=["fp16", "bf16"]
)
def test_half_precision_stays_near_fp32(dtype: torch.dtype, tolerance: float) -> None:
    inputs = make(queries=33, keys=70, width=16, dtype=dtype)
    out = masked_attention(*inputs)
    assert out.dtype == dtype
    expected = reference.masked_attention(*(t.float() for t in inputs))
    torch.testing.assert_close(out.float(), expected, atol=tolerance, rtol=tolerance)


def test_memory_of_one_image_serves_many_by_stride_zero() -> None:
    query, key, value, mask, features = make(batch=1)
    wide = [t.expand(3, *t.shape[1:]) for t in (key, value, features)]
    queries, masks = query.repeat(3, 1, 1, 1), mask.repeat(3, 1, 1)
    out = masked_attention(queries, wide[0], wide[1], masks, wide[2])
    expected = masked_attention(query, key, value, mask, features).expand(3, -1, -1, -1)
    torch.testing.assert_close(out, expected)


def test_onnx_form_equals_the_reference() -> None:
    decomposed = pytest.importorskip("xdecoder_rt.export.masked_attention").decomposed
    inputs = make()
    out = decomposed(*(t.numpy() for t in inputs)).value
    expected = reference.masked_attention(*inputs).numpy()
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_gradients_under_autocast_where_inputs_differ_in_type() -> None:
    torch.manual_seed(0)
    wide = [torch.randn(1, 2, n, 8) for n in (3, 5, 5)]
    factors = torch.randn(1, 3, 4), torch.randn(1, 4, 5)

    def gradients(kinds: tuple[torch.dtype, ...]) -> list[torch.Tensor]:
        leaves = [x.clone().to(kind).requires_grad_() for x, kind in zip(wide, kinds, strict=True)]
        with torch.autocast("cpu", torch.bfloat16):
            out = masked_attention(*leaves, *factors)
        out.float().pow(2).sum().backward()
        assert all(leaf.grad is not None and leaf.grad.dtype == leaf.dtype for leaf in leaves)
        return [leaf.grad.float() for leaf in leaves if leaf.grad is not None]

    exact = gradients((torch.float32, torch.float32, torch.float32))
    mixed = gradients((torch.bfloat16, torch.float32, torch.float32))
    for ours, expected in zip(mixed, exact, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0.1, atol=0.1)
