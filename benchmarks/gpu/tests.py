"""Runs ``tests/kernels`` on the GPU, from the copy of the tree."""

from __future__ import annotations

import os
import sys
from collections import Counter
from importlib.util import find_spec

from gpu.sections import Context, ended, last_line, read_records

CONFIG = """[pytest]
addopts = --import-mode=importlib --strict-markers -m "not slow" -p no:cacheprovider
markers =
    slow: takes more than a few seconds
filterwarnings = default
"""
MARGIN = 2.0
MOST_WORKERS = 12
WORKER_GIB = 4
"""Memory of a process that has imported PyTorch, with room."""
NO_GPU = "test_aot.py"
"""Compiles for every target, on the CPU alone: what the section ``loader`` does for this device."""


def workers() -> int:
    """Processes that run tests: most of the time goes into compiling kernels, one at a time."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    return max(1, min(MOST_WORKERS, (os.cpu_count() or 1) * 3 // 4, gib // WORKER_GIB))


def run(context: Context) -> None:
    """Record every outcome; a test that failed, or was not reached, fails the section."""
    folder = context.tree / "tests"
    (folder / "pytest.ini").write_text(CONFIG)
    outcomes = context.work / "outcomes.jsonl"
    outcomes.touch()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "gpu.suite_plugin"]
    command += ["--ignore", f"kernels/{NO_GPU}"]
    if find_spec("xdist") and workers() > 1:
        # One test at a time to each, in order.
        command += ["-n", str(workers()), "--maxschedchunk", "1"]
    environment = {**os.environ, "GPU_RUNBOOK_OUTCOMES": str(outcomes)}
    log = context.work / "pytest.log"
    with log.open("wb") as output:
        code = ended(
            [*command, "kernels"],
            context.remaining() - MARGIN,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
        )
    records = read_records(outcomes)
    counts = Counter(record["outcome"] for record in records)
    context.emit("skipped", reason=f"{NO_GPU}: no GPU takes part", count=1)
    context.emit("counts", **{name: counts[name] for name in ("passed", "failed", "skipped")})
    reasons = Counter(record["reason"] for record in records if record["outcome"] == "skipped")
    for reason, count in sorted(reasons.items()):
        context.emit("skipped", reason=reason, count=count)
    for record in records:
        if record["outcome"] == "failed":
            context.emit("failure", test=record["test"], reason=record["reason"])
    if code is None:
        context.verdict("out of time", "not every test was reached: give more with --budget")
    elif code != 0:
        context.verdict("failed", f"{counts['failed']} failed; pytest said: {last_line(log)}")
