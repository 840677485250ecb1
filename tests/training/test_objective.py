"""The objective as a whole: its minimum, and what it must not depend on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

pytest.importorskip("scipy", reason="matching needs scipy")

from plain_targets import target_masks

from xdecoder_rt.datasets.items import AnsweredQuestion, Phrase, Segment
from xdecoder_rt.models import LayerPrediction, Prediction, XDecoder
from xdecoder_rt.tasks import TASKS
from xdecoder_rt.training.config import LossWeights
from xdecoder_rt.training.dataset import Batch, Example, collate
from xdecoder_rt.training.losses import candidate_points
from xdecoder_rt.training.metrics import LOSSES, SEGMENTATION_LOSSES, TEXT_LOSSES
from xdecoder_rt.training.objective import Objective, ObjectiveSettings
from xdecoder_rt.training.points import focused_points
from xdecoder_rt.training.step import Step
from xdecoder_rt.training.step_text import StepText, StepWriter
from xdecoder_rt.training.targets import IGNORE, make_targets
from xdecoder_rt.training.vocabulary import BatchVocabulary

SIZE, POINTS, NAMES, QUERIES, WIDTH = 32, 64, 6, 6, 16
COPIES = slice(QUERIES, 2 * QUERIES - 1)
SETTINGS = ObjectiveSettings(points=POINTS, matching_points=128)
# Every place's feature is a unit vector: names, then void, then phrases.
FEATURES = torch.eye(WIDTH)
PHRASES = NAMES + 1


def make_batch(seed: int, counts: tuple[int, ...] = (3, 1, 0), spoken: bool = True) -> Batch:
    """Blocks of 8 pixels, so that masks at stride 4 can be perfect.

    A segment's label is its number from 0; each has a phrase of the same text.
    """
    rng = np.random.default_rng(seed)
    examples = []
    for count in counts:
        ids = np.kron(rng.integers(0, count + 1, (4, 4)), np.ones((8, 8), np.int64))
        segments = [Segment(i, f"{i - 1}", True, 1) for i in range(1, count + 1)]
        phrases = [Phrase(segment.label, (segment.id,)) for segment in segments if spoken]
        targets = make_targets(ids, segments, SIZE, phrases)
        points, weights = focused_points(targets.boxes, SIZE, candidate_points(POINTS), rng)
        # Keep to the middle of the cells, where bilinear samples are the cells' own values.
        points = np.floor(points / 4) * 4 + 2
        image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        caption = f"a picture of {count}" if spoken and count else None
        questions = (AnsweredQuestion("how many ?", (str(count),)),) if caption else ()
        example = Example(image, (SIZE, SIZE), True, targets, points, weights, 0)
        examples.append(dataclasses.replace(example, caption=caption, questions=questions))
    return collate(examples)


def numbers(texts: Sequence[Sequence[str]], width: int) -> Tensor:
    ids = torch.full((len(texts), width), -1)
    for row, own in zip(ids, texts, strict=True):
        row[: len(own)] = torch.tensor([int(text) for text in own], dtype=torch.int64)
    return ids


def step_text(batch: Batch) -> StepText:
    """Segments and phrases of a batch against `FEATURES`; nothing else is said."""
    none, size = torch.empty(0, dtype=torch.int64), len(batch.labels)
    rows = torch.zeros(size, COPIES.stop, dtype=torch.int64)
    return StepText(
        buckets=[],
        kind=rows,
        content=rows,
        position=rows,
        visible=torch.ones(size, COPIES.stop, COPIES.stop, dtype=torch.bool),
        row_place=rows,
        names=torch.arange(NAMES + 1),
        class_ids=numbers(batch.labels, batch.membership.shape[1]),
        phrases=torch.tensor([*range(PHRASES, PHRASES + NAMES), NAMES]),
        phrase_ids=numbers(batch.phrases, batch.phrase_membership.shape[1]),
        asked=torch.tensor([bool(phrases) for phrases in batch.phrases]),
        captions=torch.full((size,), -1),
        caption_keys=torch.zeros(size, dtype=torch.int64),
        caption_rows=none,
        caption_next=none,
        question_rows=none,
        answers=none,
        accepted=torch.empty(0, 0),
    )


def said(features: Tensor, mask: Tensor, classes: Tensor) -> Prediction:
    size = len(mask)
    return Prediction(
        features,
        [LayerPrediction(mask, classes)] * 2,
        torch.zeros(size, COPIES.stop, WIDTH),
        torch.zeros(size, WIDTH),
    )


def random_prediction(seed: int, size: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Mask features, mask embeddings, class embeddings."""
    torch.manual_seed(seed)
    return (
        torch.randn(size, 8, 8, 8),
        torch.randn(size, COPIES.stop, 8),
        torch.randn(size, COPIES.stop, WIDTH),
    )


def perfect(batch: Batch, text: StepText, sharpness: float = 30.0) -> Prediction:
    """Mask features that are the targets' masks, and queries that read and name one each.

    A phrase's copy is that of the query which segments what it means.
    """
    masks = target_masks(batch)[:, :, 2::4, 2::4].float()
    size, width = masks.shape[:2]
    features = torch.zeros(size, QUERIES, *masks.shape[2:])
    features[:, :width] = 2 * masks - 1
    features[:, -1] = -1  # queries without a target see nothing
    mask = torch.zeros(size, COPIES.stop, QUERIES)
    classes = torch.zeros(size, COPIES.stop, WIDTH)
    for image in range(size):
        for query in range(QUERIES):
            named = query < width and text.class_ids[image, query] >= 0
            name = int(text.class_ids[image, query]) if named else NAMES
            mask[image, query, query if named else -1] = sharpness
            classes[image, query, name] = 1
            if query < QUERIES - 1:
                mask[image, QUERIES + query] = mask[image, query]
                classes[image, QUERIES + query, name + PHRASES if named else NAMES] = 1
    # The class token shares its attention among the names.
    present = torch.zeros(size, WIDTH)
    for row, ids in zip(present, text.class_ids, strict=True):
        row[ids[ids >= 0]] = 1
    classes[:, QUERIES - 1] = present
    return said(features, mask, classes)


@pytest.fixture
def objective(tiny_model: Callable[..., XDecoder]) -> Objective:
    model = tiny_model()
    torch.nn.init.constant_(model.text_encoder.logit_scale, 4.0)
    return Objective(model, SETTINGS)


def test_a_perfect_prediction_costs_next_to_nothing(objective: Objective) -> None:
    batch = make_batch(0)
    text = step_text(batch)
    losses = objective.losses(perfect(batch, text), FEATURES, batch, text)
    assert losses["mask"].item() < 1e-4
    assert losses["dice"].item() < 1e-3
    assert losses["classification"].item() < 1e-4
    assert losses["phrase_mask"].item() < 1e-4
    assert losses["phrase_dice"].item() < 1e-3
    assert losses["grounding"].item() < 1e-4


def test_a_wrong_prediction_costs(objective: Objective) -> None:
    batch = make_batch(0)
    text = step_text(batch)
    wrong = perfect(batch, text)
    wrong.mask_features = -wrong.mask_features
    losses = objective.losses(wrong, FEATURES, batch, text)
    assert losses["mask"].item() > 1
    assert losses["phrase_mask"].item() > 1
    exchanged = perfect(batch, text)
    for layer in exchanged.layers[:1]:
        names = layer.class_embedding[0, [0, 1]].clone()
        layer.class_embedding[0, [1, 0]] = names
        phrases = layer.class_embedding[0, [QUERIES, QUERIES + 1]].clone()
        layer.class_embedding[0, [QUERIES + 1, QUERIES]] = phrases
    losses = objective.losses(exchanged, FEATURES, batch, text)
    assert losses["classification"].item() > 1
    assert losses["grounding"].item() > 1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_unlabelled_pixels_matter_to_phrases_alone(
    tiny_model: Callable[..., XDecoder], seed: int
) -> None:
    objective = Objective(tiny_model(), SETTINGS)
    batch = make_batch(seed)
    text = step_text(batch)
    features, mask, classes = random_prediction(seed)
    ignored = (batch.ids[:, 2::4, 2::4] == IGNORE)[:, None]
    changed = torch.where(ignored, 100 * torch.randn_like(features), features)
    before = objective.losses(said(features, mask, classes), FEATURES, batch, text)
    after = objective.losses(said(changed, mask, classes), FEATURES, batch, text)
    for name in SEGMENTATION_LOSSES:
        torch.testing.assert_close(after[name], before[name])
    if ignored[:2].any() and any(batch.phrases):
        assert after["phrase_mask"] != before["phrase_mask"]


def test_images_without_segments_take_no_part_in_segmentation(objective: Objective) -> None:
    batch = make_batch(1, (3, 0))
    batch.segmented = torch.tensor([True, False])
    text = step_text(batch)
    features, mask, classes = random_prediction(0, 2)
    before = objective.losses(said(features, mask, classes), FEATURES, batch, text)
    features[1], mask[1], classes[1] = (value[1] for value in random_prediction(1, 2))
    after = objective.losses(said(features, mask, classes), FEATURES, batch, text)
    for name in SEGMENTATION_LOSSES:
        torch.testing.assert_close(after[name], before[name])


def test_images_without_phrases_take_no_part_in_grounding(objective: Objective) -> None:
    batch = make_batch(1)
    text = step_text(batch)
    features, mask, classes = random_prediction(0)
    before = objective.losses(said(features, mask, classes), FEATURES, batch, text)
    mask[2, COPIES], classes[2, COPIES] = (value[2, COPIES] for value in random_prediction(1)[1:])
    after = objective.losses(said(features, mask, classes), FEATURES, batch, text)
    for name in ("grounding", "phrase_mask", "phrase_dice"):
        torch.testing.assert_close(after[name], before[name])


def test_what_is_not_there_is_learnt_as_nothing(objective: Objective) -> None:
    """An image asked only for what is not there: its copies should say void, and have no masks."""
    batch = make_batch(1)
    text = step_text(batch)
    features, mask, classes = random_prediction(0)
    wanted = classes[2].clone()
    wanted[COPIES] = FEATURES[NAMES]

    def losses(asked: bool, *, void: bool) -> dict[str, float]:
        text.asked[2] = asked
        said_of_third = torch.stack((*classes[:2], wanted if void else classes[2]))
        taken = objective.losses(said(features, mask, said_of_third), FEATURES, batch, text)
        return {name: value.item() for name, value in taken.items()}

    assert losses(True, void=True)["grounding"] < losses(True, void=False)["grounding"]
    assert losses(False, void=True)["grounding"] == losses(False, void=False)["grounding"]
    for name in ("phrase_mask", "phrase_dice"):
        assert losses(True, void=False)[name] == losses(False, void=False)[name]


def test_the_order_of_object_queries_does_not_matter(objective: Objective) -> None:
    batch = make_batch(1)
    text = step_text(batch)
    features, mask, classes = random_prediction(0)
    order = torch.tensor([3, 1, 4, 0, 2])
    order = torch.cat((order, torch.tensor([QUERIES - 1]), QUERIES + order.flip(0)))
    plain, permuted = (
        objective.losses(said(features, m, c), FEATURES, batch, text)
        for m, c in ((mask, classes), (mask[:, order], classes[:, order]))
    )
    for name, loss in plain.items():
        torch.testing.assert_close(permuted[name], loss)


def test_the_class_token_has_no_mask_and_no_target(objective: Objective) -> None:
    batch = make_batch(1)
    text = step_text(batch)
    features, mask, classes = random_prediction(0)
    other_mask, other_classes = mask.clone(), classes.clone()
    other_mask[:, QUERIES - 1], other_classes[:, QUERIES - 1] = torch.randn(8), torch.randn(WIDTH)
    plain, changed = (
        objective.losses(said(features, m, c), FEATURES, batch, text)
        for m, c in ((mask, classes), (other_mask, other_classes))
    )
    for name in ("mask", "dice", "classification", "grounding", "phrase_mask", "phrase_dice"):
        torch.testing.assert_close(changed[name], plain[name])
    assert changed["image"] != plain["image"]


Tokenizer = Callable[[Sequence[str]], NDArray[np.int64]]


def written(batch: Batch, tokenizer: Tokenizer) -> StepText:
    names = tuple(str(i) for i in range(NAMES))
    writer = StepWriter(tokenizer, QUERIES, tuple(TASKS), 8)
    return writer.write(batch, BatchVocabulary(names, (*names, "background")), ("1", "2", "9"))


def test_every_part_of_the_model_gets_a_finite_gradient(
    tiny_model: Callable[..., XDecoder], tiny_tokenizer: Tokenizer
) -> None:
    model = tiny_model()
    objective = Objective(model, SETTINGS)
    for batch in (make_batch(2), make_batch(2, (0, 0)), make_batch(2, spoken=False)):
        model.zero_grad()
        losses = objective(Step(batch, written(batch, tiny_tokenizer)))
        losses["total"].backward()
        assert set(losses) == set(LOSSES)
        assert losses["total"].isfinite()
        for name, parameter in model.named_parameters():
            if name != "backbone_proj":  # read by the ensemble alone
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name


def test_losses_of_absent_tasks_are_zero_and_have_a_graph(
    tiny_model: Callable[..., XDecoder], tiny_tokenizer: Tokenizer
) -> None:
    objective = Objective(tiny_model(), SETTINGS)
    silent = make_batch(2, spoken=False)
    losses = objective(Step(silent, written(silent, tiny_tokenizer)))
    for name in TEXT_LOSSES:
        assert losses[name] == 0, name
        assert losses[name].requires_grad, name
    assert all(losses[name] > 0 for name in SEGMENTATION_LOSSES)
    spoken = make_batch(2)
    losses = objective(Step(spoken, written(spoken, tiny_tokenizer)))
    assert losses.pop("distillation") == 0
    assert all(value > 0 for value in losses.values())


def test_the_total_is_the_weighted_sum_over_layers(
    tiny_model: Callable[..., XDecoder], tiny_tokenizer: Tokenizer
) -> None:
    weights = LossWeights(2, 3, 5, 7, 11, 13, 17, 19)
    objective = Objective(tiny_model(), ObjectiveSettings(losses=weights, points=POINTS))
    batch = make_batch(2)
    losses = objective(Step(batch, written(batch, tiny_tokenizer)))
    factors = dict(
        classification=2, mask=3, dice=5, image=7, grounding=11, phrase_mask=3, phrase_dice=5,
        retrieval=13, caption=17, answer=19,
    )  # fmt: skip
    layers = 3  # before the first and after each of two
    wanted = layers * sum(factor * losses[name] for name, factor in factors.items())
    torch.testing.assert_close(losses["total"], wanted)


def test_the_ensemble_of_retrieval_trains_the_backbones_projection(
    tiny_model: Callable[..., XDecoder], tiny_tokenizer: Tokenizer
) -> None:
    model = tiny_model()
    model.config = dataclasses.replace(model.config, retrieval_ensemble=True)
    batch = make_batch(2, (3, 1))
    Objective(model, SETTINGS)(Step(batch, written(batch, tiny_tokenizer)))["retrieval"].backward()
    assert model.backbone_proj.grad is not None
    assert model.backbone_proj.grad.abs().sum() > 0


def test_more_targets_than_queries_are_matched_as_far_as_they_go(
    tiny_model: Callable[..., XDecoder], tiny_tokenizer: Tokenizer
) -> None:
    batch = make_batch(3, (6, 6))
    model = tiny_model(queries=3)
    text = StepWriter(tiny_tokenizer, 3, tuple(TASKS), 8).write(
        batch, BatchVocabulary(tuple("012345"), tuple("0123456"))
    )
    losses = Objective(model, SETTINGS)(Step(batch, text))
    losses["total"].backward()
    assert losses["total"].isfinite()


def test_bfloat16_leaves_the_losses_in_float32(
    tiny_model: Callable[..., XDecoder], tiny_tokenizer: Tokenizer
) -> None:
    batch = make_batch(2)
    settings = ObjectiveSettings(points=POINTS, matching_points=9, bf16=True)
    losses = Objective(tiny_model(), settings)(Step(batch, written(batch, tiny_tokenizer)))
    losses["total"].backward()
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
