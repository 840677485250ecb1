"""Times masked attention as PyTorch compiles it, each way beside what ships and SDPA.

A section of its own: compiling takes many seconds, and may fail in ways of its own.
"""

from __future__ import annotations

import time

import torch

from gpu.attention import Attention
from gpu.peers import COMPILED, PEERS, SHIPPED, our_ways
from gpu.problems import COMPILED as SHAPES
from gpu.problems import DENSITIES, TINY
from gpu.section import Context

BESIDE = "SDPA, boolean mask"


def run(context: Context) -> None:
    """Compile each way for each shape, and time it at every density, while time is left."""
    torch.backends.cuda.matmul.allow_tf32 = False
    attention = Attention(context)
    slowest = 0.0
    for shape in TINY if context.device == "cpu" else SHAPES:
        shipped = next(way for way in our_ways(shape, attention.device) if way.name == SHIPPED)
        beside = next(way for way in PEERS if way.name == BESIDE)
        for way in COMPILED:
            if context.remaining() < slowest:
                context.emit("left out", shape=shape.as_json(), way=way.name, reason="no time")
                continue
            begin = time.monotonic()
            # What was compiled for other shapes must not stand in the way of this one.
            torch.compiler.reset()
            for density in DENSITIES:
                attention.row(shape, density, [shipped, beside, way])
            slowest = max(slowest, time.monotonic() - begin)
