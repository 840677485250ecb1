"""``pycuda.driver`` in Python, on host memory: for machines without pycuda, and to find races.

Streams do their work when something waits for it (*late*), or at once. Whatever touches memory is
checked: inside one live allocation, current context, page-locked host side. And the order of
accesses is checked as a race detector does it, by vector clocks: two accesses of the same bytes,
one of them a write, must be ordered by a stream, an event or a wait of the host; that they happened
to run in the right order proves nothing.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

Span = tuple[int, int]
"""An address and bytes from there."""
Clock = dict[int, int]
"""What has happened: for each stream, the number of its last operation that is known to be over."""

_HOST = 0


@dataclass
class Operation:
    """Work of a stream, or an event's recording."""

    stream: Stream
    ticket: int
    work: Callable[[], None] | None
    waits_for: Operation | None = None


@dataclass
class Access:
    """Who touched bytes last."""

    span: Span
    stream: int
    ticket: int
    is_write: bool


class Stream:
    """A stream of the device."""

    _numbers = itertools.count(1)

    def __init__(self, driver: Driver, flags: int = 0) -> None:
        driver.check_current()
        assert flags in (0, 1)
        self.driver = driver
        self.handle = 0x5000 + next(self._numbers) * 16
        self.clock: Clock = {}
        self.issued = 0
        self.queue: deque[Operation] = deque()
        self.captured: list[tuple[Callable[[], None], list[Span], list[Span]]] | None = None
        with driver.lock:
            driver.streams[self.handle] = self

    def synchronize(self) -> None:
        with self.driver.lock:
            assert self.captured is None, "a stream that is captured cannot be waited for"
            self.driver.drain(self, self.issued)
            self.driver.learn(self.clock)

    def wait_for_event(self, event: Event) -> None:
        self.driver.check_current()
        with self.driver.lock:
            assert self.captured is None, "an event of before the capture"
            if event.recorded is not None:
                self.driver.join(self.clock, event.clock)
                self.driver.queue_operation(self, None, waits_for=event.recorded)


class Event:
    """An event of the device."""

    def __init__(self, driver: Driver, flags: int = 0) -> None:
        driver.check_current()
        self.driver = driver
        self.recorded: Operation | None = None
        self.clock: Clock = {}

    def record(self, stream: Stream | None = None) -> Event:
        self.driver.check_current()
        with self.driver.lock:
            stream = stream or self.driver.default_stream()
            assert stream.captured is None, "an event in a capture"
            self.recorded = self.driver.queue_operation(stream, None)
            self.clock = dict(stream.clock)
        return self

    def synchronize(self) -> None:
        with self.driver.lock:
            if self.recorded is not None:
                self.driver.drain(self.recorded.stream, self.recorded.ticket)
                self.driver.learn(self.clock)


@dataclass
class Memory:
    """An allocation of the device, 256 bytes aligned and NaN at first."""

    driver: Driver
    size: int
    buffer: Any = field(init=False)
    address: int = field(init=False)
    is_live: bool = True

    def __post_init__(self) -> None:
        self.buffer = np.full(self.size + 512, 0xFF, np.uint8)
        self.address = -(-int(self.buffer.ctypes.data) // 256) * 256

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        self.driver.check_current()
        with self.driver.lock:
            assert self.is_live, "memory is freed twice"
            self.driver.drain_all()
            self.is_live = False
            del self.driver.memory[self.address]
            # Kept, so that its addresses are never those of anything else.
            self.driver.freed.append(self)


class Pinned:
    """Page-locked host memory, the base of the array that pycuda gives."""

    def __init__(self, driver: Driver, size: int) -> None:
        self._buffer = np.full(size, 0xFF, np.uint8)
        self._driver = driver
        self.span = (int(self._buffer.ctypes.data), size)
        with driver.lock:
            driver.pinned.append(self)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return dict(self._buffer.__array_interface__)

    def free(self) -> None:
        self._driver.check_current()
        with self._driver.lock:
            self._driver.drain_all()
            self._driver.pinned.remove(self)
            self._driver.freed.append(self)


class Memcpy2D:
    """Rows between two pitches."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.src_pitch = self.dst_pitch = self.width_in_bytes = self.height = 0
        self._source = self._target = 0

    def set_src_device(self, address: int) -> None:
        self._source = address

    def set_dst_device(self, address: int) -> None:
        self._target = address

    def __call__(self, stream: Stream) -> None:
        rows, width = self.height, self.width_in_bytes
        assert min(self.src_pitch, self.dst_pitch) >= width
        source, target = self._source, self._target
        pitches = self.src_pitch, self.dst_pitch
        reads = [(source, (rows - 1) * pitches[0] + width)]
        writes = [(target, (rows - 1) * pitches[1] + width)]

        def work() -> None:
            for row in range(rows):
                ctypes.memmove(target + row * pitches[1], source + row * pitches[0], width)

        self._driver.access(reads + writes)
        self._driver.submit(stream, work, reads, writes)


class Driver(ModuleType):
    """What stands in for ``pycuda.driver``.

    Args:
        is_late: whether streams work only when something waits for them.
        capability: of the device.
        memory: bytes of the device.
    """

    class Error(Exception):
        """As pycuda raises."""

    class MemoryError(Error):  # noqa: A001 (pycuda's name)
        """No room."""

    def __init__(
        self, is_late: bool = True, capability: tuple[int, int] = (8, 7), memory: int = 1 << 30
    ) -> None:
        super().__init__("pycuda.driver")
        self.is_late = is_late
        self.total = memory
        self.lock = threading.RLock()
        self.streams: dict[int, Stream] = {}
        self.memory: dict[int, Memory] = {}
        self.pinned: list[Pinned] = []
        self.freed: list[object] = []
        self.references = 0
        self.copies: list[tuple[str, int]] = []
        self._accesses: list[Access] = []
        self._host: Clock = {}
        self._current = threading.local()
        self._default: Stream | None = None
        self.event_flags = SimpleNamespace(DISABLE_TIMING=2)
        self.device_attribute = SimpleNamespace(MULTIPROCESSOR_COUNT="multiprocessors")
        self.function_attribute = SimpleNamespace(MAX_DYNAMIC_SHARED_SIZE_BYTES="shared")
        self.launches: list[Any] = []
        self.on_launch: Callable[..., None] | None = None
        device = SimpleNamespace(
            compute_capability=lambda: capability,
            name=lambda: "Fake",
            get_attribute=lambda attribute: {"multiprocessors": 16}[attribute],
            retain_primary_context=self._retain,
        )
        self.Device = _Devices(device)
        self.Context = SimpleNamespace(
            pop=self._pop,
            get_device=lambda: device,
            synchronize=self._synchronize,
        )

    # ---- what pycuda has ----

    def init(self) -> None:
        """Nothing to do."""

    def get_driver_version(self) -> int:
        return 12060

    def mem_get_info(self) -> tuple[int, int]:
        with self.lock:
            used = sum(memory.size for memory in self.memory.values())
        return self.total - used, self.total

    def mem_alloc(self, size: int) -> Memory:
        self.check_current()
        with self.lock:
            if size > self.mem_get_info()[0]:
                raise self.MemoryError("cuMemAlloc failed: out of memory")
            memory = Memory(self, size)
            self.memory[memory.address] = memory
            return memory

    def pagelocked_empty(self, size: int, dtype: Any) -> Any:
        self.check_current()
        assert dtype == np.uint8
        return np.asarray(Pinned(self, size))

    def Stream(self, flags: int = 0) -> Stream:  # noqa: N802 (pycuda's name)
        return Stream(self, flags)

    def Event(self, flags: int = 0) -> Event:  # noqa: N802
        return Event(self, flags)

    def Memcpy2D(self) -> Memcpy2D:  # noqa: N802
        return Memcpy2D(self)

    def memcpy_htod_async(self, target: int, source: Any, stream: Stream) -> None:
        self._copy("htod", target, self._host_span(source), stream)

    def memcpy_dtoh_async(self, target: Any, source: int, stream: Stream) -> None:
        address, size = self._host_span(target)
        self._copy("dtoh", address, (source, size), stream)

    def memset_d8_async(
        self, target: int, value: int, count: int, stream: Stream | None = None
    ) -> None:
        self.access([(target, count)])
        stream = stream or self.default_stream()
        self.submit(
            stream, lambda: ctypes.memset(target, value, count) and None, [], [(target, count)]
        )

    def memcpy_htod(self, target: Any, source: Any) -> None:
        """Synchronous, on the default stream; for tests."""
        array = np.ascontiguousarray(source)
        self.access([(int(target), array.nbytes)])
        stream = self.default_stream()
        self.submit(
            stream,
            lambda: ctypes.memmove(int(target), array.ctypes.data, array.nbytes) and None,
            [],
            [(int(target), array.nbytes)],
        )
        stream.synchronize()

    def module_from_buffer(self, image: bytes) -> Any:
        return SimpleNamespace(get_function=lambda name: _Function(self, name))

    # ---- what the fakes use ----

    def submit(
        self,
        stream: Stream,
        work: Callable[[], None],
        reads: Sequence[Span],
        writes: Sequence[Span],
    ) -> None:
        """Queue work that touches memory, or put it into the stream's capture."""
        self.check_current()
        with self.lock:
            if stream.captured is not None:
                stream.captured.append((work, list(reads), list(writes)))
                return
            operation = self.queue_operation(stream, work)
            for span in reads:
                self._touch(operation, span, is_write=False)
            for span in writes:
                self._touch(operation, span, is_write=True)

    def access(self, spans: Sequence[Span]) -> None:
        """Assert that the bytes are in live device memory."""
        with self.lock:
            live = [(at, at + memory.size) for at, memory in self.memory.items()]
        for address, size in spans:
            inside = any(start <= address and address + size <= end for start, end in live)
            assert inside, f"{size} bytes at {address:#x} are not in one live allocation"

    def queue_operation(
        self, stream: Stream, work: Callable[[], None] | None, waits_for: Operation | None = None
    ) -> Operation:
        """Queue an operation; the caller holds the lock."""
        self.join(stream.clock, self._host)
        stream.issued += 1
        stream.clock[stream.handle] = stream.issued
        operation = Operation(stream, stream.issued, work, waits_for)
        stream.queue.append(operation)
        if not self.is_late:
            self.drain(stream, stream.issued)
        return operation

    def drain(self, stream: Stream, until: int) -> None:
        """Do a stream's work up to an operation; the caller holds the lock."""
        while stream.queue and stream.queue[0].ticket <= until:
            operation = stream.queue.popleft()
            if operation.waits_for is not None:
                self.drain(operation.waits_for.stream, operation.waits_for.ticket)
            if operation.work is not None:
                operation.work()

    def drain_all(self) -> None:
        for stream in self.streams.values():
            self.drain(stream, stream.issued)
            self.learn(stream.clock)

    def learn(self, clock: Clock) -> None:
        """The host has waited for what `clock` says."""
        self.join(self._host, clock)

    def join(self, into: Clock, other: Clock) -> None:
        for stream, ticket in other.items():
            into[stream] = max(into.get(stream, 0), ticket)

    def default_stream(self) -> Stream:
        with self.lock:
            if self._default is None:
                self._default = Stream(self)
            return self._default

    def check_current(self) -> None:
        assert self.depth() > 0, "no context is current on this thread"

    # ---- within ----

    def _touch(self, operation: Operation, span: Span, is_write: bool) -> None:
        start, size = span
        if not size:
            return
        accesses = []
        stream, clock = operation.stream.handle, operation.stream.clock
        for access in self._accesses:
            other_start, other_size = access.span
            overlap = start < other_start + other_size and other_start < start + size
            if overlap and (is_write or access.is_write):
                assert access.stream == stream or clock.get(access.stream, 0) >= access.ticket, (
                    f"a race: {'a write' if is_write else 'a read'} of {size} bytes at {start:#x} "
                    f"is not ordered after {'a write' if access.is_write else 'a read'} there"
                )
            # An access that this one replaces is known to whoever knows this one.
            replaced = (
                is_write and start <= other_start and (other_start + other_size <= start + size)
            )
            is_repeated = (
                access.span == span and access.stream == stream and access.is_write == is_write
            )
            if not (replaced or is_repeated):
                accesses.append(access)
        accesses.append(Access(span, stream, operation.ticket, is_write))
        self._accesses = accesses

    def _copy(self, kind: str, target: int, source: Span, stream: Stream) -> None:
        address, size = source
        device = [(target, size)] if kind == "htod" else [source]
        self.access(device)
        self.copies.append((kind, size))
        self.submit(
            stream,
            lambda: ctypes.memmove(target, address, size) and None,
            [source],
            [(target, size)],
        )

    def _host_span(self, array: Any) -> Span:
        assert array.flags.c_contiguous
        address, size = int(array.ctypes.data), int(array.nbytes)
        with self.lock:
            spans = [pinned.span for pinned in self.pinned]
        inside = any(
            start <= address and address + size <= start + length for start, length in spans
        )
        assert inside, "an asynchronous copy of memory that is not page-locked"
        return address, size

    def _retain(self) -> Any:
        with self.lock:
            self.references += 1
        context = SimpleNamespace(push=lambda: self._push(context))
        maker = threading.get_ident()
        context.detach = lambda: self._detach(context, maker)
        return context

    def _detach(self, context: Any, maker: int) -> None:
        """As pycuda: where it is current, or else on its maker's thread, and nothing is popped."""
        stack = self._stack()
        if stack and stack[-1] is context:
            while stack and stack[-1] is context:
                stack.pop()
            self._current.depth = self.depth() + bool(stack)
        elif threading.get_ident() == maker:
            self._current.depth = self.depth() + 1
        else:
            return
        with self.lock:
            self.references -= 1

    def depth(self) -> int:
        """Contexts on the calling thread's stack, as CUDA counts them."""
        return int(getattr(self._current, "depth", 0))

    def _stack(self) -> list[Any]:
        """The contexts that pycuda thinks were pushed; CUDA has the last of them alone."""
        if not hasattr(self._current, "stack"):
            self._current.stack = []
        stack: list[Any] = self._current.stack
        return stack

    def _push(self, context: Any) -> None:
        self._current.depth = self.depth() - bool(self._stack()) + 1
        self._stack().append(context)

    def _pop(self) -> None:
        stack = self._stack()
        assert stack and self.depth() > 0
        stack.pop()
        self._current.depth = self.depth() - 1 + bool(stack)

    def pop_directly(self) -> None:
        """``cuCtxPopCurrent``, of which pycuda does not know."""
        assert self.depth() > 0
        self._current.depth = self.depth() - 1

    def _synchronize(self) -> None:
        self.check_current()
        with self.lock:
            assert not any(stream.captured is not None for stream in self.streams.values())
            self.drain_all()


class _Devices:
    """``pycuda.driver.Device``."""

    def __init__(self, device: Any) -> None:
        self._device = device

    def __call__(self, number: int) -> Any:
        assert number == 0
        return self._device

    def count(self) -> int:
        return 1


class _Function:
    """A kernel, whose stand-in is the driver's ``on_launch``."""

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver = driver
        self._name = name

    def set_attribute(self, attribute: str, value: int) -> None:
        """Nothing to do."""

    def __call__(self, *arguments: Any, block: Any, grid: Any, shared: int, stream: Stream) -> None:
        values = [argument.item() for argument in arguments]
        driver, name = self._driver, self._name
        driver.launches.append((name, grid, block, values))

        def work() -> None:
            assert driver.on_launch is not None, f"nothing stands in for {name}"
            driver.on_launch(name, grid, values)

        driver.submit(stream, work, [], [])
