"""Compiles every kernel ahead of time, for every GPU that the toolchain knows; needs no GPU.

    python -m xdecoder_rt.kernels.aot -o compiled

leaves for each target and form a cubin, its PTX, PTX 8.5 where a driver of JetPack 6 could want
it, and ``kernels.json``: entry names, grid rules, warps, shared memory, arguments in order with
their types, registers and spills. :mod:`xdecoder_rt.kernels.loader` launches them with neither
Triton nor PyTorch.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from xdecoder_rt.cores import usable_cores
from xdecoder_rt.errors import ArgumentError, BuildError, XDecoderError, require
from xdecoder_rt.kernels import catalog, report
from xdecoder_rt.kernels.compiled import KERNEL_INDEX, KERNELS_FORMAT_VERSION
from xdecoder_rt.kernels.spec import KernelSpec
from xdecoder_rt.kernels.targets import TARGETS, Target, target


def compile_kernels(
    folder: Path,
    targets: Sequence[Target] = TARGETS,
    *,
    only: str = "",
    jobs: int = 1,
    done: Callable[[Target], object] = lambda _: None,
) -> dict[str, Any]:
    """Compile into a folder that does not exist yet, or is empty.

    Args:
        folder: gets ``kernels.json`` and a folder for each target.
        targets: for which GPUs. One that the compiler lacks is listed as unavailable, with what
            the compiler said.
        only: names of forms must match this regular expression.
        jobs: targets compiled at a time, a process each.
        done: called as each target ends.

    Returns:
        What ``kernels.json`` holds.

    Raises:
        ArgumentError: the folder has something in it.
        BuildError: no target could be compiled.
        MissingExtraError: Triton is not installed.
    """
    triton = require("triton", "triton")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArgumentError(
            f"{folder} is not an empty folder", expected="a new folder", fix="name another"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:

        def compile_target(goal: Target) -> tuple[dict[str, Any] | None, str]:
            outcome = _compile(goal, Path(work), only)
            done(goal)
            return outcome

        with ThreadPoolExecutor(jobs) as pool:
            outcomes = dict(zip(targets, pool.map(compile_target, targets), strict=True))
        index = _index(outcomes, triton.__version__)
        if not index["kernels"]:
            reasons = "; ".join(f"{goal.name}: {why}" for goal, (_, why) in outcomes.items())
            raise BuildError(f"no kernel was compiled: {reasons}")
        text = json.dumps(index, indent=1, sort_keys=True) + "\n"
        Path(work, KERNEL_INDEX).write_text(text)
        # Whole or not at all: an empty folder of that name gives way.
        os.chmod(work, 0o755)
        os.replace(work, folder)
    return index


def _compile(goal: Target, folder: Path, only: str) -> tuple[dict[str, Any] | None, str]:
    """Facts of every form for one target, or why there are none."""
    command = [
        *(sys.executable, "-m", "xdecoder_rt.kernels.compiling", str(goal.capability)),
        *(str(folder), "--only", only),
    ]
    # Compiled rather than interpreted, and without the paths of the sources.
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_DISABLE_LINE_INFO": "1"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode == 0:
        facts: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
        return facts, ""
    return None, _reason(process)


def _reason(process: subprocess.CompletedProcess[str]) -> str:
    """One line of what a compiler said before it failed."""
    if process.returncode < 0:
        return f"the compiler was ended by {signal.Signals(-process.returncode).name}"
    lines = [line.strip() for line in process.stderr.splitlines() if line.strip()]
    fatal = [line for line in lines if re.search(r"\b(fatal|error)\b *:", line, re.IGNORECASE)]
    return (fatal or lines or [f"the compiler left with {process.returncode}"])[-1]


def _index(
    outcomes: Mapping[Target, tuple[dict[str, Any] | None, str]], version: str
) -> dict[str, Any]:
    kernels: dict[str, Any] = {}
    for goal, (forms, _) in outcomes.items():
        if forms is None:
            continue
        for spec in catalog.shipped(goal):
            if spec.name in forms:
                entry = kernels.setdefault(spec.name, {**described(spec), "targets": {}})
                entry["targets"][goal.name] = forms[spec.name]
    return {
        "format_version": KERNELS_FORMAT_VERSION,
        "triton": version,
        "targets": {
            goal.name: {
                "devices": goal.devices,
                "shared_limit": goal.shared_limit,
                "unavailable": why or None,
            }
            for goal, (_, why) in outcomes.items()
        },
        "kernels": kernels,
    }


def described(spec: KernelSpec) -> dict[str, Any]:
    """Return a form as JSON; :class:`.CompiledKernels` reads it back."""
    fields = dataclasses.asdict(spec)
    fields["arguments"] = [list(item) for item in spec.arguments.items()]
    fields["aligned"] = sorted(spec.aligned)
    fields["grid"] = [
        [{"of": count.of, "per": count.per} for count in axis] for axis in spec.grid.axes
    ]
    del fields["name"]
    return fields


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m xdecoder_rt.kernels.aot",
        description="Compile every kernel ahead of time. Needs Triton, and no GPU.",
        epilog="examples:\n"
        "  python -m xdecoder_rt.kernels.aot -o compiled\n"
        "  python -m xdecoder_rt.kernels.aot -o orin --target 87\n"
        "  python -m xdecoder_rt.kernels.aot -o compiled --report docs/measured/kernels-aot.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    capabilities = [goal.capability for goal in TARGETS]
    parser.add_argument("-o", "--output", type=Path, required=True, help="a new folder")
    parser.add_argument(
        "--target",
        type=int,
        nargs="+",
        choices=capabilities,
        default=capabilities,
        help="compute capabilities",
    )
    parser.add_argument("--only", default="", help="forms whose name matches this expression")
    parser.add_argument("--report", type=Path, help="also write the table of resources, Markdown")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="targets at a time")
    arguments = parser.parse_args()
    goals = [target(capability) for capability in arguments.target]
    try:
        with tqdm(total=len(goals), unit="target", disable=None) as bar:
            index = compile_kernels(
                arguments.output,
                goals,
                only=arguments.only,
                jobs=arguments.jobs,
                done=lambda _: bar.update(),
            )
    except XDecoderError as error:
        sys.exit(f"error: {error}")
    table = report.resources(index)
    if arguments.report:
        arguments.report.write_text(table)
    print(table)


if __name__ == "__main__":
    main()
