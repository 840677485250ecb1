"""Times masked attention: our kernels and PyTorch's own ways, each checked first."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gpu.peers import PEERS, Way, our_ways
from gpu.problems import DENSITIES, QUICK, SHAPES, TINY, Inputs, Shape, inputs
from gpu.section import Context
from gpu.timing import ROUNDS, Run, first_line, prepare, tensors, time_in_turns
from xdecoder_rt.kernels.launch import launch
from xdecoder_rt.kernels.masked_attention import schedule
from xdecoder_rt.kernels.masked_attention.schedule import DeviceTraits, Operand

TOLERANCE = {"fp16": 1e-2, "bf16": 8e-2, "fp32": 1e-4}
"""Largest difference from the float64 reference; outputs are at most of size 5."""
NORM = {"fp16": 4e-3, "bf16": 3e-2, "fp32": 1e-5}
"""Largest norm of the differences, in norms of the reference."""
FIRST_SHAPE = 4.0
"""Seconds that a row is thought to take until one was done."""


def run(context: Context) -> None:
    """Time every shape that time allows, the most telling first."""
    torch.backends.cuda.matmul.allow_tf32 = False
    shapes = TINY if context.device == "cpu" else QUICK if context.quick else SHAPES
    attention = Attention(context)
    for sweep in (True, False):
        for density in DENSITIES:
            for shape in shapes:
                if shape.sweep == sweep:
                    attention.row(shape, density, [*our_ways(shape, attention.device), *PEERS])
    for shape in shapes:
        if shape.sweep:
            attention.parts(shape, DENSITIES[0])


def device_of(device: str) -> DeviceTraits:
    """Return the device as the kernels' schedule takes it."""
    if device == "cpu":
        return DeviceTraits(multiprocessors=1, capability=(8, 0))
    properties = torch.cuda.get_device_properties(0)
    return DeviceTraits(properties.multi_processor_count, (properties.major, properties.minor))


class Attention:
    """Measures rows one after another, and learns the time that they take."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.device = device_of(context.device)
        on_gpu = context.device == "cuda"
        self._rounds = ROUNDS if on_gpu else 1
        self._row_s = FIRST_SHAPE if on_gpu else 0.0
        self._failed: dict[tuple[Shape, str], str] = {}

    def row(self, shape: Shape, density: float, ways: Sequence[Way]) -> None:
        """Time ways side by side on one shape at one density, if there is time."""
        if self._context.remaining() < self._row_s:
            self._context.emit(
                "left out", shape=shape.as_json(), density=density, reason="no time was left"
            )
            return
        begin = time.monotonic()
        x = inputs(shape, density, self._context.device)
        expected = x.expected()
        runs: dict[str, Run] = {}
        rows: dict[str, dict[str, Any]] = {}
        for way in ways:
            row = rows[way.name] = {"ours": way.ours, "whole": way.whole}
            if (shape, way.name) not in self._failed:
                prepared_run = self._prepare_way(way, x, expected, shape, row)
                if prepared_run is not None:
                    runs[way.name] = prepared_run
                else:
                    # What failed at one density is not tried at the next.
                    self._failed[shape, way.name] = row["failed"]
            else:
                row["failed"] = self._failed[shape, way.name]
        for name, timing in time_in_turns(runs, self._rounds).items():
            rows[name] |= {"us": asdict(timing)}
        self._context.emit(
            "row",
            shape=shape.as_json(),
            density=density,
            open_share=x.open_share(),
            tile_share=x.tile_share(),
            splits=schedule.choose(shape.problem, self.device).splits,
            ways=rows,
        )
        del runs, x, expected
        if self._context.device == "cuda":
            torch.cuda.empty_cache()
            self._row_s = time.monotonic() - begin

    def parts(self, shape: Shape, density: float) -> None:
        """Time the launches of what ships one by one."""
        if self._context.remaining() < 0:
            return
        x = inputs(shape, density, self._context.device)
        problem, way = shape.problem, schedule.choose(shape.problem, self.device)
        names = ("query", "key", "value", "mask_embedding", "mask_features")
        tensors = dict(zip(names, x.as_plans_lay, strict=True))
        for name, (size, kind) in schedule.workspace(problem, way).items():
            tensors[name] = x.query.new_empty(size, dtype=getattr(torch, kind))
        operands = {name: Operand(tensor, tensor.stride()) for name, tensor in tensors.items()}
        out = torch.empty_like(x.query)
        calls = schedule.calls(problem, way, operands, out)
        # In order first: a later launch reads what an earlier one wrote.
        runs = {
            call.function: prepare(partial(launch, call), self._context.device) for call in calls
        }
        timings = time_in_turns(runs, self._rounds)
        us = {name: asdict(timing) for name, timing in timings.items()}
        self._context.emit(
            "parts", shape=shape.as_json(), density=density, splits=way.splits, us=us
        )

    def _prepare_way(
        self, way: Way, x: Inputs, expected: Tensor, shape: Shape, row: dict[str, Any]
    ) -> Run | None:
        """Return a way ready to be timed and checked; None where ``row`` says why not."""
        begin = time.monotonic()
        try:
            prepared_run = prepare(way.build(x), self._context.device, way.graph)
            # Once more as it will be timed, then what that left.
            prepared_run.call()
            row |= compare_output(prepared_run, expected, shape.element)
        except Exception as error:
            row["failed"] = first_line(error)
            if self._context.device == "cuda":
                # After a fault of the device nothing runs any more: this raises then.
                torch.cuda.synchronize()
            return None
        row["preparing_s"] = round(time.monotonic() - begin, 1)
        row |= {"how": prepared_run.how, "why": prepared_run.why}
        return None if "failed" in row else prepared_run


def compare_output(prepared_run: Run, expected: Tensor, element: str) -> dict[str, Any]:
    """Return how far the output is from the reference, and whether that is too far."""
    (output,) = tensors(prepared_run.output())
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
