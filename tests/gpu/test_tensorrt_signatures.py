"""Every TensorRT call of the backend, compared with the real bindings.

The backend runs on the fake library in other tests, so it calls nothing that the fake has not; here
the fake is held against the real classes, where these can be imported (fake_tensorrt/bindings.py).
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

NAMES = ("tensorrt", "tensorrt_rtx")
# What each gives, as the bindings write it.
CALLS = {
    "Runtime": {
        "deserialize_cuda_engine": "ICudaEngine",
        "get_engine_validity": "tuple",
    },
    "ICudaEngine": {
        "get_tensor_name": "str",
        "get_tensor_dtype": "DataType",
        "get_tensor_mode": "TensorIOMode",
        "get_tensor_location": "TensorLocation",
        "get_tensor_shape": "Dims",
        "get_tensor_profile_shape": "list[Dims]",
        "get_device_memory_size_for_profile_v2": "int",
        "create_execution_context": "IExecutionContext",
        "create_runtime_config": "IRuntimeConfig",
    },
    "IRuntimeConfig": {
        "create_runtime_cache": "IRuntimeCache",
        "set_runtime_cache": "bool",
        "set_execution_context_allocation_strategy": "None",
        "get_execution_context_allocation_strategy": "ExecutionContextAllocationStrategy",
    },
    "IRuntimeCache": {"serialize": "IHostMemory", "deserialize": "bool"},
    "IExecutionContext": {
        "set_device_memory": "None",
        "set_optimization_profile_async": "bool",
        "set_input_shape": "bool",
        "infer_shapes": "list[str]",
        "get_tensor_shape": "Dims",
        "set_tensor_address": "bool",
        "execute_async_v3": "bool",
        "is_stream_capturable": "bool",
    },
    "ILogger": {"log": "None"},
}
OWN = {"output_shapes", "compile", "read", "run"}
"""What the fakes have for themselves."""
PROPERTIES = {"ICudaEngine": ["num_io_tensors", "num_optimization_profiles"]}


@pytest.fixture(params=NAMES)
def real(request: pytest.FixtureRequest) -> Any:
    from fake_tensorrt import bindings

    return bindings.real_bindings(request.param)


def test_the_fake_has_the_real_signatures(real: Any) -> None:
    """So what runs on the fake calls what the real library has, with as many arguments."""
    from fake_tensorrt import library

    is_rtx = hasattr(real, "IRuntimeCache")
    fakes: dict[str, Any] = {
        "Runtime": library.RtxRuntime if is_rtx else library.Runtime,
        "ICudaEngine": library.RtxEngine if is_rtx else library.Engine,
        "IExecutionContext": library.RtxContext if is_rtx else library.Context,
        "ILogger": library.ILogger,
    }
    if is_rtx:
        fakes |= {"IRuntimeConfig": library.IRuntimeConfig, "IRuntimeCache": library.IRuntimeCache}
    for kind, fake in fakes.items():
        public = {key for key, _ in inspect.getmembers(fake, inspect.isfunction)}
        public = {key for key in public if not key.startswith("_")}
        assert public - set(CALLS[kind]) <= OWN, "compare it too"
        for method in public & set(CALLS[kind]):
            gives = CALLS[kind][method]
            parameters = list(inspect.signature(getattr(fake, method)).parameters)[1:]
            forms = overloads(getattr(getattr(real, kind), method))
            assert (parameters, gives) in forms, f"{kind}.{method} is {forms}"
    for kind, attributes in PROPERTIES.items():
        assert all(hasattr(getattr(real, kind), attribute) for attribute in attributes)


def test_the_fake_has_the_real_enumerations(real: Any) -> None:
    from fake_tensorrt import library

    for enumeration in (
        library.DataType,
        library.TensorIOMode,
        library.TensorLocation,
        library.ExecutionContextAllocationStrategy,
    ):
        members = set(getattr(real, enumeration.__name__).__members__)
        assert set(enumeration.__members__) <= members, enumeration.__name__


def overloads(method: Any) -> list[tuple[list[str], str]]:
    """Parameter names and result of each form of a bound method, as pybind11 writes them."""
    found = []
    for line in (method.__doc__ or "").splitlines():
        form = re.match(rf"\s*(?:\d+\. )?{method.__name__}\((self.*)\) -> (.*)", line)
        if form:
            names = re.findall(r"(?:^|, )(\w+): ", form.group(1))
            gives = re.sub(r"\w+(?:\.|::)", "", form.group(2)).replace("List", "list")
            found.append((names[1:], gives.replace("Tuple", "tuple").strip()))
    return found


def test_the_log_is_one_of_the_real_library(real: Any) -> None:
    from xdecoder_rt.backends.tensorrt.log import listen

    class Heard:
        def __init__(self) -> None:
            self.said: list[tuple[str, str]] = []

        def hear(self, severity: str, message: str) -> None:
            self.said.append((severity, message))

    heard = Heard()
    log = listen(real, heard)
    assert isinstance(log, real.ILogger)
    log.log(real.ILogger.Severity.ERROR, "one\n two")
    log.log(real.ILogger.Severity.INFO, "three")
    assert heard.said == [("ERROR", "one\n two"), ("INFO", "three")]


def test_how_tensorrt_rtx_compiles_can_be_told() -> None:
    from fake_tensorrt import bindings, library

    real: Any = bindings.real_bindings("tensorrt_rtx")
    strategies = library.DynamicShapesKernelSpecializationStrategy
    members = real.DynamicShapesKernelSpecializationStrategy.__members__
    assert {name: value.value for name, value in strategies.__members__.items()} == {
        name: int(members[name].value) for name in strategies.__members__
    }
    assert isinstance(real.IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy, property)


def test_names_of_element_types_are_real(real: Any) -> None:
    from xdecoder_rt.backends.cuda.values import ELEMENT_BY_TYPE

    assert set(ELEMENT_BY_TYPE) <= set(real.DataType.__members__)


def test_what_tensorrt_rtx_says_of_an_engine() -> None:
    """The real library reads headers without a driver."""
    from fake_tensorrt import bindings

    from xdecoder_rt.backends.cuda.context import DeviceFacts
    from xdecoder_rt.backends.tensorrt.compatibility import check_engine
    from xdecoder_rt.backends.tensorrt.library import Library
    from xdecoder_rt.errors import BackendError

    real: Any = bindings.real_bindings("tensorrt_rtx")
    names = set(real.EngineInvalidityDiagnostics.__members__)
    assert {"VERSION_MISMATCH", "UNSUPPORTED_CC", "OLD_CUDA_DRIVER", "MALFORMED_ENGINE"} <= names
    library = Library("tensorrt_rtx")
    here = DeviceFacts("Fake", "8.6", (13, 0))
    with pytest.raises(BackendError, match="the vision engine unusable .*: malformed engine") as no:
        check_engine("vision", memoryview(b"no engine" * 99), library, here)
    assert "--backend tensorrt_rtx" in str(no.value)
    engine = bytes(built(real))
    with pytest.raises(BackendError, match="malformed engine"):
        check_engine("vision", memoryview(b"\0" + engine[1:]), library, here)
    try:
        check_engine("vision", memoryview(engine), library, here)
    except BackendError as error:  # without a driver it cannot go on, and says so in its log
        assert "CUDA" in str(error)


def built(real: Any) -> Any:
    """An engine of TensorRT-RTX for the GPUs of compute capability 8.6."""
    builder = real.Builder(real.Logger(real.ILogger.Severity.ERROR))
    network = builder.create_network(0)
    given = network.add_input("x", real.float32, (4, 4))
    network.mark_output(network.add_unary(given, real.UnaryOperation.EXP).get_output(0))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(real.ComputeCapability.SM86, 0)
    return builder.build_serialized_network(network, config)
