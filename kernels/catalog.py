"""All forms of all kernels."""

from __future__ import annotations

from xdecoder_rt.kernels.frame_resize import specs as frame_resize
from xdecoder_rt.kernels.level_features import specs as level_features
from xdecoder_rt.kernels.masked_attention import specs as masked_attention
from xdecoder_rt.kernels.panoptic_map import specs as panoptic_map
from xdecoder_rt.kernels.spec import KernelSpec
from xdecoder_rt.kernels.targets import Target


def shipped(target: Target) -> list[KernelSpec]:
    """Return every form that plans may launch on a target."""
    forms = [
        *masked_attention.specs(target.version),
        *level_features.specs(),
        *panoptic_map.specs(),
        *frame_resize.specs(),
    ]
    return [form for form in forms if form.element in target.elements]
