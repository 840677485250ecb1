"""Shapes of the compact model that ``candidates.py`` compares: each by what distinguishes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from xdecoder_rt.models import ModelConfig, compact_config

REFERENCE = "first starter"
CHOSEN = "4, light"
"""What :func:`~xdecoder_rt.models.compact_config` returns."""
FIRST_PIXEL = {"output_convs": ("full",) * 4, "narrow_stride": 4, "mask_stride": 4}
FIRST_DECODER = {"layers": 6, "level_strides": (32, 16, 8)}
LIGHT = {"output_convs": ("none", "separable", "full", "full"), "narrow_stride": 8}


def shape(
    pixel: Mapping[str, Any] | None = None, decoder: Mapping[str, Any] | None = None
) -> ModelConfig:
    """Return the first starter's shape with changes to its pixel decoder and its decoder."""
    default = compact_config()
    return compact_config(
        pixel_decoder=replace(default.pixel_decoder, **{**FIRST_PIXEL, **(pixel or {})}),
        decoder=replace(default.decoder, **{**FIRST_DECODER, **(decoder or {})}),
    )


def _decoder(layers: int, strides: tuple[int, ...] = (32, 16), **more: Any) -> dict[str, Any]:
    return {"layers": layers, "level_strides": strides, **more}


def candidates() -> dict[str, ModelConfig]:
    """Return the candidates by name, the reference first."""
    pointwise = ("pointwise", "pointwise", "full", "full")
    return {
        REFERENCE: shape(),
        "3 layers": shape(decoder={"layers": 3}),
        "6 layers, 32 and 16": shape(decoder=_decoder(6)),
        "4 layers, 32 and 16": shape(decoder=_decoder(4)),
        "4, separable": shape({"output_convs": ("separable",) * 4}, _decoder(4)),
        "4, pointwise": shape({"output_convs": pointwise}, _decoder(4)),
        "4, light": shape(LIGHT, _decoder(4)),
        "6, light": shape(LIGHT, _decoder(6)),
        "3, light": shape(LIGHT, _decoder(3, (16, 32))),
        "4, light, 16 alone": shape(LIGHT, _decoder(4, (16,))),
        "4, light, no encoder": shape({**LIGHT, "transformer_layers": 0}, _decoder(4)),
        "4, light, feed-forward 384": shape(LIGHT, _decoder(4, feedforward_dim=384)),
        "4, light, 32 queries": shape(LIGHT, _decoder(4, num_queries=33)),
        "4, masks at 8": shape(
            {"mask_stride": 8, "output_convs": ("none", "separable", "full", "full")}, _decoder(4)
        ),
        "2, masks at 8, 32 queries": shape(
            {
                "mask_stride": 8,
                "output_convs": ("none", "none", "separable", "full"),
                "transformer_layers": 0,
            },
            _decoder(2, (16, 32), num_queries=33, feedforward_dim=384),
        ),
    }
