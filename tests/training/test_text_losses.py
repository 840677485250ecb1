"""Each loss of texts against its definition, at its minimum and without texts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.training.text_losses import (
    answer_loss,
    caption_loss,
    phrase_loss,
    retrieval_loss,
)

SCALE = torch.tensor(5.0)


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_a_phrase_is_cross_entropy_over_the_queries_of_its_image() -> None:
    logits = some(1, 2, 4, 3)
    phrase_ids, assigned = torch.tensor([[2, 0], [2, -1]]), torch.tensor([[[1, 3], [0, -1]]])
    wanted = [
        F.cross_entropy(logits[0, image, :, phrase], torch.tensor(query))
        for image, phrase, query in ((0, 2, 1), (0, 0, 3), (1, 2, 0))
    ]
    loss = phrase_loss(logits, phrase_ids, assigned)
    torch.testing.assert_close(loss, torch.stack(wanted).mean())


def test_retrieval_is_symmetric_cross_entropy_of_cosines() -> None:
    images, texts = some(2, 3, 8), some(3, 8, seed=1)
    loss = retrieval_loss(images, texts, torch.arange(3), torch.ones(3, dtype=torch.bool), SCALE)
    own = torch.arange(3)
    wanted = []
    for layer in images:
        logits = SCALE * F.normalize(layer, dim=-1) @ F.normalize(texts, dim=-1).T
        wanted.append((F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2)
    torch.testing.assert_close(loss, torch.stack(wanted).mean())


def test_equal_captions_are_not_each_others_negatives() -> None:
    images, texts = some(1, 3, 8), some(3, 8, seed=1)
    texts = torch.stack((texts[0], texts[0], texts[2]))
    everywhere = torch.ones(3, dtype=torch.bool)
    loss = retrieval_loss(images, texts, torch.tensor([7, 7, 8]), everywhere, SCALE)
    # Each of the two meets the third alone; the third meets both.
    pairs = [
        retrieval_loss(
            images[:, [i, 2]], texts[[i, 2]], torch.tensor([7, 8]), everywhere[:2], SCALE
        )
        for i in (0, 1)
    ]
    assert loss < retrieval_loss(images, texts, torch.arange(3), everywhere, SCALE)
    assert loss > torch.stack(pairs).mean() / 2
    both = retrieval_loss(images[:, :2], texts[:2], torch.tensor([7, 7]), everywhere[:2], SCALE)
    torch.testing.assert_close(both, torch.tensor(0.0))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.booleans(), min_size=1, max_size=5))
def test_images_without_a_caption_take_no_part(seed: int, captioned: list[bool]) -> None:
    present = torch.tensor(captioned)
    images, texts = some(2, len(captioned), 8, seed=seed), some(len(captioned), 8, seed=seed + 1)
    keys = torch.arange(len(captioned))
    loss = retrieval_loss(images, texts, keys, present, SCALE)
    chosen = present.nonzero()[:, 0]
    alone = retrieval_loss(images[:, chosen], texts[chosen], keys[chosen], present[chosen], SCALE)
    torch.testing.assert_close(loss, alone)
    loss.backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_captions_are_cross_entropy_of_the_next_token() -> None:
    logits, following = some(4, 9), torch.tensor([3, 0, 8, 3])
    torch.testing.assert_close(caption_loss(logits, following), F.cross_entropy(logits, following))


def test_soft_answers_cost_least_where_the_shares_are_those_given() -> None:
    accepted = torch.tensor([[0.7, 0.3, 0.0, 0.0]])
    right = accepted.clamp(min=1e-9).log().expand(3, 1, 4)
    least = -(0.7 * torch.tensor(0.7).log() + 0.3 * torch.tensor(0.3).log())
    torch.testing.assert_close(answer_loss(right, accepted), least)
    sure = torch.tensor([[[9.0, 0.0, 0.0, 0.0]]])
    assert answer_loss(sure, accepted) > least
    torch.testing.assert_close(
        answer_loss(sure, torch.tensor([[1.0, 0, 0, 0]])),
        F.cross_entropy(sure[0], torch.tensor([0])),
    )


@pytest.mark.parametrize("which", ["phrase", "retrieval", "caption", "answer"])
def test_without_texts_a_loss_is_zero_and_has_a_graph(which: str) -> None:
    none = torch.empty(2, 0, dtype=torch.int64)
    nowhere = torch.zeros(2, dtype=torch.bool)
    values = some(2, 2, 8)
    loss = {
        "phrase": lambda: phrase_loss(values[..., None], none, none[None].expand(2, -1, -1)),
        "retrieval": lambda: retrieval_loss(values, values[0], nowhere.long(), nowhere, SCALE),
        "caption": lambda: caption_loss(values[0, :0], none[0]),
        "answer": lambda: answer_loss(values[:, :0, :0], torch.empty(0, 0)),
    }[which]()
    assert loss == 0
    loss.backward()
