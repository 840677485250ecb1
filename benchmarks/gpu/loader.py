"""Compiles ahead of time for this device, launches by addresses, and compares with the references.

The launches are made by a process that has neither PyTorch nor Triton (:mod:`gpu.launching`): once
from machine code, and once from the PTX of an older target, which the driver compiles.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu.cases import CASES, FOLDERS, Array, AttentionCase, Case, FrameCase, MapCase, ShrinkCase
from gpu.section import Context, last_line
from xdecoder_rt.errors import MissingExtraError, XDecoderError
from xdecoder_rt.kernels import aot, cuda_driver
from xdecoder_rt.kernels.compiled import TEGRA
from xdecoder_rt.kernels.frame_resize import reference as frame_reference
from xdecoder_rt.kernels.level_features import reference as shrink_reference
from xdecoder_rt.kernels.masked_attention import reference
from xdecoder_rt.kernels.panoptic_map import reference as map_reference
from xdecoder_rt.kernels.targets import TARGETS, Target, target

FORMS = "^(attend|open_bits|combine|own|level_features)_fp16|^pack_(u8|fp16)|^relabel|^frame"
PTX_TARGET = 80
TOLERANCE = 1e-2
"""Largest difference of fp16 results from the float64 reference."""
MARGIN = 1e-4
"""A pixel is decided where the best two masks, and a mask and its edge, differ by more."""
RESOURCES = ("registers", "spilled", "shared")


def run(context: Context) -> None:
    """Compile, launch, compare; a difference fails the section."""
    properties = torch.cuda.get_device_properties(0) if context.device == "cuda" else None
    if properties is None:
        context.verdict("not there", "it needs a GPU: an interpreter has no machine code")
        return
    try:
        cuda_driver.bindings()
    except MissingExtraError as error:
        context.verdict("not there", str(error))
        return
    capability = 10 * properties.major + properties.minor
    goals = {"machine code": native(capability), "PTX": older(capability)}
    for kind, goal in goals.items():
        if goal is None:
            context.emit("left out", what=kind, reason=f"no target serves sm_{capability} so")
    served_goals = {kind: goal for kind, goal in goals.items() if goal is not None}
    begin = time.monotonic()
    compiled_folder = context.work / "aot"
    index = aot.compile_kernels(compiled_folder, list(served_goals.values()), only=FORMS, jobs=2)
    context.emit("compiled", seconds=round(time.monotonic() - begin, 1), triton=index["triton"])
    failures = []
    for kind, goal in served_goals.items():
        folder = single_target(compiled_folder, index, goal, context.work / FOLDERS[kind])
        try:
            failures += check_code(context, kind, goal, folder)
        except (XDecoderError, RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            failures.append(f"{kind}: {str(error).splitlines()[0][:300]}")
            context.emit("row", code=kind, target=goal.name, case="", failed=failures[-1])
    if failures:
        context.verdict("failed", "; ".join(failures))


def native(capability: int) -> Target | None:
    """Return the target whose machine code a device runs."""
    if capability in TEGRA:
        return next((goal for goal in TARGETS if goal.capability == capability), None)
    compatible_targets = [
        goal
        for goal in TARGETS
        if goal.capability <= capability
        and goal.capability // 10 == capability // 10
        and goal.capability not in TEGRA
    ]
    return max(compatible_targets, key=lambda goal: goal.capability, default=None)


def older(capability: int) -> Target | None:
    """Return the target whose PTX the driver compiles for a device that cannot run its code."""
    runs_it = capability // 10 == PTX_TARGET // 10 and capability not in TEGRA
    return None if capability < PTX_TARGET or runs_it else target(PTX_TARGET)


def single_target(compiled_folder: Path, index: dict[str, Any], goal: Target, folder: Path) -> Path:
    """Make a folder with the kernels of one target and nothing else."""
    shutil.copytree(compiled_folder / goal.name, folder / goal.name)
    kernels = {
        name: {**kernel, "targets": {goal.name: kernel["targets"][goal.name]}}
        for name, kernel in index["kernels"].items()
    }
    (folder / "kernels.json").write_text(json.dumps({**index, "kernels": kernels}))
    return folder


def check_code(context: Context, kind: str, goal: Target, folder: Path) -> list[str]:
    """Launch and compare every case; return the failures."""
    kernels = json.loads((folder / "kernels.json").read_text())["kernels"]
    resources = {
        name: {key: kernel["targets"][goal.name][key] for key in RESOURCES}
        for name, kernel in kernels.items()
    }
    context.emit("forms", code=kind, target=goal.name, forms=resources)
    results = context.work / f"{FOLDERS[kind]}.npz"
    launch_report = run_launching(folder, results, context.remaining())
    failures = []
    with np.load(results) as arrays:
        for case in CASES:
            outputs = [arrays[f"{case.name}/{i}"] for i in range(outputs_of(case))]
            fault, largest = compare_case(case, outputs, context.device)
            row = {"case": case.name, "largest_difference": largest, "failed": fault}
            context.emit("row", code=kind, target=goal.name, **launch_report, **row)
            failures += [f"{case.name} ({kind}): {fault}"] if fault else []
    if launch_report["imported"]:
        failures.append(f"{launch_report['imported']} had to be imported to launch")
    return failures


def run_launching(folder: Path, results: Path, seconds: float) -> dict[str, Any]:
    """Run :mod:`gpu.launching` on its own.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "gpu.launching", str(folder), str(results)]
    log = results.with_suffix(".log")
    with log.open("wb") as errors:
        process = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            timeout=max(5.0, seconds),
            env=os.environ,
        )
    if process.returncode:
        raise RuntimeError(last_line(log) or f"launching ended with {process.returncode}")
    launch_report: dict[str, Any] = json.loads(process.stdout)
    return launch_report


def outputs_of(case: Case) -> int:
    """Return how many arrays a case leaves."""
    return 1 if isinstance(case, AttentionCase | FrameCase) else 3


def compare_case(case: Case, outputs: list[Array], device: str) -> tuple[str, float]:
    """Return the fault of a case's outputs, empty for none, and the largest difference."""
    if isinstance(case, MapCase):
        return owners(case, outputs)
    expected = expected_of(case, device)
    differences = [
        float(np.abs(output.astype(np.float64) - reference_output).max())
        for output, reference_output in zip(outputs, expected, strict=True)
    ]
    largest = max(differences)
    # Written so that NaN fails.
    return ("" if largest <= TOLERANCE else f"differs by up to {largest:.3g}"), largest


def expected_of(case: AttentionCase | ShrinkCase | FrameCase, device: str) -> list[Array]:
    """Return the outputs of the references, in float64 or in integers."""
    if isinstance(case, FrameCase):
        pixels = torch.from_numpy(case.pixels())
        return [frame_reference.letterboxed(pixels, *case.axes(), case.target).numpy()]
    if isinstance(case, ShrinkCase):
        levels = shrink_reference.level_features(torch.from_numpy(case.map()).double(), case.sizes)
        return [level.numpy() for level in levels]
    operands = {name: torch.from_numpy(a).to(device).double() for name, a in case.arrays().items()}
    attention = (operands["query"], operands["key"], operands["value"])
    if "mask_embedding" in operands:
        factors = (operands["mask_embedding"], operands["mask_features"])
    else:
        logits = operands["logits"] if "logits" in operands else operands["boolean"] - 0.5
        # The product with the identity is the mask itself.
        identity = torch.eye(logits.shape[1], dtype=logits.dtype, device=device)
        factors = (identity.expand(len(logits), -1, -1), logits)
    out: Array = reference.masked_attention(*attention, *factors).cpu().numpy()
    return [out]


def owners(case: MapCase, outputs: list[Array]) -> tuple[str, float]:
    """Compare owners, ids and counts where rounding does not decide."""
    winners, counts, ids = outputs
    logits, scores = (torch.from_numpy(a).double() for a in (case.logits(), case.scores()))
    rows, columns = (torch.from_numpy(axis.matrix()) for axis in case.axes())
    expected = map_reference.owners(logits, rows, columns, scores)[0].numpy()
    full = rows @ logits @ columns.T
    ranked = (scores.log()[:, None, None] + torch.nn.functional.logsigmoid(full)).sort(dim=0).values
    doubtful = ((ranked[-1] - ranked[-2] < MARGIN) | (full.abs() < MARGIN).any(dim=0)).numpy()
    differing = int(((winners != expected) & ~doubtful).sum())
    if counts[0].sum() != winners.size:
        return f"counts {counts[0].sum()} of {winners.size} pixels", float(differing)
    if not np.array_equal(ids, case.ids()[winners]):
        return "ids are not those of the owners", float(differing)
    return (f"{differing} pixels have other owners" if differing else ""), float(differing)
