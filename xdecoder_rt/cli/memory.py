"""Peak memory of a process that imports, loads and segments, and does nothing else.

It is measured in a process of its own: the peak of a process that has done other things is theirs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xdecoder_rt.errors import BackendError

_RUNS = 3


@dataclass(frozen=True)
class Memory:
    """Peak resident memory after each step, in MB (10^6 bytes).

    Attributes:
        imported: after ``import xdecoder_rt`` and its engine.
        loaded: after opening the plan and embedding the words with its text graph.
        segmented: after a few images.
        again: the same in a process that finds compiled models and words kept by this one.
        with_torch: whether PyTorch had been imported, which it should not have been.
    """

    imported: float
    loaded: float
    segmented: float
    again: float
    with_torch: bool


@dataclass(frozen=True)
class _Task:
    """The work of the measured process; as for `measure_memory`."""

    plan: str
    height: int
    width: int
    words: int
    backend: str | None
    threads: int | None
    cache: str


def peak_mb() -> float:
    """Return the peak resident memory of this process so far, in MB."""
    # Linux keeps the figure of getrusage across exec, so a child would report its parent's peak.
    status = Path("/proc/self/status")
    if status.exists():
        match = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)
        if match:
            return int(match[1]) * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure_memory(
    plan: str,
    image_size: tuple[int, int],
    words: int,
    backend: str | None = None,
    threads: int | None = None,
) -> Memory:
    """Measure in a fresh process with an empty cache, and in one more with what that kept.

    Args:
        plan: the plan.
        image_size: (height, width) of the synthetic image.
        words: size of the vocabulary.
        backend: as for `Engine`.
        threads: as for `Engine`.

    Raises:
        BackendError: the process failed; its last line is in the message.
    """
    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as cache:
        task = _Task(plan, *image_size, words, backend, threads, cache)
        first, second = (_measure_apart(task) for _ in range(2))
    return Memory(
        first["imported"],
        first["loaded"],
        first["segmented"],
        second["segmented"],
        first["with_torch"] or second["with_torch"],
    )


def _measure_apart(task: _Task) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "xdecoder_rt.cli.memory", json.dumps(asdict(task))]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        last_line = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise BackendError(f"The process that measures memory failed ({last_line})")
    peaks: dict[str, Any] = json.loads(process.stdout)
    return peaks


def _measure_here(task: _Task) -> dict[str, Any]:
    """Import, load, segment, in this process."""
    from xdecoder_rt.engine import Engine

    imported = peak_mb()
    from xdecoder_rt.streams import synthetic

    vocabulary = synthetic.words(task.words)
    with Engine(task.plan, task.backend, threads=task.threads, cache_dir=task.cache) as engine:
        engine.warm(vocabulary)
        loaded = peak_mb()
        for seed in range(_RUNS):
            engine.segment(synthetic.image((task.height, task.width), seed), vocabulary)
    return {
        "imported": imported,
        "loaded": loaded,
        "segmented": peak_mb(),
        "with_torch": "torch" in sys.modules,
    }


if __name__ == "__main__":
    print(json.dumps(_measure_here(_Task(**json.loads(sys.argv[1])))))
