"""Launches compiled kernels through the product's loader, with neither PyTorch nor Triton.

    python -m gpu.launching COMPILED RESULTS.npz [--small] [--unset]

This is what a Jetson does, and what runs under compute-sanitizer: it starts in a second. Results
are for :mod:`gpu.loader` to compare.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gpu.cases import CASES, SMALL, Array, AttentionCase, Case, FrameCase, MapCase, ShrinkCase
from xdecoder_rt.kernels import cuda_driver
from xdecoder_rt.kernels.compiled import CompiledKernels
from xdecoder_rt.kernels.cuda_driver import call_driver
from xdecoder_rt.kernels.frame_resize import schedule as frame_schedule
from xdecoder_rt.kernels.level_features import schedule as shrink_schedule
from xdecoder_rt.kernels.level_features.tiles import tile_plan
from xdecoder_rt.kernels.loader import Kernels
from xdecoder_rt.kernels.masked_attention import schedule
from xdecoder_rt.kernels.masked_attention.schedule import DeviceTraits, Operand
from xdecoder_rt.kernels.panoptic_map import schedule as map_schedule


class Memory:
    """Arrays on the device.

    Args:
        unset: leave what kernels write as the driver gives it, for a tool that finds reads of
            memory that nobody wrote; else it starts as NaN and -1.
    """

    def __init__(self, unset: bool) -> None:
        self._unset = unset
        self._arrays: dict[int, Array] = {}

    def copy(self, array: Array) -> Operand:
        """Copy an array to the device with its strides; it may be any view of a dense one."""
        order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
        dense = np.ascontiguousarray(array.transpose(order))
        address = self._allocate(dense)
        call_driver("cuMemcpyHtoD", address, dense.ctypes.data, dense.nbytes)
        strides = tuple(stride // array.itemsize for stride in array.strides)
        return Operand(address, strides)

    def new(self, shape: tuple[int, ...], kind: Any) -> Operand:
        """Allocate an array for a kernel to write."""
        unwritten = {"i": -1, "u": 0xA5}.get(np.dtype(kind).kind, np.nan)
        array = np.full(shape, unwritten, kind)
        return Operand(self._allocate(array), ()) if self._unset else self.copy(array)

    def fetch(self, operand: Operand) -> Array:
        """Return what lies on the device, in the shape of the array that was copied."""
        array = self._arrays[operand.data]
        host_array = np.empty(array.shape, array.dtype)
        call_driver("cuMemcpyDtoH", host_array.ctypes.data, operand.data, host_array.nbytes)
        return host_array

    def free(self) -> None:
        """Give everything back."""
        for address in self._arrays:
            call_driver("cuMemFree", address)
        self._arrays.clear()

    def _allocate(self, array: Array) -> int:
        address = int(call_driver("cuMemAlloc", array.nbytes))
        self._arrays[address] = array
        return address


def attention(case: AttentionCase, kernels: Kernels, memory: Memory) -> list[Array]:
    """Launch masked attention and return its output."""
    way = schedule.choose(case.problem, DeviceTraits(kernels.multiprocessors, kernels.capability))
    if case.splits:
        way = replace(way, splits=case.splits)
    operands = {name: memory.copy(array) for name, array in case.arrays().items()}
    for name, (shape, kind) in schedule.workspace(case.problem, way).items():
        operands[name] = memory.new(shape, kind)
    p = case.problem
    out = memory.new((p.batch, p.heads, p.queries, p.width), np.float16)
    for launch_call in schedule.calls(p, way, operands, out.data):
        kernels.launch(launch_call)
    return [memory.fetch(out)]


def shrink(case: ShrinkCase, kernels: Kernels, memory: Memory) -> list[Array]:
    """Launch a level shrink and return the levels."""
    x = case.map()
    plan = tile_plan((case.side, case.side), tuple(case.sizes))
    table, weights = memory.copy(plan.table), memory.copy(plan.weights.astype(np.float16))
    image_map = memory.copy(x)
    outs = [memory.new((1, case.channels, side * side), np.float16) for side in case.levels]
    addresses = [out.data for out in outs]
    launch_call = shrink_schedule.call(
        *("fp16", image_map.data, x.shape, image_map.strides, table.data),
        *(len(plan.table), weights.data, addresses),
    )
    kernels.launch(launch_call)
    return [memory.fetch(out) for out in outs]


def panoptic(case: MapCase, kernels: Kernels, memory: Memory) -> list[Array]:
    """Launch a panoptic map and return owners, counts and ids."""
    rows, columns = case.axes()
    arrays = (rows.first, rows.tap_columns, columns.first, columns.tap_columns)
    axes = [memory.copy(array).data for array in arrays]
    winners = memory.new(case.target, np.int32)
    counts = memory.copy(np.zeros((3, case.masks), np.int32))
    shifts = memory.copy(-np.log(case.scores()))
    sizes = {
        "masks": case.masks,
        "height": rows.source,
        "width": columns.source,
        "row_taps": rows.taps,
        "column_taps": columns.taps,
        "out_height": rows.target,
        "out_width": columns.target,
    }
    logits = memory.copy(case.logits())
    tables = (axes[0], axes[1], axes[2], axes[3])
    operands = (logits.data, tables, shifts.data, winners.data, counts.data, sizes)
    kernels.launch(map_schedule.own("fp16", *operands))
    owners = memory.fetch(winners)
    ids = memory.copy(case.ids())
    kernels.launch(map_schedule.relabel(winners.data, ids.data, owners.size))
    return [owners, memory.fetch(counts), memory.fetch(winners)]


def frame(case: FrameCase, kernels: Kernels, memory: Memory) -> list[Array]:
    """Launch the resizing of a frame and return the network's input."""
    box, (rows, columns) = case.box(), case.axes()
    pixels = memory.copy(case.pixels())
    between = memory.new((rows.source, columns.target, 3), np.uint8)
    out = memory.new((*box.target, 3), np.uint8)
    first, weights = (memory.copy(array).data for array in (columns.first, columns.weights))
    pitch = 3 * columns.source
    kernels.launch(
        frame_schedule.across(
            pixels.data, pitch, rows.source, columns, first, weights, between.data
        )
    )
    first, weights = (memory.copy(array).data for array in (rows.first, rows.weights))
    kernels.launch(frame_schedule.down(between.data, rows, box, first, weights, out.data))
    return [memory.fetch(out)]


def launch_case(case: Case, kernels: Kernels, memory: Memory) -> list[Array]:
    """Launch a case and return the arrays that it leaves."""
    if isinstance(case, AttentionCase):
        return attention(case, kernels, memory)
    if isinstance(case, ShrinkCase):
        return shrink(case, kernels, memory)
    if isinstance(case, FrameCase):
        return frame(case, kernels, memory)
    return panoptic(case, kernels, memory)


def main() -> None:
    """Launch every case and print, as JSON, by what."""
    parser = argparse.ArgumentParser(prog="python -m gpu.launching")
    parser.add_argument("compiled", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--small", action="store_true", help="leave out the large case")
    parser.add_argument("--unset", action="store_true", help="leave memory as it is allocated")
    options = parser.parse_args()
    call_driver("cuInit", 0)
    device = call_driver("cuDeviceGet", 0)
    call_driver("cuCtxPushCurrent", call_driver("cuDevicePrimaryCtxRetain", device))
    try:
        kernels = Kernels(CompiledKernels(options.compiled), cuda_driver)
        results = {}
        for case in SMALL if options.small else CASES:
            memory = Memory(options.unset)
            for i, array in enumerate(launch_case(case, kernels, memory)):
                results[f"{case.name}/{i}"] = array
            memory.free()
    finally:
        call_driver("cuCtxPopCurrent")
        call_driver("cuDevicePrimaryCtxRelease", device)
    np.savez(options.results, **results)
    present = [module for module in ("torch", "triton") if module in sys.modules]
    print(json.dumps({"driver": "cuda-bindings", "imported": present}))


if __name__ == "__main__":
    main()
