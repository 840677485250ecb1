"""What the object queries of an image are, of a vocabulary: all who have a say in it, joined."""

from __future__ import annotations

import numpy as np

from xdecoder_rt.masks.classification import (
    class_shares,
    classify,
    join_regions,
    with_distractors,
)
from xdecoder_rt.masks.votes import join_votes
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import DecodedRows, Floats
from xdecoder_rt.words.vocabulary import Vocabulary


def object_logits(
    runtime: Runtime, latents: DecodedRows, vocabulary: Vocabulary, is_contested: bool = True
) -> Floats:
    """Return class logits of the object queries: the decoder's, joined with what regions say.

    The plan's distractors compete with the words, unless the vocabulary has an other class, which
    is what they would be.

    Args:
        runtime: of the plan.
        latents: of an image.
        vocabulary: the words.
        is_contested: whether distractors compete with the words for regions, too.

    Returns:
        float32 ``[Q, classes + 1]``, the last column void.
    """
    manifest, table = runtime.manifest, runtime.text.class_table(vocabulary)
    names = runtime.text.region_table(vocabulary) if vocabulary.examples else table
    latent_embedding, _ = latents.answer("segment")
    queries, scale = manifest.decoder.objects, manifest.decoder.logit_scale
    embedding, void_offset = latent_embedding[:queries], manifest.postprocess.void_offset
    logits, distractor_part = word_logits(embedding, table, scale, vocabulary, void_offset), None
    distractors = runtime.distractors if vocabulary.other is None else None
    if distractors is not None and len(rivals := distractors.beside(names)):
        logits, distractor_part = with_distractors(logits, classify(embedding, rivals, scale))
    if runtime.regions is None or latents.region_scores is None:
        return logits
    relation = runtime.regions.relation(names, is_contested and distractors is not None)
    shares = word_shares(latents.region_scores[:queries], relation, vocabulary)
    info = runtime.regions.info
    return join_regions(logits, shares, info.weight, info.void_yield, distractor_part)


def voted_logits(
    runtime: Runtime, latents: DecodedRows, logits: Floats
) -> tuple[Floats, Floats | None]:
    """Return class logits in which queries with much the same mask count for one another.

    Args:
        runtime: of the plan.
        latents: of an image.
        logits: ``[Q, classes + 1]`` of :func:`object_logits`.

    Returns:
        float32 ``[Q, classes + 1]``; and how the masks overlap, ``[Q, Q]``. Where the plan has no
        votes, the logits as they are and None.
    """
    votes, queries = runtime.manifest.postprocess.votes, len(logits)
    if not votes or latents.overlaps is None:
        return logits, None
    overlaps = latents.overlaps[:queries, :queries]
    return join_votes(logits, overlaps, votes), overlaps


def word_logits(
    class_embedding: Floats,
    table: Floats,
    scale: float,
    vocabulary: Vocabulary,
    void_offset: float = 0.0,
) -> Floats:
    """Return class logits over a vocabulary; the best synonym speaks for its class.

    Args:
        class_embedding: ``[Q, D]``.
        table: ``[texts + 1, D]``, unit rows, the last one void.
        scale: exp(logit_scale).
        vocabulary: which texts belong to which class.
        void_offset: what is taken from void's logits.

    Returns:
        float32 ``[Q, classes + 1]``.
    """
    logits = classify(class_embedding, table, scale)
    logits[:, -1] -= void_offset
    if len(vocabulary.texts) == len(vocabulary.words):
        return logits
    best = np.maximum.reduceat(logits[:, :-1], vocabulary.starts, axis=1)
    return np.concatenate((best, logits[:, -1:]), axis=1)


def word_shares(region_scores: Floats, relation: Floats, vocabulary: Vocabulary) -> Floats:
    """Return how likely each word of a vocabulary is in each region; synonyms add up.

    Args:
        region_scores: ``[Q, names]`` of the classifier of regions.
        relation: ``[texts + 1, names]``, how its names are divided among texts and void.
        vocabulary: which texts belong to which class.

    Returns:
        float32 ``[Q, classes + 1]``.
    """
    shares = class_shares(region_scores, relation)
    if len(vocabulary.texts) == len(vocabulary.words):
        return shares
    words = np.add.reduceat(shares[:, :-1], vocabulary.starts, axis=1)
    return np.concatenate((words, shares[:, -1:]), axis=1)
