"""Device memory that is allocated once and lent again and again, in stream order.

A *block* holds all outputs of one call of a graph. It is lent for as long as any of them is in
use: an image state keeps its vision outputs while it lives, and no later call writes into them.
Coming back costs nothing and waits for nothing: whoever gets the block next makes its stream wait
for those that still read it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.cuda.context import CudaContext


class Block:
    """Memory of a fixed address.

    Attributes:
        address: where it begins.
        size: bytes.
        ready: recorded when what it holds is written.
        readers: the last event of every stream that reads what it holds.
    """

    def __init__(self, cuda: CudaContext, size: int) -> None:
        self._memory = cuda.memory(size)
        self.address = int(self._memory)
        self.size = size
        self.ready = cuda.event()
        self.readers: dict[int, Any] = {}

    def open_to(self, stream: Any) -> None:
        """Let `stream` write: after all that was written and read before."""
        stream.wait_for_event(self.ready)
        for event in self.readers.values():
            stream.wait_for_event(event)
        self.readers = {}

    def free(self) -> None:
        """Release the memory; the device waits for its users. Values in it are of no use then."""
        self._memory.free()
        self.readers = {}
        del self.ready


class Lease:
    """A block while it is in use; it goes back when nobody refers to the lease any more.

    Attributes:
        block: what is lent.
        used: bytes of it that hold something.
        host: those bytes, once they came to the host together; see
            :class:`~xdecoder_rt.backends.cuda.downloads.Downloads`.
    """

    def __init__(self, block: Block, free: deque[Block]) -> None:
        self.block = block
        self.used = 0
        self.host: npt.NDArray[np.uint8] | None = None
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.block)


class BlockPool:
    """Blocks of one size. They are allocated at the start; more only where more are alive at once.

    Args:
        cuda: the context, current.
        size: bytes of a block.
        count: blocks to begin with.
    """

    def __init__(self, cuda: CudaContext, size: int, count: int) -> None:
        self._cuda = cuda
        self._size = size
        self._blocks: list[Block] = []
        self._free: deque[Block] = deque()
        try:
            for _ in range(count):
                self._free.append(self._allocate())
        except BaseException:
            self.close()
            raise

    def take(self) -> Lease:
        """Lend a block that nobody uses. The context is current.

        Raises:
            BackendError: all are in use and there is no room for another.
        """
        try:
            block = self._free.popleft()
        except IndexError:
            block = self._allocate()
        return Lease(block, self._free)

    def _allocate(self) -> Block:
        block = Block(self._cuda, self._size)
        self._blocks.append(block)
        return block

    @property
    def bytes(self) -> int:
        """Return the bytes of all blocks."""
        return len(self._blocks) * self._size

    def close(self) -> None:
        """Release all blocks, those in use too. The context is current."""
        self._free.clear()
        while self._blocks:
            self._blocks.pop().free()
