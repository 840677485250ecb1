"""The real Python bindings of TensorRT and TensorRT-RTX, as far as they can be had without a GPU.

    pip install --no-deps tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings
    pip install --no-deps tensorrt-cu12-bindings==10.3.0     # or another version; a C compiler

TensorRT's wheel of bindings imports over `shim.c`, which stands in for the libraries. One process
holds one version: for others, `pip install --target FOLDER` and `PYTHONPATH=FOLDER pytest ...`.
"""

from __future__ import annotations

import ctypes
import importlib
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")


def real_bindings(name: str) -> ModuleType:
    """The real module, or a skip that says what is lacking.

    Args:
        name: ``tensorrt`` or ``tensorrt_rtx``.
    """
    from xdecoder_rt.backends.tensorrt_library import load_module

    try:
        if name == "tensorrt" and find_spec("tensorrt") is None and find_spec("tensorrt_bindings"):
            return _over_shim()
        return load_module(name)
    except Exception as error:  # a wheel without its libraries fails in many ways
        pytest.skip(
            f"needs {name}, which cannot be imported: {error}; see tests/fake_tensorrt/bindings.py"
        )


def _over_shim() -> ModuleType:
    compiler = shutil.which("cc")
    if compiler is None:
        raise ImportError("a C compiler, for the shim of tensorrt_bindings")
    spec = find_spec("tensorrt_bindings")
    assert spec is not None and spec.origin is not None
    bindings = Path(spec.origin).with_name("tensorrt.so").read_bytes()
    source = str(Path(__file__).with_name("shim.c"))
    with tempfile.TemporaryDirectory() as folder:
        for library in _LIBRARIES:
            # The loader is content with what is loaded already under the name that is linked.
            start = bindings.index(f"lib{library}.so.".encode())
            linked = bindings[start : bindings.index(b"\0", start)].decode()
            made = Path(folder, linked)
            subprocess.run(
                [compiler, "-shared", "-fPIC", f"-Wl,-soname,{linked}", "-o", str(made), source],
                check=True,
            )
            ctypes.CDLL(str(made))
    return importlib.import_module("tensorrt_bindings")
