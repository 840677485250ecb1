"""Times functions in turns: by ``triton.testing`` on a GPU, by the host's clock on a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from triton.testing import do_bench

WARM_UPS = 3
ROUNDS = 5
ROUND_MS = 2.0
"""Milliseconds of one function in a round, on a GPU."""


@dataclass
class Run:
    """Something that can be timed.

    Attributes:
        call: does it once, on a GPU without waiting for it.
        output: the tensor, or tensors, of the latest call.
        how: ``graph``: replayed as a CUDA graph; ``launches``: launched from Python; ``host``.
        why: why not as a graph.
        keep_alive: what a graph reads, which nothing else may keep alive.
    """

    call: Callable[[], object]
    output: Callable[[], object]
    how: str
    why: str = ""
    keep_alive: object = None


def prepare(function: Callable[[], object], device: str, graph: bool = True) -> Run:
    """Warm a function up and, on a GPU, record it as a graph where that is possible.

    Args:
        function: does the work once.
        device: ``cuda`` or ``cpu``.
        graph: False where it waits for the GPU inside.
    """
    latest: list[object] = [None]

    def call() -> None:
        latest[0] = function()

    if device == "cpu":
        call()
        return Run(call, lambda: latest[0], "host")
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
    return Run(recorded.replay, lambda: output, "graph", keep_alive=function)


def sample_calls(run: Run) -> list[float]:
    """Return microseconds of some calls, each with a cold L2 cache; of one call on a CPU."""
    if run.how != "host":
        milliseconds: list[float] = do_bench(run.call, warmup=1, rep=ROUND_MS, return_mode="all")
        return [1e3 * value for value in milliseconds]
    begin = time.perf_counter()
    run.call()
    return [(time.perf_counter() - begin) * 1e6]


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
    def of(cls, microseconds: list[float]) -> Timing:
        """Summarise at least one call."""
        ordered = sorted(microseconds)
        last_index = len(ordered) - 1
        tenth = last_index // 10
        return cls(median(ordered), ordered[tenth], ordered[last_index - tenth], len(ordered))


def time_in_turns(
    runs: Mapping[str, Run],
    rounds: int = ROUNDS,
    sample: Callable[[Run], list[float]] = sample_calls,
) -> dict[str, Timing]:
    """Time several runs in turns, so that what changes in the machine meets all of them.

    Args:
        runs: by name.
        rounds: turns; each begins with another run.
        sample: microseconds of calls of one run.
    """
    samples: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(rounds):
        offset = turn % max(1, len(names))
        for name in names[offset:] + names[:offset]:
            samples[name] += sample(runs[name])
    return {name: Timing.of(values) for name, values in samples.items()}


def first_line(error: BaseException) -> str:
    """Return an exception's type and first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def tensors(output: object) -> tuple[Tensor, ...]:
    """Return the output of a run as a tuple of tensors."""
    if isinstance(output, Tensor):
        return (output,)
    return tuple(output) if isinstance(output, (tuple, list)) else ()
