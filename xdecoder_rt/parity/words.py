"""The text tensors of a fixture: token ids, prompts and name embeddings."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from xdecoder_rt.backends.base import Array
from xdecoder_rt.parity.comparison import AgreementRule, continuous, exact
from xdecoder_rt.parity.fixture import Fixture
from xdecoder_rt.parity.forms import Embeddings, TextSide
from xdecoder_rt.words.templates import (
    PUBLISHED_TEMPLATES,
    prompts,
    sampled_prompts,
    sampled_template_indices,
)
from xdecoder_rt.words.tokenizer import ClipTokenizer

TEXT_RULES: dict[str, AgreementRule] = {
    "text.template_token_ids": exact,
    "text.plain_token_ids": exact,
    "text.sampled_template_index": exact,
    "text.class_emb_plain": continuous,
    "text.class_emb_sampled": continuous,
    "text.class_emb_templates": continuous,
}


class TextTensors:
    """Tokens and embeddings of the fixture's vocabulary, computed on demand.

    Args:
        fixture: whose vocabulary.
        words: the form's text side.
        context_length: tokens of a text.
    """

    def __init__(self, fixture: Fixture, words: TextSide, context_length: int) -> None:
        self._fixture = fixture
        self._words = words
        self._tokenizer = ClipTokenizer.default(context_length)

    def array(self, name: str) -> Array:
        """Return one of the arrays that `TEXT_RULES` names."""
        names = self._fixture.class_names()
        everything = [*names, self._fixture.background()]
        if name == "text.template_token_ids":
            rows = [self._tokenizer(prompts(n, PUBLISHED_TEMPLATES)) for n in names]
            return np.stack(rows)
        if name == "text.plain_token_ids":
            return self._tokenizer(everything)
        if name == "text.sampled_template_index":
            return np.array(sampled_template_indices(len(everything), self._generator()))
        if name == "text.class_emb_plain":
            return self._words.texts(everything)
        if name == "text.class_emb_sampled":
            return self._words.texts(sampled_prompts(everything, self._generator()))
        return self.class_table

    @cached_property
    def class_table(self) -> Embeddings:
        """The table that class logits are made with: the mean over all templates."""
        return self._words.class_table(self._fixture.class_names())

    def _generator(self) -> np.random.RandomState:
        return np.random.RandomState(self._fixture.template_seed())
