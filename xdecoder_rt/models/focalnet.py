"""FocalNet backbones (Yang et al., "Focal Modulation Networks", NeurIPS 2022).

Two variants, as the published X-Decoder models use them: ``focal_dw`` (Focal-T) adds depthwise
residuals to every block and normalises the sum; ``focal`` (Focal-L) normalises the branch.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdecoder_rt.models.config import BackboneConfig


class FocalModulation(nn.Module):
    """Gated aggregation of depthwise contexts, multiplied into the query.

    Shapes: ``[B, H, W, C] -> [B, H, W, C]``.
    """

    def __init__(self, dim: int, levels: int, window: int, scale: bool) -> None:
        super().__init__()
        self.dim = dim
        self.levels = levels
        self.divisor = levels + 1 if scale else 1
        self.f = nn.Linear(dim, 2 * dim + levels + 1)
        self.h = nn.Conv2d(dim, dim, 1)
        self.proj = nn.Linear(dim, dim)
        # One-element Sequentials keep the original's tensor names (focal_layers.N.0.weight).
        self.focal_layers = nn.ModuleList(
            nn.Sequential(_depthwise(dim, window + 2 * level)) for level in range(levels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Modulate a map in channels-last layout."""
        query, context, gates = torch.split(
            self.f(x).permute(0, 3, 1, 2), [self.dim, self.dim, self.levels + 1], dim=1
        )
        total = torch.zeros_like(context)
        for level, layer in enumerate(self.focal_layers):
            context = F.gelu(layer(context))
            total = total + context * gates[:, level : level + 1]
        overall = F.gelu(context.mean(dim=(2, 3), keepdim=True))
        total = (total + overall * gates[:, self.levels :]) / self.divisor
        modulated: Tensor = self.proj((query * self.h(total)).permute(0, 2, 3, 1))
        return modulated


class FocalBlock(nn.Module):
    """Modulation and MLP with layer scale and post-normalisation.

    Shapes: ``[B, H, W, C] -> [B, H, W, C]``.
    """

    def __init__(self, config: BackboneConfig, stage: int) -> None:
        super().__init__()
        dim = config.embed_dim * 2**stage
        hidden = int(dim * config.mlp_ratio)
        self.depthwise = config.kind == "focal_dw"
        if self.depthwise:
            self.dw1 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
            self.dw2 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.modulation = FocalModulation(
            dim, config.focal_levels[stage], config.focal_windows[stage], config.scale_modulator
        )
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(dim, hidden))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(hidden, dim))
        self.gamma_1 = _layer_scale(dim) if config.layer_scale else 1.0
        self.gamma_2 = _layer_scale(dim) if config.layer_scale else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on a channels-last map."""
        if not self.depthwise:
            x = x + self.gamma_1 * self.norm1(self.modulation(x))
            out: Tensor = x + self.gamma_2 * self.norm2(self.mlp(x))
            return out
        x = x + _channels_last(self.dw1, x)
        x = self.norm1(x + self.gamma_1 * self.modulation(x))
        x = x + _channels_last(self.dw2, x)
        out = self.norm2(x + self.gamma_2 * self.mlp(x))
        return out


class PatchEmbed(nn.Module):
    """Strided convolution and LayerNorm: ``[B, C, H, W] -> [B, H/s, W/s, C']``."""

    def __init__(
        self, in_dim: int, out_dim: int, kernel: int, stride: int, padding: int, norm: bool = True
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dim, out_dim, kernel, stride=stride, padding=padding)
        self.norm = nn.LayerNorm(out_dim) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Shrink the map."""
        embedded: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return embedded


class FocalStage(nn.Module):
    """The blocks of one resolution and the step down to the next."""

    def __init__(self, config: BackboneConfig, stage: int) -> None:
        super().__init__()
        dim = config.embed_dim * 2**stage
        self.blocks = nn.ModuleList(FocalBlock(config, stage) for _ in range(config.depths[stage]))
        last = stage == len(config.depths) - 1
        self.downsample = None if last else PatchEmbed(dim, 2 * dim, 3, 2, 1)


class FocalNet(nn.Module):
    """FocalNet: ``[B, 3, H, W] ->`` four maps at strides 4, 8, 16, 32 (channels first)."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.out_channels = tuple(config.embed_dim * 2**i for i in range(4))
        stem_padding = 3 if config.kind == "focal_dw" else 2
        self.patch_embed = PatchEmbed(3, config.embed_dim, 7, 4, stem_padding, config.patch_norm)
        self.layers = nn.ModuleList(FocalStage(config, i) for i in range(4))
        for i, channels in enumerate(self.out_channels):
            self.add_module(f"norm{i}", nn.LayerNorm(channels))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode normalised images whose sides are multiples of 32."""
        x = self.patch_embed(images)
        maps = []
        for i, stage in enumerate(cast("list[FocalStage]", list(self.layers))):
            for block in stage.blocks:
                x = block(x)
            # Each map is normed for the head; the next stage takes the un-normed one.
            maps.append(self.get_submodule(f"norm{i}")(x).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = stage.downsample(x.permute(0, 3, 1, 2))
        return maps


def _depthwise(dim: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False)


def _layer_scale(dim: int) -> nn.Parameter:
    return nn.Parameter(torch.full((dim,), 1e-4))


def _channels_last(conv: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return out
