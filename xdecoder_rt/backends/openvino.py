"""Portable plans on the CPU with OpenVINO: the faster choice on x86-64, and for bf16 and INT8."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from xdecoder_rt.backends.base import Array, Graph, Value, check_feeds
from xdecoder_rt.errors import BackendError, require

# OpenVINO takes bf16 by itself where the processor has it: the plan's word is final.
_PRECISIONS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}
# Emulated bf16 is slower than fp32, so an INT8 plan's rest is bf16 only where it is native.
_PRECISIONS_WITH_BF16 = {**_PRECISIONS, "int8": "bf16"}


@cache
def _core() -> Any:
    """The process's one OpenVINO.

    Its CPU plugin gives the thread that first uses it a stack for signal handlers, and frees that
    when it ends itself, in whichever thread: the next Ctrl-C would find no stack there. So it
    never ends.
    """
    return require("openvino", "openvino").Core()


class OpenVINOGraph:
    """A compiled model and a pool of requests: one for each call in flight.

    Args:
        name: the graph's, for messages.
        compiled: the model.
        tensor: OpenVINO's class of tensors.
    """

    def __init__(self, name: str, compiled: Any, tensor: Any) -> None:
        self._name = name
        self._compiled = compiled
        self._tensor = tensor
        self.inputs = tuple(port.get_any_name() for port in compiled.inputs)
        self._outputs = [port.get_any_name() for port in compiled.outputs]
        # Outputs whose shapes are known are written where the caller keeps them, without a copy.
        ports = compiled.outputs
        self._known = (
            None
            if any(port.partial_shape.is_dynamic for port in ports)
            else [(tuple(port.shape), port.element_type.to_dtype()) for port in ports]
        )
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
            if self._known is None:
                results = request.infer(inputs, share_inputs=True, share_outputs=False)
                return dict(zip(self._outputs, results.values(), strict=True))
            made = [np.empty(shape, dtype) for shape, dtype in self._known]
            for index, array in enumerate(made):
                request.set_output_tensor(index, self._tensor(array, shared_memory=True))
            request.infer(inputs, share_inputs=True, share_outputs=True)
            return dict(zip(self._outputs, made, strict=True))
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
        precision: the plan's precision; arithmetic is pinned to it. What an INT8 plan leaves
            unquantized is computed in bf16 where the processor does that itself, else in fp32.
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
        self._core = _core()
        self._tensor = openvino.Tensor
        self.version = str(openvino.__version__)
        has_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precisions = _PRECISIONS_WITH_BF16 if has_bf16 else _PRECISIONS
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precisions[precision],
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
            if name.startswith("vision"):
                _one_image(network)
            compiled = self._core.compile_model(network, "CPU", self._settings)
            return OpenVINOGraph(name, compiled, self._tensor)
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


def _one_image(network: Any) -> None:
    """Fix the number of images, as on a CPU frames come one by one."""
    shapes = {port: port.partial_shape for port in network.inputs}
    for shape in shapes.values():
        shape[0] = 1
    network.reshape(shapes)
