"""Presets of a build: the inputs and thresholds that a published figure was measured with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.evaluation.protocols import PROTOCOLS
from xdecoder_rt.pixels.letterbox import ResizeRule

__all__ = ["INPUT_STEP", "PRESET_NAMES", "Preset", "input_sizes", "preset_named"]

INPUT_STEP = 32
"""Sides of inputs are multiples of it, as the original pads images."""
PRESET_NAMES = tuple(PROTOCOLS)

_Proportion = tuple[int, int]
_PHOTOGRAPHS: tuple[_Proportion, ...] = ((3, 4), (4, 3))
_WIDE: tuple[_Proportion, ...] = ((9, 16), (16, 9))
# (height, width) of the images of each data set, as proportions: an input is made for each, and
# where the long side has a limit one for what is longer than all. Cameras of cars and of depth
# sensors give one size or nearly one, photographs both ways up.
_IMAGES: dict[str, tuple[_Proportion, ...]] = {
    "coco": _PHOTOGRAPHS,
    "ade20k": (*_PHOTOGRAPHS, *_WIDE),
    "ade20k-847": (*_PHOTOGRAPHS, *_WIDE),
    "cityscapes": ((1024, 2048),),
    "bdd": ((720, 1280),),
    "bdd-panoptic": ((720, 1280),),
    "sun": ((530, 730),),
    "scannet": ((968, 1296),),
    "scannet-41": ((968, 1296),),
    "scannet-panoptic": ((968, 1296),),
    "refcoco": _PHOTOGRAPHS,
    "refcoco+": _PHOTOGRAPHS,
    "refcocog": _PHOTOGRAPHS,
}


@dataclass(frozen=True)
class Preset:
    """Inputs and thresholds of a plan.

    Attributes:
        sizes: (height, width) of the inputs, for a protocol those that its images need.
        rule: how images are scaled into them.
        interpolation: ``"bilinear"`` or ``"bicubic"``; None for that of the model's family.
        object_threshold: least score of a panoptic query; None for the model's.
        overlap_threshold: least share of its own mask that a panoptic segment owns; None for the
            model's.
    """

    sizes: tuple[tuple[int, int], ...]
    rule: ResizeRule
    interpolation: str | None = None
    object_threshold: float | None = None
    overlap_threshold: float | None = None


def preset_named(name: str) -> Preset:
    """Return the preset of a protocol.

    Args:
        name: one of `PRESET_NAMES`.

    Raises:
        ArgumentError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise ArgumentError(
            f"There is no preset {quoted(name)}", expected="one of " + ", ".join(PRESET_NAMES)
        )
    protocol = PROTOCOLS[name]
    rule = protocol.resize_rule
    if protocol.squashed:
        sizes: tuple[tuple[int, int], ...] = (protocol.input_size(1, 1),)
    else:
        sizes = input_sizes(rule, _IMAGES[name])
    return Preset(
        sizes,
        rule,
        protocol.interpolation,
        protocol.object_threshold,
        protocol.overlap_threshold,
    )


def input_sizes(
    rule: ResizeRule, proportions: Iterable[tuple[int, int]] | None = None
) -> tuple[tuple[int, int], ...]:
    """Return the inputs that images scaled to a short side need.

    Args:
        rule: with a short side.
        proportions: (height, width) of the images, in any unit; None for photographs, 4:3 and where
            there is no limit 16:9, both ways up.

    Returns:
        (height, width) of each, multiples of `INPUT_STEP`. Where the long side has a limit, its
        inputs hold every image of an orientation that occurs.
    """
    if proportions is None:
        proportions = _PHOTOGRAPHS if rule.longest_side else (*_PHOTOGRAPHS, *_WIDE)
    # Large enough for the proportion to be that of the scaled image to the pixel.
    images = [(height << 20, width << 20) for height, width in proportions]
    scaled = [rule.scaled_size(image) for image in images]
    if rule.short_side is not None and rule.longest_side is not None:
        limit = (rule.short_side, rule.longest_side)
        scaled += [limit if height < width else limit[::-1] for height, width in images]
    rounded = [(_round_up(height), _round_up(width)) for height, width in scaled]
    return tuple(dict.fromkeys(rounded))


def _round_up(side: int) -> int:
    return -(-side // INPUT_STEP) * INPUT_STEP
