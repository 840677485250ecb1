"""CUDA graphs: work queued once on a stream while it is captured, and launched whole afterwards.

pycuda has no calls for them, so ``cuda-bindings`` makes these on its stream handles. Without it, or
where it lacks one of them, work is queued call by call.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from xdecoder_rt.backends.cuda.context import CudaContext


class CaptureError(Exception):
    """The work cannot be captured on this machine; queueing it plainly can still be right."""


class CapturedGraph:
    """Captured work, ready to be launched on the stream where it was captured."""

    def __init__(self, driver: Any, handle: Any, stream: Any) -> None:
        self._driver = driver
        self._handle = handle
        self._stream = stream

    def launch(self) -> None:
        """Queue the work. The context is current.

        Raises:
            CaptureError: the driver refuses.
        """
        _call(self._driver, "cuGraphLaunch", self._handle, self._stream.handle)

    def close(self) -> None:
        """Release it. The context is current."""
        self._driver.cuGraphExecDestroy(self._handle)


class Capturer:
    """Makes CUDA graphs, where ``cuda-bindings`` is installed and the driver knows them.

    Args:
        cuda: the context.

    Attributes:
        available: whether it can.
    """

    def __init__(self, cuda: CudaContext) -> None:
        self._cuda = cuda
        try:
            self._driver: Any = import_module("cuda.bindings.driver")
        except ImportError:
            self._driver = None
        self.available = self._driver is not None

    def capture(self, stream: Any, work: Callable[[], None]) -> CapturedGraph:
        """Return what `work` queues on `stream` as a graph; nothing of it runs yet.

        Only calls of this thread are held to what capturing allows: others may allocate meanwhile.
        The context is current.

        Args:
            stream: a ``pycuda.driver.Stream``.
            work: queues on it; what it raises goes through.

        Raises:
            CaptureError: the driver cannot capture this.
        """
        with self._cuda.capturing:
            graph = self._record(stream, work)
        driver = self._driver
        try:
            (handle,) = _call(driver, "cuGraphInstantiate", graph, 0)
        finally:
            driver.cuGraphDestroy(graph)
        return CapturedGraph(driver, handle, stream)

    def _record(self, stream: Any, work: Callable[[], None]) -> Any:
        driver = self._driver
        modes = getattr(driver, "CUstreamCaptureMode", None)
        mode = getattr(modes, "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL", None)
        if mode is None:
            raise CaptureError("cuda-bindings captures no streams")
        _call(driver, "cuStreamBeginCapture", stream.handle, mode)
        try:
            work()
        except BaseException:
            # The stream must leave capture mode; what was captured is void.
            _, graph = driver.cuStreamEndCapture(stream.handle)
            if graph:
                driver.cuGraphDestroy(graph)
            raise
        (graph,) = _call(driver, "cuStreamEndCapture", stream.handle)
        return graph


def _call(driver: Any, name: str, *arguments: Any) -> list[Any]:
    """Call a function of the driver; one that is missing there or in the bindings is no graph."""
    values: list[Any]
    try:
        result, *values = getattr(driver, name)(*arguments)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise CaptureError(f"{name}: {error}") from error
    if result != driver.CUresult.CUDA_SUCCESS:
        raise CaptureError(f"{name}: the driver answers {getattr(result, 'name', result)}")
    return values
