"""Masked attention as two nodes of a graph, and the launch that each stands for.

``MaskBits`` makes a bit of every mask logit's sign, for all heads; ``AttendBits`` attends under
them. Two, because the two may be of different types (mask logits stay fp32 where queries are fp16)
and because TensorRT's quick plugins hold one kernel each. Keys are not split over programs: the
kernel that joins the parts would be a third.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xdecoder_rt.kernels.masked_attention import schedule
from xdecoder_rt.kernels.masked_attention.schedule import DeviceTraits, Operand, Problem
from xdecoder_rt.kernels.masked_attention.specs import WIDE_CHANNELS
from xdecoder_rt.kernels.spec import Call

NAMESPACE, VERSION = "xdecoder_rt", "1"
BITS, ATTEND = "MaskBits", "AttendBits"
INPUTS = {BITS: ("mask_embedding", "mask_features"), ATTEND: ("query", "key", "value", "bits")}
"""What each takes: ``[B, Q, C]`` and ``[B, C, N]``; ``[B, heads, Q, d]``, ``[B, heads, d, N]``,
``[B, heads, N, d]`` and the bits, int32 ``[B, Q, words]``. All of them contiguous."""
OUTPUT = {BITS: "bits", ATTEND: "out"}
"""What each gives: the bits; ``[B, heads, Q, d]``."""
FUNCTION = {BITS: "open_bits", ATTEND: "attend"}
"""The kernel of each."""


def call_of(
    node: str,
    shapes: Sequence[Sequence[Any]],
    element: str,
    capability: tuple[int, int],
    addresses: Mapping[str, int],
) -> Call:
    """Return the launch of a node.

    Args:
        node: :data:`BITS` or :data:`ATTEND`.
        shapes: of its inputs. The batch, the number of queries and that of mask features' channels
            may be symbolic; these have products on their right side only.
        element: of the first input.
        capability: of the device.
        addresses: of its inputs and its output, by name.
    """
    batch = shapes[0][0]
    if node == BITS:
        queries, (channels, keys) = shapes[0][1], shapes[1][1:]
        # What is not known here is full tiles: mask features have these channels, and regions.
        least = channels if isinstance(channels, int) else WIDE_CHANNELS
        problem = Problem(batch, 1, queries, keys, 1, least, element)
        strides = {
            "mask_embedding": (queries * channels, channels, 1),
            "mask_features": (channels * keys, keys, 1),
            "bits": (),
        }
    else:
        queries, (heads, width, keys) = shapes[0][2], shapes[1][1:]
        problem = Problem(batch, heads, queries, keys, width, 1, element)
        strides = {
            "query": (queries * (heads * width), queries * width, width, 1),
            "key": (heads * width * keys, width * keys, 1, keys),
            "value": (heads * keys * width, keys * width, width, 1),
            "bits": (),
        }
    # The tiles do not depend on sizes.
    fixed = replace(problem, batch=1, queries=1)
    way = replace(schedule.choose(fixed, DeviceTraits(1, capability)), splits=1)
    operands = {name: Operand(addresses[name], axes) for name, axes in strides.items()}
    if node == BITS:
        call = schedule.bits_call(problem, way, operands)
        return replace(call, values={**call.values, "channels": channels})
    return schedule.attend_call(problem, way, operands, addresses["out"])
