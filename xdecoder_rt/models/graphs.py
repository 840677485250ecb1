"""The network cut where a runtime caches: vision, decode, mask, text and token.

Each class is the PyTorch form of one graph of a plan. Its forward's argument names are the
graph's inputs and ``outputs`` names what it returns, so the ONNX and TensorRT forms share one
contract of names, shapes and dtypes with it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xdecoder_rt import tasks
from xdecoder_rt.masks.resample import REGION_STRIDE
from xdecoder_rt.models.config import DecoderConfig
from xdecoder_rt.models.decoder import ImageMemory, Past, Rows
from xdecoder_rt.models.deployed import DeployedDecoder
from xdecoder_rt.models.overlaps import overlap_stride, overlaps
from xdecoder_rt.models.xdecoder import XDecoder


def memory_names(shape: DecoderConfig) -> tuple[str, ...]:
    """Return names of an :class:`ImageMemory` as graph values: keys, values, then mask features."""
    return (
        *(f"keys_{i}" for i in range(shape.layers)),
        *(f"values_{i}" for i in range(shape.layers)),
        *(f"mask_features_{i}" for i in range(len(shape.level_strides))),
    )


def region_names(model: XDecoder) -> tuple[str, ...]:
    """Return the name of the map that regions are averaged of, if the model names regions."""
    return () if model.region is None else ("region_map",)


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
            *memory_names(model.config.decoder),
            "mask_map",
            "backbone_embedding",
            *region_names(model),
        )
        self.normalise = Normalise(model.config.pixel_mean, model.config.pixel_std)

    def forward(self, frame: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
        """Encode frames.

        Args:
            frame: ``[B, H, W, 3]`` uint8 RGB, content at the top left.
            valid: ``[B, 2]`` int64, height and width of the content; the rest is padding.

        Returns:
            The image memory (:class:`ImageMemory`, in the order of :func:`memory_names`); the map
            that the mask graph reads, ``[B, h, w, mask_dim]``; the backbone's image embedding,
            ``[B, proj_dim]``; and the map that regions are averaged of, if the model names
            regions, ``[B, N, width]``.
        """
        images = self.normalise(frame, valid)
        maps = self.model.backbone(images)
        features = self.model.pixel_decoder(maps)
        mask_features = self.model.pixel_decoder.mask_features(features.mask_map)
        memory = self.model.remember(features, mask_features)
        return (
            *memory.keys,
            *memory.values,
            *memory.mask_features,
            mask_features.permute(0, 2, 3, 1),
            self.model.backbone_embedding(maps),
            *([] if self.model.region is None else [self.model.region.map(images, maps[3])]),
        )


def state_names(prefix: str, layers: int) -> tuple[str, ...]:
    """Return names of self-attention keys and values as graph values: all keys, then all values."""
    return (
        *(f"{prefix}_keys_{i}" for i in range(layers)),
        *(f"{prefix}_values_{i}" for i in range(layers)),
    )


class DecodeGraph(nn.Module):
    """Rows of any tasks over one image's memory, and over rows decoded before.

    One graph serves the first decode of an image (the latents and every task asked for), later
    tasks on it, and the steps of a caption: they differ in the rows alone.
    """

    def __init__(self, model: XDecoder) -> None:
        super().__init__()
        self.decoder = DeployedDecoder(model.decoder)
        self.region = model.region
        shape = model.config.decoder
        self.layers, self.levels = shape.layers, len(shape.level_strides)
        self.strides = shape.level_strides
        self.queries = shape.num_queries
        self.compares_masks = model.config.postprocess.votes > 0
        self.inputs = (
            *memory_names(shape),
            *region_names(model),
            *(f"regions_{i}" for i in range(self.levels)),
            "kind",
            "content",
            "position",
            "text",
            "visible",
            "region_weight",
            *state_names("past", self.layers),
        )
        self.outputs = (
            "class_embedding",
            "mask_embedding",
            "caption_embedding",
            *([] if model.region is None else ["region_scores"]),
            *(["overlaps"] if self.compares_masks else []),
            *state_names("row", self.layers),
        )

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Decode; the arguments are named by :attr:`inputs`.

        They are the image memory, with the map of regions if the model has a classifier of them;
        regions ``[B, E, N]`` a level, 1 inside and -1 outside; of each row its kind, content and
        position ``[B, R]`` int64 (see :class:`~xdecoder_rt.tasks.RowLayout`), text feature
        ``[B, R, dim]`` (zero for none), what it sees ``[B, R, P + R]`` bool and the region it is
        confined to ``[B, R, E]``; and keys and values ``[B, heads, P, head_dim]`` of rows decoded
        before, a pair a layer.

        Returns:
            ``[B, R, proj_dim]`` class embeddings, unnormalised; ``[B, R, mask_dim]`` mask
            embeddings; ``[B, R, text width]`` caption embeddings; what the latents' regions are by
            the names of the model's classifier, if it has one, ``[B, queries, names]``, and how
            their masks overlap, if its rules ask, ``[B, queries, queries]``, which say something
            where the first rows are the latents; and the rows' own keys and values
            ``[B, heads, R, head_dim]``, a pair a layer.
        """
        feeds = dict(zip(self.inputs, values, strict=True))
        layers, levels = range(self.layers), range(self.levels)
        memory = ImageMemory(
            [feeds[f"keys_{i}"] for i in layers],
            [feeds[f"values_{i}"] for i in layers],
            [feeds[f"mask_features_{i}"] for i in levels],
        )
        rows = Rows(
            feeds["kind"],
            feeds["content"],
            feeds["position"],
            feeds["visible"],
            feeds["text"],
            feeds["region_weight"],
            [feeds[f"regions_{i}"] for i in levels],
        )
        past = Past(
            [feeds[f"past_keys_{i}"] for i in layers],
            [feeds[f"past_values_{i}"] for i in layers],
        )
        decoded = self.decoder(memory, rows, past)
        of_latents = []
        # Latents come first, and nobody asks for the regions of other rows.
        masks = self._first_rows(decoded.prediction.mask_embedding, 0)
        if self.region is not None:
            features = memory.mask_features[self.strides.index(REGION_STRIDE)]
            kind = self._first_rows(rows.kind, tasks.Row.PADDING)
            of_latents.append(self.region(feeds["region_map"], kind, masks, features))
        if self.compares_masks:
            features = memory.mask_features[self.strides.index(overlap_stride(self.strides))]
            of_latents.append(overlaps(masks, features))
        return (
            decoded.prediction.class_embedding,
            decoded.prediction.mask_embedding,
            decoded.caption_embedding,
            *of_latents,
            *decoded.rows.keys,
            *decoded.rows.values,
        )

    def _first_rows(self, values: Tensor, filler: int) -> Tensor:
        """Return as many first rows as there are latents, filled up where there are fewer rows."""
        shape = (values.shape[0], self.queries, *values.shape[2:])
        return torch.cat((values, values.new_full((), filler).expand(shape)), 1)[:, : self.queries]


class MaskGraph(nn.Module):
    """Mask logits of the queries that classification kept."""

    inputs: tuple[str, ...] = ("mask_embedding", "mask_map")
    outputs: tuple[str, ...] = ("mask_logits",)

    def forward(self, mask_embedding: Tensor, mask_map: Tensor) -> Tensor:
        """``[B, K, mask_dim], [B, h, w, mask_dim] -> [B, K, h, w]``."""
        logits = mask_embedding @ mask_map.flatten(1, 2).transpose(1, 2)
        return torch.unflatten(logits, 2, (mask_map.shape[1], mask_map.shape[2]))


class TextGraph(nn.Module):
    """Token ids to features, over tokens encoded before; run for words that no cache holds."""

    def __init__(self, model: XDecoder) -> None:
        super().__init__()
        self.text_encoder = model.text_encoder
        self.layers = model.config.text.layers
        self.inputs = ("token_ids", "places", "visible", *state_names("past", self.layers))
        self.outputs = ("token_features", *state_names("token", self.layers))

    def forward(
        self, token_ids: Tensor, places: Tensor, visible: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """Encode rows of tokens; texts that share a beginning may share a row.

        Args:
            token_ids: ``[T, L]`` int64.
            places: ``[T, L]`` int64, each token's place in its text.
            visible: ``[T, L, P + L]`` bool, which earlier tokens and which of these each sees.
            past: keys, then values, of P tokens encoded before, a layer,
                ``[T, heads, P, head_dim]``.

        Returns:
            ``[T, L, proj_dim]``, unnormalised, and the tokens' own keys and values.
        """
        before = list(zip(past[: self.layers], past[self.layers :], strict=True))
        step = self.text_encoder.proceed(token_ids, places, visible, before)
        return (step.features, *step.keys, *step.values)


class TokenGraph(nn.Module):
    """The scores of the token that follows."""

    inputs: tuple[str, ...] = ("caption_embedding",)
    outputs: tuple[str, ...] = ("token_logits",)

    def __init__(self, model: XDecoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, caption_embedding: Tensor) -> Tensor:
        """``[N, text width] -> [N, vocabulary]``."""
        return self.model.token_logits(caption_embedding)
