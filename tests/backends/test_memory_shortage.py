"""Want of memory is told as such on both CPU runtimes, and the next call may succeed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.backends.base import is_shortage
from xdecoder_rt.backends.fallback import _Guarded
from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend, OnnxRuntimeGraph
from xdecoder_rt.errors import BackendError, MemoryShortageError

SAID = [
    MemoryError(),
    MemoryError("std::bad_alloc"),
    RuntimeError("[ONNXRuntimeError] : 1 : FAIL : std::bad_alloc"),
    RuntimeError("Exception during initialization: std::bad_alloc"),
    RuntimeError("Failed to allocate memory for requested buffer of size 94371840"),
    RuntimeError("Exception from src/inference/src/dev/plugin.cpp:54: bad allocation"),
    RuntimeError("src/inference/src/dev/plugin.cpp:54: Resource temporarily unavailable"),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDNN failure 4003: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
]


class Short:
    """A library that fails once and works after that."""

    def __init__(self, error: Exception) -> None:
        self.errors = [error]
        self.inputs = ("x",)

    def get_inputs(self) -> list[Any]:
        return []

    get_outputs = get_inputs

    def run_with_ort_values(self, outputs: object, values: object) -> list[Any]:
        if self.errors:
            raise self.errors.pop()
        return []


@pytest.mark.parametrize("error", SAID, ids=lambda error: str(error)[:40] or "MemoryError")
def test_a_call_for_which_there_is_no_memory_says_so(error: Exception) -> None:
    graph = OnnxRuntimeGraph("text.onnx", Short(error))
    with pytest.raises(MemoryShortageError, match="too little memory .* text.onnx") as caught:
        graph({})
    assert "build" not in str(caught.value)
    assert isinstance(caught.value, MemoryError) and isinstance(caught.value, BackendError)
    assert graph({}) == {}


@pytest.mark.parametrize("error", SAID, ids=lambda error: str(error)[:40] or "MemoryError")
def test_loading_for_which_there_is_no_memory_says_so(error: Exception) -> None:
    def read() -> bytes:
        raise error

    with pytest.raises(MemoryShortageError, match="too little memory"):
        OnnxRuntimeBackend(1).load("text.onnx", read)
    pytest.importorskip("openvino")
    from xdecoder_rt.backends.openvino import OpenVINOBackend

    with pytest.raises(MemoryShortageError, match="too little memory"):
        OpenVINOBackend(1).load("text.onnx", read)


def test_other_failures_are_no_want_of_memory() -> None:
    for text in ("Invalid graph", "memory format nchw is unsupported", "Non-zero status code"):
        assert not is_shortage(RuntimeError(text))


def test_a_shortage_does_not_send_a_graph_to_the_slower_library() -> None:
    outcomes: list[Any] = [MemoryShortageError("OpenVINO to run the graph"), {"y": 1}]

    class Graph:
        inputs = ("x",)

        def __call__(self, feeds: object) -> Any:
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

    def second(reason: BackendError) -> Any:
        raise AssertionError("replaced")

    graph = _Guarded(Graph(), second)
    with pytest.raises(MemoryShortageError):
        graph({})
    assert graph({}) == {"y": 1}


def test_openvino_keeps_to_fixed_shapes_after_a_shortage(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    from xdecoder_rt.backends.openvino import OpenVINOBackend

    compile_model, shapes_given = OpenVINOBackend._compile, []

    def short(self: Any, kept: Any, network: Any, call: Any) -> Any:
        shapes_given.append(None if call is None else call.shapes)
        if len(shapes_given) == 2:  # text, vision
            raise RuntimeError("std::bad_alloc")
        return compile_model(self, kept, network, call)

    monkeypatch.setattr(OpenVINOBackend, "_compile", short)
    image = np.zeros((64, 64, 3), np.uint8)
    with Engine(tiny_plan, "openvino", threads=1, cache_dir=tmp_path) as engine:
        with pytest.raises(MemoryShortageError):
            engine.segment(image, ["mug"])
        engine.segment(image, ["mug"])
    assert shapes_given[1] is not None and shapes_given[2] == shapes_given[1]


LIMITED = """
import os, resource, sys
import numpy as np
from xdecoder_rt import Engine
from xdecoder_rt.errors import XDecoderError

image = np.zeros((64, 64, 3), np.uint8)
with Engine(sys.argv[1], "onnxruntime", threads=1, cache_dir=sys.argv[2]) as engine:
    engine.embed_text(["a mug"])
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (1 << 19)
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, unlimited[1]))
    try:  # with longer and longer texts: some memory is free from before
        for length in range(2, 14, 2):
            end = "on a" + " long," * length + " table"
            engine.embed_text([f"{number} things {end}" for number in range(1000)])
    except XDecoderError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_AS, unlimited)
    engine.embed_text(["a spoon"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
def test_onnx_runtime_under_a_limit_says_that_memory_is_short_and_goes_on(
    tiny_plan: Path, tmp_path: Path
) -> None:
    child = subprocess.run(
        [sys.executable, "-c", LIMITED, tiny_plan, tmp_path], capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.startswith("There is too little memory for ONNX Runtime"), child.stderr
