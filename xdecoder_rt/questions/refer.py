"""Referring segmentation: phrases to groups of rows, and their rows to masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from xdecoder_rt import tasks
from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.masks import postprocess
from xdecoder_rt.masks.classification import class_probabilities
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.questions.least_score import AS_THEY_ARE, ScoreScale, is_sure, least_score
from xdecoder_rt.questions.object_words import object_logits, voted_logits
from xdecoder_rt.results import Reference
from xdecoder_rt.rows import RowGroup
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import DecodedRows, Floats, ImageState
from xdecoder_rt.words.encoder import unit
from xdecoder_rt.words.noun import noun_of
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import Word, check_text

MAX_SCALE = 100.0
"""The original clamps the factor of grounding's cosines here."""


@dataclass(frozen=True)
class ReferQuestion:
    """Phrases, and what they refer to.

    Attributes:
        phrases: as asked.
        features: float32 ``[L, proj_dim]`` a phrase, the features of its tokens.
        phrase_groups: the rows of each phrase, or one group of all.
        nouns: what each phrase names, where the plan's queries are asked for it too; or none.
        min_score: a phrase below it is not found.
    """

    is_textual: ClassVar[bool] = False
    phrases: Sequence[str]
    features: Sequence[Floats]
    phrase_groups: Sequence[RowGroup]
    min_score: float
    nouns: Sequence[Vocabulary] = ()

    @classmethod
    def ask(
        cls,
        runtime: Runtime,
        phrases: Sequence[str],
        joint: bool,
        strict: bool,
        min_score: float | None,
    ) -> ReferQuestion:
        """Check and encode phrases; its arguments are those of :meth:`Engine.refer`.

        Raises:
            ArgumentError: there are no phrases or too many for the plan, `min_score` is no number
                from 0 to 1, the plan lacks this task, or the runtime is closed.
            VocabularyError: a phrase is empty, unreadable, or too long and `strict` is set.
        """
        runtime.require("refer")
        decoder = runtime.manifest.decoder
        least = least_score(
            min_score,
            "refer",
            runtime.manifest.model.family,
            runtime.manifest.postprocess.min_scores,
            distractors=runtime.distractors is not None,
        )
        checked = check_phrases(phrases, decoder.max_phrases)
        runtime.text.check_lengths(checked, strict)
        features = runtime.text.token_features(checked)
        groups = phrase_groups(features, decoder.num_queries, joint)
        nouns: list[Vocabulary] = []
        if runtime.distractors is not None:
            nouns = [Vocabulary.parse([Word(noun_of(phrase))]) for phrase in checked]
        return cls(checked, features, groups, least, nouns)

    def groups(self, state: ImageState) -> Sequence[RowGroup]:
        """Return copies of the object queries and the phrases' tokens."""
        return self.phrase_groups

    def read(
        self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]
    ) -> list[Reference]:
        """Match phrases to queries, and form the masks of the matched."""
        noun_scores = None
        if self.nouns:
            latents = runtime.rows.latents(state)
            noun_scores = [_noun_scores(runtime, latents, noun) for noun in self.nouns]
        return read_references(
            self.phrases,
            self.features,
            rows,
            runtime.text.background(),
            runtime.manifest.decoder.logit_scale,
            lambda embeddings: runtime.masks(state, embeddings),
            state.letterbox,
            runtime.manifest.postprocess.piece_share,
            runtime.threads,
            self.min_score,
            ScoreScale.of(runtime.manifest.postprocess, "refer"),
            noun_scores,
        )


def _sigmoid(margins: npt.ArrayLike) -> npt.NDArray[np.float64]:
    powers = np.exp(-np.clip(np.asarray(margins, np.float64), -80.0, 80.0))
    scores: npt.NDArray[np.float64] = 1.0 / (1.0 + powers)
    return scores


def _noun_scores(runtime: Runtime, latents: DecodedRows, noun: Vocabulary) -> Floats:
    """Return how likely each object query is of a noun: float32 ``[Q]``."""
    logits, _ = voted_logits(runtime, latents, object_logits(runtime, latents, noun))
    scores: Floats = class_probabilities(logits)[:, 0]
    return scores


def check_phrases(phrases: Sequence[str], limit: int) -> list[str]:
    """Return phrases that can be referred by.

    Raises:
        ArgumentError: they are one string, none, or more than `limit`.
        VocabularyError: one is empty or unreadable.
    """
    if isinstance(phrases, str) or not isinstance(phrases, Sequence):
        raise ArgumentError(f"phrases is {quoted(phrases)}", expected="a list of phrases")
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


def are_of_one_image(phrases: object) -> bool:
    """Whether phrases are those of one image, not a list of those of several."""
    return not isinstance(phrases, list | tuple) or not any(
        isinstance(part, list | tuple) for part in phrases
    )


def phrase_groups(features: Sequence[Floats], num_queries: int, joint: bool) -> list[RowGroup]:
    """Return the rows that phrases add to a decode.

    Args:
        features: token features of each phrase, ``[L, D]``.
        num_queries: of the model.
        joint: all phrases in one group, as the original decodes them; their masks then depend on
            one another.
    """
    texts = [np.concatenate(list(features))] if joint else features
    return [RowGroup(tasks.group("refer", num_queries, len(text)), text) for text in texts]


def read_references(
    phrases: Sequence[str],
    features: Sequence[Floats],
    rows: Sequence[DecodedRows],
    background: Floats,
    logit_scale: float,
    masks: Callable[[Floats], Floats],
    letterbox: Letterbox,
    piece_share: float,
    threads: int,
    min_score: float = 0.0,
    scale: ScoreScale = AS_THEY_ARE,
    noun_scores: Sequence[Floats] | None = None,
) -> list[Reference]:
    """Match phrases to the queries of their groups, and form the masks of the matched.

    A phrase takes the query whose class embedding is nearest to its own. Its score compares that
    query's likeness to the phrase with its likeness to the void class.

    Where it is known how likely each query is of the phrase's noun, the score is the geometric mean
    of both, and the query with the best has it: a decoder that is asked for one phrase alone likens
    something to it, whether it is there or not.

    Args:
        phrases: as asked.
        features: token features of each phrase; the last is its embedding.
        rows: the decoded group of each phrase, or the one group of all.
        background: unit embedding of the void class, ``[D]``.
        logit_scale: factor of the cosines, clamped at 100.
        masks: from mask embeddings ``[K, C]`` to mask logits ``[K, h, w]``.
        letterbox: where the image lies in the network's input.
        piece_share: of the plan; see :class:`~xdecoder_rt.plan.manifest.PostprocessInfo`.
        threads: for post-processing.
        min_score: a phrase below it is not found: its mask is empty and never formed.
        scale: of the scores.
        noun_scores: ``[Q]`` for each phrase, 0 to 1, of the queries that its rows are copies of.
    """
    groups = list(rows) * len(phrases) if len(rows) == 1 else rows
    factor = min(logit_scale, MAX_SCALE)
    embeddings, scores = [], []
    for index, (tokens, group) in enumerate(zip(features, groups, strict=True)):
        class_embedding, mask_embedding = group.answer("refer")
        queries = unit(class_embedding)
        likeness = queries @ unit(tokens[-1])
        if noun_scores is None:
            best = int(likeness.argmax())
            margin = factor * float(queries[best] @ background - likeness[best])
            score = float(_sigmoid(-margin))
        else:
            of_phrase = _sigmoid(factor * (likeness - queries @ background))
            joined = np.sqrt(of_phrase * noun_scores[index])
            best = int(joined.argmax())
            score = float(joined[best])
        scores.append(scale.reported(score))
        embeddings.append(mask_embedding[best])
    references = [_not_found(*pair, letterbox) for pair in zip(phrases, scores, strict=True)]
    found: list[int] = np.flatnonzero(is_sure(scores, min_score)).tolist()
    if not found:
        return references
    logits = masks(np.stack([embeddings[index] for index in found]))
    binary = postprocess.binary_masks(logits, letterbox, piece_share=piece_share, threads=threads)
    for index, mask, box in zip(found, binary.masks, binary.boxes, strict=True):
        references[index] = Reference(phrases[index], mask, scores[index], box)
    return references


def _not_found(phrase: str, score: float, letterbox: Letterbox) -> Reference:
    """Return an entry with an empty mask."""
    mask, box = np.zeros(letterbox.source, np.bool_), np.zeros(4, np.float32)
    return Reference(phrase, mask, score, box)
