"""Every expected array of a fixture, computed again and judged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xdecoder_rt.errors import DatasetError
from xdecoder_rt.image import resize_shorter_side
from xdecoder_rt.models.config import ModelConfig
from xdecoder_rt.models.parity import segmentation, words
from xdecoder_rt.models.parity.comparison import (
    Outcome,
    Rule,
    Verdict,
    continuous,
    exact,
)
from xdecoder_rt.models.parity.fixture import Fixture, FixtureImage, find_image
from xdecoder_rt.models.parity.forms import BACKBONE_TENSORS, Array, Form

_CONTINUOUS = re.compile(
    BACKBONE_TENSORS.pattern + r"|transformer_encoder_features|multi_scale_[0-2]|mask_features"
    r"|pred_masks_layer\d+|pred_logits_all_layers|decoder_output"
    r"|pred_logits|pred_masks|pred_captions"
)
_EXACT = re.compile(r"attn_mask_layer\d+")


@dataclass(frozen=True)
class Line:
    """What became of one expected array.

    Attributes:
        name: of the array.
        shape: of the expected array.
        verdict: pass, fail, or why there was nothing to compare.
        outcome: the comparison, where there was one.
    """

    name: str
    shape: tuple[int, ...]
    verdict: Verdict
    outcome: Outcome | None = None
