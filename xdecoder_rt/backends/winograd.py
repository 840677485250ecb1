"""Winograd's convolutions for OpenVINO, whose CPU plugin has none in fp32.

The algorithm is F(4x4, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"
(CVPR 2016). Tiles of 6 by 6 pixels, 4 apart, and the kernels are transformed; one matrix product
for each of the 36 places, over all channels, takes the place of nine for each of the 16 pixels that
a tile makes: a quarter of the multiplications. Exact but for rounding, whose relative RMS in
float32 is 5e-6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.constants import constant_values

# The transforms move memory whatever the width, and transformed kernels are four times as large. On
# two cores a convolution of 512 channels takes half the time on a map of 128x128 and 0.6 of it at
# 32x32, which is 64 tiles, as long at 16x16; one of 256 channels 0.8 to 1.3 of it, of 128 more.
LEAST_CHANNELS = 512
LEAST_TILES = 64
# A transformed map is 2.25 times as large and there are two at a time; at 512 channels this many
# tiles are 75 MB each. Fewer at a time are no faster.
TILES_AT_ONCE = 1024

_TILE, _STEP, _KERNEL = 6, 4, 3
# Orders of axes that move channels to the end, and back.
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
# Of pixels into the domain of products, of a kernel, and back.
_PIXELS = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHTS = np.array(
    ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24)), np.float32
) / np.float32(24)
_OUTPUTS = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


def use_winograd(openvino: ModuleType, network: Any) -> int:
    """Replace wide 3x3 convolutions of one image of a fixed size; return how many.

    Args:
        openvino: the library.
        network: an ``openvino.Model``, changed in place; it must be computed in float32.
    """
    replaced = 0
    for node in network.get_ordered_ops():
        if node.get_type_name() == "Convolution" and _has_float_kernel(node) and gains(node):
            _Convolution(openvino.opset13, node).replace()
            replaced += 1
    return replaced


def gains(node: Any) -> bool:
    """Return whether Winograd's algorithm takes a convolution, in fp32, sooner than OpenVINO.

    Args:
        node: a ``Convolution`` of an ``openvino.Model``.
    """
    attributes = node.get_attributes()
    image = node.input_value(0).get_partial_shape()
    kernel = node.input_value(1).get_partial_shape()
    if image.is_dynamic or kernel.is_dynamic:
        return False
    sides = list(image.to_shape())[2:]
    width, depth, *size = kernel.to_shape()
    return bool(
        size == [_KERNEL, _KERNEL]
        and min(width, depth) >= LEAST_CHANNELS
        and image.to_shape()[0] == 1
        and not any(side % _STEP for side in sides)
        and sides[0] * sides[1] >= LEAST_TILES * _STEP * _STEP
        and all(
            set(attributes[name]) == {1}
            for name in ("strides", "dilations", "pads_begin", "pads_end")
        )
        and attributes["auto_pad"] == "explicit"
    )


def _has_float_kernel(node: Any) -> bool:
    kernel = node.input_value(1)
    is_constant = kernel.get_node().get_type_name() == "Constant"
    return bool(is_constant and kernel.get_element_type().get_type_name() == "f32")


def _moves_channels_last(node: Any) -> bool:
    order = constant_values(node.input_value(1)) if node.get_type_name() == "Transpose" else None
    return order is not None and tuple(order) == _TO_LAST


class _Convolution:
    """The nodes that take the place of one convolution and of what follows it at once.

    Args:
        ops: OpenVINO's operators.
        node: the convolution, of one image whose sides are multiples of 4.
    """

    def __init__(self, ops: Any, node: Any) -> None:
        self._ops = ops
        self._node = node
        self._image = node.input_value(0)
        self._kernel: npt.NDArray[np.float32] = node.input_value(1).get_node().data
        _, self._depth, self._height, self._width = node.input(0).get_shape()

    def replace(self) -> None:
        """Replace the convolution, the sum with its bias, and moves of channels to the end."""
        ops, made, last = self._ops, self._built(), self._node
        bias = self._bias()
        if bias is not None:
            last, values = bias
            made = ops.add(made, ops.constant(values))
        first = ops.transpose(made, self._axes(*_TO_FIRST))
        for reader in list(last.output(0).get_target_inputs()):
            node = reader.get_node()
            if _moves_channels_last(node):
                self._put(made, node)
            else:
                reader.replace_source_output(first.output(0))
        # A graph's output is told by the name of its tensor.
        first.output(0).add_names(last.output(0).get_names())

    def _bias(self) -> tuple[Any, npt.NDArray[np.float32]] | None:
        """Return the sum that alone reads the values, and what it adds to each channel."""
        readers = [reader.get_node() for reader in self._node.output(0).get_target_inputs()]
        readers = [node for node in readers if node.get_type_name() != "ShapeOf"]
        if len(readers) != 1 or readers[0].get_type_name() != "Add":
            return None
        for number in range(2):
            values = constant_values(readers[0].input_value(number))
            if values is not None and values.shape == (1, len(self._kernel), 1, 1):
                return readers[0], values.reshape(-1)
        return None

    def _put(self, made: Any, node: Any) -> None:
        """Let what reads a node read another one."""
        for reader in list(node.output(0).get_target_inputs()):
            reader.replace_source_output(made.output(0))
        made.output(0).add_names(node.output(0).get_names())

    def _built(self) -> Any:
        """Return the last node: ``[1, C, H, W] -> [1, H, W, C']``."""
        ops, rows, columns = self._ops, self._height // _STEP, self._width // _STEP
        # Channels last: tiles are then runs of memory.
        moved = ops.transpose(self._image, self._axes(*_TO_LAST))
        zeros = ops.constant(np.float32(0))
        padded = ops.pad(moved, self._axes(0, 1, 1, 0), self._axes(0, 3, 3, 0), "constant", zeros)
        shape = self._axes(rows + 1, _STEP, columns + 1, _STEP, self._depth)
        steps = ops.reshape(padded, shape, False)
        kernels = ops.constant(transformed(self._kernel))
        at_once = max(1, TILES_AT_ONCE // columns)
        strips = [
            self._strip(steps, kernels, start, min(start + at_once, rows), columns)
            for start in range(0, rows, at_once)
        ]
        return ops.concat(strips, 1) if len(strips) > 1 else strips[0]

    def _strip(self, steps: Any, kernels: Any, start: int, stop: int, columns: int) -> Any:
        """Convolve the rows of tiles from ``start`` to ``stop``: ``[1, rows * 4, W, C']``."""
        ops, rows = self._ops, stop - start
        lines = list(self._places(steps, start, rows, 0))
        tiles = [
            ops.reshape(pixel, self._axes(1, rows * columns, self._depth), False)
            for line in self._sums(lines, _PIXELS)
            for pixel in self._sums(list(self._places(line, 0, columns, 2)), _PIXELS)
        ]
        products = ops.matmul(ops.concat(tiles, 0), kernels, False, False)
        parts = ops.split(products, ops.constant(np.int64(0)), _TILE * _TILE)
        grid = [[parts.output(_TILE * i + j) for j in range(_TILE)] for i in range(_TILE)]
        halves = [self._sums(list(column), _OUTPUTS) for column in zip(*grid, strict=True)]
        width = len(self._kernel)
        pixels = [
            [
                ops.reshape(pixel, self._axes(1, rows, 1, columns, 1, width), False)
                for pixel in self._sums(list(line), _OUTPUTS)
            ]
            for line in zip(*halves, strict=True)
        ]
        whole = ops.concat([ops.concat(line, 4) for line in pixels], 2)
        return ops.reshape(whole, self._axes(1, rows * _STEP, self._width, width), False)

    def _places(self, steps: Any, start: int, count: int, axis: int) -> Iterator[Any]:
        """Yield what stands at each of the 6 places of tiles along an axis, split into steps."""
        for place in range(_TILE):
            first, rest = divmod(place, _STEP)
            begin = self._axes(start + first, rest)
            end = self._axes(start + first + count, rest + 1)
            yield self._ops.slice(steps, begin, end, self._axes(1, 1), self._axes(axis, axis + 1))

    def _sums(self, values: Sequence[Any], table: Sequence[Sequence[int]]) -> list[Any]:
        """Return a weighted sum for each row of a table."""
        ops, sums = self._ops, []
        for row in table:
            terms = [
                value if factor == 1 else ops.multiply(value, ops.constant(np.float32(factor)))
                for value, factor in zip(values, row, strict=True)
                if factor
            ]
            total = terms[0]
            for term in terms[1:]:
                total = ops.add(total, term)
            sums.append(total)
        return sums

    def _axes(self, *values: int) -> Any:
        return self._ops.constant(np.array(values, np.int64))


def transformed(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return kernels in the domain of products: ``[C', C, 3, 3] -> [36, C, C']``."""
    width, depth = kernel.shape[:2]
    places = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0))
    lines = (_WEIGHTS @ places.reshape(_KERNEL, -1)).reshape(_TILE, _KERNEL, -1)
    squares = (_WEIGHTS @ lines).astype(np.float32, copy=False)
    return squares.reshape(_TILE * _TILE, depth, width)
