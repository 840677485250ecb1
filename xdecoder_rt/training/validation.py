"""Quick measures of a model in training, cheap enough to take often.

Not the scores of ``xdecoder-rt eval``: masks are compared at stride 4, and each target is given
its best query. They tell masks and names apart, which one panoptic score does not.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.datasets.items import PanopticDataset, PanopticItem
from xdecoder_rt.errors import require
from xdecoder_rt.models import Prediction, XDecoder
from xdecoder_rt.tasks import TASKS
from xdecoder_rt.training.dataset import Batch, collate, plain_example
from xdecoder_rt.training.step_text import StepWriter
from xdecoder_rt.training.text_validation import TextScores, at_stride, fitted
from xdecoder_rt.training.vocabulary import (
    BatchVocabulary,
    Tokenizer,
    trimmed_tokens,
)
from xdecoder_rt.words.templates import BACKGROUND, TEMPLATES, prompts
from xdecoder_rt.words.vocabulary import is_void_name

MAX_NAMES = 256
_MEASURES = ("miou", "accuracy", "name_rank", "kept")
_TEXT_BATCH = 256
_SENTENCES = 4


def validate(
    model: XDecoder,
    tokenizer: Tokenizer,
    dataset: PanopticDataset,
    items: int,
    size: int,
    batch_size: int,
    device: torch.device,
    tasks: Collection[str] = tuple(TASKS),
) -> dict[str, float]:
    """Measure a model on part of a data set.

    Args:
        model: in evaluation mode.
        tokenizer: texts to token ids.
        dataset: held-out images.
        items: how many of its images, spread evenly over it; 0 for all.
        size: side of the square the images are fitted into.
        batch_size: images at a time.
        device: the model's.
        tasks: names of :data:`~xdecoder_rt.tasks.TASKS` to measure.

    Returns:
        The measures of :meth:`~xdecoder_rt.training.text_validation.TextScores.compute`, and
        shares from 0 to 1: ``miou``: mean intersection over union of the targets and the queries
        that fit them best, one to one, whatever they are named. ``accuracy``: share of these
        queries that name their target, asked for up to 256 names and without void.
        ``name_rank``: mean share of the other names that suit the query less than its target's:
        1 where every name is right, 0.5 by chance. ``kept``: share of these queries for which
        void is not the best answer.
    """
    total = len(dataset.items)
    count = min(items or total, total)
    chosen_items = [dataset.items[i * total // count] for i in range(count)]
    names = _measured_names(chosen_items, dataset.vocabulary)
    place = {name: index for index, name in enumerate(names)}
    writer = StepWriter(tokenizer, model.config.num_queries, tasks, model.config.context_length)
    scores: list[tuple[float, ...]] = []
    with torch.inference_mode():
        table = text_table(model, tokenizer, [*names, BACKGROUND], device)
        texts = TextScores(model, tokenizer, device)
        for batch in _batches(chosen_items, size, batch_size, tasks):
            on_images = tuple(dict.fromkeys(name for labels in batch.labels for name in labels))
            vocabulary = BatchVocabulary(on_images, (*on_images, BACKGROUND))
            text = writer.write(batch, vocabulary).to(device)
            batch = batch.to(device)
            images = batch.normalised_images(model.config.pixel_mean, model.config.pixel_std)
            features = torch.cat([model.text_encoder(ids).flatten(0, 1) for ids in text.buckets])
            prediction = model(images, text.rows(features))
            if "segment" in tasks:
                scores += _scores(model, prediction, batch, table, place)
            texts.update(prediction, features, batch, text)
    means = np.mean(scores, axis=0).tolist() if scores else ()
    return {**dict(zip(_MEASURES, means, strict=False)), **texts.compute()}


def text_table(
    model: XDecoder, tokenizer: Tokenizer, names: Sequence[str], device: torch.device
) -> Tensor:
    """Embeddings of names: unit rows ``[K, D]``.

    As at run time the mean over the model's sentences, but over the first four: all that a compact
    model has, while the 81 of a published one would take longer than the rest of a validation.
    """
    templates = TEMPLATES[model.config.templates][:_SENTENCES]
    sentences = [sentence for name in names for sentence in prompts(name, templates)]
    rows = [
        F.normalize(
            model.encode_text(
                trimmed_tokens(tokenizer, sentences[i : i + _TEXT_BATCH]).to(device)
            ).float(),
            dim=-1,
        )
        for i in range(0, len(sentences), _TEXT_BATCH)
    ]
    means = torch.cat(rows).view(len(names), len(templates), -1).mean(dim=1)
    return F.normalize(means, dim=-1)


def _measured_names(items: Sequence[PanopticItem], vocabulary: Sequence[str]) -> list[str]:
    """Return the names on the images and others, spread evenly over the vocabulary."""
    labels = (s.label for item in items for s in item.segments if not s.iscrowd)
    names = dict.fromkeys(label for label in labels if not is_void_name(label, BACKGROUND))
    other_names = [
        name for name in vocabulary if name not in names and not is_void_name(name, BACKGROUND)
    ]
    count = min(len(other_names), max(0, MAX_NAMES - len(names)))
    return [*names, *(other_names[i * len(other_names) // count] for i in range(count))]


def _batches(
    items: Sequence[PanopticItem], size: int, batch_size: int, tasks: Collection[str]
) -> Iterator[Batch]:
    for start in range(0, len(items), batch_size):
        members = items[start : start + batch_size]
        yield collate([plain_example(item, size, tasks) for item in members])


def _scores(
    model: XDecoder, prediction: Prediction, batch: Batch, table: Tensor, place: dict[str, int]
) -> list[tuple[float, ...]]:
    """Intersection over union, right name, its rank, and not void, of every target."""
    solve = require("scipy.optimize", "train").linear_sum_assignment
    config = model.config
    last = prediction.layers[-1]
    objects = config.num_queries - (not config.decoder.class_token_is_mask)
    masks = torch.einsum(
        "bqc,bchw->bqhw", last.mask_embedding[:, :objects], prediction.mask_features
    )
    classes = model.class_logits(last.class_embedding[:, :objects], table)
    cells = at_stride(batch.ids)
    masks = fitted(masks, cells)
    scores: list[tuple[float, ...]] = []
    for image, labels in enumerate(batch.labels):
        flat = cells[image].reshape(-1).long()
        true_masks = batch.membership[image, : len(labels)][:, flat].float()
        known_pixels = batch.known_ids[image, flat].float()
        predicted_masks = (masks[image].flatten(1) > 0).float() * known_pixels
        overlap = predicted_masks @ true_masks.T
        union = predicted_masks.sum(dim=1)[:, None] + true_masks.sum(dim=1)[None] - overlap
        iou = (overlap / union.clamp(min=1)).cpu().numpy()
        for query, target in zip(*solve(iou, maximize=True), strict=True):
            logits: list[float] = classes[image, query].tolist()
            *names, void = logits
            own_score = names.pop(place[labels[target]])
            right = own_score > max(names, default=-math.inf)
            rank = sum(score < own_score for score in names) / len(names) if names else 1.0
            is_kept = max([own_score, *names]) >= void
            scores.append((float(iou[query, target]), float(right), rank, float(is_kept)))
    return scores
