"""What the compiled kernels of a plan mean, in NumPy, where the fake drivers launch them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from . import Gpu

# Types of the arguments, as of struct; the last two pointers are Triton's scratch memory.
ARGUMENTS = {
    "across": "PPPPiiiPP",
    "down": "PPPPiiiiPP",
    "own": "PPPPPPPPiiiiiiiPP",
    "relabel": "PPiPP",
}


class Kernels:
    """Runs them.

    Attributes:
        launched: their names, in order.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._array = gpu.machine.array
        self.launched: list[str] = []
        gpu.on_kernel(self, ARGUMENTS)

    def __call__(self, name: str, grid: tuple[int, ...], values: list[Any]) -> None:
        self.launched.append(name)
        if name == "across":
            self._across(grid[0], *values[:-2])
        elif name == "down":
            self._down(grid[0], *values[:-2])
        else:
            {"own": self._own, "relabel": self._relabel}[name](*values[:-2])

    def _across(self, lines: int, *values: Any) -> None:
        (pixels, first, weights, between), (pitch, width, taps) = values[:4], values[4:]
        starts, factors = self._axis(first, weights, width, taps)
        # What lies between the lines belongs to nobody.
        needed = 3 * _reach(starts, factors)
        source = np.stack(
            [self._array(pixels + line * pitch, (needed,), np.uint8) for line in range(lines)]
        ).reshape(lines, -1, 3)
        self._array(between, (lines, width, 3), np.uint8)[:] = _banded(source, starts, factors, 1)

    def _down(self, lines: int, *values: Any) -> None:
        pointers, (height, width, frame_width, taps) = values[:4], values[4:]
        between, first, weights, frame = pointers
        starts, factors = self._axis(first, weights, height, taps)
        needed = _reach(starts, factors)
        source = self._array(between, (needed, width, 3), np.uint8)
        out = self._array(frame, (lines, frame_width, 3), np.uint8)
        out[:] = 0
        out[:height, :width] = _banded(source, starts, factors, 0)

    def _axis(self, first: int, weights: int, target: int, taps: int) -> tuple[Any, Any]:
        return (
            self._array(first, (target,), np.int32),
            self._array(weights, (taps, target), np.int32),
        )

    def _own(self, *values: Any) -> None:
        pointers, sizes = values[:8], values[8:]
        masks, height, width, row_taps, column_taps, out_height, out_width = sizes
        logits = self._array(pointers[0], (masks, height, width), np.float32).astype(np.float64)
        rows = self._matrix(pointers[1], pointers[2], out_height, row_taps, height)
        columns = self._matrix(pointers[3], pointers[4], out_width, column_taps, width)
        shifts = self._array(pointers[5], (masks,), np.float32).astype(np.float64)
        large = rows @ logits @ columns.T
        owner = (shifts[:, None, None] + np.logaddexp(0, -large)).argmin(axis=0)
        inside = large >= 0
        owned = owner == np.arange(masks)[:, None, None]
        winners = self._array(pointers[6], (out_height, out_width), np.int32)
        winners[:] = np.where((owned & inside).any(axis=0), owner + 1, 0)
        counts = self._array(pointers[7], (3, masks), np.int32)
        counts += np.stack([part.sum(axis=(1, 2)) for part in (owned, inside, owned & inside)])

    def _matrix(self, first: int, weights: int, target: int, taps: int, source: int) -> Any:
        starts = self._array(first, (target,), np.int32)
        matrix = np.zeros((target, source))
        for line, row in enumerate(self._array(weights, (target, taps), np.float32)):
            matrix[line, starts[line] : starts[line] + taps] = row
        return matrix

    def _relabel(self, winners: int, ids: int, pixels: int) -> None:
        owners = self._array(winners, (pixels,), np.int32)
        owners[:] = self._array(ids, (int(owners.max()) + 1,), np.int32)[owners]


def _reach(starts: Any, factors: Any) -> int:
    """How much of a line has a weight: nothing beyond it is read."""
    used = len(factors) - (factors[::-1] != 0).argmax(axis=0)
    return int((starts + used).max())


def _banded(source: Any, starts: Any, factors: Any, axis: int) -> Any:
    """One pass of a resize in integers."""
    lines = np.moveaxis(source, axis, 0).astype(np.int64)
    total = np.full((len(starts), *lines.shape[1:]), 1 << 21)
    for tap, weights in enumerate(factors):
        read = np.minimum(starts + tap, len(lines) - 1)
        total += lines[read] * weights[:, None, None]
    return np.moveaxis((total >> 22).clip(0, 255), 0, axis)
