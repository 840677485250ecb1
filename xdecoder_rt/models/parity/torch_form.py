"""The PyTorch form: every intermediate in the original's order, final outputs as exported."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from xdecoder_rt.models.backbones import Backbone
from xdecoder_rt.models.decoder import unit
from xdecoder_rt.models.graphs import DecodeGraph, MaskGraph, Normalise, VisionGraph
from xdecoder_rt.models.parity.fixture import FixtureImage
from xdecoder_rt.models.parity.forms import (
    ALL_CLASS_EMBEDDINGS,
    BACKBONE_TENSORS,
    Array,
    Embeddings,
)
from xdecoder_rt.models.plain import plain_forward
from xdecoder_rt.models.xdecoder import XDecoder
from xdecoder_rt.templates import PUBLISHED_TEMPLATES, prompts
from xdecoder_rt.tokenizer import ClipTokenizer

_EVERYTHING = re.compile(r".*")
_TEXTS_AT_ONCE = 64


class TorchWords:
    """The text encoder over whole, padded rows of tokens."""

    def __init__(self, model: XDecoder, background: str) -> None:
        self._model = model
        self._background = background
        self._tokenizer = ClipTokenizer.default(model.config.context_length)

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Unit embeddings of texts as they are: ``[T, D]``."""
        return _numpy(self._embed(texts))

    def class_table(self, names: Sequence[str]) -> Embeddings:
        """Unit embeddings of names over all templates, the background's last: ``[K + 1, D]``."""
        sentences = [prompts(name, PUBLISHED_TEMPLATES) for name in (*names, self._background)]
        rows = self._embed([sentence for group in sentences for sentence in group])
        return _numpy(unit(rows.reshape(len(sentences), -1, rows.shape[1]).mean(dim=1)))

    def class_logits(self, class_embedding: Array, table: Embeddings) -> Array:
        """Scaled cosines: ``[..., Q, D], [K, D] -> [..., Q, K]``."""
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
    (class logits, masks, embeddings) come from the vision, decode and mask modules, which are what
    is exported, so that passing them proves the exact rewrites too.

    Args:
        model: in eval mode.
        background: the name of the void class.
    """

    exposed = _EVERYTHING

    def __init__(self, model: XDecoder, background: str) -> None:
        self._model = model
        self._vision, self._decode, self._mask = VisionGraph(model), DecodeGraph(model), MaskGraph()
        self.words = TorchWords(model, background)

    @torch.inference_mode()
    def tensors(self, image: FixtureImage) -> Mapping[str, Array]:
        """Every tensor of one image."""
        frame, valid = _frame(image), _valid(image)
        pixels = self._vision.normalise(frame, valid)
        plain = plain_forward(self._model, pixels)
        seen = dict(zip(self._vision.outputs, self._vision(frame, valid), strict=True))
        class_embedding, mask_embedding = self._decode(*(seen[n] for n in self._decode.inputs))
        found = {
            "pixel_values": pixels,
            **{f"res{i + 2}": level for i, level in enumerate(plain.backbone)},
            "transformer_encoder_features": plain.features.encoded,
            **{f"multi_scale_{i}": level for i, level in enumerate(plain.features.levels)},
            "mask_features": plain.mask_features,
            **{f"pred_masks_layer{i}": logits for i, logits in enumerate(plain.mask_logits)},
            **{f"attn_mask_layer{i}": blocked for i, blocked in enumerate(plain.blocked)},
            "decoder_output": plain.decoder_output,
            ALL_CLASS_EMBEDDINGS: torch.stack([layer.class_embedding for layer in plain.layers]),
            "pred_captions": class_embedding,
            "pred_masks": self._mask(mask_embedding, seen["mask_map"]),
        }
        return {name: _numpy(value) for name, value in found.items()}


class TorchBackbone:
    """A backbone alone, as PyTorch modules."""

    exposed = BACKBONE_TENSORS
    words = None

    def __init__(self, backbone: Backbone, normalise: Normalise) -> None:
        self._backbone = backbone
        self._normalise = normalise

    @torch.inference_mode()
    def tensors(self, image: FixtureImage) -> Mapping[str, Array]:
        """The normalised pixels and the four maps of one image."""
        pixels = self._normalise(_frame(image), _valid(image))
        maps = self._backbone(pixels)
        found = {"pixel_values": pixels, **{f"res{i + 2}": level for i, level in enumerate(maps)}}
        return {name: _numpy(value) for name, value in found.items()}


def _frame(image: FixtureImage) -> Tensor:
    return torch.from_numpy(image.frame[None])


def _valid(image: FixtureImage) -> Tensor:
    return torch.tensor([image.letterbox.valid])


def _numpy(value: Tensor) -> Array:
    array: Array = value.numpy()
    return array
