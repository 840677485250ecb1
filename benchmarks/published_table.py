"""The table of the published sizes: what a plan of each takes to build, to open and to run.

`benchmarks/published.py --table` writes it. Weights are random: they take the time and the memory
of trained ones. Every step runs in a process of its own, so that each peak is its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from eager import STUFF, WORDS

from xdecoder_rt import Engine
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cli.machine import LIBRARIES, describe_machine, machine_summary
from xdecoder_rt.cli.memory import measure_memory
from xdecoder_rt.errors import BuildError
from xdecoder_rt.streams import synthetic

MODELS = {"tiny": "Focal-T", "large": "Focal-L"}
# The inputs that hold the images of a protocol: short and longest side, padded to multiples of 32.
PROTOCOLS = {
    "COCO": (800, 1344),
    "ADE20K": (640, 864),
    "RefCOCO": (512, 704),
    "Cityscapes": (1024, 2048),
    "captions": (224, 224),
}
WARMUP = 2
# Runs the command in a process, and says what it took at most.
_COMMAND = """
import sys
from xdecoder_rt.cli import main
from xdecoder_rt.cli.memory import peak_mb
code = main(sys.argv[1:])
if code:
    sys.exit(code)
print(peak_mb(), file=sys.stderr)
"""


@dataclass(frozen=True)
class BuildCost:
    """What a command took.

    Attributes:
        seconds: wall-clock time.
        peak_mb: resident memory at most, in MB (10^6 bytes).
    """

    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Row:
    """A plan of one model, input size and precision.

    Attributes:
        model: of `MODELS`.
        protocol: of `PROTOCOLS`.
        size: height and width of the input.
        precision: ``fp32`` or ``int8``.
        file_mb: size of the plan, in MB.
        build: what building it took; of an INT8 plan, from the fp32 plan.
        open_seconds: until the first answer: opening, compiling, embedding no word.
        run_mb: peak resident memory of a process that segments, in MB.
        frame_ms: median of an answer, words known.
    """

    model: str
    protocol: str
    size: tuple[int, int]
    precision: str
    file_mb: float
    build: BuildCost
    open_seconds: float
    run_mb: float
    frame_ms: float


def run_build(arguments: Sequence[str]) -> BuildCost:
    """Run ``xdecoder-rt build`` in a process of its own.

    Raises:
        BuildError: it failed; its last line is in the message.
    """
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-c", _COMMAND, "build", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    lines = process.stderr.strip().splitlines() or ["no message"]
    if process.returncode:
        raise BuildError(f"A plan could not be built ({lines[-1]})")
    return BuildCost(seconds, float(lines[-1]))


def measure_plan(plan: Path, size: tuple[int, int], rounds: int, threads: int) -> dict[str, float]:
    """Return what opening and running a plan takes, as fields of `Row`."""
    image = synthetic.image(size, 0)
    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as cache:
        with Engine(plan, threads=threads, cache_dir=cache) as engine:
            engine.warm(WORDS)
        # Words are known now, and what a runtime compiled is not kept by this folder alone.
        start = time.perf_counter()
        with Engine(plan, threads=threads, cache_dir=cache) as engine:
            engine.segment(image, WORDS, stuff=STUFF)
            opened = time.perf_counter() - start
            times = []
            for number in range(WARMUP + rounds):
                start = time.perf_counter()
                engine.segment(image, WORDS, stuff=STUFF)
                if number >= WARMUP:
                    times.append(1e3 * (time.perf_counter() - start))
    memory = measure_memory(str(plan), size, len(WORDS), None, threads)
    return {
        "file_mb": plan.stat().st_size / 1e6,
        "open_seconds": opened,
        "run_mb": memory.segmented,
        "frame_ms": statistics.median(times),
    }


def measure_model(
    model: str,
    checkpoint: Path,
    protocols: Sequence[str],
    calibration: Path | None,
    rounds: int,
    threads: int,
    done: Callable[[Row], None],
) -> None:
    """Build and run the plans of one model, the smallest first.

    Args:
        model: of `MODELS`.
        checkpoint: its weights.
        protocols: of `PROTOCOLS`.
        calibration: images for INT8; None for fp32 alone.
        rounds: answers that are timed.
        threads: of everything that runs.
        done: called with each row as soon as it is measured.
    """
    for protocol in sorted(protocols, key=lambda name: PROTOCOLS[name]):
        size = PROTOCOLS[protocol]
        with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as folder:
            fp32, int8 = Path(folder, "fp32.plan"), Path(folder, "int8.plan")
            arguments = ["--checkpoint", str(checkpoint), "--size", "{}x{}".format(*size)]
            plans = [("fp32", fp32, [*arguments, "-o", str(fp32)])]
            if calibration is not None:
                # Random weights have no accuracy to keep: the budget is waived.
                conversion = ["--plan", str(fp32), "--precision", "int8", "--force"]
                conversion += ["--calibration", str(calibration), "--estimator", "max"]
                conversion += ["--calibration-images", "8", "--search-images", "2"]
                conversion += ["--max-drop", "100", "--threads", str(threads)]
                plans.append(("int8", int8, [*conversion, "-o", str(int8)]))
            for precision, plan, command in plans:
                cost = run_build(command)
                figures = measure_plan(plan, size, rounds, threads)
                done(Row(model, protocol, size, precision, build=cost, **figures))


def markdown(rows: Sequence[Row], rounds: int, threads: int) -> str:
    """Return the rows as a Markdown table, the machine above it."""
    lines = [
        f"Random weights, {len(WORDS)} words known, {threads} threads, medians of {rounds} frames.",
        *machine_summary(describe_machine((*LIBRARIES, "torch"))).splitlines(),
        "",
        "| model | protocol | input | precision | plan MB | build s | build peak MB "
        "| first answer s | run peak MB | frame ms |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {MODELS[row.model]} | {row.protocol} | {row.size[0]}x{row.size[1]} | {row.precision} "
        f"| {row.file_mb:.0f} | {row.build.seconds:.0f} | {row.build.peak_mb:.0f} "
        f"| {row.open_seconds:.1f} | {row.run_mb:.0f} | {row.frame_ms:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def write_json(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows, whole or not at all."""
    with atomic_writer(path) as file:
        file.write((json.dumps([asdict(row) for row in rows], indent=2) + os.linesep).encode())
