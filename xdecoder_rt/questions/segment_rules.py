"""What a vocabulary's rules make of class probabilities: negatives, thresholds, the other class.

All three outputs follow the same rules:

- A negative word takes part in the softmax. What it wins is nobody's.
- A word with a threshold speaks where its score is above it. What it would have said otherwise is
  not given to the next best word: it is nobody's, or the other class's.
- The other class gets what is there and is none of the words for sure: a query whose words
  together are likelier than the threshold of ``other``, none of them reaching its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xdecoder_rt.masks.classification import (
    Selection,
    class_probabilities,
    keep_panoptic,
    top_instances,
)
from xdecoder_rt.plan.manifest import PostprocessInfo
from xdecoder_rt.words.vocabulary import Vocabulary

__all__ = ["instance_pairs", "panoptic_queries", "semantic_columns"]

Floats = npt.NDArray[np.float32]
# Scores are compared by "above", and no score is below zero.
_ANY = np.float32(-1.0)


def panoptic_queries(
    class_logits: Floats, vocabulary: Vocabulary, rules: PostprocessInfo
) -> Selection:
    """The queries that take part in panoptic output, ascending, with their labels.

    Args:
        class_logits: ``[Q, K + 1]`` over K words, the last column void.
        vocabulary: the words.
        rules: thresholds of the plan.

    Returns:
        Labels are indices into ``vocabulary.labels``.
    """
    default = rules.object_mask_threshold
    if not vocabulary.has_rules:
        return keep_panoptic(class_logits, default)
    probabilities = class_probabilities(class_logits)
    words = len(vocabulary.words)
    labels = probabilities.argmax(axis=1)
    scores = probabilities[np.arange(len(labels)), labels]
    # Void is no word; nor is what a negative word wins anybody's.
    free = ~np.append(vocabulary.negative, False)[labels]
    kept = free & (scores > np.append(_thresholds(vocabulary, default), np.inf)[labels])
    if vocabulary.other is not None:
        mass = probabilities[:, :-1][:, ~vocabulary.negative].sum(axis=1)
        unsure = free & ~kept & (mass > _other_threshold(vocabulary, default))
        labels, scores = np.where(unsure, words, labels), np.where(unsure, mass, scores)
        kept |= unsure
    queries = np.flatnonzero(kept)
    return Selection(queries, scores[queries], labels[queries])


def semantic_columns(
    class_logits: Floats, vocabulary: Vocabulary, rules: PostprocessInfo
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """What queries say for semantic output.

    Args:
        class_logits: ``[Q, K + 1]`` over K words, the last column void.
        vocabulary: the words.
        rules: thresholds of the plan.

    Returns:
        Probabilities ``[Q, C]``, whose sums over the queries of a pixel are compared; and of each
        column the index into ``vocabulary.labels`` that it stands for, -1 for none.
    """
    probabilities = class_probabilities(class_logits)
    words = len(vocabulary.words)
    columns, means = probabilities[:, :words], np.arange(words)
    if vocabulary.has_rules:
        spoken, unsure = _spoken(columns, vocabulary, rules.object_mask_threshold)
        # First, so that it also has the pixels of which nobody says anything.
        columns = np.concatenate((unsure[:, None], spoken), axis=1)
        means = np.append(
            -1 if vocabulary.other is None else words, np.where(vocabulary.negative, -1, means)
        )
    if rules.keep_semantic_background:
        columns = np.concatenate((columns, probabilities[:, words:]), axis=1)
        means = np.append(means, -1)
    return np.ascontiguousarray(columns), means


def instance_pairs(
    class_logits: Floats, vocabulary: Vocabulary, rules: PostprocessInfo
) -> Selection:
    """The best (query, class) pairs of things, best first.

    Args:
        class_logits: ``[Q, K + 1]`` over K words, the last column void.
        vocabulary: the words.
        rules: how many pairs to look at, and thresholds.

    Returns:
        Labels are indices into ``vocabulary.labels``.
    """
    things = vocabulary.is_thing()
    if not vocabulary.has_rules:
        return top_instances(class_logits, rules.instance_topk, things)
    probabilities = class_probabilities(class_logits)
    words = len(vocabulary.words)
    scores, unsure = _spoken(probabilities[:, :words], vocabulary, rules.object_mask_threshold)
    scores[:, vocabulary.negative] = 0.0
    if vocabulary.other is not None:
        limit = _other_threshold(vocabulary, rules.object_mask_threshold)
        others = np.where(unsure > limit, unsure, np.float32(0.0))
        scores = np.concatenate((scores, others[:, None]), axis=1)
    winners = probabilities.argmax(axis=1)
    scores[np.append(vocabulary.negative, False)[winners]] = 0.0
    order = np.argsort(-scores, axis=None, kind="stable")[: rules.instance_topk]
    order = order[scores.reshape(-1)[order] > 0.0]
    queries, labels = np.divmod(order, scores.shape[1])
    own = things[labels]
    return Selection(queries[own], scores.reshape(-1)[order[own]], labels[own])


def _spoken(probabilities: Floats, vocabulary: Vocabulary, default: float) -> tuple[Floats, Floats]:
    """Probabilities above the words' thresholds, zero elsewhere; and what is below, summed.

    Only the other class makes the plan's threshold count in outputs that have none.
    """
    limits = _thresholds(vocabulary, _ANY if vocabulary.other is None else default)
    above = (probabilities > limits) | vocabulary.negative
    spoken = np.where(above, probabilities, np.float32(0.0))
    return spoken, (probabilities - spoken).sum(axis=1)


def _thresholds(vocabulary: Vocabulary, default: float | np.float32) -> Floats:
    """Of each word, its own threshold or the plan's."""
    own = vocabulary.thresholds
    return np.where(np.isnan(own), np.float32(default), own)


def _other_threshold(vocabulary: Vocabulary, default: float) -> float:
    assert vocabulary.other is not None
    own = vocabulary.other.threshold
    return default if own is None else own
