"""Runs the sections one after another within a time limit, and writes the report after each."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import torch

from gpu.report import Report
from gpu.section import INSTALLED, PARTS, SHARES, Result, part_of, supervise

RESERVE = 3.0
"""Seconds at the end for the report and for removing the work folder."""
LEAST_BUDGET = 30
LOG_LIMIT = 1 << 20
MOST_MIB = 62
"""What tree, wheels and plan may take together on the machine that the runbook is made for."""
NOT_CLEAN = ("failed", "out of time")


def main() -> int:
    """Run the sections and return the exit code: 0 done, 1 something failed, 3 no GPU."""
    begin = time.monotonic()
    options = arguments()
    if options.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        print("there is no GPU that PyTorch can use", file=sys.stderr)
        return 3
    output = (options.called_from / options.output).resolve()
    output.mkdir(parents=True, exist_ok=True)
    started = datetime.now(timezone.utc)
    stem = started.strftime("gpu-%Y-%m-%d-%H%M")
    report = Report(started, options.device, options.budget, [])
    passed = ["--device", options.device, *(("--quick",) if options.quick else ())]
    passed += ["--plan", str(options.plan)] if options.plan else []
    print_sizes(options.work, options.wheels, options.plan)
    if options.wheels and not set(INSTALLED).isdisjoint(options.only):
        install(options.wheels, options.work / "site")
    waiting = [section for section in SHARES if section in options.only]
    for section in SHARES:
        if section not in options.only:
            report.results.append(Result(section, "left out", "it was not asked for"))
            continue
        remaining = max(0.0, options.budget - RESERVE - (time.monotonic() - begin))
        seconds = part_of(remaining, waiting)
        waiting.remove(section)
        print(f"[{time.monotonic() - begin:4.0f} s] {section}: up to {seconds:.0f} s", flush=True)
        try:
            result = supervise(section, seconds, options.work, passed)
        except Exception as error:
            result = Result(section, "failed", f"{type(error).__name__}: {error}")
        report.results.append(result)
        # What there is stays, whatever becomes of the next section.
        report.write(output, stem)
        if result.status in NOT_CLEAN:
            keep_logs(options.work, output / f"{stem}-logs.txt")
        outcome = f"{result.status} {result.reason}".strip()
        print(f"[{time.monotonic() - begin:4.0f} s] {section}: {outcome}", flush=True)
    report.write(output, stem)
    print(output / f"{stem}.md")
    return 1 if report.failures() else 0


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/gpu.sh",
        description="Check and measure the kernels on the GPU of this machine; needs torch, "
        "triton and numpy, no network, and nothing of ours installed.",
        epilog="exit code: 0 done; 1 a test, the sanitizer, the loader or a comparison with the "
        "reference failed; 2 bad arguments; 3 there is no GPU",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("gpu-results"), help="folder for gpu-DATE.json and .md"
    )
    parser.add_argument(
        "--budget", type=float, default=420.0, help="seconds for everything (%(default)s)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(SHARES), default=list(SHARES), help="sections to run"
    )
    parser.add_argument(
        "--part", choices=list(PARTS), help="run the first or the second half of the sections"
    )
    parser.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="the portable plan that engine and tensorrt run",
    )
    parser.add_argument(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="wheels for these sections, ours among them; without it what is installed runs",
    )
    parser.add_argument("--quick", action="store_true", help="fewer shapes")
    parser.add_argument(
        "--device",
        choices=["cuda", "cpu"],
        default="cuda",
        help="cpu: tiny shapes in Triton's interpreter, to test this runbook",
    )
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--called-from", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        options.only = [name for name in PARTS[options.part] if name in options.only]
    for name in ("plan", "wheels"):
        if (path := getattr(options, name)) is not None:
            setattr(options, name, (options.called_from / path).resolve())
            if not getattr(options, name).exists():
                parser.error(f"--{name}: there is no {path}")
    if options.budget < LEAST_BUDGET:
        parser.error(f"--budget must be at least {LEAST_BUDGET} seconds")
    return options


def print_sizes(work: Path, wheels: Path | None, plan: Path | None) -> None:
    """Print what had to be brought here, in all: a machine may take so much and no more."""
    sizes = {"tree": size_of(work / "tree"), "wheels": size_of(wheels), "plan": size_of(plan)}
    shown = ", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in sizes.items())
    total = sum(sizes.values()) / 2**20
    limit = "" if total <= MOST_MIB else f", more than {MOST_MIB} MiB"
    print(f"{shown}: {total:.1f} MiB together{limit}", flush=True)


def size_of(path: Path | None) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    if path is None:
        return 0
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def install(wheels: Path, folder: Path) -> None:
    """Install the wheels of a folder into another, asking no network.

    What they need beside each other must be in this Python.
    """
    files = [str(file) for file in sorted(wheels.glob("*.whl"))]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", str(folder), *files], check=True)


def keep_logs(work: Path, file: Path) -> None:
    """Put the logs of the processes so far into one file."""
    logs = [log for log in sorted(work.glob("*.log")) if log.stat().st_size <= LOG_LIMIT]
    parts = [f"=== {log.stem} ===\n{log.read_text(errors='replace')}\n" for log in logs]
    file.write_text("".join(parts))


if __name__ == "__main__":
    sys.exit(main())
