"""Everything of a fixture that has to do with texts: words, grounding, captions, retrieval."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xdecoder_rt.backends.base import Array
from xdecoder_rt.parity import captions, grounding, retrieval, words
from xdecoder_rt.parity.comparison import Outcome
from xdecoder_rt.parity.fixture import Fixture, FixtureImage
from xdecoder_rt.parity.forms import Embeddings, Form, TextSide


class LanguageTensors:
    """The text side of a fixture, and what its texts have to do with each image.

    Args:
        fixture: what the original computed.
        form: what is examined.
        encoder: the form's text side.
        network: gives an image's tensors.
        context_length: tokens of a text.
    """

    def __init__(
        self,
        fixture: Fixture,
        form: Form,
        encoder: TextSide,
        network: Callable[[FixtureImage], Mapping[str, Array]],
        context_length: int,
    ) -> None:
        self._fixture = fixture
        self._form = form
        self._context_length = context_length
        self._words = words.TextTensors(fixture, encoder, context_length)
        self._phrases = grounding.PhraseTensors(fixture, encoder, context_length)
        self._retrieval = retrieval.RetrievalTensors(fixture, encoder, network, context_length)
        self._image: FixtureImage | None = None

    @property
    def class_table(self) -> Embeddings:
        """The table that class logits are made with."""
        return self._words.class_table

    def judge(self, name: str, expected: Array) -> Outcome | None:
        """Compare an array of the whole fixture; None if there is no such array."""
        if name in words.TEXT_RULES:
            return words.TEXT_RULES[name](self._words.array(name), expected)
        if name in grounding.PHRASE_RULES:
            return grounding.PHRASE_RULES[name](self._phrases.array(name), expected)
        if name in retrieval.SET_RULES:
            return retrieval.SET_RULES[name](self._retrieval.array(name), expected)
        return None

    def judge_image(self, image: FixtureImage, name: str, expected: Array) -> Outcome | None:
        """Compare an array of one image; None if there is no such array."""
        if name in retrieval.IMAGE_RULES:
            return retrieval.IMAGE_RULES[name](self._retrieval.image_array(image, name), expected)
        if image is not self._image:
            self._image = image
            self._grounding = grounding.GroundingTensors(self._fixture, self._form, image)
            self._captions = captions.CaptionTensors(
                self._fixture, self._form, image, self._context_length
            )
        if name in grounding.GROUNDING_RULES:
            return self._grounding.judge(name, expected)
        if captions.NAMES.fullmatch(name):
            return self._captions.judge(name, expected)
        return None
