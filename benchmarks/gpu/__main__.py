"""Runs the sections one after another within a time limit, and writes the report after each."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import torch

from gpu.report import Report
from gpu.section import SHARES, Result, part_of, supervise

RESERVE = 3.0
"""Seconds at the end for the report and for removing the work folder."""
LEAST_BUDGET = 30
LOG_LIMIT = 1 << 20
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
            keep_logs(options.work, output / f"{stem}-logs")
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
    if options.budget < LEAST_BUDGET:
        parser.error(f"--budget must be at least {LEAST_BUDGET} seconds")
    return options


def keep_logs(work: Path, folder: Path) -> None:
    """Copy the logs of the processes so far."""
    folder.mkdir(exist_ok=True)
    for log in work.glob("*.log"):
        if log.stat().st_size <= LOG_LIMIT:
            shutil.copyfile(log, folder / log.name)


if __name__ == "__main__":
    sys.exit(main())
