"""What an image classifier says of every query's region.

Compact models stand on a trunk that was trained to classify photographs. Its classifier, kept as it
was, with a trunk of its own where the model's was trained further, is asked for the part of the
image under each query's mask: its features at stride 32 are averaged under the mask, and its scores
of its own names are made of the average. What its names are in the words of a call is settled
outside the graphs, by a vector for each name in the space of texts
(:mod:`xdecoder_rt.words.region_names`). FC-CLIP (Yu et al., 2023) joins a frozen classifier and a
trained decoder in the same way.

The matrix between features and names may be stored as the product of two narrow ones. The first is
then applied to the map, as averages and linear maps commute.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdecoder_rt import tasks
from xdecoder_rt.models.config import RegionConfig
from xdecoder_rt.models.efficientnet_lite import (
    EfficientNetLite0,
    load_imagenet_classifier,
    load_imagenet_weights,
)

_LEAST_WEIGHT = 1e-6


class RegionClassifier(nn.Module):
    """The coarsest map of the backbone in, probabilities of the classifier's names out.

    Its weights are not trained with the model: :mod:`xdecoder_rt.training.region` makes them.

    Args:
        config: sizes.
        in_channels: channels of the backbone's coarsest map.
        proj_dim: width of the space of texts.
    """

    def __init__(self, config: RegionConfig, in_channels: int, proj_dim: int) -> None:
        super().__init__()
        # The normalisation after the classifier's convolution is folded into it.
        self.trunk = EfficientNetLite0() if config.trunk == "own" else None
        self.shrink = config.shrink
        if self.trunk is not None:
            in_channels = self.trunk.out_channels[3]
        self.head = nn.Conv2d(in_channels, config.features, 1)
        self.reduce = (
            nn.Parameter(torch.randn(config.features, config.width) * 0.02)
            if config.width
            else None
        )
        self.names = nn.Linear(config.map_width, config.names)
        # No graph reads them: they travel in the plan beside the graphs.
        self.vectors = nn.Parameter(torch.randn(config.names, proj_dim) * proj_dim**-0.5)
        self.requires_grad_(False)

    def load_imagenet(self) -> None:
        """Take the trunk, if it has its own, the head and the names that ImageNet's training made.

        Raises:
            MissingExtraError: the package with the ImageNet weights is not installed.
            CheckpointError: its file does not fit.
        """
        classifier = load_imagenet_classifier()
        with torch.no_grad():
            self.head.weight.copy_(classifier.head[..., None, None])
            assert self.head.bias is not None  # it has one
            self.head.bias.copy_(classifier.head_bias)
            self.names.bias.copy_(classifier.names_bias)
            if self.reduce is None:
                self.names.weight.copy_(classifier.names)
        if self.trunk is not None:
            load_imagenet_weights(self.trunk)

    def features(self, images: Tensor, coarsest: Tensor) -> Tensor:
        """Return the classifier's features at stride 32: ``[B, features, h, w]``.

        Args:
            images: ``[B, 3, H, W]``, normalised.
            coarsest: ``[B, C, h, w]`` of the backbone.
        """
        if self.trunk is None:
            return F.relu6(self.head(coarsest))
        if self.shrink == 1:
            return F.relu6(self.head(self.trunk(images)[3]))
        seen = self.trunk(F.avg_pool2d(images, self.shrink))[3]
        return F.interpolate(F.relu6(self.head(seen)), size=coarsest.shape[2:], mode="nearest")

    def map(self, images: Tensor, coarsest: Tensor) -> Tensor:
        """Return what is averaged over regions, ``[B, h * w, width]``; see :meth:`features`."""
        features = self.features(images, coarsest)
        # Channels last before the sides are joined: so it is no work after a convolution.
        positions = features.permute(0, 2, 3, 1).flatten(1, 2)
        return positions if self.reduce is None else positions @ self.reduce

    def scores(self, region_map: Tensor, weight: Tensor) -> Tensor:
        """Return probabilities of the classifier's names in regions.

        Args:
            region_map: ``[B, N, width]`` of :meth:`map`.
            weight: ``[B, R, N]``, how far each position belongs to each region, 0 or more.

        Returns:
            ``[B, R, names]``.
        """
        share = weight / weight.sum(dim=-1, keepdim=True).clamp(min=_LEAST_WEIGHT)
        return torch.softmax(self.names(share @ region_map), dim=-1)

    def forward(
        self, region_map: Tensor, kind: Tensor, mask_embedding: Tensor, mask_features: Tensor
    ) -> Tensor:
        """Return :meth:`scores` of each latent's region; the class token's is all of the image.

        Rows of other kinds have no region, whatever their masks are: where the kinds are known
        beforehand, as those of a caption's tokens, a runtime computes nothing for them.

        Args:
            region_map: ``[B, N, width]`` of :meth:`map`.
            kind: ``[B, R]``, a :class:`~xdecoder_rt.tasks.Row` each.
            mask_embedding: ``[B, R, mask_dim]``.
            mask_features: ``[B, N, mask_dim]``, of the positions of the map.
        """
        is_object, is_class = (
            (kind == row)[..., None].to(mask_embedding.dtype)
            for row in (tasks.Row.OBJECT, tasks.Row.CLASS)
        )
        logits = mask_embedding @ mask_features.transpose(1, 2)
        return self.scores(region_map, torch.sigmoid(logits) * is_object + is_class)
