"""Compiled kernels in the form that TensorRT launches: their parameters in its order.

An ahead-of-time plugin's kernel is given inputs, 32-bit integers, then outputs, and nothing else.
Triton's kernels have outputs before integers, a float among these, and two pointers to scratch
memory at the end, which ours do not use. In PTX, parameters are read by name, so their order is
that of their declarations alone.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence

from xdecoder_rt.errors import BuildError

SCRATCH = 2
"""Pointers that Triton appends to a kernel's parameters."""
_HEAD = re.compile(r"(\.entry\s+(\w+)\(\n)(.*?)(\n\))", re.DOTALL)


def reordered(
    ptx: str, arguments: Sequence[str], order: Sequence[str], baked: Mapping[str, float]
) -> str:
    """Return PTX whose entry takes its parameters in another order.

    Args:
        ptx: one kernel, as Triton compiled it.
        arguments: names of its parameters as they are, scratch memory excluded.
        order: the names in the new order; those that are baked in are left out.
        baked: floats to be constants.

    Raises:
        BuildError: the PTX is not of that form.
    """
    head = _HEAD.search(ptx)
    declared = head.group(3).split(",\n") if head else []
    if head is None or len(declared) != len(arguments) + SCRATCH:
        raise _unusable(f"its entry has {len(declared)} parameters, not {len(arguments) + SCRATCH}")
    if {*order, *baked} != set(arguments) or len(order) + len(baked) != len(arguments):
        raise _unusable(f"its parameters are {', '.join(arguments)}")
    entry, start, end = head.group(2), head.end(1), head.end(3)
    body = ptx[end:]
    names = {name: f"{entry}_param_{i}" for i, name in enumerate(arguments)}
    for i in range(len(arguments), len(arguments) + SCRATCH):
        if re.search(rf"\b{entry}_param_{i}\b", body):
            raise _unusable("it uses scratch memory")
    for name, value in baked.items():
        (bits,) = struct.unpack("<I", struct.pack("<f", value))
        load = re.compile(rf"ld\.param\.[bf]32(\s+%\w+, )\[{names[name]}\];")
        body = load.sub(rf"mov.b32\g<1>0x{bits:08x};", body)
        if re.search(rf"\b{names[name]}\b", body):
            raise _unusable(f"it reads {name} in an unknown way")
    by_name = dict(zip(arguments, declared, strict=False))
    return ptx[:start] + ",\n".join(by_name[name] for name in order) + body


def _unusable(why: str) -> BuildError:
    return BuildError(
        f"A compiled kernel cannot be a plugin: {why}",
        fix="compile the kernels again with this release: python -m xdecoder_rt.kernels.aot",
    )
