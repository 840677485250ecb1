"""Inputs from the host to the device: one page-locked area, one device area, one copy a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.cuda.context import CudaContext, unpin
from xdecoder_rt.backends.cuda.letterbox import FrameRoom
from xdecoder_rt.backends.cuda.values import Element, bytes_of, packed_offsets


class DeviceInput(Protocol):
    """A network input that is made on the device.

    Attributes:
        shape: of the input.
        is_borrowed: whether it is made of memory whose owner may write there again.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the input."""

    is_borrowed: bool

    def copy_to(self, address: int, cuda: CudaContext, room: FrameRoom, stream: Any) -> None:
        """Queue the work whose result is the input at `address`."""


class Staging:
    """Memory for the host-fed inputs of one stream.

    It is allocated with the first call, for the largest shapes of the inputs that come from the
    host; which these are does not change from call to call.

    Args:
        cuda: the context.
    """

    def __init__(self, cuda: CudaContext) -> None:
        self._cuda = cuda
        self._pinned: npt.NDArray[np.uint8] | None = None
        self._memory: Any = None
        self._frames = FrameRoom(cuda)
        self._copied = cuda.event()

    def upload(
        self,
        arrays: Mapping[str, npt.NDArray[Any] | DeviceInput],
        elements: Mapping[str, Element],
        most: Mapping[str, int],
        stream: Any,
    ) -> dict[str, int]:
        """Queue the copies of arrays; they may be changed when this returns.

        Args:
            arrays: by input; frames are made on the device.
            elements: what the engine takes them as.
            most: bytes of each at its largest shape.
            stream: where they are read.

        Returns:
            Their addresses on the device, the same for the same shapes.
        """
        if not arrays:
            return {}
        pinned, memory = self._room(packed_offsets(most.values())[1])
        uploads = {name: item for name, item in arrays.items() if isinstance(item, np.ndarray)}
        frames = {name: item for name, item in arrays.items() if not isinstance(item, np.ndarray)}
        names = (*uploads, *frames)
        sizes = [bytes_of(arrays[name].shape, elements[name]) for name in names]
        offsets = dict(zip(names, packed_offsets(sizes)[0], strict=True))
        # The area is free when the last copy out of it is over.
        self._copied.synchronize()
        base, end = int(memory), 0
        for (name, array), size in zip(uploads.items(), sizes, strict=False):
            if size:
                stored, end = elements[name].stored, offsets[name] + size
                out = pinned[offsets[name] : end].view(stored).reshape(array.shape)
                elements[name].write(array, out)
        if end:
            self._cuda.driver.memcpy_htod_async(base, pinned[:end], stream)
        for name, frame in frames.items():
            frame.copy_to(base + offsets[name], self._cuda, self._frames, stream)
        self._copied.record(stream)
        if any(frame.is_borrowed for frame in frames.values()):
            # Their owner may write the next picture over them as soon as the call returns.
            self._copied.synchronize()
        return {name: base + offset for name, offset in offsets.items()}

    def close(self) -> None:
        """Release the memory. Nothing is queued on the stream any more."""
        self._frames.close()
        self._release()

    def _release(self) -> None:
        if self._pinned is not None:
            unpin(self._pinned)
            self._memory.free()
            self._pinned = self._memory = None

    def _room(self, size: int) -> tuple[npt.NDArray[np.uint8], Any]:
        if self._pinned is None or len(self._pinned) < size:
            self._release()  # freeing waits for the device
            self._pinned, self._memory = self._cuda.pinned(size), self._cuda.memory(size)
        return self._pinned, self._memory
