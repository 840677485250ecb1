"""Small files under the published names: a network of every kind of layer, a few numbers wide."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from xdecoder_rt.models import ModelConfig, XDecoder
from xdecoder_rt.models.config import (
    BackboneConfig,
    DecoderConfig,
    PixelDecoderConfig,
    TextConfig,
)
from xdecoder_rt.models.published import published_name

PREDICTOR = "sem_seg_head.predictor."


def small_config(queries: int = 11, layers: int = 3) -> ModelConfig:
    """Return a published network of 8 heads that is a few numbers wide."""
    return ModelConfig(
        name="xdecoder-focal-tiny",
        family="published",
        backbone=BackboneConfig(
            kind="focal_dw", embed_dim=8, depths=(1, 1, 2, 1), focal_levels=(2, 2, 2, 2)
        ),
        pixel_decoder=PixelDecoderConfig(
            dim=32,
            mask_level_dim=32,
            mask_dim=32,
            transformer_layers=1,
            feedforward_dim=32,
        ),
        decoder=DecoderConfig(
            num_queries=queries, hidden_dim=32, feedforward_dim=32, layers=layers
        ),
        text=TextConfig(width=32, layers=1, context_length=16),
        proj_dim=32,
    )


def published_tensors(config: ModelConfig | None = None) -> dict[str, Tensor]:
    """Return random tensors under the original's names, with what only a training reads."""
    torch.manual_seed(0)
    config = small_config() if config is None else config
    tensors = {published_name(n): t.clone() for n, t in XDecoder(config).state_dict().items()}
    rows = config.num_queries + config.context_length
    tensors[PREDICTOR + "self_attn_mask"] = torch.zeros(1, rows, rows, dtype=torch.bool)
    tensors["criterion.empty_weight"] = torch.ones(134)
    return tensors


def save_pt(path: Path, content: object, *, legacy: bool = False) -> Path:
    """Save with ``torch.save``, in the form since PyTorch 1.6 or the one before."""
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path
