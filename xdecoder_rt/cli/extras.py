"""The extras of this package: what each is for, which of its packages are installed."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from xdecoder_rt.backends.tensorrt.library import numbers

__all__ = ["PURPOSES", "Package", "installed_packages", "is_there", "module_of"]

PURPOSES = {
    "": "plans on any processor (always installed)",
    "openvino": "the fastest backend on x86-64 processors, and INT8 on any",
    "torch": "plans on an NVIDIA GPU through PyTorch",
    "tensorrt": "plans of TensorRT engines, to build and to run",
    "pycuda": "the driver through pycuda instead of cuda-bindings; needs a CUDA toolkit",
    "jetson": "what a Jetson needs beside JetPack's TensorRT",
    "tensorrt-rtx-build": "plans of TensorRT-RTX engines, to build without a GPU",
    "tensorrt-rtx": "plans of TensorRT-RTX engines, to build and to run",
    "export": "plans from checkpoints (xdecoder-rt build)",
    "train": "training and fine-tuning (xdecoder-rt train), data inspect, eval",
    "eval": "scores of captions (xdecoder-rt eval)",
    "scenes": "training scenes drawn by the machine itself",
    "timm": "backbones of timm",
    "video": "videos, cameras and streams (xdecoder-rt demo)",
    "supervision": "results as supervision.Detections",
    "serve": "plans behind an address (xdecoder-rt serve)",
    "ray": "labelling on a cluster (xdecoder-rt label --ray)",
    "triton": "our kernels in PyTorch on a GPU",
    "docs": "the site of the documentation (mkdocs serve)",
    "dev": "work on this package: tests, types, style",
}
_DISTRIBUTION = "xdecoder_rt"
# What is imported, where it is not the package's name.
_MODULES = {
    "cuda-bindings": "cuda.bindings",
    "import-linter": "importlinter",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pytest-xdist": "xdist",
    "pyyaml": "yaml",
    "tensorrt-rtx-cu13-bindings": "tensorrt_rtx_bindings",
    "tensorrt-rtx-cu13-libs": "tensorrt_rtx_libs",
}
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)(?:;(.*))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_PLATFORM = re.compile(r"sys_platform\s*==\s*['\"]([^'\"]+)['\"]")
_LEAST = re.compile(r">=\s*([0-9.]+)")


@dataclass(frozen=True)
class Package:
    """A package that an extra brings.

    Attributes:
        name: as pip knows it.
        module: what is imported of it.
        required: the versions that will do, such as ``">=1.24"``; may be empty.
        version: that is installed; None where nobody says it.
        state: ``"installed"``, ``"missing"`` or ``"outdated"``.
    """

    name: str
    module: str
    required: str
    version: str | None
    state: str


def installed_packages() -> dict[str, list[Package]]:
    """Return the packages of each extra, those that are always needed under ``""``.

    What is asked for stands in the metadata of the installed distribution; without it (a folder of
    the source that was never installed) there are none.
    """
    try:
        requirements = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    packages: dict[str, list[Package]] = {}
    for requirement in requirements:
        parsed = _REQUIREMENT.fullmatch(requirement.strip())
        if parsed is None:
            continue
        name, versions, marker = parsed[1], parsed[2].strip(" ()"), parsed[3] or ""
        platform, extra = _PLATFORM.search(marker), _EXTRA.search(marker)
        if platform is None or platform[1] == sys.platform:
            packages.setdefault(extra[1] if extra else "", []).append(_package(name, versions))
    return packages


def module_of(name: str) -> str:
    """Return the module that is imported of a package."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    return _MODULES.get(key, key.replace("-", "_"))


def _package(name: str, versions: str) -> Package:
    module = module_of(name)
    try:
        version: str | None = importlib.metadata.version(name)
    except Exception:  # absent, or metadata that cannot be read: a module may be there all the same
        version = None
    if version is None and not is_there(module):
        state = "missing"
    else:
        least = _LEAST.search(versions)
        is_old = least is not None and bool(version) and numbers(version or "") < numbers(least[1])
        state = "outdated" if is_old else "installed"
    return Package(name, module, versions, version, state)


def is_there(module: str) -> bool:
    """Whether a module would be found; nothing but the packages around it is imported."""
    try:
        return find_spec(module) is not None
    except Exception:  # the package around it is absent or broken
        return False
