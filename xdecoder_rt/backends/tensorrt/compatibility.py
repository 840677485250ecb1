"""Checks that a plan runs on this machine, before TensorRT sees a byte of it.

A TensorRT engine runs with the version that built it, on the compute capabilities that it was
built for. What TensorRT says of any other is a line in its log, or a crash.
"""

from __future__ import annotations

from typing import Any

from xdecoder_rt.backends.cuda.context import DeviceFacts
from xdecoder_rt.backends.tensorrt.library import Library, numbers
from xdecoder_rt.errors import BackendError
from xdecoder_rt.plan.manifest import Manifest


def rebuild(backend: str) -> str:
    """Return the advice by which a device makes its own plan."""
    return (
        "build the plan again on this machine: "
        f"xdecoder-rt build --plan PORTABLE.plan --backend {backend} -o FILE.plan"
    )


def check_plan(manifest: Manifest, library: Library, device: DeviceFacts) -> None:
    """Compare what a plan was built for with what is here.

    Raises:
        BackendError: they differ; the message has both sides and the command that helps.
    """
    built, here = numbers(manifest.backend_version), numbers(library.version)
    parts = min(len(built), len(here))
    if built[:parts] != here[:parts]:
        raise BackendError(
            f"The plan was built with {library.title} {manifest.backend_version}; "
            f"{library.title} {library.version} is installed here",
            expected="the same version: engines run with no other",
            fix=rebuild(manifest.backend),
        )
    if manifest.targets and device.capability not in manifest.targets:
        raise BackendError(
            "The plan was built for compute capability "
            f"{', '.join(manifest.targets)}; this GPU is {device}",
            expected="a plan for this GPU",
            fix=rebuild(manifest.backend),
        )
    check_driver(library, device)


def check_driver(library: Library, device: DeviceFacts) -> None:
    """Compare the CUDA that a library is made for with the driver's.

    Raises:
        BackendError: the driver is too old.
    """
    if library.cuda is not None and device.cuda[0] < library.cuda:
        raise BackendError(
            f"{library.title} {library.version} is made for CUDA {library.cuda}; the driver here "
            f"is of CUDA {device.cuda[0]}.{device.cuda[1]}",
            expected=f"a driver of CUDA {library.cuda} or newer",
            fix=f"update the NVIDIA driver, or install {library.title} for CUDA {device.cuda[0]} "
            "and build plans with it",
        )


def check_engine(name: str, model: bytes, library: Library, device: DeviceFacts) -> None:
    """Let the library look at an engine's header, where it can (TensorRT-RTX).

    Raises:
        BackendError: it finds the engine unusable here.
    """
    runtime = library.runtime
    if not hasattr(runtime, "get_engine_validity"):
        return
    validity, diagnostics = runtime.get_engine_validity(model)
    if validity != library.module.EngineValidity.INVALID:
        return
    reasons = [
        label.lower().replace("_", " ")
        for label, bit in library.module.EngineInvalidityDiagnostics.__members__.items()
        if int(diagnostics) & _bit_value(bit)
    ]
    raise BackendError(
        f"{library.title} {library.version} finds the {name} engine unusable on {device}: "
        f"{', '.join(reasons) or library.take_log()}",
        expected="an engine built by this version for this GPU",
        fix=rebuild(library.backend),
    )


def _bit_value(bit: Any) -> int:
    return int(getattr(bit, "value", bit))
