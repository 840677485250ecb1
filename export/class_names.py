"""Class names in a model's space of texts, as the runtime's class tables have them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.models import XDecoder
from xdecoder_rt.words.templates import NAME_SUFFIXES, TEMPLATES, prompts
from xdecoder_rt.words.tokenizer import ClipTokenizer

__all__ = ["class_embeddings"]

_SENTENCES = 256


def class_embeddings(model: XDecoder, names: Sequence[str]) -> Tensor:
    """Return the mean of each name's embeddings in the model's sentences: unit rows ``[N, D]``.

    Args:
        model: in evaluation mode.
        names: at least one.
    """
    tokenizer = ClipTokenizer.default(model.config.context_length)
    templates = TEMPLATES[model.config.templates]
    sentences = [text for name in names for text in prompts(name, templates, NAME_SUFFIXES)]
    with torch.no_grad():
        rows = [
            model.encode_text(torch.from_numpy(tokenizer(sentences[i : i + _SENTENCES])))
            for i in range(0, len(sentences), _SENTENCES)
        ]
    units = F.normalize(torch.cat(rows).float(), dim=-1)
    return F.normalize(units.view(len(names), len(templates), -1).mean(dim=1), dim=-1)
