"""The network cut where a runtime caches: vision, decode, mask and text.

Each class is the PyTorch form of one graph of a plan. Its forward's argument names are the
graph's inputs and ``outputs`` names what it returns, so the ONNX and TensorRT forms share one
contract of names, shapes and dtypes with it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xdecoder_rt.models.decoder import LEVELS, ImageMemory
from xdecoder_rt.models.xdecoder import XDecoder


def memory_names(layers: int) -> tuple[str, ...]:
    """Names of an :class:`ImageMemory` as graph values: keys, values, then mask features."""
    return (
        *(f"keys_{i}" for i in range(layers)),
        *(f"values_{i}" for i in range(layers)),
        *(f"mask_features_{i}" for i in range(LEVELS)),
    )


class Normalise(nn.Module):
    """8-bit frames to what the backbone reads.

    Args:
        mean: per channel, on the 0..255 scale.
        std: per channel, on the 0..255 scale.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        scale = 1.0 / torch.tensor(std)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("scale", scale[:, None, None], persistent=False)

    def forward(self, frame: Tensor, valid: Tensor) -> Tensor:
        """Normalise, then set the padding to zero: parity depends on this order.

        Args:
            frame: ``[B, H, W, 3]`` uint8.
            valid: ``[B, 2]`` int64, height and width of the content.

        Returns:
            ``[B, 3, H, W]`` float32.
        """
        pixels = (frame.permute(0, 3, 1, 2).to(torch.float32) - self.mean) * self.scale
        height, width = frame.shape[1:3]
        rows = torch.arange(height, device=frame.device)[None, :] < valid[:, :1]
        columns = torch.arange(width, device=frame.device)[None, :] < valid[:, 1:]
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(inside, pixels, torch.zeros((), dtype=pixels.dtype))


class VisionGraph(nn.Module):
    """Everything that depends on the image alone, run once a frame."""

    inputs: tuple[str, ...] = ("frame", "valid")

    def __init__(self, model: XDecoder) -> None:
        super().__init__()
        self.model = model
        self.outputs = (
            *memory_names(model.config.decoder.layers),
            "mask_map",
            "image_embedding",
        )
        self.normalise = Normalise(model.config.pixel_mean, model.config.pixel_std)

    def forward(self, frame: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
        """Encode frames.

        Args:
            frame: ``[B, H, W, 3]`` uint8 RGB, content at the top left.
            valid: ``[B, 2]`` int64, height and width of the content; the rest is padding.

        Returns:
            The image memory (:class:`ImageMemory`, in the order of :func:`memory_names`); the map
            that the mask graph reads, ``[B, mask_dim, H/4, W/4]``; and the image embedding read
            from the backbone, ``[B, proj_dim]``.
        """
        maps = self.model.backbone(self.normalise(frame, valid))
        features = self.model.pixel_decoder(maps)
        mask_features = self.model.pixel_decoder.mask_features(features.mask_map)
        memory = self.model.remember(features, mask_features)
        image_embedding = maps[3].mean(dim=(2, 3)) @ self.model.backbone_proj
        return (
            *memory.keys,
            *memory.values,
            *memory.mask_features,
            mask_features,
            image_embedding,
        )


class DecodeGraph(nn.Module):
    """The latent queries over one image's memory."""

    outputs: tuple[str, ...] = ("class_embedding", "mask_embedding")

    def __init__(self, model: XDecoder) -> None:
        super().__init__()
        self.decoder = model.decoder
        self.layers = model.config.decoder.layers
        self.inputs = memory_names(self.layers)

    def forward(self, *memory: Tensor) -> tuple[Tensor, Tensor]:
        """Decode; the arguments are named by :func:`memory_names`.

        Returns:
            ``[B, Q, proj_dim]`` class embeddings, unnormalised, and ``[B, Q, mask_dim]`` mask
            embeddings; the last query is the class token.
        """
        keys = list(memory[: self.layers])
        values = list(memory[self.layers : 2 * self.layers])
        last = self.decoder(ImageMemory(keys, values, list(memory[2 * self.layers :])))[-1]
        return last.class_embedding, last.mask_embedding


class MaskGraph(nn.Module):
    """Mask logits of the queries that classification kept."""

    inputs: tuple[str, ...] = ("mask_embedding", "mask_map")
    outputs: tuple[str, ...] = ("mask_logits",)

    def forward(self, mask_embedding: Tensor, mask_map: Tensor) -> Tensor:
        """``[B, K, mask_dim], [B, mask_dim, h, w] -> [B, K, h, w]``."""
        logits = mask_embedding @ mask_map.flatten(2)
        return torch.unflatten(logits, 2, (mask_map.shape[2], mask_map.shape[3]))


class TextGraph(nn.Module):
    """Token ids to embeddings, run for words that no cache holds."""

    inputs: tuple[str, ...] = ("token_ids",)
    outputs: tuple[str, ...] = ("text_embedding",)

    def __init__(self, model: XDecoder) -> None:
        super().__init__()
        self.text_encoder = model.text_encoder

    def forward(self, token_ids: Tensor) -> Tensor:
        """``[T, L]`` int64 to ``[T, proj_dim]``, unnormalised."""
        return self.text_encoder.pooled(token_ids)
