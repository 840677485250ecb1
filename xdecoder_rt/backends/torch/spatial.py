"""Operators over the sides of images: convolutions, pools, resizes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.backends.torch.call import Call, Step


class _Windows:
    """How a kernel goes over the sides of an image."""

    def __init__(self, call: Call) -> None:
        self.sides = call.first.ndim - 2
        if call.text("auto_pad", "NOTSET") != "notset":
            raise call.refusal("pads by a rule of its own")
        self.strides = call.integers("strides", [1] * self.sides)
        self.dilations = call.integers("dilations", [1] * self.sides)
        pads = call.integers("pads", [0] * 2 * self.sides)
        self.before, self.after = pads[: self.sides], pads[self.sides :]
        self.ceil = bool(call.integer("ceil_mode", 0))

    @property
    def is_even(self) -> bool:
        """Whether both ends of every side are padded alike, which PyTorch does by itself."""
        return self.before == self.after

    def padded(self, x: Tensor, value: float) -> Tensor:
        """Return an image with its padding around it."""
        ends = zip(reversed(self.before), reversed(self.after), strict=True)
        return F.pad(x, [each for pair in ends for each in pair], value=value)


def _convolution(call: Call) -> Step:
    windows, groups = _Windows(call), call.integer("group", 1)
    pads = windows.before if windows.is_even else [0] * windows.sides
    no_turn = [0] * windows.sides

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x if windows.is_even else windows.padded(x, 0)
        # As torch.conv2d, but for the last argument: cuDNN would take TF32 for fp32.
        return torch._convolution(
            x, weight, bias, windows.strides, pads, windows.dilations, False, no_turn, groups,
            torch.backends.cudnn.benchmark, False, True, False,
        )  # fmt: skip

    return convolve


def _max_pool(call: Call) -> Step:
    windows, kernel = _Windows(call), call.integers("kernel_shape", ())
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[windows.sides - 1]
    # PyTorch itself pads at most half a kernel.
    is_even = windows.is_even and all(
        2 * pad <= size for pad, size in zip(windows.before, kernel, strict=True)
    )
    pads = windows.before if is_even else [0] * windows.sides

    def largest(x: Tensor) -> Tensor:
        x = x if is_even else windows.padded(x, -math.inf)
        return pool(x, kernel, windows.strides, pads, windows.dilations, windows.ceil)

    return largest


def _average_pool(call: Call) -> Step:
    windows, kernel = _Windows(call), call.integers("kernel_shape", ())
    if windows.ceil or set(windows.dilations) != {1}:
        raise call.refusal("averages windows that are no plain ones")
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[windows.sides - 1]
    counts_pads = bool(call.integer("count_include_pad", 0))

    def mean(x: Tensor) -> Tensor:
        sums = pool(windows.padded(x, 0), kernel, windows.strides)
        if counts_pads:
            return sums
        ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
        return sums / pool(windows.padded(ones, 0), kernel, windows.strides)

    return mean


def _global_mean(call: Call) -> Step:
    axes = list(range(2, call.first.ndim))
    return lambda x: x.mean(axes, keepdim=True)


def _resize(call: Call) -> Step:
    shape = call.first.shape
    if "axes" in call.node.attributes or call.text("keep_aspect_ratio_policy", "stretch") != (
        "stretch"
    ):
        raise call.refusal("resizes by a rule of its own")
    if call.has(3):
        sizes = [int(each) for each in call.numbers(3)]
        scales = [size / side for size, side in zip(sizes, shape, strict=True)]
    else:
        scales = [float(each) for each in call.numbers(2)]
        sizes = [int(side * scale) for side, scale in zip(shape, scales, strict=True)]
    ways = [
        (axis, _ResizedAxis(call, shape[axis], sizes[axis], scales[axis]))
        for axis in range(len(shape))
        if sizes[axis] != shape[axis]
    ]
    dtype, device = call.first.dtype, call.first.device
    if call.text("mode", "nearest") == "nearest":
        chosen = [(axis, torch.from_numpy(way.nearest()).to(device)) for axis, way in ways]

        def choose(x: Tensor, *_: Tensor | None) -> Tensor:
            for axis, places in chosen:
                x = torch.index_select(x, axis, places)
            return x

        return choose
    kind = dtype if dtype.is_floating_point else torch.float32
    matrices = [(axis, torch.from_numpy(way.weights()).to(device, kind)) for axis, way in ways]

    def interpolate(x: Tensor, *_: Tensor | None) -> Tensor:
        y = x.to(kind)
        for axis, matrix in matrices:
            y = torch.movedim(torch.movedim(y, axis, -1) @ matrix, -1, axis)
        return y if dtype.is_floating_point else torch.round(y).to(dtype)

    return interpolate


class _ResizedAxis:
    """One axis of a resize, as the standard defines it (ONNX, operator Resize)."""

    def __init__(self, call: Call, source: int, target: int, scale: float) -> None:
        self._call = call
        self._source, self._target, self._scale = source, target, scale
        self._mode = call.text("mode", "nearest")
        if self._mode not in ("nearest", "linear", "cubic"):
            raise call.refusal(f"resizes by {self._mode!r}")

    def _places(self) -> npt.NDArray[np.float64]:
        """Where the elements of the output lie on the input."""
        rule = self._call.text("coordinate_transformation_mode", "half_pixel")
        x, scale = np.arange(self._target, dtype=np.float64), self._scale
        length = scale * self._source
        if rule == "asymmetric":
            return x / scale
        if rule == "align_corners":
            return x * (self._source - 1) / (length - 1) if length > 1 else x * 0
        if rule == "pytorch_half_pixel" and self._target <= 1:
            return x * 0
        if rule == "half_pixel_symmetric":
            shift = self._source / 2 * (1 - self._target / length)
            return shift + (x + 0.5) / scale - 0.5
        if rule not in ("half_pixel", "pytorch_half_pixel"):
            raise self._call.refusal(f"places elements by {rule!r}")
        return (x + 0.5) / scale - 0.5

    def nearest(self) -> npt.NDArray[np.int64]:
        """Return which element of the input each of the output is."""
        rule, places = self._call.text("nearest_mode", "round_prefer_floor"), self._places()
        rounded = {
            "round_prefer_floor": lambda: np.ceil(places - 0.5),
            "round_prefer_ceil": lambda: np.floor(places + 0.5),
            "floor": lambda: np.floor(places),
            "ceil": lambda: np.ceil(places),
        }
        if rule not in rounded:
            raise self._call.refusal(f"rounds by {rule!r}")
        return np.clip(rounded[rule](), 0, self._source - 1).astype(np.int64)

    def weights(self) -> npt.NDArray[np.float64]:
        """Return what each element of the input adds to each of the output: ``[in, out]``."""
        places = self._places()
        # Where it shrinks against aliasing, the kernel is as wide as its steps are long.
        spread = 1.0
        if self._call.integer("antialias", 0) and self._scale < 1:
            spread = 1 / self._scale
        reach = math.ceil((1 if self._mode == "linear" else 2) * spread)
        taps = np.floor(places)[:, None] + np.arange(1 - reach, reach + 1)
        weights = self._kernel(np.abs(taps - places[:, None]) / spread)
        if self._call.integer("exclude_outside", 0):
            weights[(taps < 0) | (taps >= self._source)] = 0
        weights /= weights.sum(1, keepdims=True)
        matrix = np.zeros((self._source, self._target))
        inside = np.clip(taps, 0, self._source - 1).astype(np.int64)
        np.add.at(matrix, (inside, np.arange(self._target)[:, None]), weights)
        return matrix

    def _kernel(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the weight at a distance."""
        if self._mode == "linear":
            return np.maximum(1 - x, 0)
        a = self._call.number("cubic_coeff_a", -0.75)
        near = ((a + 2) * x - (a + 3)) * x**2 + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0))


OPERATORS: dict[str, Callable[[Call], Step]] = {
    "AveragePool": _average_pool,
    "Conv": _convolution,
    "GlobalAveragePool": _global_mean,
    "MaxPool": _max_pool,
    "Resize": _resize,
}
"""What binds each operator."""
