"""A module ``tensorrt`` whose engines are ONNX models, run on a fake driver's memory.

Its classes have of the real ones what a runtime needs, with the same names and parameters (a test
compares them with the real bindings), and are stricter: what TensorRT leaves undefined is an
assertion here. Work is queued on the stream, and runs when the driver gets there.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, IntFlag
from math import prod
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from .engines import Header, read_engine
from .plugins import Registry, module_members

ALIGNMENT = 256


class DataType(Enum):
    FLOAT = 0
    HALF = 1
    BF16 = 2
    INT8 = 3
    INT32 = 4
    INT64 = 5
    BOOL = 6
    UINT8 = 7
    FP8 = 8


class TensorIOMode(Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(Enum):
    DEVICE = 0
    HOST = 1


class ExecutionContextAllocationStrategy(Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class Severity(Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class DynamicShapesKernelSpecializationStrategy(Enum):
    LAZY = 0
    EAGER = 1
    NONE = 2


class EngineValidity(Enum):
    VALID = 0
    SUBOPTIMAL = 1
    INVALID = 2


class EngineInvalidityDiagnostics(IntFlag):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    OLD_CUDA_DRIVER = 4
    MALFORMED_ENGINE = 32


# ONNX's TensorProto.DataType.
_TYPES = {
    1: (DataType.FLOAT, np.float32),
    2: (DataType.UINT8, np.uint8),
    3: (DataType.INT8, np.int8),
    6: (DataType.INT32, np.int32),
    7: (DataType.INT64, np.int64),
    9: (DataType.BOOL, np.bool_),
    10: (DataType.HALF, np.float16),
    17: (DataType.FP8, np.uint8),
}


class ILogger:
    """To be derived from."""

    Severity = Severity

    def __init__(self) -> None:
        pass

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class Machine(Protocol):
    """What the library needs of the driver under it."""

    capability: str

    def may_allocate(self, stream: int) -> bool:
        """Whether memory may be allocated now: not for a stream that is captured."""

    def check_current(self) -> None:
        """Assert that a CUDA context is current on this thread."""

    def check(self, address: int, size: int) -> None:
        """Assert that the bytes are inside one live allocation of device memory."""

    def array(self, address: int, shape: Sequence[int], dtype: Any) -> Any:
        """The array there."""

    def submit(
        self,
        stream: int,
        work: Callable[[], None],
        reads: Sequence[tuple[int, int]],
        writes: Sequence[tuple[int, int]],
    ) -> None:
        """Queue `work`, which touches these addresses and numbers of bytes."""


class Runtime:
    """Reads engines."""

    machine: Machine
    version: str
    registry: Registry

    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self.machine.check_current()
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Engine | None:
        self.machine.check_current()
        try:
            header, model = read_engine(bytes(serialized_engine))
        except ValueError as error:
            self._logger.log(Severity.ERROR, f"IRuntime::deserializeCudaEngine: {error}")
            return None
        if header.version != self.version:
            self._logger.log(
                Severity.ERROR,
                "The engine plan file is not compatible with this version of TensorRT, "
                f"expecting library version {self.version} got {header.version}",
            )
            return None
        if header.capability != self.machine.capability:
            self._logger.log(
                Severity.ERROR, "The engine was generated for a device of another capability"
            )
            return None
        if problem := self.registry.read(header.plugins):
            self._logger.log(Severity.ERROR, f"IRuntime::deserializeCudaEngine: {problem}")
            return None
        return self._made(header, model)

    def _made(self, header: Header, model: bytes) -> Engine:
        return Engine(self.machine, self._logger, header, model)


class RtxRuntime(Runtime):
    """That of TensorRT-RTX, which can tell about an engine before it reads it.

    Attributes:
        compilations: what was compiled since the module was made, which takes long.
    """

    compilations: list[str]

    def _made(self, header: Header, model: bytes) -> Engine:
        made = RtxEngine(self.machine, self._logger, header, model)
        made.version, made.compilations = self.version, self.compilations
        return made

    def get_engine_validity(self, buffer: Any) -> tuple[EngineValidity, int]:
        try:
            header, _ = read_engine(bytes(buffer))
        except ValueError:
            return EngineValidity.INVALID, int(EngineInvalidityDiagnostics.MALFORMED_ENGINE)
        wrong = 0
        if header.version != self.version:
            wrong |= EngineInvalidityDiagnostics.VERSION_MISMATCH
        if header.capability != self.machine.capability:
            wrong |= EngineInvalidityDiagnostics.UNSUPPORTED_CC
        return (EngineValidity.INVALID if wrong else EngineValidity.VALID), int(wrong)


class Engine:
    """``ICudaEngine``."""

    def __init__(self, machine: Machine, logger: ILogger, header: Header, model: bytes) -> None:
        import onnx
        import onnxruntime

        self.machine = machine
        self.logger = logger
        self.profiles = [
            {name: (tuple(least), tuple(most)) for name, (least, most) in profile.items()}
            for profile in header.profiles
        ]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        graph = onnx.load_from_string(model).graph
        self.allocates = header.allocates
        self.types = {
            port.name: _TYPES[port.type.tensor_type.elem_type]
            for port in (*graph.input, *graph.output)
        }
        self.inputs = {
            port.name: tuple(
                -1 if dim.dim_param else dim.dim_value for dim in port.type.tensor_type.shape.dim
            )
            for port in graph.input
        }
        self.outputs = [port.name for port in graph.output]
        self._output_shapes: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = {}
        self.num_io_tensors = len(self.types)
        self.num_optimization_profiles = len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return (*self.inputs, *self.outputs)[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.types[name][0]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_location(self, name: str) -> TensorLocation:
        assert name in self.types
        return TensorLocation.DEVICE

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.inputs[name]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        least, most = self.profiles[profile_index][name]
        return [least, least, most]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return 1000 + 500 * profile_index

    def create_execution_context(
        self,
        strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC,
    ) -> Context:
        self.machine.check_current()
        return Context(self, strategy)

    def read(self, address: int, shape: tuple[int, ...], kind: Any) -> Any:
        """A copy of what an input's memory holds."""
        return (
            np.array(self.machine.array(address, shape, kind))
            if prod(shape)
            else np.zeros(shape, kind)
        )

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs, in their order."""
        outputs: list[Any] = self.session.run(self.outputs, feeds)
        return outputs

    def output_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """By running the model on zeros."""
        key = tuple(sorted(shapes.items()))
        if key not in self._output_shapes:
            feeds = {name: np.zeros(shape, self.types[name][1]) for name, shape in shapes.items()}
            arrays = self.session.run(self.outputs, feeds)
            self._output_shapes[key] = {
                name: array.shape for name, array in zip(self.outputs, arrays, strict=True)
            }
        return self._output_shapes[key]


class Context:
    """``IExecutionContext``."""

    def __init__(self, engine: Engine, strategy: ExecutionContextAllocationStrategy) -> None:
        self.engine = engine
        self._machine = engine.machine
        self._own_memory = strategy != ExecutionContextAllocationStrategy.USER_MANAGED
        self._memory: tuple[int, int] | None = None
        self._profile: int | None = 0 if len(engine.profiles) == 1 else None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._busy = threading.Lock()

    def set_device_memory(self, memory: int, size: int) -> None:
        assert not self._own_memory, "the context has memory of its own"
        assert memory % ALIGNMENT == 0, f"activation memory at {memory:#x} is not aligned"
        self._machine.check(memory, size)
        self._memory = memory, size

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._machine.check_current()
        if not 0 <= profile_index < len(self.engine.profiles):
            raise RuntimeError("Error in set optimization profile async.")
        self._profile, self._shapes = profile_index, {}
        self._machine.submit(stream_handle, lambda: None, [], [])
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert isinstance(shape, tuple | list), "TensorRT takes tuples, lists and Dims"
        assert self._profile is not None, "no profile is chosen"
        if name not in self.engine.inputs:
            return self._refuse(f"{name} is no input")
        least, most = self.engine.profiles[self._profile][name]
        if len(shape) != len(least) or not all(
            low <= size <= high for low, size, high in zip(least, shape, most, strict=True)
        ):
            return self._refuse(f"{shape} of {name} is not in {least} to {most}")
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.inputs if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.engine.inputs:
            return self._shapes.get(name, self.engine.inputs[name])
        return self.engine.output_shapes(self._shapes)[name]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self.engine.types or memory == 0:
            return self._refuse(f"{name} at {memory:#x}")
        assert memory % ALIGNMENT == 0, f"{name} at {memory:#x} is not aligned"
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self._busy.acquire(blocking=False), "two threads use one context at a time"
        try:
            return self._execute(stream_handle)
        finally:
            self._busy.release()

    def _execute(self, stream: int) -> bool:
        engine, machine = self.engine, self._machine
        machine.check_current()
        assert self._profile is not None, "no profile is chosen"
        if engine.allocates and not machine.may_allocate(stream):
            return self._refuse("memory cannot be allocated while the stream is captured")
        unset_names = [name for name in engine.inputs if name not in self._shapes]
        unset_names += [name for name in engine.types if name not in self._addresses]
        if unset_names:
            return self._refuse(f"{unset_names} are not set")
        shapes = {**self._shapes, **engine.output_shapes(self._shapes)}
        places = {
            name: (self._addresses[name], shapes[name], np.dtype(kind))
            for name, (_, kind) in engine.types.items()
        }
        spans = {
            name: (address, prod(shape) * kind.itemsize)
            for name, (address, shape, kind) in places.items()
        }
        for address, size in spans.values():
            if size:
                machine.check(address, size)
        activations = []
        if not self._own_memory:
            assert self._memory is not None, "no activation memory is set"
            needed = engine.get_device_memory_size_for_profile_v2(self._profile)
            assert self._memory[1] >= needed, "the activation memory is too small"
            activations = [self._memory]
        self._apart({**spans, **{f"activations {i}": span for i, span in enumerate(activations)}})

        def work() -> None:
            for address, size in activations:
                machine.array(address, (size,), np.uint8)[:] = 0xA5
            feeds = {name: engine.read(*places[name]) for name in engine.inputs}
            for name, array in zip(engine.outputs, engine.run(feeds), strict=True):
                if prod(shapes[name]):
                    machine.array(*places[name])[...] = array

        reads = [spans[name] for name in engine.inputs]
        writes = [spans[name] for name in engine.outputs] + activations
        machine.submit(stream, work, reads, writes)
        return True

    def _apart(self, spans: Mapping[str, tuple[int, int]]) -> None:
        """What an engine writes overlaps nothing else of it."""
        outputs = [name for name in spans if name not in self.engine.inputs]
        for name in outputs:
            start, size = spans[name]
            for other, (other_start, other_size) in spans.items():
                if other != name and size and other_size:
                    assert start + size <= other_start or other_start + other_size <= start, (
                        f"{name} overlaps {other}"
                    )

    def _refuse(self, why: str) -> bool:
        self.engine.logger.log(Severity.ERROR, f"IExecutionContext: {why}")
        return False


class IRuntimeCache:
    """Kernels that TensorRT-RTX compiled, by engine and what they are for."""

    def __init__(self, engine: RtxEngine) -> None:
        self._machine = engine.machine
        self._environment = f"{engine.version} {engine.machine.capability}"
        self.kernels: set[str] = set()

    def serialize(self) -> bytes:
        self._machine.check_current()
        return json.dumps([self._environment, sorted(self.kernels)]).encode()

    def deserialize(self, blob: Any) -> bool:
        self._machine.check_current()
        environment, kernels = json.loads(bytes(blob))
        if environment != self._environment:
            return False
        self.kernels.update(kernels)
        return True


class IRuntimeConfig:
    """How a context of TensorRT-RTX runs."""

    def __init__(self, engine: RtxEngine) -> None:
        self._engine = engine
        self._strategy = ExecutionContextAllocationStrategy.STATIC
        self.cache: IRuntimeCache | None = None
        self.dynamic_shapes_kernel_specialization_strategy = (
            DynamicShapesKernelSpecializationStrategy.LAZY
        )

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache(self._engine)

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        assert isinstance(cache, IRuntimeCache)
        self.cache = cache
        return True

    def set_execution_context_allocation_strategy(
        self, strategy: ExecutionContextAllocationStrategy
    ) -> None:
        self._strategy = strategy

    def get_execution_context_allocation_strategy(self) -> ExecutionContextAllocationStrategy:
        return self._strategy


class RtxEngine(Engine):
    """``ICudaEngine`` of TensorRT-RTX."""

    version: str
    compilations: list[str]

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig(self)

    def create_execution_context(self, runtime_config: Any = None) -> Context:
        self.machine.check_current()
        if not isinstance(runtime_config, IRuntimeConfig):
            strategy, runtime_config = runtime_config, IRuntimeConfig(self)
            if strategy is not None:
                runtime_config.set_execution_context_allocation_strategy(strategy)
        return RtxContext(self, runtime_config)

    def compile(self, what: str, cache: IRuntimeCache | None) -> None:
        """Compile kernels that the cache does not have."""
        kernels = f"{sorted(self.types)}: {what}"
        if cache is None or kernels not in cache.kernels:
            self.compilations.append(kernels)
        if cache is not None:
            cache.kernels.add(kernels)


class RtxContext(Context):
    """``IExecutionContext`` of TensorRT-RTX, which compiles as it is made and as shapes come."""

    engine: RtxEngine

    def __init__(self, engine: RtxEngine, config: IRuntimeConfig) -> None:
        super().__init__(engine, config.get_execution_context_allocation_strategy())
        self._config = config
        self._has_run: set[tuple[Any, ...]] = set()
        engine.compile("any shape", config.cache)

    def is_stream_capturable(self, stream: int) -> bool:
        return not self.engine.allocates

    def _execute(self, stream: int) -> bool:
        shapes = tuple(sorted(self._shapes.items()))
        strategies = DynamicShapesKernelSpecializationStrategy
        strategy = self._config.dynamic_shapes_kernel_specialization_strategy
        if shapes not in self._has_run and strategy != strategies.NONE:
            assert self._machine.may_allocate(stream), "kernels are compiled before a capture"
            self.engine.compile(str(shapes), self._config.cache)
            self._has_run.add(shapes)
        elif not self._machine.may_allocate(stream):
            # What is not compiled eagerly may still be the fallback, and stay so in a CUDA graph.
            assert strategy == strategies.EAGER, "a fallback kernel would be captured"
        return super()._execute(stream)


def module(name: str, version: str, machine: Machine) -> ModuleType:
    """The module, to be put into ``sys.modules``.

    Args:
        name: ``tensorrt`` or ``tensorrt_rtx``.
        version: its own.
        machine: the driver under it.
    """
    base = RtxRuntime if name == "tensorrt_rtx" else Runtime
    plugins = module_members()
    registry = plugins["get_plugin_registry"]()
    members: dict[str, Any] = {"machine": machine, "version": version, "registry": registry}
    runtime = type("Runtime", (base,), {**members, "compilations": []})
    fake_module = ModuleType(name)
    public = {
        "__version__": version,
        "Runtime": runtime,
        "ILogger": ILogger,
        "ICudaEngine": Engine,
        "IExecutionContext": Context,
        "DataType": DataType,
        "TensorIOMode": TensorIOMode,
        "TensorLocation": TensorLocation,
        "ExecutionContextAllocationStrategy": ExecutionContextAllocationStrategy,
    }
    if name == "tensorrt":
        public |= plugins
    if name == "tensorrt_rtx":
        public |= {
            "EngineValidity": EngineValidity,
            "EngineInvalidityDiagnostics": EngineInvalidityDiagnostics,
            "IRuntimeCache": IRuntimeCache,
            "IRuntimeConfig": IRuntimeConfig,
            "DynamicShapesKernelSpecializationStrategy": DynamicShapesKernelSpecializationStrategy,
        }
    for key, value in public.items():
        setattr(fake_module, key, value)
    return fake_module
