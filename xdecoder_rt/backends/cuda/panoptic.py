"""Panoptic maps on the device: of the mask logits nothing but counts and the map are downloaded.

The kernels are those of :mod:`xdecoder_rt.kernels.panoptic_map`, compiled ahead of time; the rule
of segments between the two runs on the host, on three integers a mask.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.cuda.context import CudaContext, unpin
from xdecoder_rt.backends.cuda.values import DeviceValue, packed_offsets
from xdecoder_rt.kernels.loader import Kernels
from xdecoder_rt.kernels.panoptic_map import schedule
from xdecoder_rt.masks.panoptic_rule import MapSegment, panoptic_segments
from xdecoder_rt.masks.resample import Axis, mask_axis
from xdecoder_rt.pixels.letterbox import Letterbox

_Geometry = tuple[Letterbox, tuple[int, int]]
Map = tuple[npt.NDArray[np.int32], tuple[MapSegment, ...]]


class _Desk:
    """Memory and a stream for one map at a time.

    Its arrays lie at the same offsets on both sides: what is written on the host and copied up,
    then what is copied down.
    """

    NAMES = (
        "row_first",
        "row_weights",
        "column_first",
        "column_weights",
        "shifts",
        "ids",
        "counts",
        "winners",
    )

    def __init__(self, cuda: CudaContext) -> None:
        self._cuda = cuda
        self.stream = cuda.stream()
        self._room: tuple[npt.NDArray[np.uint8], Any] | None = None
        self._masks = 0
        self._geometry: _Geometry | None = None

    def lay(self, geometry: _Geometry, rows: Axis, columns: Axis, masks: int) -> None:
        """Make room for maps of a geometry, and upload its matrices if it is another."""
        if geometry == self._geometry and masks <= self._masks:
            return
        self._masks = max(32, 1 << (masks - 1).bit_length())
        shapes = (
            (rows.target,),
            (rows.target, rows.taps),
            (columns.target,),
            (columns.target, columns.taps),
            (self._masks,),
            (self._masks + 1,),
            (3 * self._masks,),
            (rows.target, columns.target),
        )
        sizes = [4 * int(np.prod(shape)) for shape in shapes]
        offsets, total = packed_offsets(sizes)
        if self._room is None or len(self._room[0]) < total:
            self.close()
            self._room = self._cuda.pinned(total), self._cuda.memory(total)
        pinned, memory = self._room
        self.address = {
            name: int(memory) + offset for name, offset in zip(self.NAMES, offsets, strict=True)
        }
        self.bytes = {
            name: pinned[offset : offset + size]
            for name, offset, size in zip(self.NAMES, offsets, sizes, strict=True)
        }
        matrices = (rows.first, rows.tap_columns, columns.first, columns.tap_columns)
        for name, matrix in zip(self.NAMES, matrices, strict=False):
            self.up(name, matrix)
        self._geometry = geometry

    def up(self, name: str, array: npt.NDArray[Any]) -> None:
        """Queue the copy of an array, of 4-byte elements, to the device."""
        area = self.bytes[name][: array.nbytes]
        area[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._cuda.driver.memcpy_htod_async(self.address[name], area, self.stream)

    def down(self, name: str, count: int) -> npt.NDArray[np.int32]:
        """Return the first integers of an array of the device, when all that is queued is over."""
        area = self.bytes[name][: 4 * count]
        self._cuda.driver.memcpy_dtoh_async(area, self.address[name], self.stream)
        self.stream.synchronize()
        return area.view(np.int32).copy()

    def close(self) -> None:
        """Release the memory."""
        if self._room is not None:
            pinned, memory = self._room
            unpin(pinned)
            memory.free()
            self._room = None
        self._geometry = None


class PanopticMaps:
    """Makes panoptic maps, from any thread.

    Args:
        cuda: the context, current.
        kernels: those of the plan.
    """

    def __init__(self, cuda: CudaContext, kernels: Kernels) -> None:
        self._cuda = cuda
        self._kernels = kernels
        self._desks: SimpleQueue[_Desk] = SimpleQueue()

    def __call__(
        self,
        scores: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        mask_logits: DeviceValue,
        letterbox: Letterbox,
        is_thing: npt.NDArray[np.bool_],
        overlap_threshold: float,
    ) -> Map:
        """Compute the map and segments of :func:`xdecoder_rt.masks.postprocess.panoptic`.

        Args:
            scores: ``[K]``, positive, K at least 1.
            labels: ``[K]``, indices into the vocabulary.
            mask_logits: ``[1, K, h, w]``, of the whole padded input.
            letterbox: where the image lies in it.
            is_thing: one entry per class.
            overlap_threshold: 0 to 1.

        Raises:
            BackendError: the kernels were not compiled for this device.
            PlanError: a compiled kernel is damaged.
        """
        with self._cuda:
            try:
                desk = self._desks.get_nowait()
            except Empty:
                desk = _Desk(self._cuda)
            try:
                return self._map(
                    desk, scores, labels, mask_logits, letterbox, is_thing, overlap_threshold
                )
            finally:
                self._desks.put(desk)

    def _map(
        self,
        desk: _Desk,
        scores: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        mask_logits: DeviceValue,
        letterbox: Letterbox,
        is_thing: npt.NDArray[np.bool_],
        overlap_threshold: float,
    ) -> Map:
        _, masks, height, width = mask_logits.shape
        rows, columns = (
            mask_axis(size, letterbox.target[i], letterbox.valid[i], letterbox.source[i])
            for i, size in enumerate((height, width))
        )
        desk.lay((letterbox, (height, width)), rows, columns, masks)
        desk.up("shifts", -np.log(scores.astype(np.float32)))
        driver = self._cuda.driver
        driver.memset_d8_async(desk.address["counts"], 0, 12 * masks, desk.stream)
        desk.stream.wait_for_event(mask_logits.lease.block.ready)
        at = desk.address
        ownership = schedule.own(
            mask_logits.element.name,
            mask_logits.address,
            (at["row_first"], at["row_weights"], at["column_first"], at["column_weights"]),
            at["shifts"],
            at["winners"],
            at["counts"],
            {
                "masks": masks,
                "height": height,
                "width": width,
                "row_taps": rows.taps,
                "column_taps": columns.taps,
                "out_height": rows.target,
                "out_width": columns.target,
            },
        )
        self._kernels.launch(ownership, desk.stream)
        counts = desk.down("counts", 3 * masks).reshape(3, masks).astype(np.int64)
        ids, segments = panoptic_segments(counts, scores, labels, is_thing, overlap_threshold)
        desk.up("ids", ids)
        pixels = rows.target * columns.target
        self._kernels.launch(schedule.relabel(at["winners"], at["ids"], pixels), desk.stream)
        winners = desk.down("winners", pixels)
        return winners.reshape(rows.target, columns.target), segments

    def close(self) -> None:
        """Release the memory. The context is current and no map is being made."""
        while not self._desks.empty():
            self._desks.get_nowait().close()
