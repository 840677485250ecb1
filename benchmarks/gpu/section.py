"""A section of the runbook, in a process of its own, which may crash, hang or run out of time.

    python -m gpu.section attention --into FILE --seconds 120 --device cuda --work FOLDER

A section writes records, a JSON object a line, as it finds them, so that what it found before it
was ended is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

SHARES = {
    "device": 0.04,
    "loader": 0.13,
    "sanitizer": 0.08,
    "attention": 0.21,
    "engine": 0.15,
    "tensorrt": 0.10,
    "compiled": 0.07,
    "steps": 0.05,
    "tests": 0.17,
}
"""Sections in the order in which they run, and the part of the time that each may take."""
PARTS = {
    "1": ("device", "loader", "sanitizer", "attention"),
    "2": ("device", "engine", "tensorrt", "compiled", "steps", "tests"),
}
"""Sections of a run in two parts, where one may not take as long as all of them need."""
INSTALLED = ("engine", "tensorrt")
"""Sections that run what is installed, compiled modules and all."""
SPARE_SHARE = 0.1
"""The part of its time that a section should leave, and after which it is ended."""
GRACE = 4.0
"""Seconds that what is interrupted has to write what it knows."""
LINE_LIMIT = 400


@dataclass
class Context:
    """Settings of a section, its folder and its records.

    Attributes:
        device: ``cuda``, or ``cpu``: tiny shapes in Triton's interpreter, to test the runbook.
        quick: fewer shapes and checks.
        work: a folder for its files, removed at the end; ``tree`` in it is laid out as the wheel.
        end: when it should be done, by ``time.monotonic``.
        into: the file of its records.
        plan: what the section ``engine`` runs, or None.
    """

    device: str
    quick: bool
    work: Path
    end: float
    into: Path
    plan: Path | None = None

    def remaining(self) -> float:
        """Return the seconds left; below 0 when they are over."""
        return self.end - time.monotonic()

    def emit(self, kind: str, **fields: Any) -> None:
        """Keep a record."""
        with self.into.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **fields}) + "\n")

    def verdict(self, status: str, reason: str) -> None:
        """Say how the section ended, where it is neither done nor an exception."""
        self.emit("verdict", status=status, reason=reason)


@dataclass
class Result:
    """The end of a section, and its records.

    Attributes:
        section: its name.
        status: ``done``; ``failed``; ``out of time``; ``not there``: something that it needs is
            not on this machine; ``left out``: not asked for.
        reason: why it is not done.
        seconds: that it took.
        records: what it found.
    """

    section: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    records: list[dict[str, Any]] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the records of a kind."""
        return [record for record in self.records if record["kind"] == kind]


def part_of(remaining: float, waiting: Sequence[str]) -> float:
    """Return the seconds of the first waiting section; time that one leaves goes to the next."""
    return remaining * SHARES[waiting[0]] / sum(SHARES[section] for section in waiting)


def supervise(section: str, seconds: float, work: Path, options: Sequence[str] = ()) -> Result:
    """Run a section in a process of its own, and end it and all it started when time is over."""
    into = work / f"{section}.jsonl"
    into.touch()
    log = work / f"{section}.log"
    command = [sys.executable, "-m", "gpu.section", section, "--into", str(into)]
    command += ["--seconds", f"{seconds * (1 - SPARE_SHARE):.1f}", "--work", str(work), *options]
    begin = time.monotonic()
    with log.open("wb") as output:
        code = run_limited(
            command,
            seconds,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=work,
            env=environment(section, work),
        )
    records = read_records(into)
    elapsed_s = round(time.monotonic() - begin, 1)
    verdicts = [record for record in records if record["kind"] == "verdict"]
    findings = [record for record in records if record["kind"] != "verdict"]
    if code is None:
        return Result(
            section, "out of time", f"it was ended after {elapsed_s:.0f} s", elapsed_s, findings
        )
    if verdicts:
        verdict = verdicts[-1]
        return Result(section, verdict["status"], verdict["reason"], elapsed_s, findings)
    if code:
        return Result(section, "failed", last_line(log) or f"exit code {code}", elapsed_s, findings)
    return Result(section, "done", "", elapsed_s, findings)


def environment(section: str, work: Path) -> dict[str, str]:
    """Return the environment of a section: the plain copy of the tree, or what is installed.

    The kernels need nothing compiled; the engine does, from a wheel of ours or as it is installed
    in this Python.
    """
    if section not in INSTALLED:
        return dict(os.environ)
    alone = work / "alone"
    alone.mkdir(exist_ok=True)
    if not (alone / "gpu").exists():
        (alone / "gpu").symlink_to(Path(__file__).parent, target_is_directory=True)
    paths = [str(path) for path in (work / "site", alone) if path.exists()]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run_limited(
    command: Sequence[str], seconds: float, grace: float = 0.0, **options: Any
) -> int | None:
    """Run a command; return its exit code, or None where it was ended for time, with its children.

    Args:
        command: the program and its arguments.
        seconds: that it may take.
        grace: seconds between an interruption and the end.
        options: of ``subprocess.Popen``.
    """
    process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, **options)
    try:
        return process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        if grace:
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records in the whole lines of a file."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def last_line(log: Path) -> str:
    """Return the last line of a log."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:LINE_LIMIT] if lines else ""


def main() -> None:
    """Run one section here."""
    parser = argparse.ArgumentParser(prog="python -m gpu.section")
    parser.add_argument("section", choices=list(SHARES))
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--plan", type=Path)
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    context = Context(options.device, options.quick, options.work, end, options.into, options.plan)
    import_module(f"gpu.{options.section}").run(context)


if __name__ == "__main__":
    main()
