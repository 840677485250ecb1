"""The runtime's own code over a network's graphs, whatever computes them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.base import Array, Backend, Graph
from xdecoder_rt.masks.resample import LEVEL_STRIDES
from xdecoder_rt.models.config import ModelConfig
from xdecoder_rt.parity.fixture import FixtureImage
from xdecoder_rt.parity.forms import BACKBONE_EMBEDDING, Embeddings, GroundedPhrases, WrittenCaption
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.plan.manifest import DecoderInfo, TextInfo
from xdecoder_rt.questions.caption import CaptionWriter
from xdecoder_rt.questions.refer import MAX_SCALE, phrase_groups, read_references
from xdecoder_rt.questions.regions import region_levels
from xdecoder_rt.rows import RowDecoder
from xdecoder_rt.state import Floats, ImageState
from xdecoder_rt.words.cache import TextCache
from xdecoder_rt.words.encoder import TextEmbedder, unit
from xdecoder_rt.words.templates import NAME_SUFFIXES, PUBLISHED_TEMPLATES
from xdecoder_rt.words.text_graph import TextGraph
from xdecoder_rt.words.tokenizer import ClipTokenizer
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import Word

_NEVER = -1


@dataclass(frozen=True)
class NetworkGraphs:
    """The graphs of one network.

    Attributes:
        backend: what runs them.
        text: the text graph.
        token: the token graph.
        image: the vision, decode and mask graphs of a padded size, by name.
    """

    backend: Backend
    text: Graph
    token: Graph
    image: Callable[[tuple[int, int]], Mapping[str, Graph]]


class GraphWords:
    """The runtime's text encoder: nothing is computed past an end token."""

    def __init__(self, encoder: TextEmbedder, logit_scale: float) -> None:
        self._encoder = encoder
        self._logit_scale = np.float32(logit_scale)

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Return unit embeddings of texts as they are: ``[T, D]``."""
        return self._encoder.texts(texts)

    def token_features(self, texts: Sequence[str]) -> list[Embeddings]:
        """Return features of each text's tokens up to the end token, ``[L, D]``, unnormalised."""
        return self._encoder.token_features(texts)

    def class_table(self, names: Sequence[str]) -> Embeddings:
        """Return unit embeddings of names over all templates, background last: ``[K + 1, D]``."""
        # Not parsed: what the original was asked is asked again, a sensible vocabulary or not.
        return self._encoder.class_table(Vocabulary(tuple(Word(name) for name in names)))

    def class_logits(self, class_embedding: Array, table: Embeddings) -> Array:
        """Return scaled cosines: ``[..., Q, D], [K, D] -> [..., Q, K]``."""
        logits: Array = unit(class_embedding) @ table.T * self._logit_scale
        return logits


class GraphNetwork:
    """A whole network, its graphs driven by the runtime: row decoder, text encoder, captions.

    Args:
        config: the network's.
        logit_scale: factor of its cosines, exp already taken.
        background: the name of the void class.
        graphs: the network's.
    """

    def __init__(
        self, config: ModelConfig, logit_scale: float, background: str, graphs: NetworkGraphs
    ) -> None:
        self._graphs = graphs
        self._logit_scale = logit_scale
        self._num_queries = config.num_queries
        tokenizer = ClipTokenizer.default(config.context_length)
        info = _text_info(config, background)
        self._text_graph = TextGraph(info, graphs.text, graphs.backend)
        cache = TextCache(None, namespace="parity")
        self._text = TextEmbedder(info, lambda: tokenizer, self._text_graph, cache)
        self._rows = RowDecoder(
            _decoder_info(config, logit_scale),
            config.proj_dim,
            lambda state: graphs.image(state.letterbox.target)["decode"],
            graphs.backend,
        )
        # The original writes a fixed number of tokens, past an end token too.
        self._endless = copy.copy(tokenizer)
        self._endless.end_token = _NEVER
        self._last_state: tuple[str, ImageState] | None = None
        self.words = GraphWords(self._text, logit_scale)

    def tensors(self, image: FixtureImage) -> Mapping[str, Array]:
        """Compute the tensors that the graphs show of one image."""
        state = self._state(image)
        latents = self._rows.latents(state)
        return {
            "mask_features": np.moveaxis(
                self._graphs.backend.to_numpy(state.values["mask_map"]), -1, 1
            ),
            "pred_captions": latents.class_embedding[None],
            "pred_masks": self._masks(state, latents.mask_embedding)[None],
            BACKBONE_EMBEDDING: self._graphs.backend.to_numpy(state.values[BACKBONE_EMBEDDING]),
        }

    def ground_phrases(self, image: FixtureImage, phrases: Sequence[str]) -> GroundedPhrases:
        """Find what phrases refer to, all in one group, as the runtime matches them."""
        state, features = self._state(image), self._text.token_features(phrases)
        rows = self._rows.decode(state, phrase_groups(features, self._num_queries, joint=True))
        copies, embeddings = rows[0].answer("refer")
        matched: list[int] = []
        logits: list[Floats] = []

        def masks(chosen_embeddings: Floats) -> Floats:
            matched.extend(
                int((embeddings == embedding).all(axis=1).argmax())
                for embedding in chosen_embeddings
            )
            logits.append(self._masks(state, chosen_embeddings))
            return logits[-1]

        references = read_references(
            phrases,
            features,
            rows,
            self._text.background(),
            self._logit_scale,
            masks,
            image.letterbox,
            piece_share=0.0,  # the original cleans nothing
            threads=1,
        )
        ends = unit(np.stack([tokens[-1] for tokens in features]))
        return GroundedPhrases(
            copies,
            unit(copies) @ ends.T * np.float32(min(self._logit_scale, MAX_SCALE)),
            np.array(matched, np.int64),
            np.concatenate(logits),
            np.stack([reference.mask for reference in references]),
        )

    def write_caption(
        self, image: FixtureImage, region: npt.NDArray[np.bool_] | None, steps: int
    ) -> WrittenCaption:
        """Write a caption as the runtime does: a token a step over cached keys and values."""
        features: list[Floats] = []
        logits: list[Floats] = []

        def scores(caption_embedding: Floats) -> Floats:
            outputs = self._graphs.token({"caption_embedding": caption_embedding})
            features.append(caption_embedding)
            logits.append(self._graphs.backend.to_numpy(outputs["token_logits"]))
            return logits[-1]

        writer = CaptionWriter(
            self._text_graph, self._rows, self._endless, scores, self._num_queries, stops=()
        )
        state = self._state(image)
        levels = None
        if region is not None:
            # The fixture's region is in pixels of the network's input.
            box = image.letterbox
            levels = region_levels(
                region, Letterbox(box.valid, box.target, box.valid), LEVEL_STRIDES
            )
        opening = writer.open(None)
        (decoded,) = self._rows.decode(state, [writer.group(opening, levels)])
        *_, draft = writer.drafts(state, opening, decoded, max_tokens=steps)
        return WrittenCaption(
            np.array(draft.token_ids, np.int64), np.concatenate(features), np.concatenate(logits)
        )

    def _state(self, image: FixtureImage) -> ImageState:
        """Return the encoded image; the last one is kept, as a runtime's caller would."""
        if self._last_state is None or self._last_state[0] != image.name:
            vision = self._graphs.image(image.letterbox.target)["vision"]
            self._last_state = (image.name, ImageState(image.letterbox, vision(feeds(image))))
        return self._last_state[1]

    def _masks(self, state: ImageState, embeddings: Floats) -> Floats:
        graph = self._graphs.image(state.letterbox.target)["mask"]
        values = graph({"mask_embedding": embeddings[None], "mask_map": state.values["mask_map"]})
        logits: Floats = self._graphs.backend.to_numpy(values["mask_logits"])[0]
        return logits


def feeds(image: FixtureImage) -> dict[str, Array]:
    """Return the vision graph's inputs for one image."""
    return {
        "frame": image.frame[None],
        "valid": np.array([image.letterbox.valid], np.int64),
    }


def _text_info(config: ModelConfig, background: str) -> TextInfo:
    return TextInfo(
        context_length=config.context_length,
        proj_dim=config.proj_dim,
        layers=config.text.layers,
        heads=config.text.heads,
        width=config.text.width,
        tokenizer="tokenizer.json",
        templates=PUBLISHED_TEMPLATES,
        strip_suffixes=NAME_SUFFIXES,
        background=background,
    )


def _decoder_info(config: ModelConfig, logit_scale: float) -> DecoderInfo:
    return DecoderInfo(
        num_queries=config.num_queries,
        layers=config.decoder.layers,
        heads=config.decoder.heads,
        mask_dim=config.mask_dim,
        mask_stride=4,
        class_token_is_mask=config.decoder.class_token_is_mask,
        logit_scale=logit_scale,
        max_phrases=1,
        retrieval_ensemble=config.retrieval_ensemble,
    )
