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
from collections.abc import Mapping
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
    from xdecoder_rt.backends.tensorrt.library import load_module

    try:
        if name == "tensorrt" and find_spec("tensorrt") is None and find_spec("tensorrt_bindings"):
            return over_shim(linked_names())
        return load_module(name)
    except Exception as error:  # a wheel without its libraries fails in many ways
        pytest.skip(
            f"needs {name}, which cannot be imported: {error}; "
            "see tests/support/fake_tensorrt/bindings.py"
        )


def linked_names() -> dict[str, str]:
    """File names of the libraries that the installed bindings of TensorRT link, by library."""
    spec = find_spec("tensorrt_bindings")
    assert spec is not None and spec.origin is not None
    bindings = Path(spec.origin).with_name("tensorrt.so").read_bytes()
    file_names = {}
    for library in _LIBRARIES:
        start = bindings.index(f"lib{library}.so.".encode())
        file_names[library] = bindings[start : bindings.index(b"\0", start)].decode()
    return file_names


def over_shim(linked: Mapping[str, str]) -> ModuleType:
    """TensorRT's module, with the shim in place of these libraries.

    Args:
        linked: some of :func:`linked_names`; what is not among them must be loaded already.

    Raises:
        ImportError: there is no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise ImportError("a C compiler, for the shim of tensorrt_bindings")
    source = str(Path(__file__).with_name("shim.c"))
    with tempfile.TemporaryDirectory() as folder:
        for name in linked.values():
            # The loader is content with what is loaded already under the name that is linked.
            library = Path(folder, name)
            subprocess.run(
                [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(library), source],
                check=True,
            )
            ctypes.CDLL(str(library))
    return importlib.import_module("tensorrt_bindings")
