"""Backbones by name: FocalNet, EfficientNet-Lite0, or any feature pyramid that timm knows."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from xdecoder_rt.errors import CheckpointError, quoted, require
from xdecoder_rt.models.config import BackboneConfig
from xdecoder_rt.models.efficientnet_lite import EfficientNetLite0
from xdecoder_rt.models.focalnet import FocalNet


class Backbone(Protocol):
    """``[B, 3, H, W]`` normalised images to maps at strides 4, 8, 16 and 32."""

    out_channels: tuple[int, ...]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the four maps, finest first."""


class TimmBackbone(nn.Module):
    """A timm network, by name, tapped at strides 4, 8, 16 and 32 (random weights)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        timm = require("timm", "timm")
        # Its names may also be addresses, of a hub or a folder, whose files it would fetch.
        if ":" in name or not timm.is_model(name):
            raise CheckpointError(
                f"timm has no network {quoted(name)}", expected="one of timm.list_models()"
            )
        probe = timm.create_model(name, features_only=True, pretrained=False)
        strides = list(probe.feature_info.reduction())
        if not {4, 8, 16, 32} <= set(strides):
            raise CheckpointError(
                f"timm's {name!r} has maps at strides {strides}", expected="strides 4, 8, 16, 32"
            )
        indices = [strides.index(s) for s in (4, 8, 16, 32)]
        self.body = timm.create_model(
            name, features_only=True, pretrained=False, out_indices=indices
        )
        self.out_channels: tuple[int, ...] = tuple(self.body.feature_info.channels())

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the four maps, finest first."""
        return list(self.body(images))


def build_backbone(config: BackboneConfig) -> FocalNet | EfficientNetLite0 | TimmBackbone:
    """Build the backbone that a configuration names, with random weights.

    Raises:
        CheckpointError: an unknown kind.
        MissingExtraError: ``timm`` is needed and not installed.
    """
    if config.kind in ("focal", "focal_dw"):
        return FocalNet(config)
    if config.kind == "efficientnet_lite0":
        return EfficientNetLite0()
    if config.kind == "timm":
        return TimmBackbone(config.timm_name)
    raise CheckpointError(
        f"Unknown backbone {config.kind!r}",
        expected="focal_dw, focal, efficientnet_lite0 or timm",
    )
