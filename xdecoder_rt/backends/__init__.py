"""Backends by name, and the choice among them."""

from __future__ import annotations

from pathlib import Path

from xdecoder_rt.backends.base import (
    Backend,
    DeviceBackend,
    Graph,
    PanopticMap,
    PreparingBackend,
    Value,
)
from xdecoder_rt.cores import cores_if_limited
from xdecoder_rt.errors import BackendError, require, warn_caller
from xdecoder_rt.plan.manifest import Manifest

__all__ = [
    "Backend",
    "DeviceBackend",
    "Graph",
    "PanopticMap",
    "PreparingBackend",
    "Value",
    "open_backend",
]

_GPU_NODES = ("/dev/nvidiactl", "/dev/nvgpu", "/dev/dxg")
"""Devices of NVIDIA's driver: of any graphics card, of Jetson, of Windows under Linux."""
_INTEL = ("gpu", "npu")
PORTABLE = ("onnxruntime", "openvino", "torch")


def open_backend(
    manifest: Manifest,
    name: str | Backend | None = None,
    device: str | None = None,
    threads: int | None = None,
    cache_dir: Path | None = None,
) -> Backend:
    """Open the backend for a plan.

    Args:
        manifest: the plan's.
        name: for a portable plan ``onnxruntime``, ``openvino`` or ``torch``. None takes PyTorch
            on a machine with an NVIDIA GPU, a PyTorch for it and no TensorRT; else OpenVINO where
            it is installed and faster (on x86-64 always, elsewhere below fp32), and graphs that it
            refuses go to ONNX Runtime, with a warning. Any other plan runs on the backend that
            it was built for. A backend is taken as it is.
        device: ``cpu``; ``cuda`` or ``cuda:1`` for TensorRT, PyTorch and ONNX Runtime;
            ``tensorrt`` for ONNX Runtime's provider of that name; ``gpu`` or ``npu`` for OpenVINO;
            or None.
        threads: threads of one call; None leaves the choice to the backend, or takes
            `usable_cores` where this process may not use all of the machine's.
        cache_dir: where compiled models may be kept.

    Raises:
        BackendError: no such backend or device, or not for this plan.
        MissingExtraError: the backend's package is not installed.
    """
    if not isinstance(name, str | None):
        return name
    if manifest.backend != "portable":
        if name not in (None, manifest.backend):
            raise BackendError(
                f"This plan is for the backend {manifest.backend!r}, not {name!r}",
                expected=f"{manifest.backend!r} or None",
                fix="open the portable plan that it was built from",
            )
        from xdecoder_rt.backends.tensorrt.backend import TensorRTBackend

        return TensorRTBackend(manifest, device, cache_dir)
    if name not in (None, *PORTABLE):
        raise BackendError(
            f"There is no backend {name!r} for a portable plan",
            expected=" or ".join(repr(choice) for choice in PORTABLE),
        )
    if name == "torch" or (name is None and _prefers_torch(device)):
        require("torch", "torch")
        from xdecoder_rt.backends.torch.backend import TorchBackend

        try:
            return TorchBackend(device)
        except BackendError as error:
            if name is not None or device is not None:
                raise
            warn_caller(f"{error.what}; the plan runs on the CPU. Fix: {error.fix}")
    threads = threads or cores_if_limited()
    device = "cpu" if device is None else device
    if name is None and device == "cpu":
        if _is_installed("openvino") and (manifest.precision != "fp32" or _is_x86()):
            from xdecoder_rt.backends.fallback import OpenVINOFirst

            return OpenVINOFirst(threads, manifest.precision, cache_dir)
    elif name == "openvino" or (name is None and device.startswith(_INTEL)):
        from xdecoder_rt.backends.openvino import OpenVINOBackend

        return OpenVINOBackend(threads, manifest.precision, cache_dir, device)
    from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(threads, device, cache_dir)


def _prefers_torch(device: str | None) -> bool:
    """Whether a portable plan runs on a GPU through PyTorch if nobody says how.

    PyTorch takes seconds to import, so a machine without a GPU does not get as far.
    """
    if device is not None:
        return device.startswith("cuda") and _is_installed("torch") and not _lacks_cuda()
    if _is_installed("tensorrt") or _is_installed("tensorrt_rtx"):
        return False
    if not _is_installed("torch") or not any(Path(node).exists() for node in _GPU_NODES):
        return False
    import torch

    return torch.cuda.is_available()


def _lacks_cuda() -> bool:
    """Whether PyTorch is built for CPUs alone, and ONNX Runtime for GPUs too."""
    import onnxruntime
    import torch

    provider = "CUDAExecutionProvider"
    return torch.version.cuda is None and provider in onnxruntime.get_available_providers()


def _is_x86() -> bool:
    import platform

    return platform.machine().lower() in ("x86_64", "amd64")


def _is_installed(package: str) -> bool:
    import sys
    from importlib.util import find_spec

    if package in sys.modules:  # of which find_spec may know nothing
        return sys.modules[package] is not None
    return find_spec(package) is not None
