"""Each loss against its definition, at its minimum and at extremes."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from xdecoder_rt.training.losses import candidate_points, class_loss, image_loss, mask_losses

ONE = torch.tensor(1.0)


def test_perfect_masks_cost_nothing() -> None:
    targets = (torch.arange(20) % 3 == 0).float()[None]
    mask, dice = mask_losses(40 * (2 * targets - 1), targets, torch.ones(1, 20), torch.ones(1), ONE)
    assert mask.item() < 1e-6
    assert dice.item() < 1e-6


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1e4))
def test_what_is_not_usable_does_not_matter(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 16, generator=generator)
    targets = (torch.rand(3, 16, generator=generator) < 0.5).float()
    usable = (torch.rand(3, 16, generator=generator) < 0.6).float()
    rows = torch.tensor([1.0, 0.0, 1.0])
    counted = (usable * rows[:, None]).bool()
    noise = scale * torch.randn(3, 16, generator=generator)
    before = mask_losses(logits, targets, usable, rows, ONE)
    changed = torch.where(counted, logits, noise)
    after = mask_losses(changed, torch.where(counted, targets, 1 - targets), usable, rows, ONE)
    torch.testing.assert_close(after, before)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1e-6, 1.0, 1e4]))
def test_gradients_are_finite(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(4, 8, generator=generator)).requires_grad_()
    targets = (torch.rand(4, 8, generator=generator) < 0.5).float()
    usable = (torch.rand(4, 8, generator=generator) < 0.3).float()
    mask, dice = mask_losses(logits, targets, usable, torch.ones(4), ONE)
    classes = (scale * torch.randn(2, 2, 3, 5, generator=generator)).requires_grad_()
    assigned = torch.tensor([[[0, 2], [1, -1]]] * 2)
    counted = torch.tensor([True, True])
    named = class_loss(classes, torch.tensor([[0, 3], [1, -1]]), assigned, counted, 0.1)
    shown = image_loss(classes[:, :, -1, :-1], torch.tensor([[0, 3], [-1, -1]]))
    (mask + dice + named + shown).backward()
    for gradient in (logits.grad, classes.grad):
        assert gradient is not None
        assert gradient.isfinite().all()


def test_the_class_loss_is_cross_entropy_with_void_for_the_rest() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 3, 5)
    assigned = torch.tensor([[[2, 0], [1, -1]]])
    class_ids, everywhere = torch.tensor([[1, 0], [3, -1]]), torch.tensor([True, True])
    loss = class_loss(logits, class_ids, assigned, everywhere, 0.1)
    wanted = torch.tensor([0, 4, 1, 4, 3, 4])
    weight = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.1])
    torch.testing.assert_close(loss, F.cross_entropy(logits[0].reshape(6, 5), wanted, weight))


def test_images_of_which_no_segment_is_known_do_not_count() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 3, 5)
    assigned = torch.tensor([[[2, 0], [-1, -1]]] * 2)
    class_ids, known = torch.tensor([[1, 0], [-1, -1]]), torch.tensor([True, False])
    loss = class_loss(logits, class_ids, assigned, known, 0.1)
    alone = class_loss(logits[:, :1], class_ids[:1], assigned[:, :1], known[:1], 0.1)
    torch.testing.assert_close(loss, alone)
    logits.requires_grad_()
    nothing = class_loss(logits, class_ids, assigned, torch.tensor([False, False]), 0.1)
    nothing.backward()
    assert nothing == 0


def test_the_image_loss_is_least_when_the_names_present_share_the_probability() -> None:
    class_ids = torch.tensor([[0, 2, 2], [-1, -1, -1]])
    even = torch.full((1, 2, 4), -30.0)
    even[0, 0, [0, 2]] = 0.0
    lopsided = even.clone()
    lopsided[0, 0, 0] = 2.0
    least = torch.tensor(2.0).log()
    torch.testing.assert_close(image_loss(even, class_ids), least)
    assert image_loss(lopsided, class_ids) > least
    # An image without names does not count.
    even[0, 1] = torch.randn(4)
    torch.testing.assert_close(image_loss(even, class_ids), least)


def test_losses_of_a_batch_without_targets_are_zero_and_differentiable() -> None:
    logits = torch.zeros(0, 8, requires_grad=True)
    mask, dice = mask_losses(logits, torch.zeros(0, 8), torch.zeros(0, 8), torch.zeros(0), ONE)
    none = torch.empty(2, 0, dtype=torch.int64)
    image = image_loss(torch.randn(1, 2, 4, requires_grad=True), none)
    (mask + dice + image).backward()
    assert mask == dice == image == 0


def test_candidates_are_three_times_the_points_and_the_random_ones() -> None:
    assert candidate_points(768) == 3 * 768 + 192
    assert candidate_points(1) == 3 + 1
