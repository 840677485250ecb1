"""Retrieval tensors: images and captions in one space, and their likeness."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from xdecoder_rt.backends.base import Array
from xdecoder_rt.parity.comparison import AgreementRule, continuous, exact
from xdecoder_rt.parity.fixture import Fixture, FixtureImage
from xdecoder_rt.parity.forms import BACKBONE_EMBEDDING, Embeddings, TextSide
from xdecoder_rt.words.encoder import unit
from xdecoder_rt.words.tokenizer import ClipTokenizer

SET_RULES: dict[str, AgreementRule] = {
    "retrieval.scores": continuous,
    "retrieval.token_ids": exact,
    "region_retrieval.phrase_emb": continuous,
    "region_retrieval.logits": continuous,
}
IMAGE_RULES: dict[str, AgreementRule] = {
    "retrieval.image_emb": continuous,
    "retrieval.image_emb_backbone": continuous,
    "retrieval.text_emb": continuous,
}


class RetrievalTensors:
    """Embeddings of the fixture's images and captions, computed on demand.

    Args:
        fixture: whose captions and phrases.
        words: the form's text side.
        network: gives an image's tensors.
        context_length: tokens of a text.
    """

    def __init__(
        self,
        fixture: Fixture,
        words: TextSide,
        network: Callable[[FixtureImage], Mapping[str, Array]],
        context_length: int,
    ) -> None:
        self._fixture = fixture
        self._words = words
        self._network = network
        self._tokenizer = ClipTokenizer.default(context_length)
        self._embeddings: dict[str, tuple[Embeddings, Embeddings]] = {}

    def array(self, name: str) -> Array:
        """Return one of the arrays that `SET_RULES` names, of all captioned images."""
        images = self._fixture.captioned_images()
        captions = [caption for image in images for caption in self._fixture.captions(image)]
        if name == "retrieval.token_ids":
            return self._tokenizer(captions)
        if name == "retrieval.scores":
            embeddings = np.concatenate([self._ensemble(image) for image in images])
            scores: Array = embeddings @ self._words.texts(captions).T
            return scores
        phrases = self._words.texts(self._fixture.phrases())
        if name == "region_retrieval.phrase_emb":
            return phrases
        tokens = np.concatenate([self._image(image)[0] for image in images])
        return self._words.class_logits(tokens, phrases)

    def image_array(self, image: FixtureImage, name: str) -> Array:
        """Return one of the arrays that `IMAGE_RULES` names."""
        if name == "retrieval.text_emb":
            features = self._words.token_features(self._fixture.captions(image))
            return np.stack([tokens[-1] for tokens in features])
        token, backbone = self._image(image)
        return token if name == "retrieval.image_emb" else backbone

    def _image(self, image: FixtureImage) -> tuple[Embeddings, Embeddings]:
        """Return the class token's and the backbone's embedding, ``[1, D]`` each, unnormalised."""
        if image.name not in self._embeddings:
            tensors = self._network(image)
            token = tensors["pred_captions"][:, -1]
            self._embeddings[image.name] = token, tensors[BACKBONE_EMBEDDING]
        return self._embeddings[image.name]

    def _ensemble(self, image: FixtureImage) -> Embeddings:
        """Return the mean of both, each made unit: its products with texts are mean cosines."""
        token, backbone = self._image(image)
        mean: Embeddings = (unit(token) + unit(backbone)) / np.float32(2)
        return mean
