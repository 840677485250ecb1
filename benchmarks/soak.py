"""Asks one engine very often, and watches its memory.

python benchmarks/soak.py --plan model.plan [--calls 100000] [--every 100] [--backend onnxruntime]
    [--threads 1] [-o soak.json]

Every task of the plan in turn on images of several sizes, with a vocabulary that nobody asked for
before after every `--every` calls. Resident memory is read twenty times; the slope is that of a
straight line through all readings but those of the first fifth, in which caches fill.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xdecoder_rt import Engine
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cli.machine import describe_machine
from xdecoder_rt.cli.options import positive
from xdecoder_rt.errors import XDecoderError

IMAGES = ((50, 70), (64, 64), (30, 90), (200, 31))
READINGS = 20
WORDS = 10


def calls_of(engine: Engine) -> list[Callable[[Any, list[str]], Any]]:
    """Return a call for each task of the plan, and one for all of them at once."""
    tasks = engine.manifest.tasks
    calls: list[Callable[[Any, list[str]], Any]] = [
        lambda image, words, task=task: engine.segment(image, words, task=task)  # type: ignore[misc]
        for task in ("panoptic", "semantic", "instance")
    ]
    arguments: dict[str, Any] = {}
    if "refer" in tasks:
        calls.append(lambda image, words: engine.refer(image, [f"the {words[0]}", words[1]]))
        arguments["refer"] = ["the mug"]
    if "caption" in tasks:
        calls.append(lambda image, words: engine.caption(image, max_tokens=4))
        arguments |= {"caption": True, "max_tokens": 3}
    if "answer" in tasks:
        calls.append(lambda image, words: engine.answer(image, "what is this?", words[:3]))
    if "embed" in tasks:
        calls.append(lambda image, words: engine.embed_image(image))
    calls.append(lambda image, words: engine.run(image, segment=words, **arguments))
    return calls


def soak(engine: Engine, count: int, every: int) -> Iterator[tuple[int, float]]:
    """Yield (calls so far, resident MiB), `READINGS` times."""
    rng = np.random.default_rng(0)
    images = itertools.cycle([rng.integers(0, 256, (*size, 3), np.uint8) for size in IMAGES])
    calls = itertools.cycle(calls_of(engine))
    words: list[str] = []
    due = [count * (reading + 1) // READINGS for reading in range(READINGS)]
    for number in range(count):
        if number % every == 0:
            words = [f"thing {number // every} {place}" for place in range(WORDS)]
        next(calls)(next(images), words)
        if number + 1 == due[0]:
            due.pop(0)
            gc.collect()
            yield number + 1, resident()


def resident() -> float:
    """Return this process's resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def slope(readings: Sequence[tuple[int, float]]) -> float:
    """Return by how many MiB memory grows in 10,000 calls."""
    later = np.array(readings[len(readings) // 5 :])
    return float(np.polyfit(later[:, 0] / 10_000, later[:, 1], 1)[0])


def run(options: argparse.Namespace) -> int:
    """Ask, print and write the figures."""
    readings = []
    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as cache,
        Engine(options.plan, options.backend, threads=options.threads, cache_dir=cache) as engine,
    ):
        for number, memory in soak(engine, options.calls, options.every):
            readings.append((number, memory))
            print(f"{number:9,} calls  {memory:8.1f} MiB", flush=True)
        document = {
            "model": engine.manifest.model.name,
            "backend": f"{engine.backend.name} {engine.backend.version}",
            "calls": options.calls,
            "vocabularies": -(-options.calls // options.every),
            "seconds": round(time.perf_counter() - start, 1),
            "mib_per_10000_calls": round(slope(readings), 3),
            "readings": [[number, round(memory, 1)] for number, memory in readings],
            "machine": describe_machine(),
        }
    print(f"{document['mib_per_10000_calls']:+.3f} MiB in 10,000 calls")
    if options.output:
        with atomic_writer(options.output) as file:
            file.write((json.dumps(document, indent=2) + "\n").encode())
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--plan", type=Path, required=True)
    options.add_argument("--calls", type=positive, default=100_000, metavar="N")
    options.add_argument("--every", type=positive, default=100, metavar="N")
    options.add_argument("--backend", choices=("onnxruntime", "openvino"))
    options.add_argument("--threads", type=positive, default=1, metavar="N")
    options.add_argument("-o", "--output", type=Path, metavar="FILE", help="figures as JSON")
    return options


if __name__ == "__main__":
    try:
        sys.exit(run(parser().parse_args()))
    except XDecoderError as error:
        sys.exit(f"error: {error}")
