"""Runs the tests that are marked ``gpu`` from the copy of the tree, on the GPU."""

from __future__ import annotations

import os
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from gpu.section import GRACE, Context, last_line, run_limited
from xdecoder_rt.cores import usable_cores

CONFIG = """[pytest]
addopts = --import-mode=importlib --strict-markers -p no:cacheprovider
pythonpath = support
markers =
    gpu: runs on a GPU where there is one
    slow: takes more than a few seconds
filterwarnings = default
"""
NEEDS = ("pytest", "hypothesis")
MOST_WORKERS = 12
WORKER_GIB = 4
"""Memory of a process that has imported PyTorch, with room."""


def workers() -> int:
    """Return the number of test processes: most time goes into compiling kernels, one each."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    return max(1, min(MOST_WORKERS, usable_cores() * 3 // 4, gib // WORKER_GIB))


def run(context: Context) -> None:
    """Record the outcomes; a test that failed, or was not reached, fails the section."""
    missing_packages = [name for name in NEEDS if find_spec(name) is None]
    if missing_packages:
        context.verdict("not there", f"it needs {' and '.join(missing_packages)}")
        return
    folder, report = context.work / "tree" / "tests", context.work / "tests.xml"
    (folder / "pytest.ini").write_text(CONFIG)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu and not slow",
        f"--junitxml={report}",
    ]
    if find_spec("xdist") and workers() > 1:
        # One test at a time to each, in order.
        command += ["-n", str(workers()), "--maxschedchunk", "1"]
    log = context.work / "pytest.log"
    with log.open("wb") as output:
        seconds = context.remaining() - GRACE
        # Interrupted, pytest still writes what it knows.
        code = run_limited(
            [*command, "kernels"], seconds, GRACE, cwd=folder, stdout=output, stderr=output
        )
    outcomes = read_junit(report) if report.exists() else []
    counts = Counter(outcome for _, outcome, _ in outcomes)
    context.emit("counts", **{name: counts[name] for name in ("passed", "failed", "skipped")})
    reasons = Counter(reason for _, outcome, reason in outcomes if outcome == "skipped")
    for reason, count in sorted(reasons.items()):
        context.emit("skipped", reason=reason, count=count)
    for test, outcome, reason in outcomes:
        if outcome == "failed":
            context.emit("failure", test=test, reason=reason)
    if code is None:
        context.verdict("out of time", "not every test was reached: give more with --budget")
    elif code != 0:
        context.verdict("failed", f"{counts['failed']} failed; pytest said: {last_line(log)}")


def read_junit(path: Path) -> list[tuple[str, str, str]]:
    """Return name, outcome and reason of every test in pytest's own report."""
    outcomes = []
    for case in ElementTree.parse(path).iter("testcase"):
        outcome, reason = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = "skipped" if child.tag == "skipped" else "failed"
                reason = " ".join((child.get("message") or "no reason").split())[:400]
        outcomes.append((f"{case.get('classname')}::{case.get('name')}", outcome, reason))
    return outcomes
