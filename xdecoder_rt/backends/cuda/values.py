"""Arrays in device memory, and the element types that they have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from xdecoder_rt.backends.cuda.blocks import Lease

DEVICE_ALIGNMENT = 256
"""Bytes that every array's address is a multiple of; TensorRT's kernels count on it."""


@dataclass(frozen=True)
class Element:
    """A type of array elements.

    Attributes:
        name: as in kernels' names: ``fp16``, ``i64``.
        stored: the NumPy type of the same size that holds it on the host.
    """

    name: str
    stored: np.dtype[Any]

    def to_host(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return stored elements as NumPy knows them; bfloat16 becomes float32."""
        if self.name != "bf16":
            return stored
        return (stored.astype(np.uint32) << 16).view(np.float32)

    def write(self, array: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        """Convert `array` into `out`, which is of the type `stored`."""
        if self.name != "bf16":
            np.copyto(out, array, casting="same_kind" if array.dtype.kind == "f" else "safe")
            return
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        # To the nearest, of two the even one. A NaN stays one: its highest mantissa bit is set.
        rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
        np.copyto(out, np.where(np.isnan(array), (bits >> 16) | 0x40, rounded), casting="unsafe")


ELEMENT_BY_TYPE = {
    "FLOAT": Element("fp32", np.dtype(np.float32)),
    "HALF": Element("fp16", np.dtype(np.float16)),
    "BF16": Element("bf16", np.dtype(np.uint16)),
    "INT8": Element("i8", np.dtype(np.int8)),
    "INT32": Element("i32", np.dtype(np.int32)),
    "INT64": Element("i64", np.dtype(np.int64)),
    "UINT8": Element("u8", np.dtype(np.uint8)),
    "BOOL": Element("bool", np.dtype(np.bool_)),
}
"""By the names of TensorRT's data types."""


@dataclass(frozen=True, eq=False)
class DeviceValue:
    """An output of a graph, on the device.

    Attributes:
        address: of its first element, a multiple of :data:`DEVICE_ALIGNMENT`.
        shape: its dimensions; it is contiguous.
        element: its type.
        lease: keeps the memory its own, and says when it is written.
    """

    address: int
    shape: tuple[int, ...]
    element: Element
    lease: Lease

    @property
    def size(self) -> int:
        """Return the bytes of the array."""
        return bytes_of(self.shape, self.element)


def bytes_of(shape: Sequence[int], element: Element) -> int:
    """Return the bytes of a contiguous array."""
    return prod(shape) * element.stored.itemsize


def packed_offsets(sizes: Iterable[int]) -> tuple[list[int], int]:
    """Return the offsets of aligned arrays one after another, and the bytes of them all.

    An empty array gets an address too: it may not be null.
    """
    offsets, end = [], 0
    for size in sizes:
        offsets.append(end)
        end += -(-max(size, 1) // DEVICE_ALIGNMENT) * DEVICE_ALIGNMENT
    return offsets, end
