"""The device: its facts, and the measured rates of copies and of matrix products."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
import triton

from gpu.section import Context
from gpu.timing import prepare, time_in_turns

COPY_BYTES = 1 << 30
SIZES = {"fp16": 8192, "fp32": 4096}
TYPES = {"fp16": torch.float16, "fp32": torch.float32}


def run(context: Context) -> None:
    """Record the facts and the rates."""
    facts = cuda_facts() if context.device == "cuda" else cpu_facts()
    context.emit("facts", **facts, **versions())
    context.emit("rates", **copy_rate(context.device), **matrix_rates(context.device))


def versions() -> dict[str, Any]:
    """Return the versions of the software that computes."""
    return {
        "torch": torch.__version__,
        "triton": triton.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cuda_facts() -> dict[str, Any]:
    """Return the facts of the GPU."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "l2_mib": round(properties.L2_cache_size / 2**20, 1),
        "driver": driver(),
        "cuda": torch.version.cuda,
    }


def cpu_facts() -> dict[str, Any]:
    """Return the facts of a processor that stands in for a GPU."""
    return {
        "name": f"CPU ({platform.machine()}), Triton's interpreter",
        "capability": None,
        "multiprocessors": None,
        "memory_gib": None,
        "l2_mib": None,
        "driver": None,
        "cuda": None,
    }


def driver() -> str | None:
    """Return the driver's version; None where neither nvidia-smi nor /proc has it."""
    tool = shutil.which("nvidia-smi")
    if tool:
        command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            process = subprocess.run(command, capture_output=True, text=True, timeout=20)
            answer = process.stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            answer = ""
        if answer and answer[0].isdigit():
            return answer.splitlines()[0]
    version = Path("/proc/driver/nvidia/version")
    return version.read_text().splitlines()[0] if version.is_file() else None


def copy_rate(device: str) -> dict[str, Any]:
    """Return GB/s of a large copy within the device's memory, reads and writes both counted."""
    size = 1 << 22
    if device == "cuda":
        size = min(COPY_BYTES, torch.cuda.mem_get_info()[0] // 4)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    timing = time_in_turns({"copy": prepare(lambda: target.copy_(source), device)})["copy"]
    return {"copy_gb_s": 2 * size / timing.median / 1e3, "copy_bytes": size}


def matrix_rates(device: str) -> dict[str, Any]:
    """Return TFLOP/s of square matrix products of random numbers; fp32 without TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    rates = {}
    for name, kind in TYPES.items():
        size = SIZES[name] if device == "cuda" else 128
        a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
        timing = time_in_turns({name: prepare(lambda a=a, b=b: a @ b, device)})[name]
        rates[f"{name}_tflop_s"] = 2 * size**3 / timing.median / 1e6
    return rates
