"""The pixel decoder: a transformer on the coarsest map, then a feature pyramid.

Source: MaskFormer's ``TransformerEncoderPixelDecoder``, as X-Decoder uses it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from xdecoder_rt.models.attention import Attention, attend, sine_position
from xdecoder_rt.models.config import PYRAMID, PixelDecoderConfig

GROUPS = 32


@dataclass
class PixelFeatures:
    """The pixel decoder's output for one batch.

    Attributes:
        encoded: ``[B, dim, H/32, W/32]``, the coarsest map after the transformer.
        levels: maps for the decoder by their strides, 32, 16 and 8, ``[B, dim, h, w]``.
        mask_map: ``[B, mask_level_dim, H/s, W/s]``, the map before the mask convolution, ``s`` the
            stride of the mask features.
    """

    encoded: Tensor
    levels: dict[int, Tensor]
    mask_map: Tensor


class EncoderLayer(nn.Module):
    """Post-norm transformer layer; the position joins queries and keys only."""

    def __init__(self, dim: int, heads: int, feedforward_dim: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.linear1 = nn.Linear(dim, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """``[B, N, dim] -> [B, N, dim]`` with ``position`` ``[N, dim]``."""
        placed = x + position
        attention = self.self_attn
        mixed = attend(attention.queries(placed), attention.keys(placed), attention.values(x))
        x = self.norm1(x + attention.merge(mixed))
        normed: Tensor = self.norm2(x + self.linear2(F.relu(self.linear1(x))))
        return normed


def _norm(kind: str, dim: int) -> nn.Module:
    return nn.GroupNorm(GROUPS, dim) if kind == "group" else nn.BatchNorm2d(dim)


def _conv(in_dim: int, out_dim: int, kernel: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_dim, out_dim, kernel, padding=kernel // 2)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class ConvNorm(nn.Module):
    """Convolution without bias, normalisation, and ReLU where asked."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int, norm: str, activate: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, kernel, padding=kernel // 2, bias=False)
        self.norm = _norm(norm, out_dim)
        self.activate = activate
        nn.init.kaiming_uniform_(self.conv.weight, a=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, C', H, W]``."""
        y: Tensor = self.norm(self.conv(x))
        return F.relu(y) if self.activate else y


class SeparableConvNorm(nn.Module):
    """A 3x3 convolution of each channel, then 1x1 across them, normalisation and ReLU."""

    def __init__(self, dim: int, norm: str) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.pointwise = ConvNorm(dim, dim, 1, norm, activate=True)
        nn.init.kaiming_uniform_(self.depthwise.weight, a=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, C, H, W]``."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


def _output(form: str, dim: int, norm: str) -> nn.Module:
    """Return what follows a sum of the pyramid; see :class:`PixelDecoderConfig`."""
    if form == "none":
        return nn.Identity()
    if form == "separable":
        return SeparableConvNorm(dim, norm)
    return ConvNorm(dim, dim, 3 if form == "full" else 1, norm, activate=True)


class PixelDecoder(nn.Module):
    """Four backbone maps in, the decoder's levels and the mask map out.

    Args:
        config: widths and depths.
        in_channels: channels of the backbone's maps, finest first.
    """

    def __init__(self, config: PixelDecoderConfig, in_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        dim, mask_level_dim, norm = config.dim, config.mask_level_dim, config.norm
        self.input_proj = _conv(in_channels[3], dim, 1)
        self.encoder = nn.ModuleList(
            EncoderLayer(dim, config.heads, config.feedforward_dim)
            for _ in range(config.transformer_layers)
        )
        # Index i is the level of the backbone's map i: 0 is stride 4, 3 is stride 32.
        widths = [mask_level_dim if s <= config.narrow_stride else dim for s in PYRAMID]
        computed = [stride >= config.mask_stride for stride in PYRAMID]
        self.lateral = nn.ModuleList(
            ConvNorm(channels, width, 1, norm, activate=False) if is_computed else nn.Identity()
            for channels, width, is_computed in zip(
                in_channels[:3], widths[:3], computed[:3], strict=True
            )
        )
        self.output = nn.ModuleList(
            _output(form, width, norm) if is_computed else nn.Identity()
            for form, width, is_computed in zip(config.output_convs, widths, computed, strict=True)
        )
        # Narrower maps need the coarser one narrowed, before it is upsampled: there it is cheap.
        self.narrow = (
            ConvNorm(dim, mask_level_dim, 1, norm, activate=False)
            if mask_level_dim != dim
            else nn.Identity()
        )
        self.mask_conv: nn.Module = nn.Identity()
        if config.mask_kernel:
            self.mask_conv = _conv(mask_level_dim, config.mask_dim, config.mask_kernel)

    def forward(self, maps: list[Tensor]) -> PixelFeatures:
        """Fuse the backbone's maps (finest first)."""
        x = self.input_proj(maps[3])
        height, width = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)
        position = sine_position(height, width, x.shape[1], x.device).flatten(1).T
        for layer in self.encoder:
            tokens = layer(tokens, position.to(tokens.dtype))
        encoded = tokens.transpose(1, 2).unflatten(2, (height, width))
        y = self.output[3](encoded)
        levels, is_narrow = {PYRAMID[3]: y}, False
        for i in (2, 1, 0):
            if PYRAMID[i] < self.config.mask_stride:
                break
            if PYRAMID[i] <= self.config.narrow_stride and not is_narrow:
                y, is_narrow = self.narrow(y), True
            upsampled = F.interpolate(y, scale_factor=2.0, mode="nearest")
            y = self.output[i](self.lateral[i](maps[i]) + upsampled)
            levels[PYRAMID[i]] = y
        # Mask features as coarse as the finest wide map are that map, narrowed.
        return PixelFeatures(encoded, levels, y if is_narrow else self.narrow(y))

    def mask_features(self, mask_map: Tensor) -> Tensor:
        """``[B, mask_level_dim, h, w] -> [B, mask_dim, h, w]``, linear."""
        features: Tensor = self.mask_conv(mask_map)
        return features


def position_of(level: Tensor) -> Tensor:
    """Sine position of a map, flattened: ``[h * w, dim]``."""
    height, width = level.shape[-2:]
    position = sine_position(height, width, level.shape[1], level.device)
    return position.flatten(1).T.to(level.dtype)
