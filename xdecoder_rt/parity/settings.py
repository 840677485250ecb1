"""The original's settings, as a fixture states them, and our configuration of the same network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xdecoder_rt.errors import DatasetError, shown
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

_LIMIT = 1 << 16
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


class Settings:
    """Hyper-parameters by the original's yaml key; every value is checked when it is taken.

    Each method raises `DatasetError` where a key is missing or its value is not what is needed.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def integer(self, key: str, default: int | None = None, low: int = 1) -> int:
        """An integer from `low` to 65536."""
        value = self._take(key, default)
        if type(value) is not int or not low <= value <= _LIMIT:
            raise _wrong(key, value, f"an integer from {low} to {_LIMIT}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._take(key, default)
        if not _is_number(value):
            raise _wrong(key, value, "a number")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise _wrong(key, value, "true or false")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of `choices`."""
        value = self._take(key, None)
        if value not in choices:
            raise _wrong(key, value, "one of " + ", ".join(map(repr, choices)))
        return str(value)

    def integers(self, key: str, count: int) -> tuple[int, ...]:
        """A list of `count` positive integers."""
        value = self._take(key, None)
        if not _is_list(value, count) or any(
            type(v) is not int or not 0 < v <= _LIMIT for v in value
        ):
            raise _wrong(key, value, f"a list of {count} positive integers")
        return tuple(value)

    def colour(self, key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        """Three finite numbers, one a channel."""
        value = self._take(key, list(default))
        if not _is_list(value, 3) or not all(_is_number(v) for v in value):
            raise _wrong(key, value, "three numbers")
        red, green, blue = (float(v) for v in value)
        return red, green, blue

    def refuse_others(self) -> None:
        """Refuse the variants of the original that our modules are not.

        Raises:
            DatasetError: naming the setting.
        """
        for key, only in _ONLY:
            if key in self._values and self._values[key] != only:
                raise DatasetError(
                    f"The fixture's network has {key} = {shown(self._values[key])}",
                    expected=f"{only!r}, as in the published models: no other is implemented",
                )

    def _take(self, key: str, default: Any) -> Any:
        value = self._values.get(key, default)
        if value is None:
            raise DatasetError(
                f"config.json has no hyper-parameter with the yaml_key {key}",
                expected="every size of the network",
            )
        return value


def backbone_config(settings: Settings) -> BackboneConfig:
    """The backbone that the settings describe.

    Raises:
        DatasetError: a setting is missing or names a network that ours is not.
    """
    settings.refuse_others()
    patch = settings.integer(_FOCAL + "PATCH_SIZE", 4)
    # With convolutional stems the patch size is only a divisor that images are padded to.
    if 32 % patch:
        raise _wrong(_FOCAL + "PATCH_SIZE", patch, "a divisor of 32")
    return BackboneConfig(
        kind=settings.choice("MODEL.BACKBONE.NAME", ("focal", "focal_dw")),
        embed_dim=settings.integer(_FOCAL + "EMBED_DIM"),
        depths=settings.integers(_FOCAL + "DEPTHS", 4),
        focal_levels=settings.integers(_FOCAL + "FOCAL_LEVELS", 4),
        focal_windows=settings.integers(_FOCAL + "FOCAL_WINDOWS", 4),
        mlp_ratio=settings.number(_FOCAL + "MLP_RATIO", 4.0),
        patch_norm=settings.flag(_FOCAL + "PATCH_NORM", True),
        layer_scale=settings.flag(_FOCAL + "USE_LAYERSCALE", True),
        scale_modulator=settings.flag(_FOCAL + "SCALING_MODULATOR", True),
    )


def is_whole_network(settings: Settings) -> bool:
    """Whether the settings describe more than a backbone."""
    return _DECODER + "HIDDEN_DIM" in settings


def model_config(settings: Settings, name: str) -> ModelConfig:
    """The whole network that the settings describe.

    Args:
        settings: the original's.
        name: what to call the model.

    Raises:
        DatasetError: a setting is missing or names a network that ours is not.
    """
    heads = settings.integer(_DECODER + "NHEADS")
    feedforward_dim = settings.integer(_DECODER + "DIM_FEEDFORWARD")
    hidden_dim = _multiple(settings, _DECODER + "HIDDEN_DIM", math.lcm(4, heads))
    # 32 groups in the norms, and an attention of as many heads as the decoder's.
    pixel_dim = _multiple(settings, _ENCODER + "CONVS_DIM", math.lcm(32, heads))
    text_heads = settings.integer(_TEXT + "HEADS")
    return ModelConfig(
        name=name,
        family="published",
        backbone=backbone_config(settings),
        pixel_decoder=PixelDecoderConfig(
            dim=pixel_dim,
            mask_level_dim=pixel_dim,
            mask_dim=settings.integer(_ENCODER + "MASK_DIM"),
            norm=_NORMS[settings.choice(_ENCODER + "NORM", tuple(_NORMS))],
            transformer_layers=settings.integer(_ENCODER + "TRANSFORMER_ENC_LAYERS", low=0),
            heads=heads,
            feedforward_dim=feedforward_dim,
        ),
        decoder=DecoderConfig(
            num_queries=settings.integer(_DECODER + "NUM_OBJECT_QUERIES", low=2),
            hidden_dim=hidden_dim,
            heads=heads,
            feedforward_dim=feedforward_dim,
            # The original counts the prediction before the first layer as a layer.
            layers=settings.integer(_DECODER + "DEC_LAYERS", low=2) - 1,
            input_projection=pixel_dim != hidden_dim
            or settings.flag(_DECODER + "ENFORCE_INPUT_PROJ", False),
        ),
        text=TextConfig(
            width=_multiple(settings, _TEXT + "WIDTH", text_heads),
            heads=text_heads,
            layers=settings.integer(_TEXT + "LAYERS"),
            context_length=settings.integer(_TEXT + "CONTEXT_LENGTH", low=3),
        ),
        postprocess=PostprocessConfig(
            object_mask_threshold=settings.number(_DECODER + "TEST.OBJECT_MASK_THRESHOLD", 0.8),
            overlap_threshold=settings.number(_DECODER + "TEST.OVERLAP_THRESHOLD", 0.8),
            instance_topk=settings.integer("COCO.TEST.DETECTIONS_PER_IMAGE", 100),
        ),
        proj_dim=settings.integer("MODEL.DIM_PROJ"),
        pixel_mean=pixel_mean(settings),
        pixel_std=pixel_std(settings),
    )


def caption_steps(settings: Settings) -> int:
    """Tokens that the original writes of a caption, whatever they are."""
    return settings.integer(_DECODER + "CAPTIONING.STEP", 50)


def pixel_mean(settings: Settings) -> tuple[float, float, float]:
    """Mean of the pixels a channel, on the 0..255 scale."""
    return settings.colour("INPUT.PIXEL_MEAN", IMAGENET_MEAN)


def pixel_std(settings: Settings) -> tuple[float, float, float]:
    """Standard deviation of the pixels a channel, on the 0..255 scale; never zero."""
    std = settings.colour("INPUT.PIXEL_STD", IMAGENET_STD)
    if min(std) <= 0:
        raise _wrong("INPUT.PIXEL_STD", list(std), "positive numbers")
    return std


def size_divisor(settings: Settings) -> int:
    """What padded sides are multiples of; the original lets the backbone decide when negative."""
    divisor = settings.integer(_DECODER + "SIZE_DIVISIBILITY", 32, low=-1)
    return 32 if divisor < 0 else max(1, divisor)


def _multiple(settings: Settings, key: str, divisor: int) -> int:
    value = settings.integer(key)
    if value % divisor:
        raise _wrong(key, value, f"a multiple of {divisor}")
    return value


def _wrong(key: str, value: object, expected: str) -> DatasetError:
    return DatasetError(f"The hyper-parameter {key} is {shown(value)}", expected=expected)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_list(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count
