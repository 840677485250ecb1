"""Engines that several modules look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_cuda import fake_driver  # noqa: F401

if TYPE_CHECKING:
    from xdecoder_rt.export.tensorrt.build import EngineSummary

SIZE = (64, 64)
TARGETS = (86, 89, 120)


@pytest.fixture(scope="session")
def rtx() -> Any:
    """The module of TensorRT-RTX."""
    pytest.importorskip("onnx", reason="building engines needs onnx")
    from xdecoder_rt.backends.tensorrt.library import load_module
    from xdecoder_rt.errors import MissingExtraError

    try:
        return load_module("tensorrt_rtx")
    except MissingExtraError:
        pytest.skip("TensorRT-RTX is not installed (the extra tensorrt-rtx-build)")


@pytest.fixture(scope="session")
def rtx_plan(rtx: Any, tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> EngineSummary:
    """The tiny model in fp32 for three generations of GPUs, in one plan."""
    from xdecoder_rt.export.tensorrt.build import build_engines
    from xdecoder_rt.export.tensorrt.options import EngineOptions

    output = tmp_path_factory.mktemp("engines") / "rtx.plan"
    options = EngineOptions("tensorrt_rtx", TARGETS, max_rows=64)
    return build_engines(tiny_plan, output, options, sizes=[SIZE])
