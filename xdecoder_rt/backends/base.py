"""What a backend is: graphs that take and return values, and nothing of the model.

A *value* is whatever a backend keeps arrays in, on its own device. Values go from one graph of a
backend into another without visiting the host; only :meth:`Backend.to_numpy` brings them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Value = Any


class Graph(Protocol):
    """A compiled graph. Calls may come from many threads.

    Attributes:
        inputs: names of what it takes.
    """

    inputs: tuple[str, ...]

    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        """Run the graph on arrays or on values of the same backend; returns every output."""


class Backend(Protocol):
    """A library that compiles and runs graphs on one device.

    Attributes:
        name: as given to ``Engine(backend=…)``.
        version: the library's.
        device: where it runs, for people.
    """

    name: str
    version: str
    device: str

    def load(self, name: str, model: memoryview) -> Graph:
        """Compile a graph.

        Args:
            name: for messages.
            model: the serialized graph.

        Raises:
            BackendError: the library cannot run it.
        """

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """A value as an array on the host; it may share the value's memory."""

    def close(self) -> None:
        """Release what the backend holds."""
