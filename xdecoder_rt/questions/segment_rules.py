"""A vocabulary's rules over class probabilities: negatives, thresholds, the other class.

All three outputs follow the same rules:

- A negative word takes part in the softmax; its queries and pixels are nobody's.
- A word with a threshold speaks where its score is above it. Below, its share is
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
from xdecoder_rt.questions.least_score import is_sure
from xdecoder_rt.state import Floats
from xdecoder_rt.words.vocabulary import Vocabulary

__all__ = ["instance_pairs", "panoptic_queries", "semantic_columns"]

# Scores are compared by "above", and no score is below zero.
_ANY = np.float32(-1.0)


def panoptic_queries(
    class_logits: Floats, vocabulary: Vocabulary, rules: PostprocessInfo, min_score: float = 0.0
) -> Selection:
    """Select the queries that take part in panoptic output, ascending, with their labels.

    Args:
        class_logits: ``[Q, K + 1]`` over K words, the last column void.
        vocabulary: the words.
        rules: thresholds of the plan.
        min_score: least score of what is selected.

    Returns:
        Labels are indices into ``vocabulary.labels``.
    """
    default = rules.object_mask_threshold
    if not vocabulary.has_rules:
        return _sure(keep_panoptic(class_logits, default), min_score)
    probabilities = class_probabilities(class_logits)
    words = len(vocabulary.words)
    labels = probabilities.argmax(axis=1)
    scores = probabilities[np.arange(len(labels)), labels]
    # Void is no word; nor is what a negative word wins anybody's.
    is_free = ~np.append(vocabulary.negative, False)[labels]
    is_kept = is_free & (scores > np.append(_word_thresholds(vocabulary, default), np.inf)[labels])
    if vocabulary.other is not None:
        mass = probabilities[:, :-1][:, ~vocabulary.negative].sum(axis=1)
        is_unsure = is_free & ~is_kept & (mass > _other_threshold(vocabulary, default))
        labels, scores = np.where(is_unsure, words, labels), np.where(is_unsure, mass, scores)
        is_kept |= is_unsure
    queries = np.flatnonzero(is_kept)
    return _sure(Selection(queries, scores[queries], labels[queries]), min_score)


def semantic_columns(
    class_logits: Floats, vocabulary: Vocabulary, rules: PostprocessInfo, min_score: float = 0.0
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return what queries say for semantic output.

    Args:
        class_logits: ``[Q, K + 1]`` over K words, the last column void.
        vocabulary: the words.
        rules: thresholds of the plan.
        min_score: what a query says of a word less surely is nobody's, as below a word's threshold.

    Returns:
        Probabilities ``[Q, C]``, whose sums over the queries of a pixel are compared; and of each
        column the index into ``vocabulary.labels`` that it stands for, -1 for none.
    """
    probabilities = class_probabilities(class_logits)
    words = len(vocabulary.words)
    columns, column_labels = probabilities[:, :words], np.arange(words)
    if vocabulary.has_rules or min_score > 0:
        word_scores, unsure_mass = _split_scores(
            columns, vocabulary, rules.object_mask_threshold, min_score
        )
        is_other = vocabulary.other is not None and is_sure(unsure_mass, min_score).any()
        # First, so that it also has the pixels of which nobody says anything.
        columns = np.concatenate((unsure_mass[:, None], word_scores), axis=1)
        column_labels = np.append(
            words if is_other else -1,
            np.where(vocabulary.negative, -1, column_labels),
        )
    if rules.keep_semantic_background:
        columns = np.concatenate((columns, probabilities[:, words:]), axis=1)
        column_labels = np.append(column_labels, -1)
    return np.ascontiguousarray(columns), column_labels


def instance_pairs(
    class_logits: Floats, vocabulary: Vocabulary, rules: PostprocessInfo, min_score: float = 0.0
) -> Selection:
    """Select the best (query, class) pairs of things, best first.

    Args:
        class_logits: ``[Q, K + 1]`` over K words, the last column void.
        vocabulary: the words.
        rules: how many pairs to look at, and thresholds.
        min_score: least class probability of a pair; the reported score is at most that.

    Returns:
        Labels are indices into ``vocabulary.labels``.
    """
    things = vocabulary.is_thing()
    if not vocabulary.has_rules:
        return _sure(top_instances(class_logits, rules.instance_topk, things), min_score)
    probabilities = class_probabilities(class_logits)
    words = len(vocabulary.words)
    scores, unsure_mass = _split_scores(
        probabilities[:, :words], vocabulary, rules.object_mask_threshold
    )
    scores[:, vocabulary.negative] = 0.0
    if vocabulary.other is not None:
        limit = _other_threshold(vocabulary, rules.object_mask_threshold)
        other_scores = np.where(unsure_mass > limit, unsure_mass, np.float32(0.0))
        scores = np.concatenate((scores, other_scores[:, None]), axis=1)
    winners = probabilities.argmax(axis=1)
    scores[np.append(vocabulary.negative, False)[winners]] = 0.0
    order = np.argsort(-scores, axis=None, kind="stable")[: rules.instance_topk]
    order = order[scores.reshape(-1)[order] > 0.0]
    queries, labels = np.divmod(order, scores.shape[1])
    of_things = things[labels]
    pairs = Selection(queries[of_things], scores.reshape(-1)[order[of_things]], labels[of_things])
    return _sure(pairs, min_score)


def _sure(selection: Selection, min_score: float) -> Selection:
    """Return those of a selection whose scores are at least `min_score`."""
    kept = is_sure(selection.scores, min_score)
    if kept.all():
        return selection
    return Selection(selection.queries[kept], selection.scores[kept], selection.labels[kept])


def _split_scores(
    probabilities: Floats, vocabulary: Vocabulary, default: float, min_score: float = 0.0
) -> tuple[Floats, Floats]:
    """Return probabilities above the words' thresholds, zero elsewhere; and the rest, summed.

    Only the other class makes the plan's threshold count in outputs that have none.
    """
    limits = _word_thresholds(vocabulary, _ANY if vocabulary.other is None else default)
    above = (probabilities > limits) & is_sure(probabilities, min_score) | vocabulary.negative
    word_scores = np.where(above, probabilities, np.float32(0.0))
    return word_scores, (probabilities - word_scores).sum(axis=1)


def _word_thresholds(vocabulary: Vocabulary, default: float | np.float32) -> Floats:
    """Return each word's own threshold or the plan's."""
    thresholds = vocabulary.thresholds
    return np.where(np.isnan(thresholds), np.float32(default), thresholds)


def _other_threshold(vocabulary: Vocabulary, default: float) -> float:
    assert vocabulary.other is not None
    threshold = vocabulary.other.threshold
    return default if threshold is None else threshold
