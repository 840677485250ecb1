"""Runs a plan end to end by ``backend="torch"``: every task, with and without kernels and graphs.

Answers are compared with those of ONNX Runtime on the CPU, for the same plan. Frames are on the
host, on the device, and on a side stream that is busy when they are handed over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles
from threading import Thread
from typing import Any

import numpy as np
import torch

from gpu.section import Context
from gpu.timing import first_line
from xdecoder_rt import Engine
from xdecoder_rt.backends.torch.backend import TorchBackend
from xdecoder_rt.streams import synthetic

WORDS = ["mug", "robot arm", "table", "floor"]
REHEARSED_CALLS, QUICK_CALLS, CALLS, WARM = 2, 5, 40, 3
INTERPRETED = 128
"""Longest side of an input for which Triton's interpreter takes seconds, and not minutes."""
PER_PIXEL, PER_SCORE = 0.01, 0.02
"""How far answers may be from the CPU's: share of pixels with another label, and of scores."""


@dataclass(frozen=True)
class Way:
    """How a plan is run: by which kernels, and whether steady graphs are CUDA graphs."""

    name: str
    kernels: bool
    cuda_graphs: bool


WAYS = (
    Way("kernels, CUDA graphs", True, True),
    Way("kernels", True, False),
    Way("CUDA graphs", False, True),
    Way("operators alone", False, False),
)


def run(context: Context) -> None:
    """Run every way of the plan that time allows; there is nothing to do without a plan."""
    if context.plan is None:
        context.verdict("not there", "no plan was named: --plan FILE")
        return
    image = synthetic.image((480, 640) if context.device == "cuda" else (40, 60), 7)
    with Engine(context.plan, backend="onnxruntime", device="cpu", cache_dir=context.work) as base:
        tasks, facts = base.manifest.tasks, base.manifest
        context.emit("plan", model=facts.model.name, precision=facts.precision, tasks=list(tasks))
        expected = {name: ask() for name, ask in questions(base, image).items()}
        longest = max(max(size) for size in facts.input.all_sizes)
    ways = WAYS if context.device == "cuda" else (WAYS[3], WAYS[1])
    for way in ways:
        if context.remaining() < 0:
            context.emit("left out", way=way.name, reason="no time was left")
            continue
        if context.device == "cpu" and way.kernels and longest > INTERPRETED:
            reason = f"inputs of {longest} pixels take minutes in Triton's interpreter"
            context.emit("left out", way=way.name, reason=reason)
            continue
        measure(context, way, image, expected)


def measure(context: Context, way: Way, image: Any, expected: dict[str, Any]) -> None:
    """Compare and time every task of one way, and record a row for each."""
    is_cuda = context.device == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
    try:
        backend = TorchBackend(context.device, way.kernels, way.cuda_graphs)
        with Engine(context.plan, backend=backend, cache_dir=context.work) as engine:
            longest = 0.0
            for name, ask in questions(engine, image).items():
                if context.remaining() < longest:
                    context.emit("left out", way=way.name, task=name, reason="no time was left")
                    continue
                begin = time.monotonic()
                row: dict[str, Any] = {"ours": True, "whole": True, "wrong": False}
                answer, row["ms"] = timed(context, ask)
                if fault := difference(answer, expected[name]):
                    row |= {"wrong": True, "failed": fault}
                context.emit("row", way=way.name, task=name, ways={way.name: row})
                longest = max(longest, time.monotonic() - begin)
            if is_cuda:
                check_frames(context, way, engine, image)
                check_threads(context, way, engine, image)
    except Exception as error:
        failed = {"ours": True, "whole": True, "wrong": True, "failed": first_line(error)}
        context.emit("row", way=way.name, task="all", ways={way.name: failed})
        return
    if is_cuda:
        peak = torch.cuda.max_memory_allocated() / 2**20
        context.emit("memory", way=way.name, peak_mib=round(peak, 1))


def questions(engine: Engine, image: Any) -> dict[str, Callable[[], Any]]:
    """Return a call for each task of the plan, and one for all of them on one image."""
    asked: dict[str, Callable[[], Any]] = {
        "segment": lambda: engine.segment(image, WORDS),
        "refer": lambda: engine.refer(image, ["the mug on the table"]),
        "caption": lambda: engine.caption(image, max_tokens=8),
        "answer": lambda: engine.answer(image, "is there a mug?", ["yes", "no"]),
        "embed": lambda: engine.embed_image(image),
    }
    return {name: call for name, call in asked.items() if name in engine.manifest.tasks}


def difference(actual: Any, expected: Any) -> str:
    """Return how an answer is another than it should be, or nothing."""
    if isinstance(expected, np.ndarray):
        apart = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
        # Written so that NaN fails.
        return "" if apart <= PER_SCORE else f"the embedding differs by {apart:.3g}"
    if isinstance(expected, list):
        masks = [(a.mask != b.mask).mean() for a, b in zip(actual, expected, strict=True)]
        return "" if max(masks) <= PER_PIXEL else f"{max(masks):.2%} of a mask differ"
    if hasattr(expected, "segmentation"):
        share = (actual.segmentation != expected.segmentation).mean()
        return "" if share <= PER_PIXEL else f"{share:.2%} of the pixels differ"
    return "" if actual.text == expected.text else f"{actual.text!r}, not {expected.text!r}"


def timed(context: Context, ask: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return the first answer, and the median and the 90th percentile of calls in milliseconds.

    Waiting is included. On a GPU the first calls are not counted: they compile and capture.
    """
    is_cuda = context.device == "cuda"
    calls = (QUICK_CALLS if context.quick else CALLS) if is_cuda else REHEARSED_CALLS
    answer, taken = None, []
    for number in range(calls + (WARM if is_cuda else 0)):
        begin = time.perf_counter()
        made = ask()
        taken.append(1e3 * (time.perf_counter() - begin))
        if number == 0:
            answer = made
        if context.remaining() < 0 and len(taken) > WARM + 1:
            break
    counted = taken[WARM:] if is_cuda else taken
    tenths = quantiles(counted, n=10, method="inclusive")
    return answer, {"p50": round(tenths[4], 3), "p90": round(tenths[8], 3), "calls": len(counted)}


def check_frames(context: Context, way: Way, engine: Engine, image: Any) -> None:
    """Compare frames on the device, and on a side stream that writes them late, with the host's."""
    expected = engine.segment(image, WORDS).segmentation
    on_device = torch.from_numpy(image).cuda()
    stream = torch.cuda.Stream()
    for name in ("a frame on the device", "a frame of a busy side stream"):
        with torch.cuda.stream(stream if "side" in name else torch.cuda.current_stream()):
            frame = torch.zeros_like(on_device)
            if "side" in name:
                torch.cuda._sleep(20_000_000)
            frame.copy_(on_device)
            made = engine.segment(frame, WORDS).segmentation
            frame.zero_()  # the owner may write again as soon as the call returns
        share = float((made != expected).mean())
        row = {"ours": True, "whole": True, "wrong": share > PER_PIXEL}
        if share > PER_PIXEL:
            row["failed"] = f"{share:.2%} of the pixels differ"
        context.emit("row", way=way.name, task=name, ways={way.name: row})


def check_threads(context: Context, way: Way, engine: Engine, image: Any) -> None:
    """Compare answers of several threads with those of one."""
    images = [np.roll(image, shift, 1) for shift in range(4)]
    expected = [engine.segment(one, WORDS).segmentation for one in images]
    made: list[Any] = [None] * len(images)

    def ask(place: int) -> None:
        for _ in range(5):
            made[place] = engine.segment(images[place], WORDS).segmentation

    threads = [Thread(target=ask, args=(place,)) for place in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pairs = zip(made, expected, strict=True)
    share = max(1.0 if a is None else float((a != b).mean()) for a, b in pairs)
    row: dict[str, Any] = {"ours": True, "whole": True, "wrong": share > PER_PIXEL}
    if row["wrong"]:
        row["failed"] = f"{share:.2%} of the pixels differ"
    context.emit("row", way=way.name, task="four threads", ways={way.name: row})
