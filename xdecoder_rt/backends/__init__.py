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
from xdecoder_rt.errors import BackendError
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

PORTABLE = ("onnxruntime", "openvino")


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
        name: for a portable plan ``onnxruntime`` or ``openvino``; None takes OpenVINO where it is
            installed and faster (on x86-64 always, elsewhere below fp32), and graphs that it
            refuses go to ONNX Runtime, with a warning. Any other plan runs on the backend that
            it was built for. A backend is taken as it is.
        device: ``cpu``, for TensorRT ``cuda`` or ``cuda:1``; or None.
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

        return TensorRTBackend(manifest, device)
    if device not in (None, "cpu"):
        raise BackendError(
            f"A portable plan cannot run on device {device!r}", expected="'cpu' or None"
        )
    threads = threads or cores_if_limited()
    if name is None and _has_openvino() and (manifest.precision != "fp32" or _is_x86()):
        from xdecoder_rt.backends.fallback import OpenVINOFirst

        return OpenVINOFirst(threads, manifest.precision, cache_dir)
    if name in (None, "onnxruntime"):
        from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(threads)
    if name == "openvino":
        from xdecoder_rt.backends.openvino import OpenVINOBackend

        return OpenVINOBackend(threads, manifest.precision, cache_dir)
    raise BackendError(
        f"There is no backend {name!r} for a portable plan",
        expected=" or ".join(repr(choice) for choice in PORTABLE),
    )


def _is_x86() -> bool:
    import platform

    return platform.machine().lower() in ("x86_64", "amd64")


def _has_openvino() -> bool:
    from importlib.util import find_spec

    return find_spec("openvino") is not None
