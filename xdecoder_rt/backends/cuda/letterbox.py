"""Letterboxes on the device: a frame goes up as it came, and is scaled beside the network.

The kernels are those of :mod:`xdecoder_rt.kernels.frame_resize`, compiled ahead of time. They give
the bytes of :func:`xdecoder_rt.image.letterbox`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.cuda.context import CudaContext, unpin
from xdecoder_rt.backends.cuda.frames import DevicePicture
from xdecoder_rt.backends.cuda.values import packed_offsets
from xdecoder_rt.kernels.frame_resize import schedule
from xdecoder_rt.kernels.loader import Kernels
from xdecoder_rt.pixels.axes import FixedAxis, fixed_axis
from xdecoder_rt.pixels.letterbox import Letterbox


class FrameRoom:
    """Memory in which one stream's frames are scaled. It grows to the largest frame, once.

    Args:
        cuda: the context.
    """

    NAMES = ("column_first", "column_weights", "row_first", "row_weights", "pixels", "between")

    def __init__(self, cuda: CudaContext) -> None:
        self._cuda = cuda
        self._pinned: npt.NDArray[np.uint8] | None = None
        self._memory: Any = None
        self._memory_size = 0
        self._laid: tuple[object, ...] | None = None
        self.address: dict[str, int] = {}
        """Where the arrays are on the device, by :attr:`NAMES`."""

    def lay(
        self,
        columns: FixedAxis,
        rows: FixedAxis,
        pixels: npt.NDArray[np.uint8] | None,
        stream: Any,
    ) -> None:
        """Queue the upload of a frame, and of its axes where they are others than the last.

        Args:
            columns: of the width.
            rows: of the height.
            pixels: ``[h, w, 3]`` on the host; None where they are on the device. They may be
                changed when this returns.
            stream: where they are read; what was queued from here before is over.
        """
        axes = (columns.first, columns.weights, rows.first, rows.weights)
        size = 0 if pixels is None else pixels.size
        between = rows.source * columns.target * schedule.CHANNELS
        offsets, total = packed_offsets([*(array.nbytes for array in axes), size, between])
        # The lines between the passes are never on the host.
        pinned, memory = self._room(offsets[-1], total)
        laid = (columns, rows, size)
        start = 0
        if self._laid == laid:
            start = offsets[4]
        else:
            for array, offset in zip(axes, offsets, strict=False):
                pinned[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
            self.address = {
                name: int(memory) + offset for name, offset in zip(self.NAMES, offsets, strict=True)
            }
            self._laid = laid
        if pixels is not None:
            np.copyto(pinned[offsets[4] : offsets[4] + size].reshape(pixels.shape), pixels)
        end = offsets[4] + size
        if start < end:
            self._cuda.driver.memcpy_htod_async(int(memory) + start, pinned[start:end], stream)

    def close(self) -> None:
        """Release the memory. Nothing is queued on the stream any more."""
        if self._pinned is not None:
            unpin(self._pinned)
            self._memory.free()
            self._pinned = self._memory = self._laid = None

    def _room(self, pinned: int, memory: int) -> tuple[npt.NDArray[np.uint8], Any]:
        if self._pinned is None or len(self._pinned) < pinned or self._memory_size < memory:
            self.close()  # freeing waits for the device
            self._pinned = self._cuda.pinned(pinned)
            try:
                self._memory = self._cuda.memory(memory)
            except BaseException:
                unpin(self._pinned)
                self._pinned = None
                raise
            self._memory_size = memory
        return self._pinned, self._memory


class ScaledFrame:
    """A picture scaled into a network input.

    Args:
        picture: uint8 ``[h, w, 3]`` on the host, or a picture on the device, read where it is.
        box: where it goes.
        interpolation: ``"bilinear"`` or ``"bicubic"``.
        kernels: those of the plan.

    Attributes:
        shape: of the input, ``(1, H, W, 3)``.
        is_borrowed: whether its owner may write over the picture.
    """

    def __init__(
        self,
        picture: npt.NDArray[np.uint8] | DevicePicture,
        box: Letterbox,
        interpolation: str,
        kernels: Kernels,
    ) -> None:
        self._picture = picture
        self._box = box
        self._interpolation = interpolation
        self._kernels = kernels
        self.shape = (1, *box.target, 3)
        self.is_borrowed = isinstance(picture, DevicePicture)

    def copy_to(self, address: int, cuda: CudaContext, room: FrameRoom, stream: Any) -> None:
        """Queue the work whose result is the input at `address`. The context is current."""
        box = self._box
        rows, columns = (
            fixed_axis(box.source[i], box.valid[i], self._interpolation) for i in range(2)
        )
        if isinstance(self._picture, DevicePicture):
            room.lay(columns, rows, None, stream)
            self._picture.wait(cuda, stream)
            pixels, pitch = self._picture.address, self._picture.pitch
        else:
            room.lay(columns, rows, self._picture, stream)
            pixels, pitch = room.address["pixels"], schedule.CHANNELS * box.source[1]
        at = room.address
        across = schedule.across(
            pixels,
            pitch,
            box.source[0],
            columns,
            at["column_first"],
            at["column_weights"],
            at["between"],
        )
        down = schedule.down(at["between"], rows, box, at["row_first"], at["row_weights"], address)
        self._kernels.launch(across, stream)
        self._kernels.launch(down, stream)
