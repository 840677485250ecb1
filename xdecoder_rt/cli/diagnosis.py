"""Facts about this machine for ``xdecoder-rt doctor``: what runs on it, and what is broken.

Nothing here raises for what is missing or broken. Libraries are imported by child processes
(:mod:`xdecoder_rt.cli.probe`).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from xdecoder_rt import __version__
from xdecoder_rt.atomic import check_private_folder
from xdecoder_rt.backends.tensorrt.library import ENGINE_BACKENDS, extra_of
from xdecoder_rt.cli.extras import PURPOSES, Package, installed_packages, is_there
from xdecoder_rt.cli.machine import describe_machine
from xdecoder_rt.cli.probe import GPUS, ask
from xdecoder_rt.cores import core_limits, memory_limit, usable_cores
from xdecoder_rt.errors import install_command
from xdecoder_rt.words.cache import default_directory

__all__ = ["BACKENDS", "diagnose"]

# The backends, and the extra that brings each.
BACKENDS = {
    "onnxruntime": "",
    "openvino": "openvino",
    "torch": "torch",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
}
# What wheels call a module that has another name where it comes with the system.
_WHEELS = {"tensorrt_rtx": "tensorrt_rtx_bindings"}
# As /proc/cpuinfo has them: what our loops and the backends' kernels are written for.
_INSTRUCTION_SETS = (
    *("sse4_2", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
_FAST_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}
_FAST_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
# What is compiled in this package; without it nothing can be asked.
_COMPILED = (
    "xdecoder_rt.masks._postprocess",
    "xdecoder_rt.masks._pieces",
    "xdecoder_rt.pixels._scale",
)
_VIDEO = ("av", "cv2")
_GPU_NODES = ("dev/nvidiactl", "dev/nvidia0", "dev/nvgpu", "dev/dxg")
_ROOT = Path("/")


def diagnose(
    *,
    is_quick: bool = False,
    imports_all: bool = False,
    cache_dir: Path | None = None,
    root: Path = _ROOT,
) -> dict[str, Any]:
    """Return what this machine can run, as `xdecoder_rt.cli.documents.DoctorDocument` has it.

    Args:
        is_quick: import nothing: whether a library works is then not known.
        imports_all: import every installed package of the extras, not those of backends alone.
        cache_dir: the folder of caches, if not the usual one.
        root: folder that stands for ``/``.
    """
    packages = installed_packages()
    modules = {} if is_quick else _answers(packages, imports_all, root)
    gpus = _gpus(modules.get(GPUS), root)
    document: dict[str, Any] = {
        "version": __version__,
        "machine": describe_machine(),
        "processor": _processor(root),
        "memory": _memory(root),
        "gpus": gpus,
        "backends": {name: _backend(name, packages, modules) for name in BACKENDS},
        "extras": {
            name: _extra(name, brought, modules) for name, brought in packages.items() if name
        },
        "base": _extra("", packages.get("", []), modules),
        "cache": _cache(cache_dir or default_directory()),
        "video": _video(modules),
        "ros2": _ros(root),
    }
    document["problems"] = _problems(document, modules)
    document["advice"] = _advice(document, root)
    return document


def _answers(
    packages: Mapping[str, list[Package]], imports_all: bool, root: Path
) -> dict[str, dict[str, Any]]:
    """Ask children to import what is installed and matters, side by side."""
    names = [*_COMPILED, *(package.module for package in packages.get("", ()))]
    names += [name for name in BACKENDS if _is_installed(name, packages)]
    names += [module for module in _VIDEO if is_there(module)]
    if imports_all:
        every = (package for extra in packages.values() for package in extra)
        names += [package.module for package in every if package.state != "missing"]
    if any((root / node).exists() for node in _GPU_NODES):
        names.append(GPUS)
    names = list(dict.fromkeys(names))
    with ThreadPoolExecutor(usable_cores()) as pool:
        return dict(zip(names, pool.map(ask, names), strict=True))


def _processor(root: Path) -> dict[str, Any]:
    text = _read_text(root / "proc/cpuinfo")
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    flags = set(match[1].split()) if match else set()
    limits = core_limits(root)
    return {
        "instruction_sets": [name for name in _INSTRUCTION_SETS if name in flags],
        "fast_int8": not flags.isdisjoint(_FAST_INT8),
        "fast_bf16": not flags.isdisjoint(_FAST_BF16),
        "cores": limits.machine,
        "affinity": limits.affinity,
        "quota": limits.quota,
        "usable_cores": limits.usable,
    }


def _memory(root: Path) -> dict[str, Any]:
    text = _read_text(root / "proc/meminfo")
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s*(\d+) kB", text, re.MULTILINE))
    sizes = {name: int(size) * 1024 for name, size in found.items()}
    return {
        "total": sizes.get("MemTotal"),
        "available": sizes.get("MemAvailable"),
        "limit": memory_limit(root),
    }


def _gpus(answer: Mapping[str, Any] | None, root: Path) -> dict[str, Any]:
    version = _read_text(root / "proc/driver/nvidia/version")
    match = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", version)
    jetpack = re.search(r"# R(\d+).*?REVISION: ([\d.]+)", _read_text(root / "etc/nv_tegra_release"))
    answer = answer or {}
    return {
        "driver": match[1] if match else None,
        "jetson_linux": f"{jetpack[1]}.{jetpack[2]}" if jetpack else None,
        "cuda": answer.get("cuda"),
        "devices": answer.get("devices", []),
        "problem": answer.get("problem"),
    }


def _backend(
    name: str, packages: Mapping[str, list[Package]], modules: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return whether a backend's library is there and imports; not whether it has a device."""
    extra = extra_of(name) if name in ENGINE_BACKENDS else BACKENDS[name]
    package = _package_of(name, packages)
    is_installed = _is_installed(name, packages)
    answer = modules.get(name, {})
    problem = answer.get("problem") if is_installed else None
    return {
        "installed": is_installed,
        "works": None if name not in modules or not is_installed else problem is None,
        "version": answer.get("version") or (package.version if package else None),
        "devices": answer.get("devices", []),
        "problem": problem,
        "install": None if is_installed else install_command(extra),
    }


def _package_of(name: str, packages: Mapping[str, list[Package]]) -> Package | None:
    """Return the package of a backend."""
    brought = packages.get(BACKENDS[name], ())
    modules = (name, _WHEELS.get(name))
    return next((package for package in brought if package.module in modules), None)


def _is_installed(name: str, packages: Mapping[str, list[Package]]) -> bool:
    """Whether a backend's module is there, JetPack's and wheels of another name included."""
    package = _package_of(name, packages)
    return is_there(name) or (package is not None and package.state != "missing")


def _extra(
    name: str, packages: Iterable[Package], modules: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    entries = {
        package.name: {
            "version": package.version,
            "required": package.required,
            "state": package.state,
            "problem": modules.get(package.module, {}).get("problem"),
        }
        for package in packages
    }
    is_whole = all(
        entry["state"] == "installed" and entry["problem"] is None for entry in entries.values()
    )
    return {
        "purpose": PURPOSES.get(name, ""),
        "installed": bool(entries) and is_whole,
        "packages": entries,
        "install": None if entries and is_whole else install_command(name),
    }


def _cache(folder: Path | None) -> dict[str, Any]:
    """Return where caches lie, how large they are, and why they could not be written."""
    if folder is None:
        no_home = "this user has no home; set XDECODER_RT_CACHE"
        return {"folder": None, "files": 0, "bytes": 0, "writable": False, "problem": no_home}
    sizes = []
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(os.lstat(os.path.join(place, name)).st_size)
            except OSError:  # gone since it was listed
                continue
    problem = None
    try:
        check_private_folder(folder)
    except OSError as error:
        problem = str(error)
    return {
        "folder": str(folder),
        "files": len(sizes),
        "bytes": sum(sizes),
        "writable": problem is None,
        "problem": problem,
    }


def _video(modules: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    pyav, opencv = modules.get("av", {}), modules.get("cv2", {})
    return {
        "pyav": pyav.get("version"),
        "opencv": opencv.get("version"),
        "opencv_gstreamer": opencv.get("gstreamer"),
        "gstreamer": shutil.which("gst-launch-1.0"),
    }


def _ros(root: Path) -> dict[str, Any]:
    try:
        found = sorted(path.name for path in (root / "opt/ros").iterdir() if path.is_dir())
    except OSError:
        found = []
    return {
        "distribution": os.environ.get("ROS_DISTRO") or None,
        "rclpy": is_there("rclpy"),
        "installed": found,
    }


def _problems(document: Mapping[str, Any], modules: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what is broken, not what is merely absent, in sentences."""
    problems = [
        f"{name} does not import: {answer['problem']}"
        for name, answer in modules.items()
        if name != GPUS and answer.get("problem")
    ]
    if not document["base"]["packages"]:
        problems.append("xdecoder_rt has no metadata here: it runs from a folder, not installed")
    every = {"": document["base"], **document["extras"]}
    seen = {
        name: f"{name} {one['version']} is installed, and {one['required']} is needed"
        for extra in every.values()
        for name, one in extra["packages"].items()
        if one["state"] == "outdated"
    }
    problems += seen.values()
    problems += [
        f"{name} is needed and missing"
        for name, one in document["base"]["packages"].items()
        if one["state"] == "missing"
    ]
    if document["gpus"]["problem"]:
        problems.append(f"GPU: {document['gpus']['problem']}")
    if document["cache"]["problem"]:
        problems.append(f"cache: {document['cache']['problem']}")
    return problems


def _advice(document: Mapping[str, Any], root: Path) -> list[dict[str, str]]:
    """Return what would make more of this machine, with the command."""
    backends = document["backends"]
    advice: list[dict[str, str]] = []

    def add(purpose: str, command: str) -> None:
        advice.append({"purpose": purpose, "command": command})

    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    if not document["base"]["installed"] and document["base"]["packages"]:
        add("repair what is always needed", install_command(""))
    if is_x86 and not backends["openvino"]["installed"]:
        add("faster plans on this processor", backends["openvino"]["install"])
    if document["gpus"]["devices"]:
        if not any(backends[name]["installed"] for name in ("torch", "tensorrt", "tensorrt_rtx")):
            add("portable plans on the GPU", backends["torch"]["install"])
        if not any(backends[name]["installed"] for name in ("tensorrt", "tensorrt_rtx")):
            add("the fastest plans on the GPU", backends["tensorrt"]["install"])
    for extra, purpose in (("export", "plans from checkpoints"), ("video", "videos and cameras")):
        if not document["extras"].get(extra, {}).get("installed"):
            add(purpose, install_command(extra))
    if document["ros2"]["installed"] and document["ros2"]["distribution"] is None:
        name = document["ros2"]["installed"][-1]
        add("the ROS 2 node", f"source {root / 'opt/ros' / name / 'setup.bash'}")
    return advice


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
