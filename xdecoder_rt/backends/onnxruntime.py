"""Portable plans on the CPU with ONNX Runtime: the default, and the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from xdecoder_rt.backends.base import Array, Graph, ModelReader, Value, feeds_error, is_shortage
from xdecoder_rt.errors import BackendError, MemoryShortageError, XDecoderError


class OnnxRuntimeGraph:
    """One session; ONNX Runtime allows concurrent runs of it."""

    def __init__(self, name: str, session: ort.InferenceSession) -> None:
        self._name = name
        self._session = session
        self.inputs = tuple(port.name for port in session.get_inputs())
        self._input_names = frozenset(self.inputs)
        self._outputs = [output.name for output in session.get_outputs()]

    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        """Run the graph; outputs stay in ONNX Runtime's memory.

        Raises:
            PlanError: the graph takes other inputs.
            BackendError: ONNX Runtime fails; `MemoryShortageError` for want of memory.
        """
        if feeds.keys() != self._input_names:
            raise feeds_error(self._name, self.inputs, feeds)
        values = {
            name: value if isinstance(value, ort.OrtValue) else _wrap(value)
            for name, value in feeds.items()
        }
        try:
            results = self._session.run_with_ort_values(self._outputs, values)
        except Exception as error:  # its errors share no base class but Exception
            if is_shortage(error):
                raise MemoryShortageError(f"ONNX Runtime to run the {self._name} graph") from error
            raise BackendError(
                f"ONNX Runtime cannot run the {self._name} graph ({error})",
                fix="build the plan again: xdecoder-rt build",
            ) from error
        return dict(zip(self._outputs, results, strict=True))


class OnnxRuntimeBackend:
    """ONNX Runtime's CPU execution provider.

    Args:
        threads: threads of one call; None leaves the choice to ONNX Runtime.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        self.version = str(ort.__version__)
        # Where the process imported it before this package, which keeps it from beginning at all.
        ort.disable_telemetry_events()
        self._options = ort.SessionOptions()
        self._options.log_severity_level = 3
        if threads is not None:
            self._options.intra_op_num_threads = threads
        # An arena keeps the largest frame of every session: a hundred megabytes more.
        self._options.enable_cpu_mem_arena = False
        # A frame goes through several sessions: threads of one that spin for more work would take
        # the cores from the next.
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def load(self, name: str, model: ModelReader, is_steady: bool = False) -> Graph:
        """Create a session for a serialized ONNX model.

        Raises:
            BackendError: ONNX Runtime refuses the model, or there is too little memory.
            PlanError: the model cannot be read.
        """
        try:
            session = ort.InferenceSession(
                model(), self._options, providers=["CPUExecutionProvider"]
            )
        except XDecoderError:
            raise
        except Exception as error:  # its errors share no base class but Exception
            if is_shortage(error):
                raise MemoryShortageError(f"ONNX Runtime to load the {name} graph") from error
            raise BackendError(
                f"ONNX Runtime {self.version} cannot load the {name} graph ({error})",
                expected="a graph of opset 18 made of standard operators",
                fix="Build the plan again, or update onnxruntime",
            ) from error
        # Kept for beginning anew with other providers, which nobody asks for: as much as the plan.
        session._model_bytes = None
        return OnnxRuntimeGraph(name, session)

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """Copy a value out of ONNX Runtime's memory."""
        array: np.ndarray[Any, Any] = value.numpy()
        return array

    def to_numpy_all(self, values: Mapping[str, Value]) -> dict[str, np.ndarray[Any, Any]]:
        """Copy values out of ONNX Runtime's memory."""
        return {name: value.numpy() for name, value in values.items()}

    def close(self) -> None:
        """Release nothing: sessions end with the graphs that hold them."""


def _wrap(array: Array) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
