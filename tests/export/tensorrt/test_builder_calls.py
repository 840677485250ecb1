"""What the builder calls of TensorRT, which runs on a GPU only: the real bindings have it all.

The same code builds with TensorRT-RTX in test_rtx_build.py; what TensorRT alone is asked for (its
timing cache, its inspector) meets stand-ins here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xdecoder_rt.export.tensorrt import timing_cache

NAMES = ("tensorrt", "tensorrt_rtx")
# What takes how many arguments, as the bindings write it.
CALLS = {
    "Builder": {
        "create_network": 1,
        "create_builder_config": 0,
        "create_optimization_profile": 0,
    },
    "IBuilderConfig": {
        "set_memory_pool_limit": 2,
        "clear_flag": 1,
        "create_timing_cache": 1,
        "set_timing_cache": 2,
        "get_timing_cache": 0,
        "add_optimization_profile": 1,
    },
    "IOptimizationProfile": {"set_shape": 4},
    "OnnxParser": {"get_error": 1},
    "ParserError": {"desc": 0, "node_name": 0, "node_operator": 0},
    "ICudaEngine": {"create_engine_inspector": 0},
    "EngineInspector": {"get_engine_information": 1},
    "ITimingCache": {"serialize": 0},
    "IProgressMonitor": {"phase_start": 3, "step_complete": 2, "phase_finish": 1},
}
PROPERTIES = {
    "IBuilderConfig": ("profiling_verbosity", "progress_monitor", "num_optimization_profiles"),
    "OnnxParser": ("parse", "num_errors"),
    "Builder": ("build_serialized_network",),
    "ProfilingVerbosity": ("DETAILED",),
    "BuilderFlag": ("TF32",),
    "MemoryPoolType": ("WORKSPACE",),
    "LayerInformationFormat": ("JSON",),
}


@pytest.fixture(params=NAMES)
def real(request: pytest.FixtureRequest) -> Any:
    from fake_tensorrt import bindings

    return bindings.real_bindings(request.param)


def test_the_bindings_have_what_is_called(real: Any) -> None:
    for kind, methods in CALLS.items():
        for method, arguments in methods.items():
            signature = getattr(getattr(real, kind), method).__doc__
            taken = re.search(r"\((self: .*)\) ->", signature)
            assert taken is not None, f"{kind}.{method}"
            assert len(re.findall(r"(?:^|, )\w+: ", taken.group(1))) == arguments + 1, signature
    for kind, names in PROPERTIES.items():
        assert all(hasattr(getattr(real, kind), name) for name in names)


def test_an_rtx_engine_can_be_told_to_allocate_nothing() -> None:
    from fake_tensorrt import bindings

    rtx = bindings.real_bindings("tensorrt_rtx")
    assert hasattr(rtx.BuilderFlag, "REQUIRE_USER_ALLOCATION")
    assert "set_flag(self:" in rtx.IBuilderConfig.set_flag.__doc__


def test_a_log_and_a_monitor_can_be_made_of_them(real: Any) -> None:
    from xdecoder_rt.export.tensorrt.log import BuildLog
    from xdecoder_rt.export.tensorrt.progress import BuildProgress

    log = BuildLog(real)
    log.logger.log(real.ILogger.Severity.ERROR, "no\n  room")
    log.logger.log(real.ILogger.Severity.VERBOSE, "Layers:\nName: x")
    assert log.errors() == "no room" and log.layers == "Layers:\nName: x"
    with BuildProgress(real, "vision") as progress:
        progress.monitor.phase_start("Building engine", None, 6)
        assert progress.monitor.step_complete("Building engine", 0) is True
        progress.monitor.phase_finish("Building engine")


class Config:
    """A builder config that takes caches of one version."""

    def __init__(self) -> None:
        self.cache: SimpleNamespace | None = None

    def create_timing_cache(self, serialized: bytes) -> SimpleNamespace:
        return SimpleNamespace(data=serialized, serialize=lambda: serialized or b"ours:new")

    def set_timing_cache(self, cache: SimpleNamespace, ignore_mismatch: bool) -> bool:
        if cache.data and not cache.data.startswith(b"ours"):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> SimpleNamespace | None:
        return self.cache


@pytest.mark.parametrize(
    ("before", "after"), [(None, b"ours:new"), (b"ours:old", b"ours:old"), (b"other", b"ours:new")]
)
def test_a_timing_cache_is_kept_and_one_of_another_gpu_replaced(
    before: bytes | None, after: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "caches" / "tensorrt.timing"
    if before is not None:
        path.parent.mkdir()
        path.write_bytes(before)
    config = Config()
    timing_cache.attach(config, path)
    timing_cache.store(config, path)
    assert path.read_bytes() == after
    assert list(path.parent.iterdir()) == [path]


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    config = Config()
    path = tmp_path / "file" / "tensorrt.timing"
    timing_cache.attach(config, path)
    with pytest.warns(RuntimeWarning, match="was not written"):
        timing_cache.store(config, path)


def test_a_builder_that_cannot_start_says_why() -> None:
    """The bindings make a ``TypeError`` of a null pointer; that CUDA fails is but a warning."""
    pytest.importorskip("onnx", reason="engines are built of ONNX graphs")
    from onnx import ModelProto

    from xdecoder_rt.errors import BuildError
    from xdecoder_rt.export.tensorrt.engine import build_engine
    from xdecoder_rt.export.tensorrt.options import EngineOptions
    from xdecoder_rt.export.tensorrt.toolchain import Toolchain

    def builder(logger: Any) -> Any:
        logger.log(SimpleNamespace(name="WARNING"), "CUDA initialization failure with error: 35.")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    module = SimpleNamespace(ILogger=object, Builder=builder)
    library: Any = SimpleNamespace(
        module=module, backend="tensorrt", title="TensorRT", version="10.3.0"
    )
    with pytest.raises(BuildError, match=r"TensorRT 10\.3\.0 cannot start \(CUDA init.* 35\.\)"):
        build_engine(
            "vision", ModelProto(), [], Toolchain(library, (87,), False), EngineOptions("tensorrt")
        )


def test_layers_come_from_the_inspector_where_the_log_has_none() -> None:
    pytest.importorskip("onnx", reason="engines are built of ONNX graphs")
    from onnx import helper

    from xdecoder_rt.export.tensorrt.engine import _layers
    from xdecoder_rt.export.tensorrt.toolchain import Toolchain

    information = {
        "Layers": [
            {
                "Name": "conv",
                "LayerType": "CaskConvolution",
                "Inputs": [{"Name": "x", "Format/Datatype": "Channel major INT8 format"}],
                "Outputs": [],
                "Metadata": "[ONNX Layer: c]",
            }
        ]
    }
    inspector = SimpleNamespace(get_engine_information=lambda _: json.dumps(information))
    engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
    module = SimpleNamespace(
        Runtime=lambda _: SimpleNamespace(deserialize_cuda_engine=lambda _: engine),
        LayerInformationFormat=SimpleNamespace(JSON=1),
    )
    library: Any = SimpleNamespace(module=module, backend="tensorrt")
    log: Any = SimpleNamespace(layers=None, logger=None)
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"], name="c")], "g", [], [])
    (layer,) = _layers(b"", helper.make_model(graph), Toolchain(library, (87,), False), log)
    assert (layer.role, layer.precision) == ("Conv", "int8")
