"""Questions that a child process answers, so that nothing broken ends or hangs this one.

``python -m xdecoder_rt.cli.probe gpus`` and ``python -m xdecoder_rt.cli.probe MODULE`` print one
line of JSON last. Importing a library may crash (a driver that does not fit), hang, or print.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from xdecoder_rt.backends.tensorrt.library import ENGINE_BACKENDS, load_module

__all__ = ["GPUS", "ask"]

GPUS = "gpus"
_LONGEST_SECONDS = 120.0
_NAME_BYTES = 256
# Of the driver's `CUdevice_attribute`.
_MAJOR, _MINOR = 75, 76


def ask(question: str, seconds: float = _LONGEST_SECONDS) -> dict[str, Any]:
    """Ask a child process.

    Args:
        question: ``"gpus"``, or a module to import.
        seconds: how long it may take.

    Returns:
        For a module `version` (None where it does not say) and what is known of it besides; for
        ``"gpus"`` `cuda` and `devices`. Or `problem` alone: why there is no answer, in one line.
    """
    command = [sys.executable, "-m", __name__, question]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"no answer within {seconds:g} s"}
    except OSError as error:
        return {"problem": f"no process could be started: {error.strerror or error}"}
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        try:
            answer = json.loads(lines[-1])
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            return answer
    if done.returncode < 0:
        number = -done.returncode
        known = {int(one): one.name for one in signal.Signals}
        return {"problem": f"the process crashed ({known.get(number, f'signal {number}')})"}
    errors = done.stderr.strip().splitlines()
    return {"problem": errors[-1] if errors else f"the process ended with {done.returncode}"}


def _module_facts(name: str) -> dict[str, Any]:
    """Import a module, and return its version and what it can use here."""
    try:
        module = load_module(name) if name in ENGINE_BACKENDS else import_module(name)
        version = getattr(module, "__version__", None)
        facts = {"version": None if version is None else str(version)}
        more = _MORE.get(name)
        return facts if more is None else {**facts, **more(module)}
    except Exception as error:  # whatever a broken library raises is what is asked for
        words = " ".join(str(error).split())
        return {"problem": f"{type(error).__name__}: {words}" if words else type(error).__name__}


def _torch_facts(torch: ModuleType) -> dict[str, Any]:
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return {"devices": devices}


def _onnxruntime_facts(onnxruntime: ModuleType) -> dict[str, Any]:
    known = {"CPU": "cpu", "CUDA": "cuda", "Tensorrt": "tensorrt"}
    names = [name.removesuffix("ExecutionProvider") for name in _providers(onnxruntime)]
    return {"devices": [known[name] for name in names if name in known][::-1]}


def _providers(onnxruntime: ModuleType) -> list[str]:
    providers: list[str] = onnxruntime.get_available_providers()
    return providers


def _openvino_facts(openvino: ModuleType) -> dict[str, Any]:
    devices = openvino.Core().available_devices
    return {"devices": sorted({str(name).partition(".")[0].lower() for name in devices})}


def _opencv_facts(cv2: ModuleType) -> dict[str, Any]:
    lines = [line.split(":") for line in cv2.getBuildInformation().splitlines()]
    told = [line[1].strip() for line in lines if line[0].strip() == "GStreamer" and line[1:]]
    return {"gstreamer": bool(told) and told[0].startswith("YES")}


_MORE: dict[str, Callable[[ModuleType], dict[str, Any]]] = {
    "torch": _torch_facts,
    "onnxruntime": _onnxruntime_facts,
    "openvino": _openvino_facts,
    "cv2": _opencv_facts,
}


def _gpu_facts() -> dict[str, Any]:
    """Ask NVIDIA's driver for its GPUs, through its C interface: no package is needed."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"problem": f"the NVIDIA driver cannot be loaded ({error})"}
    version, count = ctypes.c_int(), ctypes.c_int()
    if status := driver.cuInit(0):
        return {"problem": f"the NVIDIA driver does not start: {_driver_text(driver, status)}"}
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetCount(ctypes.byref(count))
    return {
        "cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
        "devices": [_gpu(driver, index) for index in range(count.value)],
    }


def _gpu(driver: ctypes.CDLL, index: int) -> dict[str, Any]:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, size = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, _NAME_BYTES, device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    return {
        "name": name.value.decode("utf-8", "replace"),
        "capability": f"{major.value}.{minor.value}",
        "memory": size.value,
    }


def _driver_text(driver: ctypes.CDLL, status: int) -> str:
    text = ctypes.c_char_p()
    if driver.cuGetErrorString(status, ctypes.byref(text)) or text.value is None:
        return f"error {status}"
    return text.value.decode("utf-8", "replace")


def main(question: str) -> None:
    """Answer one question on standard output."""
    answer = _gpu_facts() if question == GPUS else _module_facts(question)
    # The last line whatever the library printed; no exit handlers of its own, which may crash.
    print("\n" + json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
