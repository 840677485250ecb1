"""The plugins in Python, asked and run through the real bindings by a stand-in for TensorRT in C++.

It takes the wheel of bindings and TensorRT's headers (``include/`` of NVIDIA's TensorRT repository,
or of the package libnvinfer-headers-dev) of one major version, in the folder that the variable
TENSORRT_INCLUDE names; a C++ compiler, and CUDA's headers.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from xdecoder_rt.kernels.compiled import CompiledKernels
from xdecoder_rt.kernels.loader import kernel_arguments

HOST = Path(__file__).parents[2] / "support" / "fake_tensorrt" / "plugin_host.py"
CUDA_HEADER = Path("/usr/local/cuda/include/cuda_runtime_api.h")
TOLD = """\
PLUGIN CREATOR_V3ONE xdecoder_rt::MaskBits of xdecoder_rt, version 1
PLUGIN CREATOR_V3ONE xdecoder_rt::AttendBits of xdecoder_rt, version 1
field kernels
made
xdecoder_rt::MaskBits, version 1, outputs 1
output of its type, 1 101 32
formats 1 1 1
workspace 0, tactics 0, failed 0
keeps 1: kernels, 1 of type 5
field kernels
made
tactic 0, shapes 0, run 0, run 0
field kernels
made
xdecoder_rt::AttendBits, version 1, outputs 1
output of its type, 1 3 101 64
formats 1 1 1 1 1
workspace 0, tactics 0, failed 0
keeps 1: kernels, 1 of type 5
field kernels
made
tactic 0, shapes 0, run 0, run 0
field kernels
made
xdecoder_rt::AttendBits, version 1, outputs 1
output of its type, 1 3 101 64
formats 1 1 1 1 1
workspace 0, tactics 0, failed 0
keeps 1: kernels, 1 of type 5
field kernels
not made
"""
"""A build and a run of each, and an engine with another number."""


@pytest.fixture(scope="module")
def hosted() -> tuple[str, dict[str, Any], str]:
    """What TensorRT's part was told, the facts, and what the bindings wrote of errors."""
    headers = os.environ.get("TENSORRT_INCLUDE")
    lacking = {
        "TENSORRT_INCLUDE": headers is None,
        "tensorrt_bindings": find_spec("tensorrt_bindings") is None,
        "a C++ compiler": shutil.which("c++") is None,
        str(CUDA_HEADER): not CUDA_HEADER.exists(),
    }
    if any(lacking.values()):
        pytest.skip(f"needs {', '.join(name for name, lacks in lacking.items() if lacks)}")
    ended = subprocess.run(
        [sys.executable, str(HOST), str(headers)], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    *told, facts = ended.stdout.splitlines(keepends=True)
    return "".join(told), json.loads(facts), ended.stderr


def test_tensorrt_is_told_what_it_asks(hosted: tuple[str, dict[str, Any], str]) -> None:
    assert hosted[0] == TOLD


def test_launches_are_those_of_the_launcher(hosted: tuple[str, dict[str, Any], str]) -> None:
    from fake_tensorrt import kernel_files, node_calls

    compiled = CompiledKernels(kernel_files(87).__getitem__)
    launches, addresses = hosted[1]["launches"], hosted[1]["addresses"]
    bits, attend = node_calls(101, 1024, "fp16", addresses)
    for launch, call in zip(launches, (bits, bits, attend, attend), strict=True):
        spec = compiled.form(call)
        codes = {"fp32": "f", "i32": "i"}
        types = "".join(codes.get(kind, "P") for kind in spec.arguments.values()) + "PP"
        values = [value.item() for value in kernel_arguments(spec, call.values)]
        wanted = struct.pack("@" + types, *values, 0, 0).hex()
        grid, block = list(spec.grid.of(call.sizes)), [spec.warps * 32, 1, 1]
        assert launch == [call.function, grid, block, 1024, True, wanted]


def test_nothing_is_left(hosted: tuple[str, dict[str, Any], str]) -> None:
    assert (hosted[1]["modules"], hosted[1]["holding kernels"]) == (0, 0)


def test_an_engine_of_other_kernels_is_no_crash(hosted: tuple[str, dict[str, Any], str]) -> None:
    (said,) = hosted[1]["said"]
    assert "AttendBits was built with other kernels" in said
    assert hosted[2].count("[ERROR]") == 1
