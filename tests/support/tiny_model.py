"""A compact model of a few thousand parameters, and the plan of it that tests read."""

from __future__ import annotations

from pathlib import Path

import torch

from xdecoder_rt.export.portable import build_portable
from xdecoder_rt.models import XDecoder
from xdecoder_rt.models.config import (
    BackboneConfig,
    DecoderConfig,
    ModelConfig,
    PixelDecoderConfig,
    PostprocessConfig,
    TextConfig,
)

SIZES = ((64, 64), (32, 96))


def tiny_config() -> ModelConfig:
    """Return the configuration of a model that keeps every segment it can."""
    return ModelConfig(
        name="tiny",
        family="compact",
        backbone=BackboneConfig(
            kind="focal_dw",
            embed_dim=8,
            depths=(1, 1, 1, 1),
            focal_levels=(1, 1, 1, 1),
        ),
        pixel_decoder=PixelDecoderConfig(
            dim=16,
            mask_level_dim=16,
            mask_dim=16,
            mask_kernel=0,
            norm="batch",
            transformer_layers=1,
            heads=2,
            feedforward_dim=32,
        ),
        decoder=DecoderConfig(
            num_queries=9,
            hidden_dim=16,
            heads=2,
            feedforward_dim=32,
            layers=3,
            class_token_is_mask=False,
        ),
        text=TextConfig(width=16, heads=2, layers=1, context_length=77, token_rank=4),
        # Random weights are sure of nothing: without thresholds there is something to look at.
        postprocess=PostprocessConfig(object_mask_threshold=0.0, overlap_threshold=0.0),
        proj_dim=16,
        templates="compact",
    )


def redrawn(model: XDecoder) -> XDecoder:
    """Draw every value anew, so that no norm, bias, statistic or layer scale is as it begins."""
    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            if value.ndim >= 2:
                value.normal_(0, max(0.02, value[0].numel() ** -0.5))
            elif name.endswith("bias") or name.endswith("running_mean"):
                value.normal_(0, 0.2)
            elif value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return model.eval()


def build_plan(folder: Path) -> None:
    """Write ``tiny.plan``, the portable plan of a model of `tiny_config`."""
    torch.manual_seed(0)
    build_portable(XDecoder(tiny_config()), folder / "tiny.plan", sizes=SIZES)
