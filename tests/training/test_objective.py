"""The objective as a whole: its minimum, and what it must not depend on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("scipy", reason="matching needs scipy")

from xdecoder_rt.evaluation.items import Segment
from xdecoder_rt.models import LayerPrediction, Prediction, XDecoder
from xdecoder_rt.training.dataset import Batch, Example, collate
from xdecoder_rt.training.losses import candidate_points
from xdecoder_rt.training.objective import Objective, ObjectiveSettings
from xdecoder_rt.training.points import focused_points
from xdecoder_rt.training.targets import IGNORE, make_targets

SIZE, POINTS, NAMES, QUERIES = 32, 64, 6, 6
SETTINGS = ObjectiveSettings(points=POINTS, matching_points=128)


def make_batch(seed: int, counts: tuple[int, ...] = (3, 1, 0)) -> tuple[Batch, Tensor]:
    """Blocks of 8 pixels, so that masks at stride 4 can be perfect; class ids of the targets."""
    rng = np.random.default_rng(seed)
    examples = []
    for count in counts:
        ids = np.kron(rng.integers(0, count + 1, (4, 4)), np.ones((8, 8), np.int64))
        segments = [Segment(i, f"{i - 1}", True, 1) for i in range(1, count + 1)]
        targets = make_targets(ids, segments, SIZE)
        points, weights = focused_points(targets.boxes, SIZE, candidate_points(POINTS), rng)
        # Keep to the middle of the cells, where bilinear samples are the cells' own values.
        points = np.floor(points / 4) * 4 + 2
        image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        examples.append(Example(image, (SIZE, SIZE), targets, points, weights, 0))
    batch = collate(examples)
    class_ids = torch.full((len(counts), batch.membership.shape[1]), -1)
    for row, labels in zip(class_ids, batch.labels, strict=True):
        row[: len(labels)] = torch.tensor([int(label) for label in labels], dtype=torch.int64)
    return batch, class_ids


def perfect(batch: Batch, class_ids: Tensor, sharpness: float = 30.0) -> Prediction:
    """Mask features that are the targets' masks, and queries that read and name one each."""
    masks = batch.target_masks()[:, :, 2::4, 2::4].float()
    size, width = masks.shape[:2]
    features = torch.zeros(size, QUERIES, *masks.shape[2:])
    features[:, :width] = 2 * masks - 1
    features[:, -1] = -1  # queries without a target see nothing
    mask = torch.zeros(size, QUERIES, QUERIES)
    classes = torch.zeros(size, QUERIES, NAMES + 1)
    for image in range(size):
        for query in range(QUERIES):
            named = query < width and class_ids[image, query] >= 0
            mask[image, query, query if named else -1] = sharpness
            classes[image, query, class_ids[image, query] if named else NAMES] = 1
    # The class token shares its attention among the names.
    present = torch.zeros(size, NAMES + 2)
    present.scatter_(1, torch.where(class_ids < 0, NAMES + 1, class_ids), 1)
    classes[:, -1] = present[:, : NAMES + 1]
    return Prediction(features, [LayerPrediction(mask, classes)] * 2)


@pytest.fixture
def objective(tiny_model: Callable[..., XDecoder]) -> Objective:
    model = tiny_model(queries=QUERIES)
    torch.nn.init.constant_(dict(model.named_parameters())["logit_scale"], 4.0)
    return Objective(model, SETTINGS)


TEXT = torch.eye(NAMES + 1)


def test_a_perfect_prediction_costs_next_to_nothing(objective: Objective) -> None:
    batch, class_ids = make_batch(0)
    losses = objective.losses(perfect(batch, class_ids), TEXT, batch, class_ids)
    assert losses["mask"].item() < 1e-4
    assert losses["dice"].item() < 1e-3
    assert losses["classification"].item() < 1e-4


def test_a_wrong_prediction_costs(objective: Objective) -> None:
    batch, class_ids = make_batch(0)
    wrong = perfect(batch, class_ids)
    wrong.mask_features = -wrong.mask_features
    losses = objective.losses(wrong, TEXT, batch, class_ids)
    assert losses["mask"].item() > 1
    wrong = perfect(batch, torch.where(class_ids < 0, class_ids, (class_ids + 1) % NAMES))
    losses = objective.losses(wrong, TEXT, batch, class_ids)
    assert losses["classification"].item() > 1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_pixels_that_nothing_is_known_of_do_not_matter(
    tiny_model: Callable[..., XDecoder], seed: int
) -> None:
    objective = Objective(tiny_model(queries=QUERIES), SETTINGS)
    batch, class_ids = make_batch(seed)
    torch.manual_seed(seed)
    features = torch.randn(3, QUERIES, 8, 8)
    layers = [LayerPrediction(torch.randn(3, QUERIES, QUERIES), torch.randn(3, QUERIES, NAMES + 1))]
    ignored = (batch.ids[:, 2::4, 2::4] == IGNORE)[:, None]
    changed = torch.where(ignored, 100 * torch.randn_like(features), features)
    before = objective.losses(Prediction(features, layers), TEXT, batch, class_ids)
    after = objective.losses(Prediction(changed, layers), TEXT, batch, class_ids)
    for name, loss in before.items():
        torch.testing.assert_close(after[name], loss)


def test_the_order_of_object_queries_does_not_matter(objective: Objective) -> None:
    batch, class_ids = make_batch(1)
    torch.manual_seed(0)
    features = torch.randn(3, 8, 8, 8)
    mask, classes = torch.randn(3, QUERIES, 8), torch.randn(3, QUERIES, NAMES + 1)
    order = torch.tensor([3, 1, 4, 0, 2, QUERIES - 1])
    plain, permuted = (
        objective.losses(Prediction(features, [LayerPrediction(m, c)]), TEXT, batch, class_ids)
        for m, c in ((mask, classes), (mask[:, order], classes[:, order]))
    )
    for name, loss in plain.items():
        torch.testing.assert_close(permuted[name], loss)


def test_the_class_token_has_no_mask_and_no_target(objective: Objective) -> None:
    batch, class_ids = make_batch(1)
    torch.manual_seed(0)
    features = torch.randn(3, 8, 8, 8)
    mask, classes = torch.randn(3, QUERIES, 8), torch.randn(3, QUERIES, NAMES + 1)
    other_mask, other_classes = mask.clone(), classes.clone()
    other_mask[:, -1], other_classes[:, -1] = torch.randn(8), torch.randn(NAMES + 1)
    plain, changed = (
        objective.losses(Prediction(features, [LayerPrediction(m, c)]), TEXT, batch, class_ids)
        for m, c in ((mask, classes), (other_mask, other_classes))
    )
    for name in ("mask", "dice", "classification"):
        torch.testing.assert_close(changed[name], plain[name])
    assert changed["image"] != plain["image"]


def test_every_part_of_the_model_gets_a_finite_gradient(
    tiny_model: Callable[..., XDecoder],
) -> None:
    model = tiny_model(queries=QUERIES)
    objective = Objective(model, SETTINGS)
    for counts in ((3, 1, 0), (0, 0)):
        batch, class_ids = make_batch(2, counts)
        model.zero_grad()
        tokens = torch.randint(0, 60, (NAMES + 1, 4))
        losses = objective(batch, tokens, class_ids)
        losses["total"].backward()
        assert losses["total"].isfinite()
        for name, parameter in model.named_parameters():
            if name != "unused":
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name


def test_more_targets_than_queries_are_matched_as_far_as_they_go(
    tiny_model: Callable[..., XDecoder],
) -> None:
    batch, class_ids = make_batch(3, (6,))
    objective = Objective(tiny_model(queries=3), SETTINGS)
    losses = objective(batch, torch.randint(0, 60, (NAMES + 1, 4)), class_ids)
    losses["total"].backward()
    assert losses["total"].isfinite()


def test_bfloat16_leaves_the_losses_in_float32(tiny_model: Callable[..., XDecoder]) -> None:
    batch, class_ids = make_batch(2)
    objective = Objective(
        tiny_model(queries=QUERIES), ObjectiveSettings(points=POINTS, matching_points=9, bf16=True)
    )
    losses = objective(batch, torch.randint(0, 60, (NAMES + 1, 4)), class_ids)
    losses["total"].backward()
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
