"""Answers: an engine's results as JSON, masks as run lengths or PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from xdecoder_rt.masks.rle import decode_mask
from xdecoder_rt.results import Output

__all__ = ["output_answer", "with_masks"]


def output_answer(output: Output, masks: str) -> dict[str, Any]:
    """Return the results of a fused call, each under its task's name."""
    values = output.to_dict()
    if "segment" in values:
        values["segment"]["segments"] = [
            with_masks(segment, masks) for segment in values["segment"]["segments"]
        ]
    if "refer" in values:
        values["refer"] = [with_masks(reference, masks) for reference in values["refer"]]
    return values


def with_masks(found: Mapping[str, Any], form: str) -> dict[str, Any]:
    """Return a segment or reference with its mask in another form.

    Args:
        found: with `mask` in COCO's compressed run lengths.
        form: ``"rle"`` leaves it, ``"png"`` makes it base64 of a PNG of one bit, ``"none"`` drops
            it.
    """
    if form == "rle":
        return dict(found)
    values = {name: value for name, value in found.items() if name != "mask"}
    if form == "png":
        data = io.BytesIO()
        Image.fromarray(decode_mask(found["mask"])).save(data, format="PNG")
        values["mask"] = base64.b64encode(data.getvalue()).decode()
    return values
