"""The table of the published sizes: what a plan of each takes to build, to open and to run.

`benchmarks/published.py --table` writes it. Weights are random: they take the time and the memory
of trained ones. Every step runs in a process of its own, so that each peak is its own.
"""

from __future__ import annotations

import json
import resource
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
from xdecoder_rt.errors import ArgumentError, BuildError
from xdecoder_rt.export.presets import preset_named
from xdecoder_rt.streams import synthetic

MODELS = {"tiny": "Focal-T", "large": "Focal-L"}
PRESETS = ("caption", "refcoco", "ade20k", "coco", "cityscapes")
"""The smallest first."""
WARMUP = 1
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
        cpu_seconds: of all its threads, which tells more on a busy machine.
        peak_mb: resident memory at most, in MB (10^6 bytes).
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Row:
    """A plan of one model, input size and precision.

    Attributes:
        model: of `MODELS`.
        preset: of `PRESETS`.
        size: height and width of the input, the preset's smallest that is no higher than wide.
        precision: ``fp32`` or ``int8``.
        format_version: of the plan.
        file_mb: size of the plan with this input alone, in MB.
        build: what building it took; of an INT8 plan, from the fp32 plan.
        first_seconds: opening, compiling and decoding an image, with nothing kept from before.
        again_seconds: opening and segmenting, with what the first left in the cache folder.
        run_mb: peak resident memory of a process that segments, in MB.
        frame_ms: median of an answer, words known.
    """

    model: str
    preset: str
    size: tuple[int, int]
    precision: str
    format_version: int
    file_mb: float
    build: BuildCost
    first_seconds: float
    again_seconds: float
    run_mb: float
    frame_ms: float


@dataclass
class Table:
    """Rows of one machine, in the order of models and presets.

    Attributes:
        rounds: answers that are timed.
        threads: of everything that runs.
        machine: what `describe_machine` says.
        rows: what was measured.
    """

    rounds: int
    threads: int
    machine: dict[str, object]
    rows: list[Row]

    @classmethod
    def begin(cls, path: Path | None, rounds: int, threads: int) -> Table:
        """Return an empty table, or that of a file, whose other rows stay.

        Raises:
            ArgumentError: the file was measured elsewhere, or otherwise.
        """
        machine = describe_machine((*LIBRARIES, "torch"))
        if path is None or not path.exists():
            return cls(rounds, threads, machine, [])
        table = cls.read(path)
        settings = {"rounds": rounds, "threads": threads, "machine": machine}
        changed = [name for name, value in settings.items() if getattr(table, name) != value]
        if changed:
            raise ArgumentError(
                f"{path} was measured with another {' and '.join(changed)}",
                expected="one machine and one way to measure in a table",
                fix="write another file",
            )
        return table

    @classmethod
    def read(cls, path: Path) -> Table:
        """Return the table of a file."""
        document = json.loads(path.read_text())
        table = cls(document["rounds"], document["threads"], document["machine"], [])
        for row in document["rows"]:
            cost, size = BuildCost(**row.pop("build")), tuple(row.pop("size"))
            table.add(Row(build=cost, size=size, **row))
        return table

    def add(self, row: Row) -> None:
        """Put a row in its place, where another of the same plan may be."""
        places = {_place(other): other for other in (*self.rows, row)}
        self.rows = [places[place] for place in sorted(places)]

    def markdown(self) -> str:
        """Return the rows as a Markdown table, the machine above it."""
        lines = [
            f"Random weights, {len(WORDS)} words known, {self.threads} threads, medians of "
            f"{self.rounds} frames.",
            *machine_summary(self.machine).splitlines(),
            "",
            "| model | preset | input | precision | plan MB (format) | build s (CPU s) "
            "| build peak MB "
            "| first opening s | opening again s | run peak MB | frame ms |",
            "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        lines += [
            f"| {MODELS[row.model]} | {row.preset} | {row.size[0]}x{row.size[1]} | {row.precision} "
            f"| {row.file_mb:.0f} ({row.format_version}) | {row.build.seconds:.0f} "
            f"({row.build.cpu_seconds:.0f}) | {row.build.peak_mb:.0f} "
            f"| {row.first_seconds:.1f} | {row.again_seconds:.1f} | {row.run_mb:.0f} "
            f"| {row.frame_ms:.0f} |"
            for row in self.rows
        ]
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Write the table as JSON, whole or not at all."""
        with atomic_writer(path) as file:
            file.write((json.dumps(asdict(self), indent=2) + "\n").encode())


def _place(row: Row) -> tuple[int, int, str]:
    return list(MODELS).index(row.model), PRESETS.index(row.preset), row.precision


def input_of(preset: str) -> tuple[int, int]:
    """Return the smallest (height, width) of a preset's inputs that is no higher than wide."""
    return min(size for size in preset_named(preset).sizes if size[0] <= size[1])


def run_build(arguments: Sequence[str]) -> BuildCost:
    """Run ``xdecoder-rt build`` in a process of its own.

    Raises:
        BuildError: it failed; its last line is in the message.
    """
    start, earlier = time.perf_counter(), _cpu_seconds()
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
    return BuildCost(seconds, _cpu_seconds() - earlier, float(lines[-1]))


def _cpu_seconds() -> float:
    """Return the processor time of the processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_plan(
    plan: Path, size: tuple[int, int], rounds: int, threads: int
) -> dict[str, int | float]:
    """Return what opening and running a plan takes, as fields of `Row`."""
    image = synthetic.image(size, 0)
    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as cache:
        start = time.perf_counter()
        with Engine(plan, threads=threads, cache_dir=cache) as engine:
            engine.decode(image)
            first = time.perf_counter() - start
            engine.warm(WORDS)
            version = engine.manifest.format_version
        start = time.perf_counter()
        with Engine(plan, threads=threads, cache_dir=cache) as engine:
            engine.segment(image, WORDS, stuff=STUFF)
            again = time.perf_counter() - start
            times = []
            for number in range(WARMUP + rounds):
                start = time.perf_counter()
                engine.segment(image, WORDS, stuff=STUFF)
                if number >= WARMUP:
                    times.append(1e3 * (time.perf_counter() - start))
    memory = measure_memory(str(plan), size, len(WORDS), None, threads)
    return {
        "format_version": version,
        "file_mb": plan.stat().st_size / 1e6,
        "first_seconds": first,
        "again_seconds": again,
        "run_mb": memory.segmented,
        "frame_ms": statistics.median(times),
    }


def measure_model(
    model: str,
    checkpoint: Path,
    presets: Sequence[str],
    calibration: Path | None,
    table: Table,
    done: Callable[[Row], None],
) -> None:
    """Build and run the plans of one model, the smallest first.

    Args:
        model: of `MODELS`.
        checkpoint: its weights.
        presets: of `PRESETS`.
        calibration: images for INT8; None for fp32 alone.
        table: rounds and threads.
        done: called with each row as soon as it is measured.
    """
    for preset in sorted(presets, key=PRESETS.index):
        size = input_of(preset)
        with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as folder:
            fp32, int8 = Path(folder, "fp32.plan"), Path(folder, "int8.plan")
            arguments = ["--checkpoint", str(checkpoint), "--preset", preset]
            arguments += ["--size", "{}x{}".format(*size)]
            plans = [("fp32", fp32, [*arguments, "-o", str(fp32)])]
            if calibration is not None:
                # Random weights have no accuracy to keep: the budget is waived.
                conversion = ["--plan", str(fp32), "--precision", "int8", "--force"]
                conversion += ["--calibration", str(calibration), "--estimator", "max"]
                conversion += ["--calibration-images", "2", "--search-images", "1"]
                conversion += ["--max-drop", "100", "--threads", str(table.threads)]
                plans.append(("int8", int8, [*conversion, "-o", str(int8)]))
            for precision, plan, command in plans:
                cost = run_build(command)
                figures = measure_plan(plan, size, table.rounds, table.threads)
                done(Row(model, preset, size, precision, build=cost, **figures))
