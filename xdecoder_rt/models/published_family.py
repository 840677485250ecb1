"""What a file of tensors is, told from their names and shapes: X-Decoder and its sizes, or another.

The names are those of the original's code; other networks of the same authors share most of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from xdecoder_rt.models.config import (
    BackboneConfig,
    DecoderConfig,
    ModelConfig,
    PixelDecoderConfig,
    TextConfig,
    published_config,
)
from xdecoder_rt.tasks import TASKS, AnswerRows, RowOutput

PIXEL = "sem_seg_head.pixel_decoder."
PREDICTOR = "sem_seg_head.predictor."
TEXT = PREDICTOR + "lang_encoder."
TRANSFORMER = TEXT + "lang_encoder."
PUBLISHED_HEADS = 8
_NUMBER = r"0|[1-9]\d{0,4}"
_LAYERS = (
    "transformer_cross_attention_layers.",
    "transformer_self_attention_layers.",
    "transformer_ffn_layers.",
)
# Patterns of names that no X-Decoder has, though it may share all others.
_RELATIVES = (
    (
        r"sem_seg_head\.predictor\.(pn_indicator|mask_sptial_embed|spatial_embed|spatial_featured)\b"
        r"|dilation_kernel$",
        "SEEM",
    ),
    (r"sem_seg_head\.predictor\.(vqa_classifier|query_feat_caping)\b", "X-Decoder for VQA"),
    (r"backbone\.convs\.\d+\.|.*\.channel_block\.", "X-Decoder or SEEM with a DaViT backbone"),
    (r"backbone\..*rel_pos_h$|backbone\.pos_embed$", "X-Decoder or SEEM with a ViT backbone"),
    (r"backbone\..*relative_position_bias_table$", "a network with a Swin backbone"),
    (r"backbone\.(stem\.conv1|res\d|layer\d|conv1)\.", "a network with a ResNet backbone"),
    (r"backbone\.(stages|downsample_layers)\.", "a network with a ConvNeXt backbone"),
    (
        r"sem_seg_head\.pixel_decoder\..*(sampling_offsets|transformer\.level_embed)",
        "a network with a deformable encoder (Mask2Former, OneFormer)",
    ),
    (r"sem_seg_head\.predictor\.class_embed\.weight$", "MaskFormer or Mask2Former"),
)
# Patterns of names in files that hold nothing of X-Decoder.
_STRANGERS = (
    (r"panoptic_head\.|panoptic_fusion_head\.|mask_head\.|roi_head", "a detector of MMDetection"),
    (r"(image_encoder|prompt_encoder|mask_decoder)\.", "SAM"),
    (r"visual\.(transformer|conv1|class_embedding)|text_model\.|vision_model\.", "CLIP"),
    (r"transformer\.encoder\.text_layers\.|bbox_embed\.0\.layers", "Grounding DINO"),
    (r"(model/|average/|optimizer/)", "a training state of xdecoder_rt"),
    (r"(text_encoder\.blocks|decoder\.cross)\.", "xdecoder_rt without its configuration"),
    (r"(patch_embed\.proj|layers\.0\.blocks\.0\.modulation)\.", "a FocalNet alone"),
)


def other_network(names: Iterable[str]) -> str | None:
    """Return which other network names of tensors belong to; None where X-Decoder's or unknown."""
    names = tuple(names)
    networks = _RELATIVES if is_xdecoder(names) else _RELATIVES + _STRANGERS
    for pattern, network in networks:
        if any(re.match(pattern, name) for name in names):
            return network
    return None


def is_xdecoder(names: Iterable[str]) -> bool:
    """Return whether there is anything of X-Decoder's decoder among the names of tensors."""
    return any(name.startswith(PREDICTOR) for name in names)


def tensors_of_task(task: str) -> tuple[str, ...]:
    """Return our names of the tensors that no task needs but this and others that read the same.

    They follow from the task table: the projection of captions, the places of texts whose rows have
    one, and the backbone's embedding of images that are compared with texts.
    """
    rule = TASKS[task]
    names = []
    if RowOutput.CAPTION in rule.reads:
        names.append("decoder.caption_embed")
    if rule.placed:
        names.append("decoder.caption_position")
    if rule.rows is AnswerRows.CLASS_TOKEN:
        names.append("backbone_proj")
    return tuple(names)


def read_config(tensors: Mapping[str, Tensor]) -> ModelConfig:
    """Read the sizes of an X-Decoder from its tensors.

    What no tensor tells is as in every published configuration: 8 attention heads, thresholds,
    means of pixels. A size whose tensor is missing is a published one's, so that the tensor is
    missed. The token table has to be CLIP's: captions are written with CLIP's tokenizer.

    Args:
        tensors: under the original's names; they may be on any device.

    Returns:
        Sizes that need not agree with one another or with all tensors, and all tasks.
    """
    sizes = _Sizes(tensors)
    is_tiny = sizes.has("backbone.layers.0.blocks.0.dw1.weight")
    published = published_config("tiny" if is_tiny else "large")
    default = published.backbone
    width = sizes.side("backbone.patch_embed.proj.weight", 0, default.embed_dim)
    stages = range(len(default.depths))
    block = [f"backbone.layers.{stage}.blocks.0." for stage in stages]
    hidden = sizes.side(block[0] + "mlp.fc1.weight", 0, 4 * width)
    windows = [block[i] + "modulation.focal_layers.0.0.weight" for i in stages]
    depths = [sizes.count(f"backbone.layers.{i}.blocks.") or default.depths[i] for i in stages]
    levels = [
        sizes.count(block[i] + "modulation.focal_layers.") or default.focal_levels[i]
        for i in stages
    ]
    backbone = BackboneConfig(
        kind=default.kind,
        embed_dim=width,
        depths=tuple(depths),
        focal_levels=tuple(levels),
        focal_windows=tuple(sizes.side(name, 3, default.focal_windows[0]) for name in windows),
        mlp_ratio=hidden / width,
    )
    pixel = PixelDecoderConfig()
    dim = sizes.side(PIXEL + "input_proj.weight", 0, pixel.dim)
    encoder = PIXEL + "transformer.encoder.layers."
    decoder = DecoderConfig()
    queries = PREDICTOR + "query_feat.weight"
    text = TextConfig()
    positions = TRANSFORMER + "positional_embedding"
    return ModelConfig(
        name=published.name,
        family="published",
        backbone=backbone,
        pixel_decoder=PixelDecoderConfig(
            dim=dim,
            mask_level_dim=dim,
            mask_dim=sizes.side(PIXEL + "mask_features.weight", 0, pixel.mask_dim),
            mask_kernel=sizes.side(PIXEL + "mask_features.weight", 3, pixel.mask_kernel),
            norm="batch" if sizes.has(PIXEL + "adapter_1.norm.running_mean") else "group",
            transformer_layers=sizes.count(encoder) or pixel.transformer_layers,
            heads=PUBLISHED_HEADS,
            feedforward_dim=sizes.side(encoder + "0.linear1.weight", 0, pixel.feedforward_dim),
        ),
        decoder=DecoderConfig(
            num_queries=sizes.side(queries, 0, published.num_queries),
            hidden_dim=sizes.side(queries, 1, decoder.hidden_dim),
            heads=PUBLISHED_HEADS,
            feedforward_dim=sizes.side(
                PREDICTOR + "transformer_ffn_layers.0.linear1.weight", 0, decoder.feedforward_dim
            ),
            layers=sizes.count(*(PREDICTOR + name for name in _LAYERS)) or decoder.layers,
            input_projection=sizes.has(PREDICTOR + "input_proj.0.weight"),
        ),
        text=TextConfig(
            width=sizes.side(positions, 1, text.width),
            heads=PUBLISHED_HEADS,
            layers=sizes.count(TRANSFORMER + "resblocks.") or text.layers,
            context_length=sizes.side(positions, 0, text.context_length),
        ),
        proj_dim=sizes.side(TEXT + "lang_proj", 1, published.proj_dim),
    )


class _Sizes:
    """Sides of tensors, and how many modules a list of them has."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def has(self, name: str) -> bool:
        return name in self._tensors

    def side(self, name: str, axis: int, default: int) -> int:
        """Return a side of a tensor; the default where there is none, or nothing along it."""
        shape = self._tensors[name].shape if name in self._tensors else ()
        return int(shape[axis]) if axis < len(shape) and shape[axis] else default

    def count(self, *prefixes: str) -> int:
        """Return how many modules lists of them have, the longest of several.

        A module that is missing between others counts, so that it is missed; but no number counts
        that is far from all others.
        """
        numbers = {
            int(number)
            for prefix in prefixes
            for name in self._tensors
            if name.startswith(prefix)
            and re.fullmatch(_NUMBER, number := name.removeprefix(prefix).partition(".")[0])
        }
        return max((n + 1 for n in numbers if n < 2 * len(numbers)), default=0)
