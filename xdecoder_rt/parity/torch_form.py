"""The PyTorch form: the original's order of operations, and the modules that are exported."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xdecoder_rt import tasks
from xdecoder_rt.backends.base import Array
from xdecoder_rt.masks import postprocess
from xdecoder_rt.models.backbones import Backbone
from xdecoder_rt.models.decoder import Rows, unit
from xdecoder_rt.models.graphs import Normalise
from xdecoder_rt.models.plain import plain_caption, plain_forward
from xdecoder_rt.models.xdecoder import XDecoder
from xdecoder_rt.parity.fixture import FixtureImage
from xdecoder_rt.parity.forms import (
    ALL_CLASS_EMBEDDINGS,
    BackboneForm,
    Embeddings,
    GroundedPhrases,
    WrittenCaption,
)
from xdecoder_rt.parity.graph_form import GraphNetwork, feeds
from xdecoder_rt.parity.module_graphs import module_graphs
from xdecoder_rt.questions.refer import MAX_SCALE
from xdecoder_rt.words.templates import PUBLISHED_TEMPLATES, prompts
from xdecoder_rt.words.tokenizer import ClipTokenizer

_EVERYTHING = re.compile(r".*")
_TEXTS_AT_ONCE = 64


class TorchWords:
    """The text encoder over whole, padded rows of tokens."""

    def __init__(self, model: XDecoder, background: str) -> None:
        self._model = model
        self._background = background
        self._tokenizer = ClipTokenizer.default(model.config.context_length)

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Return unit embeddings of texts as they are: ``[T, D]``."""
        return _numpy(self._embed(texts))

    @torch.inference_mode()
    def token_features(self, texts: Sequence[str]) -> list[Embeddings]:
        """Return features of each text's tokens up to the end token, ``[L, D]``, unnormalised."""
        token_ids = self._tokenizer(texts)
        features = _numpy(self._model.text_encoder(torch.from_numpy(token_ids)))
        lengths = self._tokenizer.lengths(token_ids)
        return [row[:length] for row, length in zip(features, lengths, strict=True)]

    def class_table(self, names: Sequence[str]) -> Embeddings:
        """Return unit embeddings of names over all templates, background last: ``[K + 1, D]``."""
        sentences = [prompts(name, PUBLISHED_TEMPLATES) for name in (*names, self._background)]
        rows = self._embed([sentence for group in sentences for sentence in group])
        return _numpy(unit(rows.reshape(len(sentences), -1, rows.shape[1]).mean(dim=1)))

    def class_logits(self, class_embedding: Array, table: Embeddings) -> Array:
        """Return scaled cosines: ``[..., Q, D], [K, D] -> [..., Q, K]``."""
        with torch.inference_mode():
            return _numpy(
                self._model.class_logits(torch.from_numpy(class_embedding), torch.from_numpy(table))
            )

    def _embed(self, texts: Sequence[str]) -> Tensor:
        token_ids = torch.from_numpy(self._tokenizer(texts))
        with torch.inference_mode():
            return unit(
                torch.cat(
                    [self._model.encode_text(t) for t in torch.split(token_ids, _TEXTS_AT_ONCE)]
                )
            )


class TorchNetwork:
    """A whole network as PyTorch modules.

    Intermediates come from the plain form, the original's order of operations. The final tensors
    (class logits, masks, embeddings) come from the modules that are exported, driven by the
    runtime's own code, so that passing them proves the exact rewrites too. References and captions
    come both ways.

    Args:
        model: in eval mode.
        background: the name of the void class.
    """

    exposed = _EVERYTHING

    def __init__(self, model: XDecoder, background: str) -> None:
        self._model = model
        self._normalise = Normalise(model.config.pixel_mean, model.config.pixel_std)
        self._logit_scale: float = model.text_encoder.logit_scale.exp().item()
        self._rewritten = GraphNetwork(
            model.config, self._logit_scale, background, module_graphs(model)
        )
        self.words = TorchWords(model, background)

    @torch.inference_mode()
    def tensors(self, image: FixtureImage) -> Mapping[str, Array]:
        """Compute every tensor of one image."""
        pixels = self._pixels(image)
        plain = plain_forward(self._model, pixels)
        tensors = {
            "pixel_values": pixels,
            **{f"res{i + 2}": level for i, level in enumerate(plain.backbone)},
            "transformer_encoder_features": plain.features.encoded,
            **{f"multi_scale_{i}": level for i, level in enumerate(plain.features.levels.values())},
            **{f"pred_masks_layer{i}": logits for i, logits in enumerate(plain.mask_logits)},
            **{f"attn_mask_layer{i}": blocked for i, blocked in enumerate(plain.blocked)},
            "decoder_output": plain.decoder_output,
            ALL_CLASS_EMBEDDINGS: torch.stack([layer.class_embedding for layer in plain.layers]),
        }
        plain_arrays = {name: _numpy(value) for name, value in tensors.items()}
        return {**plain_arrays, **self._rewritten.tensors(image)}

    def ground_phrases(
        self, image: FixtureImage, phrases: Sequence[str]
    ) -> Sequence[GroundedPhrases]:
        """Find what phrases refer to: in the original's order, and as the runtime decodes."""
        return (
            self._plain_phrases(image, phrases),
            self._rewritten.ground_phrases(image, phrases),
        )

    def write_caption(
        self, image: FixtureImage, region: npt.NDArray[np.bool_] | None, steps: int
    ) -> Sequence[WrittenCaption]:
        """Write a caption: everything anew for each token, and as the runtime does."""
        return (
            self._plain_caption(image, region, steps),
            self._rewritten.write_caption(image, region, steps),
        )

    @torch.inference_mode()
    def _plain_phrases(self, image: FixtureImage, phrases: Sequence[str]) -> GroundedPhrases:
        queries = self._model.config.num_queries
        features = self.words.token_features(phrases)
        tokens = torch.from_numpy(np.concatenate(features))
        layout = tasks.side_by_side(
            [tasks.latents(queries), tasks.group("refer", queries, len(tokens))], tasks.LATENT_GROUP
        )
        text = torch.cat((tokens.new_zeros(len(layout) - len(tokens), tokens.shape[1]), tokens))
        output = plain_forward(self._model, self._pixels(image), Rows.of([layout], text[None]))
        copies = slice(queries, 2 * queries - 1)
        embedding = output.layers[-1].class_embedding[0, copies]
        ends = torch.from_numpy(np.stack([row[-1] for row in features]))
        scores = unit(embedding) @ unit(ends).T * min(self._logit_scale, MAX_SCALE)
        matched = scores.argmax(dim=0)
        logits = _numpy(output.mask_logits[-1][0, copies][matched])
        masks = postprocess.full_size_logits(logits, image.letterbox) > 0
        return GroundedPhrases(_numpy(embedding), _numpy(scores), _numpy(matched), logits, masks)

    @torch.inference_mode()
    def _plain_caption(
        self, image: FixtureImage, region: npt.NDArray[np.bool_] | None, steps: int
    ) -> WrittenCaption:
        inside = None
        if region is not None:
            inside = torch.zeros(1, *image.letterbox.target, dtype=torch.bool)
            inside[0, : region.shape[0], : region.shape[1]] = torch.from_numpy(region)
        token_ids, features = plain_caption(self._model, self._pixels(image), steps, inside)
        logits = self._model.token_logits(features)
        return WrittenCaption(_numpy(token_ids[1 : steps + 1]), _numpy(features), _numpy(logits))

    def _pixels(self, image: FixtureImage) -> Tensor:
        return _normalised(self._normalise, image)


class TorchBackbone(BackboneForm):
    """A backbone alone, as PyTorch modules."""

    def __init__(self, backbone: Backbone, normalise: Normalise) -> None:
        self._backbone = backbone
        self._normalise = normalise

    @torch.inference_mode()
    def tensors(self, image: FixtureImage) -> Mapping[str, Array]:
        """Compute the normalised pixels and the four maps of one image."""
        pixels = _normalised(self._normalise, image)
        maps = self._backbone(pixels)
        tensors = {"pixel_values": pixels, **{f"res{i + 2}": level for i, level in enumerate(maps)}}
        return {name: _numpy(value) for name, value in tensors.items()}


def _normalised(normalise: Normalise, image: FixtureImage) -> Tensor:
    vision_feeds = feeds(image)
    pixels: Tensor = normalise(
        torch.from_numpy(vision_feeds["frame"]), torch.from_numpy(vision_feeds["valid"])
    )
    return pixels


def _numpy(value: Tensor) -> Array:
    array: Array = value.numpy()
    return array
