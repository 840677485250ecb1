"""``cuda.bindings.driver`` for the stand-in of pycuda: captures and replays of its streams."""

from __future__ import annotations

from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

from .driver import Driver


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class CUstreamCaptureMode(IntEnum):
    CU_STREAM_CAPTURE_MODE_GLOBAL = 0
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


class Captured(list[Any]):
    """Work of a graph, or of its executable form; true unless it is destroyed."""

    is_live = True


def module(driver: Driver) -> ModuleType:
    """The module.

    Attributes of it for tests: ``launches``, the number of graphs launched; ``executables``, those
    that live; ``refusing``, whether captures fail.
    """
    fake_module = ModuleType("cuda.bindings.driver")
    state = SimpleNamespace(launches=0, executables=0, refusing=False)

    def begin(stream: int, mode: CUstreamCaptureMode) -> tuple[CUresult]:
        assert mode == CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        driver.check_current()
        assert driver.streams[stream].captured is None
        driver.streams[stream].captured = []
        return (CUresult.CUDA_SUCCESS,)

    def end(stream: int) -> tuple[CUresult, Captured | None]:
        work, driver.streams[stream].captured = driver.streams[stream].captured, None
        assert work is not None
        if state.refusing:
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None
        return CUresult.CUDA_SUCCESS, Captured(work)

    def instantiate(graph: Captured, flags: int) -> tuple[CUresult, Captured]:
        assert graph.is_live and flags == 0
        with driver.lock:
            state.executables += 1
        return CUresult.CUDA_SUCCESS, Captured(graph)

    def launch(executable: Captured, stream: int) -> tuple[CUresult]:
        assert executable.is_live
        with driver.lock:
            state.launches += 1
        for work, reads, writes in executable:
            driver.access([span for span in (*reads, *writes) if span[1]])
            driver.submit(driver.streams[stream], work, reads, writes)
        return (CUresult.CUDA_SUCCESS,)

    def destroy(graph: Captured) -> tuple[CUresult]:
        assert graph.is_live
        graph.is_live = False
        return (CUresult.CUDA_SUCCESS,)

    def destroy_executable(executable: Captured) -> tuple[CUresult]:
        with driver.lock:
            state.executables -= 1
        return destroy(executable)

    fake_module.__dict__.update(
        CUresult=CUresult,
        CUstreamCaptureMode=CUstreamCaptureMode,
        cuStreamBeginCapture=begin,
        cuStreamEndCapture=end,
        cuGraphInstantiate=instantiate,
        cuGraphLaunch=launch,
        cuGraphDestroy=destroy,
        cuGraphExecDestroy=destroy_executable,
        state=state,
    )
    return fake_module
