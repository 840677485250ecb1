"""Segmentation tensors: the runtime's post-processing on a form's class and mask logits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from xdecoder_rt import postprocess
from xdecoder_rt.models.parity.comparison import Rule, continuous, exact, pixels, rows
from xdecoder_rt.models.parity.fixture import Fixture, FixtureImage, Thresholds
from xdecoder_rt.models.parity.forms import ALL_CLASS_EMBEDDINGS, Array, Embeddings, Form, Words
from xdecoder_rt.resample import mask_axis, resample

RULES: tuple[tuple[re.Pattern[str], Rule], ...] = (
    (re.compile(r"panoptic\d+\.seg"), pixels),
    (re.compile(r"panoptic\d+\.segments"), rows),
    (re.compile(r"semantic\.scores"), continuous),
    (re.compile(r"semantic\.argmax"), pixels),
    (re.compile(r"instance\.masks"), pixels),
    (re.compile(r"instance\.scores"), continuous),
    (re.compile(r"instance\.classes"), exact),
    (re.compile(r"masks_at_output_size_first\d+"), continuous),
)
