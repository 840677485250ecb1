"""Times masked attention: our kernels and what PyTorch offers, each checked first."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from gpu.clock import Run, clock_for, first_line, in_rounds, tensors
from gpu.peers import Way, ours, peers
from gpu.problems import DENSITIES, QUICK, SHAPES, TINY, Inputs, Shape, inputs
from gpu.sections import Context
from xdecoder_rt.kernels.masked_attention import schedule
from xdecoder_rt.kernels.masked_attention.schedule import Device

TOLERANCE = {"fp16": 1e-2, "bf16": 8e-2, "fp32": 1e-4}
"""Largest difference from the float64 reference; outputs are at most of size 5."""
NORM = {"fp16": 4e-3, "bf16": 3e-2, "fp32": 1e-5}
"""Largest norm of the differences, in norms of the reference."""
FIRST_COMPILATION = 25.0
FIRST_SHAPE = 4.0
"""Seconds that something is thought to take until it was done once."""


def run(context: Context) -> None:
    """Time every shape that time allows."""
    torch.backends.cuda.matmul.allow_tf32 = False
    shapes = QUICK if context.quick else SHAPES
    attention = Attention(context)
    for shape in TINY if context.device == "cpu" else shapes:
        attention.shape(shape)


def described(device: str) -> Device:
    """The device as the kernels' schedule takes it."""
    if device == "cpu":
        return Device(multiprocessors=1, capability=(8, 0))
    found = torch.cuda.get_device_properties(0)
    return Device(found.multi_processor_count, (found.major, found.minor))


class Attention:
    """The measuring of shapes, one after another, and what time it learnt that they take."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._device = described(context.device)
        self._clock = clock_for(context.device)
        on_gpu = context.device == "cuda"
        self._rounds = {"rounds": 5, "samples": 10} if on_gpu else {"rounds": 1, "samples": 1}
        self._shape_s = FIRST_SHAPE if on_gpu else 0.0
        self._compiling_s = FIRST_COMPILATION if on_gpu else 0.0

    def shape(self, shape: Shape) -> None:
        """Time one shape at every density, as far as time goes."""
        # What was compiled for other shapes must not stand in the way of this one.
        torch.compiler.reset()
        failed: dict[str, str] = {}
        for density in DENSITIES:
            if self._context.remaining() < self._shape_s:
                self._context.emit(
                    "left out", shape=shape.as_json(), density=density, reason="no time was left"
                )
                continue
            begin = time.monotonic()
            self._row(shape, density, failed)
            if not shape.compiled:
                self._shape_s = time.monotonic() - begin

    def _row(self, shape: Shape, density: float, failed: dict[str, str]) -> None:
        """One shape at one density; ``failed`` has the ways that failed on this shape."""
        x = inputs(shape, density, self._context.device)
        expected = x.expected()
        runs: dict[str, Run] = {}
        rows: dict[str, dict[str, Any]] = {}
        for way in [*ours(shape, self._device), *peers(shape)]:
            row = rows[way.name] = {"ours": way.ours, "whole": way.whole}
            if way.name not in failed:
                made = self._prepared(way, x, expected, shape, density, row)
                if made is not None:
                    runs[way.name] = made
                else:
                    failed[way.name] = row["failed"]
            row |= {"failed": failed[way.name]} if way.name in failed else {}
        for name, timing in in_rounds(runs, self._clock, limit=0.15, **self._rounds).items():
            rows[name] |= {"us": asdict(timing)}
        self._context.emit(
            "row",
            shape=shape.as_json(),
            density=density,
            open_share=x.open_share(),
            tile_share=x.tile_share(),
            splits=schedule.choose(shape.problem, self._device).splits,
            ways=rows,
        )
        del runs, x, expected
        if self._context.device == "cuda":
            torch.cuda.empty_cache()

    def _prepared(
        self,
        way: Way,
        x: Inputs,
        expected: Tensor,
        shape: Shape,
        density: float,
        row: dict[str, Any],
    ) -> Run | None:
        """A way ready to be timed and found right; None where ``row`` says why not."""
        compiles = way.compiled and density == DENSITIES[0]
        left = self._context.remaining()
        if compiles and left < 1.5 * self._compiling_s:
            row["failed"] = f"not compiled: {max(0.0, left):.0f} s were left"
            return None
        begin = time.monotonic()
        try:
            made = self._clock.prepare(way.build(x), way.graph)
            # Once more as it will be timed, then what that left.
            made.call()
            row |= compared(made, expected, shape.element)
        except Exception as error:
            row["failed"] = first_line(error)
            if self._context.device == "cuda":
                # After a fault of the device nothing runs any more: this raises then.
                torch.cuda.synchronize()
            return None
        if compiles:
            row["preparing_s"] = self._compiling_s = round(time.monotonic() - begin, 1)
        row |= {"how": made.how, "why": made.why}
        return None if "failed" in row else made


def compared(made: Run, expected: Tensor, element: str) -> dict[str, Any]:
    """How far the output is from the reference, and whether that is too far."""
    (output,) = tensors(made.output())
    difference = (output.double() - expected).abs()
    largest = float(difference.max())
    norm = float(torch.linalg.vector_norm(difference) / torch.linalg.vector_norm(expected))
    row: dict[str, Any] = {"wrong": False}
    if math.isfinite(largest):
        row |= {"largest_difference": largest, "relative_difference": norm}
    # Written so that NaN fails.
    if not (largest <= TOLERANCE[element] and norm <= NORM[element]):
        row["wrong"] = True
        row["failed"] = f"differs from the reference by up to {largest:.3g}, {norm:.3g} in norm"
    return row
