"""The original's settings, as a fixture states them, and our configuration of the same network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, TypeVar

from xdecoder_rt.errors import DatasetError, quoted
from xdecoder_rt.json_reader import JsonFault, Rule, read_part
from xdecoder_rt.models.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    BackboneConfig,
    DecoderConfig,
    ModelConfig,
    PixelDecoderConfig,
    PostprocessConfig,
    TextConfig,
)

_T = TypeVar("_T")
PublishedSize: TypeAlias = Annotated[int, Rule(low=1, high=1 << 16)]
PublishedStages: TypeAlias = Annotated[tuple[PublishedSize, ...], Rule(least=4, most=4)]
ChannelValues: TypeAlias = tuple[float, float, float]

_FOCAL = "MODEL.BACKBONE.FOCAL."
_ENCODER = "MODEL.ENCODER."
_DECODER = "MODEL.DECODER."
_TEXT = "MODEL.TEXT."
# The original can be built otherwise, but no published model is, and ours cannot.
_ONLY: tuple[tuple[str, Any], ...] = (
    (_FOCAL + "USE_CONV_EMBED", True),
    (_FOCAL + "USE_POSTLN", True),
    (_FOCAL + "USE_POSTLN_IN_MODULATION", False),
    (_DECODER + "PRE_NORM", False),
    (_DECODER + "RETRIEVAL.ENSEMBLE", True),
    (_TEXT + "AUTOGRESSIVE", True),
    (_TEXT + "TOKENIZER", "clip"),
)
_NORMS = {"GN": "group", "BN": "batch"}


@dataclass(frozen=True)
class _Backbone:
    """The backbone's settings, by the original's yaml keys."""

    name: Annotated[str, Rule(one_of=("focal", "focal_dw"), key="MODEL.BACKBONE.NAME")]
    embed_dim: Annotated[PublishedSize, Rule(key=_FOCAL + "EMBED_DIM")]
    depths: Annotated[PublishedStages, Rule(key=_FOCAL + "DEPTHS")]
    focal_levels: Annotated[PublishedStages, Rule(key=_FOCAL + "FOCAL_LEVELS")]
    focal_windows: Annotated[PublishedStages, Rule(key=_FOCAL + "FOCAL_WINDOWS")]
    patch_size: Annotated[PublishedSize, Rule(key=_FOCAL + "PATCH_SIZE")] = 4
    mlp_ratio: Annotated[float, Rule(key=_FOCAL + "MLP_RATIO")] = 4.0
    patch_norm: Annotated[bool, Rule(key=_FOCAL + "PATCH_NORM")] = True
    layer_scale: Annotated[bool, Rule(key=_FOCAL + "USE_LAYERSCALE")] = True
    scale_modulator: Annotated[bool, Rule(key=_FOCAL + "SCALING_MODULATOR")] = True


@dataclass(frozen=True)
class _Network:
    """The settings of everything beyond the backbone."""

    heads: Annotated[PublishedSize, Rule(key=_DECODER + "NHEADS")]
    feedforward_dim: Annotated[PublishedSize, Rule(key=_DECODER + "DIM_FEEDFORWARD")]
    hidden_dim: Annotated[PublishedSize, Rule(key=_DECODER + "HIDDEN_DIM")]
    queries: Annotated[PublishedSize, Rule(low=2, key=_DECODER + "NUM_OBJECT_QUERIES")]
    # The original counts the prediction before the first layer as a layer.
    layers_and_one: Annotated[PublishedSize, Rule(low=2, key=_DECODER + "DEC_LAYERS")]
    pixel_dim: Annotated[PublishedSize, Rule(key=_ENCODER + "CONVS_DIM")]
    mask_dim: Annotated[PublishedSize, Rule(key=_ENCODER + "MASK_DIM")]
    norm: Annotated[str, Rule(one_of=tuple(_NORMS), key=_ENCODER + "NORM")]
    pixel_layers: Annotated[PublishedSize, Rule(low=0, key=_ENCODER + "TRANSFORMER_ENC_LAYERS")]
    text_heads: Annotated[PublishedSize, Rule(key=_TEXT + "HEADS")]
    text_width: Annotated[PublishedSize, Rule(key=_TEXT + "WIDTH")]
    text_layers: Annotated[PublishedSize, Rule(key=_TEXT + "LAYERS")]
    context_length: Annotated[PublishedSize, Rule(low=3, key=_TEXT + "CONTEXT_LENGTH")]
    proj_dim: Annotated[PublishedSize, Rule(key="MODEL.DIM_PROJ")]
    input_projection: Annotated[bool, Rule(key=_DECODER + "ENFORCE_INPUT_PROJ")] = False
    mask_threshold: Annotated[float, Rule(key=_DECODER + "TEST.OBJECT_MASK_THRESHOLD")] = 0.8
    overlap_threshold: Annotated[float, Rule(key=_DECODER + "TEST.OVERLAP_THRESHOLD")] = 0.8
    instance_topk: Annotated[PublishedSize, Rule(key="COCO.TEST.DETECTIONS_PER_IMAGE")] = 100


@dataclass(frozen=True)
class _Pixels:
    """How images become input, and how long captions become."""

    mean: Annotated[ChannelValues, Rule(key="INPUT.PIXEL_MEAN")] = IMAGENET_MEAN
    std: Annotated[
        tuple[Annotated[float, Rule(above=0)], ...],
        Rule(least=3, most=3, key="INPUT.PIXEL_STD"),
    ] = IMAGENET_STD
    divisor: Annotated[PublishedSize, Rule(low=-1, key=_DECODER + "SIZE_DIVISIBILITY")] = 32
    caption_steps: Annotated[PublishedSize, Rule(key=_DECODER + "CAPTIONING.STEP")] = 50


class Settings:
    """Hyper-parameters by the original's yaml key."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def read(self, kind: type[_T]) -> _T:
        """Return the settings that a dataclass describes.

        Raises:
            DatasetError: one is missing, or is not what is needed.
        """
        try:
            return read_part(self._values, kind)
        except JsonFault as fault:
            raise DatasetError(
                f"config.json: the hyper-parameter with the yaml_key {fault}",
                expected=fault.expected,
            ) from fault

    def refuse_others(self) -> None:
        """Refuse the variants of the original that our modules are not.

        Raises:
            DatasetError: naming the setting.
        """
        for key, only in _ONLY:
            if key in self._values and self._values[key] != only:
                raise DatasetError(
                    f"The fixture's network has {key} = {quoted(self._values[key])}",
                    expected=f"{only!r}, as in the published models: no other is implemented",
                )


def backbone_config(settings: Settings) -> BackboneConfig:
    """Return the backbone that the settings describe.

    Raises:
        DatasetError: a setting is missing or names a network that ours is not.
    """
    settings.refuse_others()
    backbone = settings.read(_Backbone)
    # With convolutional stems the patch size is only a divisor that images are padded to.
    if 32 % backbone.patch_size:
        raise _setting_error(_FOCAL + "PATCH_SIZE", backbone.patch_size, "a divisor of 32")
    return BackboneConfig(
        kind=backbone.name,
        embed_dim=backbone.embed_dim,
        depths=backbone.depths,
        focal_levels=backbone.focal_levels,
        focal_windows=backbone.focal_windows,
        mlp_ratio=backbone.mlp_ratio,
        patch_norm=backbone.patch_norm,
        layer_scale=backbone.layer_scale,
        scale_modulator=backbone.scale_modulator,
    )


def is_whole_network(settings: Settings) -> bool:
    """Return whether the settings describe more than a backbone."""
    return _DECODER + "HIDDEN_DIM" in settings


def model_config(settings: Settings, name: str) -> ModelConfig:
    """Return the whole network that the settings describe.

    Args:
        settings: the original's.
        name: what to call the model.

    Raises:
        DatasetError: a setting is missing or names a network that ours is not.
    """
    network = settings.read(_Network)
    _check_multiple(_DECODER + "HIDDEN_DIM", network.hidden_dim, math.lcm(4, network.heads))
    # 32 groups in the norms, and an attention of as many heads as the decoder's.
    _check_multiple(_ENCODER + "CONVS_DIM", network.pixel_dim, math.lcm(32, network.heads))
    _check_multiple(_TEXT + "WIDTH", network.text_width, network.text_heads)
    return ModelConfig(
        name=name,
        family="published",
        backbone=backbone_config(settings),
        pixel_decoder=PixelDecoderConfig(
            dim=network.pixel_dim,
            mask_level_dim=network.pixel_dim,
            mask_dim=network.mask_dim,
            norm=_NORMS[network.norm],
            transformer_layers=network.pixel_layers,
            heads=network.heads,
            feedforward_dim=network.feedforward_dim,
        ),
        decoder=DecoderConfig(
            num_queries=network.queries,
            hidden_dim=network.hidden_dim,
            heads=network.heads,
            feedforward_dim=network.feedforward_dim,
            layers=network.layers_and_one - 1,
            input_projection=network.pixel_dim != network.hidden_dim or network.input_projection,
        ),
        text=TextConfig(
            width=network.text_width,
            heads=network.text_heads,
            layers=network.text_layers,
            context_length=network.context_length,
        ),
        postprocess=PostprocessConfig(
            object_mask_threshold=network.mask_threshold,
            overlap_threshold=network.overlap_threshold,
            instance_topk=network.instance_topk,
        ),
        proj_dim=network.proj_dim,
        pixel_mean=pixel_mean(settings),
        pixel_std=pixel_std(settings),
    )


def caption_steps(settings: Settings) -> int:
    """Tokens that the original writes of a caption, whatever they are."""
    return settings.read(_Pixels).caption_steps


def pixel_mean(settings: Settings) -> tuple[float, float, float]:
    """Return the mean of the pixels a channel, on the 0..255 scale."""
    return settings.read(_Pixels).mean


def pixel_std(settings: Settings) -> tuple[float, float, float]:
    """Standard deviation of the pixels a channel, on the 0..255 scale; never zero."""
    red, green, blue = settings.read(_Pixels).std
    return red, green, blue


def size_divisor(settings: Settings) -> int:
    """Return the divisor of padded sides; where negative, the original takes the backbone's."""
    divisor = settings.read(_Pixels).divisor
    return 32 if divisor < 0 else max(1, divisor)


def _check_multiple(key: str, value: int, divisor: int) -> None:
    if value % divisor:
        raise _setting_error(key, value, f"a multiple of {divisor}")


def _setting_error(key: str, value: object, expected: str) -> DatasetError:
    return DatasetError(f"The hyper-parameter {key} is {quoted(value)}", expected=expected)
