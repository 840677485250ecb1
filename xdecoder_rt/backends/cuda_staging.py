"""Inputs from the host to the device: one page-locked area, one device area, one copy a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.cuda_context import CudaContext, unpin
from xdecoder_rt.backends.cuda_frames import DeviceFrame
from xdecoder_rt.backends.cuda_values import Element, bytes_of, packed


class Staging:
    """Where the host-fed inputs of one stream go.

    It is allocated with the first call, for the largest shapes of the inputs that come from the
    host; which these are does not change from call to call.

    Args:
        cuda: the context.
    """

    def __init__(self, cuda: CudaContext) -> None:
        self._cuda = cuda
        self._pinned: npt.NDArray[np.uint8] | None = None
        self._memory: Any = None
        self._copied = cuda.event()

    def upload(
        self,
        arrays: Mapping[str, npt.NDArray[Any] | DeviceFrame],
        elements: Mapping[str, Element],
        most: Mapping[str, int],
        stream: Any,
    ) -> dict[str, int]:
        """Queue the copies of arrays; they may be changed when this returns.

        Args:
            arrays: by input; frames on the device are copied there.
            elements: what the engine takes them as.
            most: bytes of each at its largest shape.
            stream: where they are read.

        Returns:
            Their addresses on the device, the same for the same shapes.
        """
        if not arrays:
            return {}
        pinned, memory = self._room(packed(most.values())[1])
        sizes = [bytes_of(array.shape, elements[name]) for name, array in arrays.items()]
        offsets, used = packed(sizes)
        # The area is free when the last copy out of it is over.
        self._copied.synchronize()
        base = int(memory)
        frames = []
        for (name, array), offset, size in zip(arrays.items(), offsets, sizes, strict=True):
            if isinstance(array, DeviceFrame):
                frames.append((array, base + offset))
            elif size:
                stored = elements[name].stored
                out = pinned[offset : offset + size].view(stored).reshape(array.shape)
                elements[name].write(array, out)
        self._cuda.driver.memcpy_htod_async(base, pinned[:used], stream)
        for frame, address in frames:
            frame.copy_to(address, self._cuda, stream)
        self._copied.record(stream)
        if frames:
            # Their owner may write the next picture over them as soon as the call returns.
            self._copied.synchronize()
        return {name: base + offset for name, offset in zip(arrays, offsets, strict=True)}

    def close(self) -> None:
        """Release the memory. Nothing is queued on the stream any more."""
        if self._pinned is not None:
            unpin(self._pinned)
            self._memory.free()
            self._pinned = self._memory = None

    def _room(self, size: int) -> tuple[npt.NDArray[np.uint8], Any]:
        if self._pinned is None or len(self._pinned) < size:
            self.close()  # freeing waits for the device
            self._pinned, self._memory = self._cuda.pinned(size), self._cuda.memory(size)
        return self._pinned, self._memory
