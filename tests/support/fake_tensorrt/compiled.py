"""Compiled kernels of masked attention for the fake driver, without code, and their launches."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdecoder_rt.kernels.spec import Call

HEADS, WIDTH, CHANNELS = 3, 64, 65


def kernel_files(sm: int, only: str = "") -> dict[str, bytes]:
    """What ahead-of-time compilation leaves, by file.

    Args:
        sm: the compute capability that the machine code is for; there is no PTX.
        only: names of forms must match this regular expression.
    """
    from xdecoder_rt.kernels.aot import described
    from xdecoder_rt.kernels.compiled import KERNEL_INDEX, KERNELS_FORMAT_VERSION
    from xdecoder_rt.kernels.masked_attention.specs import specs

    images = sys.modules["fake_cuda"]
    kernels: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for spec in specs(divmod(sm, 10)):
        if not re.search(only, spec.name):
            continue
        sizes = [8 if kind.startswith("*") else 4 for kind in spec.arguments.values()]
        kernel = images.Kernel(spec.function, (*sizes, 8, 8), (spec.warps * 32, 1, 1))
        name = f"sm_{sm}/{spec.name}.cubin"
        files[name] = images.cubin(sm, kernel)
        facts = {
            "entry": spec.function,
            "shared": 1024,
            "cubin": {"file": name, "sha256": hashlib.sha256(files[name]).hexdigest()},
        }
        kernels[spec.name] = {**described(spec), "targets": {f"sm_{sm}": facts}}
    index = {"format_version": KERNELS_FORMAT_VERSION, "kernels": kernels}
    return {**files, KERNEL_INDEX: json.dumps(index, sort_keys=True).encode()}


def node_calls(
    queries: int, keys: int, mask_element: str, addresses: Mapping[str, int]
) -> tuple[Call, Call]:
    """What the launcher of compiled kernels makes of ``MaskBits`` and ``AttendBits``.

    One image, 3 heads of 64, 65 channels; attention in fp16, on a GPU with tensor cores.

    Args:
        queries: their number.
        keys: positions of the level.
        mask_element: element type of the mask's factors.
        addresses: of all tensors of both.
    """
    from xdecoder_rt.kernels.masked_attention import schedule
    from xdecoder_rt.kernels.masked_attention.schedule import Operand, Problem

    heads, width, channels = HEADS, WIDTH, CHANNELS
    strides: dict[str, tuple[int, ...]] = {
        "query": (heads * queries * width, queries * width, width, 1),
        "key": (heads * width * keys, width * keys, 1, keys),
        "value": (heads * keys * width, keys * width, width, 1),
        "mask_embedding": (queries * channels, channels, 1),
        "mask_features": (channels * keys, keys, 1),
        "bits": (),
    }
    operands = {name: Operand(addresses[name], axes) for name, axes in strides.items()}
    way = schedule.Schedule(schedule.WIDE, schedule.BITS)
    plain = schedule.Schedule(schedule.NARROW_PLAIN, schedule.BITS_PLAIN)

    def calls(element: str, how: schedule.Schedule) -> list[Call]:
        problem = Problem(1, heads, queries, keys, width, channels, element)
        return schedule.calls(problem, how, operands, addresses["out"])

    bits = calls(mask_element, plain if mask_element == "fp32" else way)[0]
    return bits, calls("fp16", way)[1]
