"""Clocks: CUDA events on a GPU, the host's clock elsewhere; and rounds that treat all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import torch
from torch import Tensor

WARM_UPS = 3
LEAST_FLUSH = 64 << 20


@dataclass
class Run:
    """Something that can be timed.

    Attributes:
        call: does it once, on a GPU without waiting for it.
        output: the tensor, or tensors, of the latest call.
        how: ``graph``: replayed as a CUDA graph; ``launches``: launched from Python; ``host``.
        why: why not as a graph.
        held: what a graph reads, which nothing else may keep alive.
    """

    call: Callable[[], object]
    output: Callable[[], object]
    how: str
    why: str = ""
    held: object = None


class Clock(Protocol):
    """Prepares functions and times them."""

    def prepare(self, function: Callable[[], object], graph: bool = True) -> Run:
        """Warm a function up, and record it as a graph where that is possible."""

    def sample(self, run: Run, count: int) -> list[float]:
        """Microseconds of ``count`` calls, one after another."""


class HostClock:
    """``time.perf_counter``, for a CPU."""

    def prepare(self, function: Callable[[], object], graph: bool = True) -> Run:
        """Call it once."""
        latest = [function()]

        def call() -> None:
            latest[0] = function()

        return Run(call, lambda: latest[0], "host")

    def sample(self, run: Run, count: int) -> list[float]:
        """Microseconds of each call."""
        taken = []
        for _ in range(count):
            begin = time.perf_counter()
            run.call()
            taken.append((time.perf_counter() - begin) * 1e6)
        return taken


class CudaClock:
    """CUDA events around calls, the L2 cache overwritten before each of them."""

    def __init__(self) -> None:
        cache = torch.cuda.get_device_properties(0).L2_cache_size
        self._flush = torch.empty(max(4 * cache, LEAST_FLUSH), dtype=torch.uint8, device="cuda")

    def prepare(self, function: Callable[[], object], graph: bool = True) -> Run:
        """Warm up, then record as a graph; where that fails, calls are launched from Python."""
        latest: list[object] = [None]

        def call() -> None:
            latest[0] = function()

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        if not graph:
            return Run(call, lambda: latest[0], "launches", "it waits for the GPU inside")
        recorded = torch.cuda.CUDAGraph()
        try:
            # In memory of its own: a pool that graphs share ends with the last of them.
            with torch.cuda.graph(recorded):
                output = function()
        except RuntimeError as error:
            torch.cuda.synchronize()
            return Run(call, lambda: latest[0], "launches", first_line(error))
        return Run(recorded.replay, lambda: output, "graph", held=function)

    def sample(self, run: Run, count: int) -> list[float]:
        """Microseconds on the GPU of each call."""
        events = []
        for _ in range(count):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self._flush.zero_()
            begin.record()
            run.call()
            end.record()
            events.append((begin, end))
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) * 1e3 for begin, end in events]


def clock_for(device: str) -> Clock:
    """The clock of a device, ``cuda`` or ``cpu``."""
    return CudaClock() if device == "cuda" else HostClock()


@dataclass(frozen=True)
class Timing:
    """Microseconds of some calls.

    Attributes:
        median: the figure.
        low: the 10th percentile.
        high: the 90th.
        calls: how many were timed.
    """

    median: float
    low: float
    high: float
    calls: int

    @classmethod
    def of(cls, taken: list[float]) -> Timing:
        """Of at least one call."""
        ordered = sorted(taken)
        last = len(ordered) - 1
        return cls(median(ordered), ordered[last // 10], ordered[last - last // 10], len(ordered))


def in_rounds(
    runs: Mapping[str, Run], clock: Clock, *, rounds: int = 5, samples: int = 10, limit: float = 1.0
) -> dict[str, Timing]:
    """Time several runs in turns, so that what changes in the machine meets all of them.

    Args:
        runs: by name.
        clock: times them.
        rounds: turns; each begins with another run.
        samples: calls a turn.
        limit: seconds that one run may take in all; a slower one is called less often.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    counts: dict[str, int] = {}
    for name, run in runs.items():
        once = clock.sample(run, 1)[0] * 1e-6
        counts[name] = max(1, min(samples, int(limit / rounds / max(once, 1e-9))))
    names = list(runs)
    # The first turn, in which clocks rise, does not count.
    for turn in range(rounds + 1):
        first = turn % max(1, len(names))
        for name in names[first:] + names[:first]:
            values = clock.sample(runs[name], counts[name])
            taken[name] += values if turn else []
    return {name: Timing.of(values) for name, values in taken.items()}


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {said[0][:300]}" if said else type(error).__name__


def tensors(output: object) -> tuple[Tensor, ...]:
    """What a run gave, as a tuple."""
    if isinstance(output, Tensor):
        return (output,)
    return tuple(output) if isinstance(output, (tuple, list)) else ()
