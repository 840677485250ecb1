"""Compiles what the section ``attention`` will time, in several processes, into Triton's cache.

    python -m gpu.warm PART PARTS

runs every ``PARTS``-th of the ways that sweeps take once.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

from gpu.sections import Context

MOST = 12
SHARE = 0.5
"""The part of the section's time that this may take."""


def all_ways(context: Context, shapes: int) -> None:
    """Start the processes and wait for them, or for their time to be over."""
    parts = max(1, min(MOST, (os.cpu_count() or 1) * 3 // 4)) if shapes else 0
    command = [sys.executable, "-m", "gpu.warm"]
    log = context.work / "warm.log"
    begin = time.monotonic()
    end = begin + SHARE * context.remaining()
    with log.open("wb") as output:
        started = [
            subprocess.Popen([*command, str(part), str(parts)], stdout=output, stderr=output)
            for part in range(parts)
        ]
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
        for process in started:
            process.kill()
            process.wait()
    context.emit("warmed", processes=parts, seconds=round(time.monotonic() - begin, 1))


def main() -> None:
    """One part."""
    import torch

    from gpu.attention import described
    from gpu.peers import ours
    from gpu.problems import DENSITIES, QUICK, inputs

    part, parts = map(int, sys.argv[1:])
    device = described("cuda")
    number = 0
    for shape in QUICK:
        x = None
        for way in ours(shape, device):
            number += 1
            if number % parts != part:
                continue
            x = x or inputs(shape, DENSITIES[0], "cuda")
            with contextlib.suppress(Exception):
                # What fails says so where it is timed.
                way.build(x)()
                torch.cuda.synchronize()


if __name__ == "__main__":
    main()
