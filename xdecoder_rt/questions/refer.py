"""Referring segmentation: phrases to groups of rows, and their rows to masks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from xdecoder_rt import tasks
from xdecoder_rt.errors import ArgumentError, VocabularyError, shown
from xdecoder_rt.image import Letterbox
from xdecoder_rt.masks import postprocess
from xdecoder_rt.results import Reference
from xdecoder_rt.rows import Group
from xdecoder_rt.state import DecodedRows, Floats
from xdecoder_rt.words.encoder import unit
from xdecoder_rt.words.tokenizer import ClipTokenizer
from xdecoder_rt.words.word import check_text

MAX_SCALE = 100.0
"""The original clamps the factor of grounding's cosines here."""


def check_phrases(phrases: Sequence[str], limit: int) -> list[str]:
    """Phrases that can be referred by.

    Raises:
        ArgumentError: they are one string, none, or more than `limit`.
        VocabularyError: one is empty or unreadable.
    """
    if isinstance(phrases, str) or not isinstance(phrases, Sequence):
        raise ArgumentError(f"phrases is {shown(phrases)}", expected="a list of phrases")
    if not phrases:
        raise ArgumentError("There are no phrases", expected="at least one")
    if len(phrases) > limit:
        raise ArgumentError(
            f"There are {len(phrases)} phrases",
            expected=f"at most {limit}, the limit of this plan",
            fix=f"ask in several calls on one encoded image, or build with --max-phrases "
            f"{len(phrases)}",
        )
    return [check_text(phrase, f"Phrase {i}") for i, phrase in enumerate(phrases)]


def check_lengths(texts: Sequence[str], tokenizer: ClipTokenizer, strict: bool) -> None:
    """Tell of texts that the context length cuts.

    Raises:
        VocabularyError: a text is too long and `strict` is set; otherwise it is a warning.
    """
    for text in texts:
        if tokenizer.fits(text):
            continue
        room = tokenizer.context_length - 2
        if strict:
            raise VocabularyError(
                f"{shown(text)} is too long", expected=f"at most {room} tokens", fix="shorten it"
            )
        warnings.warn(
            f"{shown(text)} is cut to its first {room} tokens", RuntimeWarning, stacklevel=4
        )


def phrase_groups(features: Sequence[Floats], num_queries: int, joint: bool) -> list[Group]:
    """The rows that phrases add to a decode.

    Args:
        features: token features of each phrase, ``[L, D]``.
        num_queries: of the model.
        joint: all phrases in one group, as the original decodes them; their masks then depend on
            one another.
    """
    texts = [np.concatenate(list(features))] if joint else features
    return [Group(tasks.group("refer", num_queries, len(text)), text) for text in texts]


def read_references(
    phrases: Sequence[str],
    features: Sequence[Floats],
    rows: Sequence[DecodedRows],
    background: Floats,
    logit_scale: float,
    masks: Callable[[Floats], Floats],
    letterbox: Letterbox,
    threads: int,
) -> list[Reference]:
    """Match phrases to the queries of their groups, and form the masks of the matched.

    A phrase takes the query whose class embedding is nearest to its own. Its score compares that
    query's likeness to the phrase with its likeness to the void class.

    Args:
        phrases: as asked.
        features: token features of each phrase; the last is its embedding.
        rows: the decoded group of each phrase, or the one group of all.
        background: unit embedding of the void class, ``[D]``.
        logit_scale: factor of the cosines, clamped at 100.
        masks: from mask embeddings ``[K, C]`` to mask logits ``[K, h, w]``.
        letterbox: where the image lies in the network's input.
        threads: for post-processing.
    """
    groups = list(rows) * len(phrases) if len(rows) == 1 else rows
    scale = min(logit_scale, MAX_SCALE)
    embeddings, scores = [], []
    for own, group in zip(features, groups, strict=True):
        class_embedding, mask_embedding = group.answer("refer")
        queries = unit(class_embedding)
        likeness = queries @ unit(own[-1])
        best = int(likeness.argmax())
        margin = scale * float(queries[best] @ background - likeness[best])
        scores.append(1.0 / (1.0 + float(np.exp(np.clip(margin, -80.0, 80.0)))))
        embeddings.append(mask_embedding[best])
    found = postprocess.binary_masks(masks(np.stack(embeddings)), letterbox, threads=threads)
    return [
        Reference(phrase, _mask(mask), score, box)
        for phrase, mask, score, box in zip(phrases, found.masks, scores, found.boxes, strict=True)
    ]


def _mask(mask: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    return mask.astype(np.bool_, copy=False)
