"""The compiled kernels that an engine plan carries for its own GPUs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from xdecoder_rt.errors import BuildError
from xdecoder_rt.json_reader import parse_json
from xdecoder_rt.kernels.compiled import (
    KERNEL_INDEX,
    KERNEL_INDEX_LIMIT,
    KERNELS,
    CompiledKernels,
    compiles_for,
    folder_reader,
    runs_on,
    target_for,
)
from xdecoder_rt.plan.file import Plan


def kernel_members(plan: Plan, folder: Path | None, targets: Sequence[int]) -> dict[str, bytes]:
    """Return the members of a plan that hold the kernels for some GPUs; none without kernels.

    Args:
        plan: the portable plan, which may carry kernels.
        folder: compiled kernels to take instead; None for the plan's.
        targets: compute capabilities as major x 10 + minor.

    Raises:
        PlanError: the kernels are damaged.
        BuildError: none of them runs on one of the targets.
    """
    read = _kernel_files(plan, folder)
    if read is None:
        return {}
    CompiledKernels(read)  # checks the index
    index = parse_json(read(KERNEL_INDEX), KERNEL_INDEX, KERNEL_INDEX_LIMIT)
    members: dict[str, bytes] = {}
    kept_targets: set[str] = set()
    for form in index["kernels"].values():
        form["targets"] = {
            name: facts
            for name, facts in form["targets"].items()
            if any(name in _serving(form["targets"], target) for target in targets)
        }
        kept_targets |= set(form["targets"])
        for facts in form["targets"].values():
            members.update(_files(facts, read))
    if not kept_targets:
        compiled_for = ", ".join(sorted(index.get("targets", {})))
        raise BuildError(
            f"The compiled kernels are for {compiled_for or 'no GPU'}, "
            f"not for {', '.join(f'sm_{target}' for target in targets)}",
            fix=f"python -m xdecoder_rt.kernels.aot -o FOLDER --target {target_for(targets[0])}",
        )
    index["kernels"] = {name: form for name, form in index["kernels"].items() if form["targets"]}
    if isinstance(index.get("targets"), dict):
        index["targets"] = {k: v for k, v in index["targets"].items() if k in kept_targets}
    members[KERNELS + KERNEL_INDEX] = (json.dumps(index, indent=1, sort_keys=True) + "\n").encode()
    return members


def _serving(names: Iterable[str], device: int) -> list[str]:
    """Whose machine code a GPU runs; where there is none, the newest whose PTX it can compile."""
    numbers = {int(name.removeprefix("sm_")): name for name in names}
    runs = [name for number, name in numbers.items() if runs_on(number, device)]
    older = [number for number in numbers if compiles_for(number, device)]
    return runs or [numbers[number] for number in [max(older, default=0)] if number in numbers]


def _files(facts: dict[str, Any], read: Callable[[str], bytes]) -> dict[str, bytes]:
    """Machine code and PTX of one form for one target."""
    files = {}
    for kind in facts:
        if kind == "cubin" or kind.startswith("ptx"):
            name = facts[kind]["file"]
            files[KERNELS + name] = read(name)
    return files


def _kernel_files(plan: Plan, folder: Path | None) -> Callable[[str], bytes] | None:
    """What reads the files of compiled kernels; None where there are none.

    Args:
        plan: the portable plan, which may carry kernels.
        folder: compiled kernels to take instead; None for the plan's.
    """
    if folder is not None:
        return folder_reader(folder)
    if KERNELS + KERNEL_INDEX in plan.names:
        return lambda name: plan.read(KERNELS + name)
    return None
