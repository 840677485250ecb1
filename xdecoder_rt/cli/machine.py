"""The machine and the software that a measurement was taken on."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from xdecoder_rt.cores import usable_cores

LIBRARIES = ("xdecoder_rt", "numpy", "pillow", "onnxruntime", "openvino", "tokenizers")


def describe_machine(libraries: tuple[str, ...] = LIBRARIES) -> dict[str, Any]:
    """Return the machine and the software, for a report.

    Args:
        libraries: distributions whose versions matter; those not installed are left out.

    Returns:
        `cpu` (model), `cores` (that this process may use), `memory_gb`, `os`, `kernel`, `python`,
        `libraries` (name to version).
    """
    return {
        "cpu": _cpu(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "memory_gb": _memory_gb(),
        "os": _os(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": {name: release for name in libraries if (release := _version(name))},
    }


def machine_summary(machine: dict[str, Any]) -> str:
    """Return the values of `describe_machine` in two lines."""
    libraries = ", ".join(f"{name} {release}" for name, release in machine["libraries"].items())
    memory = f", {machine['memory_gb']} GB" if machine["memory_gb"] else ""
    return (
        f"{machine['cpu']} ({machine['architecture']}), {machine['cores']} cores{memory}, "
        f"{machine['os']}\nPython {machine['python']}, {libraries}"
    )


def _cpu() -> str:
    # A board's own name says more than that of its cores ("NVIDIA Jetson Orin Nano").
    board = _read_text("/proc/device-tree/model").strip("\0\n ")
    if board:
        return board
    match = re.search(r"^model name\s*:\s*(.+)$", _read_text("/proc/cpuinfo"), re.MULTILINE)
    return match[1].strip() if match else platform.processor() or "unknown"


def _memory_gb() -> float | None:
    match = re.search(r"^MemTotal:\s*(\d+) kB", _read_text("/proc/meminfo"), re.MULTILINE)
    return round(int(match[1]) * 1024 / 1e9, 1) if match else None


def _os() -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', _read_text("/etc/os-release"), re.MULTILINE)
    return match[1] if match else platform.platform()


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""
