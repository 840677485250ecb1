"""One ONNX graph to one serialized engine, strongly typed: its types are the graph's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto

from xdecoder_rt.backends.tensorrt.library import starting
from xdecoder_rt.errors import BuildError, XDecoderError, warn_caller
from xdecoder_rt.export.tensorrt import layers as layer_reports
from xdecoder_rt.export.tensorrt import timing_cache
from xdecoder_rt.export.tensorrt.layers import Layer
from xdecoder_rt.export.tensorrt.log import BuildLog
from xdecoder_rt.export.tensorrt.options import EngineOptions
from xdecoder_rt.export.tensorrt.plugins import Plugins
from xdecoder_rt.export.tensorrt.profiles import OptimizationProfile
from xdecoder_rt.export.tensorrt.progress import BuildProgress
from xdecoder_rt.export.tensorrt.toolchain import Toolchain

_UNREADABLE = (XDecoderError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class BuiltEngine:
    """A serialized engine.

    Attributes:
        data: its bytes.
        layers: its kernels.
        seconds: that the build took.
    """

    data: bytes
    layers: Sequence[Layer]
    seconds: float


def build_engine(
    name: str,
    model: ModelProto,
    profiles: Sequence[OptimizationProfile],
    toolchain: Toolchain,
    options: EngineOptions,
    plugins: Plugins | None = None,
) -> BuiltEngine:
    """Build an engine.

    Args:
        name: of the graph, for messages.
        model: its ONNX form.
        profiles: shapes to optimize for, the most specific first.
        toolchain: the library and its targets.
        options: workspace and timing cache.
        plugins: the form of those that the graph has; None where it has none.

    Raises:
        BuildError: the library cannot build it; the message has what it logged.
        KeyboardInterrupt: the build was interrupted, and has stopped.
    """
    module = toolchain.library.module
    log = BuildLog(module)
    launching = nullcontext() if plugins is None else plugins.launching(log.note)
    with BuildProgress(module, name) as progress, launching:
        return _serialize(name, model, profiles, toolchain, options, plugins, log, progress.monitor)


def _serialize(
    name: str,
    model: ModelProto,
    profiles: Sequence[OptimizationProfile],
    toolchain: Toolchain,
    options: EngineOptions,
    plugins: Plugins | None,
    log: BuildLog,
    monitor: Any,
) -> BuiltEngine:
    module: Any = toolchain.library.module
    with starting(BuildError, toolchain.release, log.errors):
        builder = module.Builder(log.logger)
    network = builder.create_network(_flags(module, plugins))
    _parse(name, model, network, toolchain, log)
    config = builder.create_builder_config()
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    # What a graph has in fp32 is there for its precision.
    config.clear_flag(module.BuilderFlag.TF32)
    # Without it TensorRT-RTX may allocate as it runs, and its work can be in no CUDA graph.
    own_memory = getattr(module.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if own_memory is not None:
        config.set_flag(own_memory)
    if options.workspace is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace)
    toolchain.aim(config)
    for profile in profiles:
        _add_profile(builder, config, profile)
    cache = None if toolchain.library.backend == "tensorrt_rtx" else options.timing_cache
    timing_cache.attach(config, cache)
    if monitor is not None:
        config.progress_monitor = monitor
    began = time.perf_counter()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(
            f"{toolchain.release} cannot build {name} for "
            f"{', '.join(f'sm_{target}' for target in toolchain.targets)} ({log.errors()})",
            fix=_advice(log.errors()),
        )
    seconds = time.perf_counter() - began
    timing_cache.store(config, cache)
    data = bytes(plan)
    return BuiltEngine(data, _layers(data, model, toolchain, log), seconds)


def _flags(module: Any, plugins: Plugins | None) -> int:
    """Strongly typed, and quick plugins with their kernels in the engine."""
    flags = module.NetworkDefinitionCreationFlag
    strict = 1 << int(flags.STRONGLY_TYPED)
    if plugins is None or plugins.launcher is not None:
        return strict
    return strict | (1 << int(flags.PREFER_AOT_PYTHON_PLUGINS))


def _parse(name: str, model: ModelProto, network: Any, toolchain: Toolchain, log: BuildLog) -> None:
    """Fill a network from a graph, or say what of it the parser does not take."""
    parser = toolchain.library.module.OnnxParser(network, log.logger)
    if parser.parse(model.SerializeToString()):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    problems = [
        f"{error.node_operator() or 'the graph'}"
        f"{f' ({error.node_name()})' if error.node_name() else ''}: {error.desc()}"
        for error in errors
    ]
    raise BuildError(
        f"{toolchain.release} does not take {name}: {'; '.join(problems) or log.errors()}",
        expected="operators that its parser supports",
        fix="build the portable plan with this release, or report the operator",
    )


def _add_profile(builder: Any, config: Any, profile: OptimizationProfile) -> None:
    optimization_profile = builder.create_optimization_profile()
    for port, shapes in profile.items():
        optimization_profile.set_shape(port, shapes.least, shapes.usual, shapes.most)
    if config.add_optimization_profile(optimization_profile) < 0:
        raise BuildError(
            "An optimization profile is refused", fix="report it with the plan and the options"
        )


def _layers(data: bytes, model: ModelProto, toolchain: Toolchain, log: BuildLog) -> list[Layer]:
    """From the log, which TensorRT-RTX needs no GPU for, or from the engine.

    The engine is built by now: a report that cannot be read costs the report alone.
    """
    try:
        return _reported_layers(data, model, toolchain, log)
    except _UNREADABLE as error:
        warn_caller(
            f"{toolchain.release} describes the layers of an engine in a way that is not known "
            f"({type(error).__name__}: {error}); the plan lists none of them"
        )
        return []


def _reported_layers(
    data: bytes, model: ModelProto, toolchain: Toolchain, log: BuildLog
) -> list[Layer]:
    operators = {node.name: node.op_type for node in model.graph.node}
    if log.layers is not None:
        return layer_reports.from_log(log.layers, operators)
    module: Any = toolchain.library.module
    # Engines for other GPUs cannot be opened here.
    runtime = None if toolchain.is_named else module.Runtime(log.logger)
    engine = None if runtime is None else runtime.deserialize_cuda_engine(data)
    if engine is None:
        return []
    inspector = engine.create_engine_inspector()
    information = inspector.get_engine_information(module.LayerInformationFormat.JSON)
    return layer_reports.from_inspector(information, operators)


def _advice(errors: str) -> str:
    """What to try after a failed build."""
    if "FP32 GEMM is not supported" in errors:
        return "Turing takes no fp32 products here: build with --precision fp16"
    if "memory" in errors.lower():
        return "close other programs on the GPU, or limit --workspace and --max-rows"
    return "try another --precision, or report it with this message"
