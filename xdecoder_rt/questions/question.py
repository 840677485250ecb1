"""What can be asked of an image: each kind says which rows it adds and reads its answer off them.

An engine gathers the groups of everything that is asked at once into one decode, then lets each
question read its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends import PanopticMap
from xdecoder_rt.masks.postprocess import Panoptic, Selection
from xdecoder_rt.questions import answer as answering
from xdecoder_rt.questions import refer as grounding
from xdecoder_rt.questions.caption import Opening
from xdecoder_rt.questions.segment import RULES, panoptic_by, word_logits
from xdecoder_rt.results import Answer, Caption, Reference, Segmentation
from xdecoder_rt.rows import Group
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import DecodedRows, Floats, ImageState
from xdecoder_rt.words.encoder import unit
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import check_text


class Question(Protocol):
    """Something to ask of an image.

    Attributes:
        task: its name in the task table.
        groups: the rows that it adds to the decode.
    """

    @property
    def task(self) -> str:
        """Name of the task."""

    @property
    def groups(self) -> Sequence[Group]:
        """Rows beside the latents."""

    def read(self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]) -> Any:
        """The answer, from the decoded rows of the groups."""


@dataclass(frozen=True)
class Segment:
    """Segments of a vocabulary; reads the latents alone."""

    vocabulary: Vocabulary
    rule: str
    task = "segment"
    groups: Sequence[Group] = ()

    def read(
        self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]
    ) -> Segmentation:
        """Classify the latents, form the masks of those kept, apply the output rules."""
        manifest = runtime.manifest
        class_embedding, mask_embedding = runtime.rows.latents(state).answer("segment")
        queries = manifest.decoder.num_queries
        if not manifest.decoder.class_token_is_mask:
            queries -= 1
        logits = word_logits(
            class_embedding[:queries],
            runtime.text.class_table(self.vocabulary),
            manifest.decoder.logit_scale,
            self.vocabulary,
            manifest.postprocess.void_offset,
        )
        if self.rule == "panoptic" and runtime.panoptic_map is not None:
            return self._on_device(runtime.panoptic_map, runtime, state, logits, mask_embedding)
        return RULES[self.rule](
            logits,
            lambda kept: runtime.masks(state, mask_embedding[kept]),
            state.letterbox,
            self.vocabulary,
            manifest.postprocess,
            runtime.threads,
        )

    def _on_device(
        self,
        make: PanopticMap,
        runtime: Runtime,
        state: ImageState,
        logits: Floats,
        mask_embedding: Floats,
    ) -> Segmentation:
        """The panoptic rule where the mask logits are."""
        rules = runtime.manifest.postprocess

        def mapped(kept: Selection) -> Panoptic:
            masks = runtime.mask_values(state, mask_embedding[kept.queries])
            is_thing = np.asarray(self.vocabulary.is_thing(), np.bool_)
            return Panoptic(
                *make(
                    kept.scores,
                    kept.labels,
                    masks,
                    state.letterbox,
                    is_thing,
                    rules.overlap_threshold,
                )
            )

        return panoptic_by(mapped, logits, state.letterbox, self.vocabulary, rules)


@dataclass(frozen=True)
class Refer:
    """What phrases refer to."""

    phrases: Sequence[str]
    features: Sequence[Floats]
    groups: Sequence[Group]
    task = "refer"

    @classmethod
    def ask(cls, runtime: Runtime, phrases: Sequence[str], joint: bool, strict: bool) -> Refer:
        """Check and encode phrases.

        Raises:
            ArgumentError: there are none, or too many for the plan.
            VocabularyError: one is empty, unreadable, or too long and `strict` is set.
        """
        decoder = runtime.manifest.decoder
        checked = grounding.check_phrases(phrases, decoder.max_phrases)
        grounding.check_lengths(checked, runtime.tokenizer, strict)
        features = runtime.text.token_features(checked)
        groups = grounding.phrase_groups(features, decoder.num_queries, joint)
        return cls(checked, features, groups)

    def read(
        self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]
    ) -> list[Reference]:
        """Match phrases to queries, and form the masks of the matched."""
        return grounding.read_references(
            self.phrases,
            self.features,
            rows,
            runtime.text.background(),
            runtime.manifest.decoder.logit_scale,
            lambda embeddings: runtime.masks(state, embeddings),
            state.letterbox,
            runtime.threads,
        )


@dataclass(frozen=True)
class Describe:
    """A caption of the image or of a part of it."""

    opening: Opening
    beams: int
    max_tokens: int | None
    task = "caption"

    @property
    def groups(self) -> Sequence[Group]:
        """The rows of the caption's beginning."""
        return (self.opening.group,)

    def read(self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]) -> Caption:
        """Write on from the beginning, token by token."""
        (opened,) = rows
        writer = runtime.captions
        *_, draft = writer.drafts(state, self.opening, opened, self.beams, self.max_tokens)
        return writer.caption(self.opening, draft)


@dataclass(frozen=True)
class AskAbout:
    """A question on the image."""

    choices: tuple[str, ...]
    groups: Sequence[Group]
    task = "answer"

    @classmethod
    def ask(
        cls, runtime: Runtime, question: str, choices: Sequence[str] | None, strict: bool
    ) -> AskAbout:
        """Check and encode a question.

        Raises:
            ArgumentError: there is nothing to choose from, or a choice is there twice.
            VocabularyError: a text is empty, unreadable, or too long and `strict` is set.
        """
        info = runtime.manifest.text
        checked = answering.check_choices(choices, info.answers)
        text = check_text(question, "The question")
        grounding.check_lengths([text], runtime.tokenizer, strict)
        (features,) = runtime.text.token_features([text])
        group = answering.question_group(features, runtime.manifest.decoder.num_queries)
        return cls(checked, (group,))

    def read(self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]) -> Answer:
        """Compare the question's last row with the choices."""
        (question,) = rows
        return answering.read_answer(
            question,
            self.choices,
            runtime.text.table(self.choices),
            runtime.manifest.decoder.logit_scale,
        )


@dataclass(frozen=True)
class Embed:
    """The image in the space of texts; reads the class token."""

    task = "embed"
    groups: Sequence[Group] = ()

    def read(
        self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]
    ) -> npt.NDArray[np.float32]:
        """The unit class token, or its mean with the unit backbone embedding, as published."""
        (class_embedding,) = runtime.rows.latents(state).answer("embed")
        token = unit(class_embedding[0])
        if not runtime.manifest.decoder.retrieval_ensemble:
            return token
        mean: Floats = (token + unit(runtime.image_embedding(state))) / np.float32(2)
        return mean


def ask_all(runtime: Runtime, state: ImageState, questions: Sequence[Question]) -> list[Any]:
    """Answer questions on one image with one decode, later caption tokens apart."""
    groups = [group for question in questions for group in question.groups]
    decoded = iter(runtime.rows.decode(state, groups))
    rows = [[next(decoded) for _ in question.groups] for question in questions]
    return [
        question.read(runtime, state, own) for question, own in zip(questions, rows, strict=True)
    ]
