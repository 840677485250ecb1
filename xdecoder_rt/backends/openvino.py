"""Portable plans on the CPU with OpenVINO: the faster choice for bf16 and INT8."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xdecoder_rt.backends.base import Array, Graph, Value, check_feeds
from xdecoder_rt.errors import BackendError, require

# OpenVINO takes bf16 by itself where the processor has it: the plan's word is final.
_PRECISIONS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVINOGraph:
    """A compiled model and a pool of requests: one for each call in flight."""

    def __init__(self, name: str, compiled: Any) -> None:
        self._name = name
        self._compiled = compiled
        self.inputs = tuple(port.get_any_name() for port in compiled.inputs)
        self._outputs = [port.get_any_name() for port in compiled.outputs]
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        """Run the graph; outputs are arrays of their own.

        Raises:
            PlanError: the graph takes other inputs.
            BackendError: OpenVINO fails, as it may with the first inputs of some shape.
        """
        check_feeds(self._name, self.inputs, feeds)
        try:
            request = self._requests.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        try:
            inputs = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
            results = request.infer(inputs, share_inputs=True, share_outputs=False)
            return dict(zip(self._outputs, results.values(), strict=True))
        except RuntimeError as error:
            raise BackendError(
                f"OpenVINO cannot run the {self._name} graph ({error})",
                fix='Use Engine(…, backend="onnxruntime")',
            ) from error
        finally:
            self._requests.put(request)


class OpenVINOBackend:
    """OpenVINO's CPU plugin.

    Args:
        threads: threads of one call; None leaves the choice to OpenVINO.
        precision: the plan's precision; arithmetic is pinned to it.
        cache_dir: where compiled models are kept, or None.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """

    name = "openvino"
    device = "cpu"

    def __init__(
        self, threads: int | None = None, precision: str = "fp32", cache_dir: Path | None = None
    ) -> None:
        openvino = require("openvino", "openvino")
        self._core = openvino.Core()
        self.version = str(openvino.__version__)
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        if cache_dir is not None:
            self._settings["CACHE_DIR"] = str(cache_dir)

    def load(self, name: str, model: memoryview) -> Graph:
        """Compile a serialized ONNX model.

        Raises:
            BackendError: OpenVINO refuses the model.
        """
        try:
            network = self._core.read_model(model=bytes(model))
            return OpenVINOGraph(name, self._core.compile_model(network, "CPU", self._settings))
        except RuntimeError as error:
            raise BackendError(
                f"OpenVINO {self.version} cannot compile the {name} graph ({error})",
                expected="a graph that OpenVINO's CPU plugin supports",
                fix='Use Engine(…, backend="onnxruntime")',
            ) from error

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """Values are arrays already."""
        array: np.ndarray[Any, Any] = value
        return array

    def close(self) -> None:
        """Compiled models end with the graphs that hold them."""
