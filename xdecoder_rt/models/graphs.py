"""The network cut where a runtime caches: vision, decode, mask and text.

Each class is the PyTorch form of one graph of a plan. Its forward's argument names are the
graph's inputs and ``outputs`` names what it returns, so the ONNX and TensorRT forms share one
contract of names, shapes and dtypes with it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from xdecoder_rt.models.decoder import LEVELS, LevelMemory
from xdecoder_rt.models.xdecoder import XDecoder


class VisionGraph(nn.Module):
    """Everything that depends on the image alone, run once a frame."""

    inputs: ClassVar[tuple[str, ...]] = ("frame", "valid")
    outputs: ClassVar[tuple[str, ...]] = (
        *(
            f"{kind}_{level}"
            for level in range(LEVELS)
            for kind in ("keys", "values", "mask_features")
        ),
        "mask_map",
        "image_embedding",
    )

    def __init__(self, model: XDecoder) -> None:
        super().__init__()
        self.model = model
        mean = torch.tensor(model.config.pixel_mean)
        std = torch.tensor(model.config.pixel_std)
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("scale", (1.0 / std)[:, None, None], persistent=False)

    def forward(self, frame: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
        """Encode frames.

        Args:
            frame: ``[B, H, W, 3]`` uint8 RGB, content at the top left.
            valid: ``[B, 2]`` int64, height and width of the content; the rest is padding.

        Returns:
            For each level its keys, values and mask features (:class:`LevelMemory`); the map that
            the mask graph reads, ``[B, mask_dim, H/4, W/4]``; and the image embedding read from
            the backbone, ``[B, proj_dim]``.
        """
        maps = self.model.backbone(self.normalise(frame, valid))
        features = self.model.pixel_decoder(maps)
        mask_features = self.model.pixel_decoder.mask_features(features.mask_map)
        outputs: list[Tensor] = []
        for memory in self.model.memories(features, mask_features):
            outputs += [memory.keys, memory.values, memory.mask_features]
        image_embedding = maps[3].mean(dim=(2, 3)) @ self.model.backbone_proj
        return (*outputs, mask_features, image_embedding)

    def normalise(self, frame: Tensor, valid: Tensor) -> Tensor:
        """Normalise, then set the padding to zero: parity depends on this order."""
        pixels = (frame.permute(0, 3, 1, 2).to(torch.float32) - self.mean) * self.scale
        height, width = frame.shape[1:3]
        rows = torch.arange(height, device=frame.device)[None, :] < valid[:, :1]
        columns = torch.arange(width, device=frame.device)[None, :] < valid[:, 1:]
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(inside, pixels, torch.zeros((), dtype=pixels.dtype))


class DecodeGraph(nn.Module):
    """The latent queries over one image's memories."""

    inputs: ClassVar[tuple[str, ...]] = VisionGraph.outputs[: 3 * LEVELS]
    outputs: ClassVar[tuple[str, ...]] = ("class_embedding", "mask_embedding")

    def __init__(self, model: XDecoder) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, *memory: Tensor) -> tuple[Tensor, Tensor]:
        """Decode; the arguments are the vision graph's first nine outputs.

        Returns:
            ``[B, Q, proj_dim]`` class embeddings, unnormalised, and ``[B, Q, mask_dim]`` mask
            embeddings; the last query is the class token.
        """
        memories = [LevelMemory(*memory[3 * i : 3 * i + 3]) for i in range(LEVELS)]
        last = self.decoder(memories)[-1]
        return last.class_embedding, last.mask_embedding


class MaskGraph(nn.Module):
    """Mask logits of the queries that classification kept."""

    inputs: ClassVar[tuple[str, ...]] = ("mask_embedding", "mask_map")
    outputs: ClassVar[tuple[str, ...]] = ("mask_logits",)

    def forward(self, mask_embedding: Tensor, mask_map: Tensor) -> Tensor:
        """``[B, K, mask_dim], [B, mask_dim, h, w] -> [B, K, h, w]``."""
        logits = mask_embedding @ mask_map.flatten(2)
        return logits.unflatten(2, (mask_map.shape[2], mask_map.shape[3]))


class TextGraph(nn.Module):
    """Token ids to embeddings, run for words that no cache holds."""

    inputs: ClassVar[tuple[str, ...]] = ("token_ids",)
    outputs: ClassVar[tuple[str, ...]] = ("text_embedding",)

    def __init__(self, model: XDecoder) -> None:
        super().__init__()
        self.text_encoder = model.text_encoder

    def forward(self, token_ids: Tensor) -> Tensor:
        """``[T, L]`` int64 to ``[T, proj_dim]``, unnormalised."""
        return self.text_encoder.pooled(token_ids)
