"""Grounding tensors: phrases as tokens and embeddings, and what they refer to in an image."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from xdecoder_rt.backends.base import Array
from xdecoder_rt.masks.postprocess import full_size_logits
from xdecoder_rt.parity.comparison import AgreementRule, Outcome, continuous, exact, pixels, worst
from xdecoder_rt.parity.fixture import Fixture, FixtureImage
from xdecoder_rt.parity.forms import Embeddings, Form, GroundedPhrases, TextSide
from xdecoder_rt.words.tokenizer import ClipTokenizer

PHRASE_RULES: dict[str, AgreementRule] = {
    "grounding.token_ids": exact,
    "grounding.attention_mask": exact,
    "grounding.tokens": continuous,
    "grounding.phrase_emb": continuous,
}
GROUNDING_RULES: dict[str, AgreementRule] = {
    "grounding.query_emb": continuous,
    "grounding.scores": continuous,
    "grounding.matched": exact,
    "grounding.matched_masks": continuous,
    "grounding.masks_at_output_size": continuous,
}


class PhraseTensors:
    """Tokens and embeddings of the fixture's phrases, computed on demand.

    Args:
        fixture: whose phrases.
        words: the form's text side.
        context_length: tokens of a text.
    """

    def __init__(self, fixture: Fixture, words: TextSide, context_length: int) -> None:
        self._fixture = fixture
        self._words = words
        self._tokenizer = ClipTokenizer.default(context_length)

    def array(self, name: str) -> Array:
        """Return one of the arrays that `PHRASE_RULES` names."""
        token_ids = self._tokenizer(self._fixture.phrases())
        if name == "grounding.token_ids":
            return token_ids
        if name == "grounding.attention_mask":
            # 1 for start, words and end; padding is more of the end token's id.
            places = np.arange(token_ids.shape[1])
            return places < self._tokenizer.lengths(token_ids)[:, None]
        if name == "grounding.tokens":
            return np.concatenate(self._features)
        return np.stack([tokens[-1] for tokens in self._features])

    @cached_property
    def _features(self) -> list[Embeddings]:
        return self._words.token_features(self._fixture.phrases())


class GroundingTensors:
    """The objects that the fixture's phrases, asked together, refer to in one image.

    Args:
        fixture: whose phrases.
        form: decodes them.
        image: the image.
    """

    def __init__(self, fixture: Fixture, form: Form, image: FixtureImage) -> None:
        self._fixture = fixture
        self._form = form
        self._image = image

    def judge(self, name: str, expected: Array) -> Outcome:
        """Compare an array that `GROUNDING_RULES` names; every way of the form must pass."""
        outcomes = [
            GROUNDING_RULES[name](self._array(grounding, name), expected)
            for grounding in self._groundings
        ]
        if name == "grounding.masks_at_output_size":
            # The answer itself is where these logits are positive.
            outcomes += [pixels(grounding.masks, expected > 0) for grounding in self._groundings]
        return worst(outcomes)

    @cached_property
    def _groundings(self) -> list[GroundedPhrases]:
        return list(self._form.ground_phrases(self._image, self._fixture.phrases()))

    def _array(self, grounding: GroundedPhrases, name: str) -> Array:
        if name == "grounding.query_emb":
            return grounding.query_embedding
        if name == "grounding.scores":
            return grounding.scores
        if name == "grounding.matched":
            return grounding.matched
        if name == "grounding.matched_masks":
            return grounding.mask_logits
        return full_size_logits(grounding.mask_logits, self._image.letterbox)
