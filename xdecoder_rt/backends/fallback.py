"""OpenVINO for the graphs that it compiles, ONNX Runtime for those that it refuses.

OpenVINO's INT8 is the fastest on processors with VNNI or AMX, and fragile: some graphs fail to
compile, a few when their first shapes come. One plan runs on both, so a refusal costs time only.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xdecoder_rt.backends.base import Array, Graph, ModelReader, Value
from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend
from xdecoder_rt.backends.openvino import OpenVINOBackend
from xdecoder_rt.errors import BackendError, MemoryShortageError


class OpenVINOFirst:
    """OpenVINO, with ONNX Runtime beside it.

    Args:
        threads: threads of one call; None leaves the choice to the libraries.
        precision: the plan's.
        cache_dir: where compiled models are kept, or None.

    Attributes:
        refused: the graphs that ONNX Runtime runs instead.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """

    name = "openvino"
    device = "cpu"

    def __init__(
        self, threads: int | None = None, precision: str = "int8", cache_dir: Path | None = None
    ) -> None:
        self._first = OpenVINOBackend(threads, precision, cache_dir)
        self._threads = threads
        self._second: OnnxRuntimeBackend | None = None
        self.version = self._first.version
        self.refused: list[str] = []

    def load(self, name: str, model: ModelReader, is_steady: bool = False) -> Graph:
        """Compile a graph with OpenVINO, or where it refuses with ONNX Runtime.

        Raises:
            BackendError: neither can run it.
        """

        def second(reason: BackendError) -> Graph:
            warnings.warn(
                f"{reason.what}; ONNX Runtime runs this graph instead, slower", stacklevel=2
            )
            self.refused.append(name)
            if self._second is None:
                self._second = OnnxRuntimeBackend(self._threads)
            return _OnHost(self._second.load(name, model, is_steady))

        try:
            return _Guarded(self._first.load(name, model, is_steady), second)
        except MemoryShortageError:
            raise  # a second library would need more
        except BackendError as error:
            return second(error)

    def prepare(self, name: str, model: ModelReader) -> None:
        """Let OpenVINO bring back a compiled model in another thread."""
        self._first.prepare(name, model)

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """Return a value, which is an array already."""
        array: np.ndarray[Any, Any] = value
        return array

    def to_numpy_all(self, values: Mapping[str, Value]) -> dict[str, np.ndarray[Any, Any]]:
        """Return values, which are arrays already."""
        return dict(values)

    def close(self) -> None:
        """Release nothing: compiled models end with the graphs that hold them."""


class _Guarded:
    """A graph of OpenVINO that goes to ONNX Runtime if it fails when it runs."""

    def __init__(self, graph: Graph, second: Callable[[BackendError], Graph]) -> None:
        self._graph = graph
        self._second: Callable[[BackendError], Graph] | None = second
        self._lock = threading.Lock()
        self.inputs = graph.inputs

    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        graph = self._graph
        try:
            return graph(feeds)
        except MemoryShortageError:
            raise  # of this call: two libraries take more than one
        except BackendError as error:
            # Calls that fail together wait for one replacement.
            with self._lock:
                if self._graph is graph:
                    second, self._second = self._second, None
                    if second is None:
                        raise
                    self._graph = second(error)
            return self._graph(feeds)


class _OnHost:
    """A graph of ONNX Runtime whose outputs are arrays, as OpenVINO's are."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.inputs = graph.inputs

    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        return {name: value.numpy() for name, value in self._graph(feeds).items()}
