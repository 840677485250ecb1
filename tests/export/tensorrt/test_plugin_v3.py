"""Masked attention as ``IPluginV3``: what TensorRT 10.3 is told, and what reaches the driver.

The plugins are made over the real bindings, where these are installed, and over the fake ones; what
they launch goes to the fake driver. TensorRT itself takes no part.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from ctypes import py_object, pythonapi
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import pytest
from fake_cuda.bindings import current_context

from xdecoder_rt.backends.tensorrt import plugins as tensorrt_plugins
from xdecoder_rt.backends.tensorrt.plugin_class import NumberFields, plugin_class
from xdecoder_rt.backends.tensorrt.plugins import PLUGINS, PluginKernels, offering, register_plugins
from xdecoder_rt.errors import BackendError, BuildError, MissingExtraError
from xdecoder_rt.kernels import cuda_driver
from xdecoder_rt.kernels.compiled import KERNELS, CompiledKernels
from xdecoder_rt.kernels.cuda_driver import Stream, call_driver, mem_alloc
from xdecoder_rt.kernels.loader import kernel_arguments
from xdecoder_rt.kernels.masked_attention.nodes import ATTEND, BITS, INPUTS, NAMESPACE, OUTPUT

if TYPE_CHECKING:
    from fake_cuda import FakeCuda, Launch

ORIN, CUDA = (8, 7), (12, 6)


@pytest.fixture(params=["fake", "real"])
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A TensorRT module with the plugins' classes, and a registry that takes them."""
    from fake_tensorrt import bindings, library, plugins

    if request.param == "fake":
        module = library.module("tensorrt", "10.3.0", None)  # type: ignore[arg-type]
    else:
        module = bindings.real_bindings("tensorrt")
        registry = plugins.Registry()
        monkeypatch.setattr(module, "get_plugin_registry", lambda: registry)
    monkeypatch.setattr(tensorrt_plugins, "_creators", WeakKeyDictionary())
    monkeypatch.setattr(tensorrt_plugins, "plugin_class", owned_by_tensorrt)
    return module


def owned_by_tensorrt(trt: Any) -> Any:
    """The plugins' class, with a reference to each plugin that only TensorRT would give back.

    The real ones give it back when they are destroyed, and must not be destroyed without.
    """
    made = plugin_class(trt)
    initialized = made.__init__

    def keep(self: Any, *given: Any) -> None:
        pythonapi.Py_IncRef(py_object(self))
        initialized(self, *given)

    made.__init__ = keep
    return made


@pytest.fixture
def compiled() -> CompiledKernels:
    from fake_tensorrt import kernel_files

    return CompiledKernels(kernel_files(87).__getitem__)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def kernels(compiled: CompiledKernels, said: list[str]) -> PluginKernels:
    return PluginKernels(compiled, ORIN, CUDA, said.append)


@pytest.fixture
def creators(trt: Any) -> dict[str, Any]:
    """The registered creators, by node."""
    register_plugins(trt, PLUGINS)
    register_plugins(trt, PLUGINS)  # as a second engine does
    found = trt.get_plugin_registry().creators
    return {node: found[NAMESPACE, node] for node in (BITS, ATTEND)}


@pytest.fixture
def plugins(trt: Any, creators: dict[str, Any], kernels: PluginKernels) -> dict[str, Any]:
    """A plugin of each kind, made as a parser makes it of a node's attribute."""
    fields = NumberFields(trt, {"kernels": kernels.number})
    with offering(kernels):
        return {
            node: creator.create_plugin(node, fields.collection, trt.TensorRTPhase.BUILD)
            for node, creator in creators.items()
        }


def tensor(trt: Any, shape: tuple[int, ...], element: str, layout: str = "LINEAR") -> Any:
    desc = trt.PluginTensorDesc()
    types = {"fp16": "HALF", "fp32": "FLOAT", "bf16": "BF16", "i32": "INT32", "i8": "INT8"}
    desc.dims, desc.type = shape, getattr(trt.DataType, types[element])
    desc.format = getattr(trt.TensorFormat, layout)
    return desc


def tensors(trt: Any, queries: int, keys: int, mask_element: str) -> dict[str, list[Any]]:
    """Inputs of each node, and its output."""
    from fake_tensorrt.compiled import CHANNELS, HEADS, WIDTH

    words = -(-keys // 128) * 4
    bits = tensor(trt, (1, queries, words), "i32")
    out = tensor(trt, (1, HEADS, queries, WIDTH), "fp16")
    return {
        BITS: [
            tensor(trt, (1, queries, CHANNELS), mask_element),
            tensor(trt, (1, CHANNELS, keys), mask_element),
            bits,
        ],
        ATTEND: [
            out,
            tensor(trt, (1, HEADS, WIDTH, keys), "fp16"),
            tensor(trt, (1, HEADS, keys, WIDTH), "fp16"),
            bits,
            out,
        ],
    }


class Gpu:
    """A stream that TensorRT could have made, and memory; all by cuda-bindings."""

    def __init__(self, fake: FakeCuda) -> None:
        self.fake = fake
        self.stream = Stream()
        self._held = {name: mem_alloc(1 << 22) for name in self.names()}
        self.addresses = {name: int(held) for name, held in self._held.items()}

    @staticmethod
    def names() -> list[str]:
        return list(dict.fromkeys((*INPUTS[BITS], *INPUTS[ATTEND], OUTPUT[ATTEND])))

    def close(self) -> None:
        for held in self._held.values():
            held.free()
        del self.stream  # while its context is there

    def launches(self) -> list[Launch]:
        return self.fake.launches()

    def enqueue(self, plugin: Any, descs: list[Any], **elsewhere: int) -> None:
        """As TensorRT does it: addresses and streams are numbers."""
        at = {**self.addresses, **elsewhere}
        node = plugin.plugin_name
        inputs, outputs = [at[name] for name in INPUTS[node]], [at[OUTPUT[node]]]
        plugin.enqueue(descs[:-1], descs[-1:], inputs, outputs, 0, self.stream.handle)


@pytest.fixture
def gpu(fake_driver: FakeCuda) -> Iterator[Gpu]:
    with current_context():
        gpu = Gpu(fake_driver)
        yield gpu
        gpu.close()


# --- what TensorRT is told ------------------------------------------------------------------------


def test_a_plugin_says_what_it_is(trt: Any, plugins: dict[str, Any]) -> None:
    for node, plugin in plugins.items():
        named = (plugin.plugin_namespace, plugin.plugin_name, plugin.plugin_version)
        assert named == ("xdecoder_rt", node, "1")
        assert plugin.num_outputs == 1
        for one in (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild):
            assert isinstance(plugin, one)
        assert isinstance(plugin, trt.IPluginV3OneRuntime)
        assert plugin.get_capability_interface("any") is plugin


def test_every_method_has_the_real_parameters(trt: Any, plugins: dict[str, Any]) -> None:
    """TensorRT calls them by position."""
    import inspect
    import re

    compared = 0
    plugin = plugins[BITS]
    for base in type(plugin).__bases__:
        for name, method in vars(base).items():
            signature = re.search(rf"{name}\(self: \S+?(?:, (.*))?\) ->", method.__doc__ or "")
            if name.startswith("_") or signature is None or not hasattr(type(plugin), name):
                continue
            ours = vars(type(plugin)).get(name)
            if ours is None:
                assert name in ("get_workspace_size", "get_valid_tactics"), name
                continue
            wanted = re.findall(r"(?:^|, )(\w+): ", signature[1] or "")
            assert len(inspect.signature(ours).parameters) == len(wanted) + 1, name
            compared += 1
    assert compared == (0 if trt.__name__ == "tensorrt" else 12)


def test_the_fake_has_what_the_real_module_has() -> None:
    from enum import EnumMeta

    from fake_tensorrt import bindings, plugins

    real = bindings.real_bindings("tensorrt")
    for name, one in plugins.module_members().items():
        assert hasattr(real, name)
        if isinstance(one, EnumMeta):
            assert set(one.__members__) <= set(getattr(real, name).__members__), name
    register_creator = real.IPluginRegistry.register_creator.__doc__
    assert "IPluginCreatorInterface, plugin_namespace: str = '') -> bool" in register_creator


class Size:
    """In place of ``IDimensionExpr``, which only TensorRT makes."""

    def __init__(self, value: int) -> None:
        self.value = value


class Builder:
    """In place of ``IExprBuilder``."""

    def constant(self, value: int) -> Size:
        return Size(value)

    def operation(self, operation: Any, first: Size, second: Size) -> Size:
        a, b = first.value, second.value
        return Size({"PROD": a * b, "CEIL_DIV": -(-a // b)}[operation.name])


@pytest.mark.parametrize(("keys", "words"), [(256, 8), (165, 8), (4096, 128), (128, 4)])
def test_shapes_and_types_of_outputs(
    keys: int, words: int, trt: Any, plugins: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fake_tensorrt.plugins import DimsExprs

    monkeypatch.setattr(trt, "DimsExprs", DimsExprs)
    for node, descs in tensors(trt, 7, keys, "fp32").items():
        plugin, (*inputs, output) = plugins[node], descs
        shapes = [[Size(size) for size in desc.dims] for desc in inputs]
        (shape,) = plugin.get_output_shapes(shapes, [], Builder())
        assert [size.value for size in shape] == list(output.dims)
        assert plugin.get_output_data_types([desc.type for desc in inputs]) == [output.type]
    bits = tensors(trt, 7, keys, "fp32")[BITS][-1]
    assert tuple(bits.dims) == (1, 7, words)


def test_formats_are_rows_of_one_floating_type_and_bits(trt: Any, plugins: dict[str, Any]) -> None:
    def supported(node: str, *descs: Any) -> list[bool]:
        described = [trt.DynamicPluginTensorDesc() for _ in descs]
        for one, desc in zip(described, descs, strict=True):
            one.desc = desc
        count = len(descs) - 1
        return [
            plugins[node].supports_format_combination(place, described, count)
            for place in range(len(descs))
        ]

    for element in ("fp16", "bf16", "fp32"):
        half, bits = tensor(trt, (), element), tensor(trt, (), "i32")
        assert all(supported(BITS, half, half, bits))
        assert all(supported(ATTEND, half, half, half, bits, half))
        assert supported(ATTEND, half, half, half, half, bits)[3:] == [False, False]
        packed_rows = tensor(trt, (), element, "CHW32")
        assert supported(BITS, packed_rows, half, bits)[0] is False
    half, full, small = (tensor(trt, (), element) for element in ("fp16", "fp32", "i8"))
    assert supported(BITS, half, full, tensor(trt, (), "i32")) == [True, False, True]
    assert not any(supported(BITS, small, small, tensor(trt, (), "i32")))


def test_what_an_engine_keeps_makes_the_plugin_again(
    trt: Any, creators: dict[str, Any], plugins: dict[str, Any], kernels: PluginKernels
) -> None:
    for node, plugin in plugins.items():
        kept = plugin.get_fields_to_serialize()
        assert [(field.name, int(field.data[0]), field.size) for field in kept] == [
            ("kernels", kernels.number, 1)
        ]
        # TensorRT takes a pointer to it, and no reference.
        assert plugin.get_fields_to_serialize() is kept
        with offering(kernels):
            again = creators[node].create_plugin(node, kept, trt.TensorRTPhase.RUNTIME)
        for copy in (again, plugin.clone(), plugin.attach_to_context(None)):
            assert copy is not plugin
            assert (copy.plugin_name, copy.kernels) == (node, kernels)
        assert [field.name for field in creators[node].field_names] == ["kernels"]


def test_the_real_creator_gives_the_plugin_to_tensorrt(
    trt: Any, creators: dict[str, Any], plugins: dict[str, Any], kernels: PluginKernels
) -> None:
    """Through C++: what TensorRT's parser and runtime call."""
    if trt.__name__ == "tensorrt":
        pytest.skip("the fake has no C++")
    for node, creator in creators.items():
        kept = plugins[node].get_fields_to_serialize()
        with offering(kernels):
            made = trt.IPluginCreatorV3One.create_plugin(
                creator, node, kept, trt.TensorRTPhase.RUNTIME
            )
        assert (made.plugin_name, made.kernels) == (node, kernels)


def test_kernels_of_another_build_are_refused(
    trt: Any,
    creators: dict[str, Any],
    plugins: dict[str, Any],
    said: list[str],
) -> None:
    from fake_tensorrt import kernel_files

    files = kernel_files(87, only="^(open_bits|attend)_")
    others = PluginKernels(CompiledKernels(files.__getitem__), ORIN, CUDA, said.append)
    kept = plugins[ATTEND].get_fields_to_serialize()
    runtime = trt.TensorRTPhase.RUNTIME
    with offering(others), pytest.raises(BackendError, match="built with other kernels"):
        creators[ATTEND].create_plugin("attend", kept, runtime)
    assert len(said) == 1 and "with --plugin" in said[0]
    with pytest.raises(BackendError, match=r"Nothing offers kernels.*xdecoder_rt\.Engine"):
        creators[ATTEND].create_plugin("attend", kept, runtime)


def test_names_that_are_unknown_or_taken(trt: Any) -> None:
    with pytest.raises(BackendError, match=r"plugins xdecoder_rt::Other.*xdecoder_rt::MaskBits"):
        register_plugins(trt, ["xdecoder_rt::Other"])
    taken = SimpleNamespace(name=BITS, plugin_namespace=NAMESPACE)
    assert trt.get_plugin_registry().register_creator(taken, NAMESPACE)
    with pytest.raises(BackendError, match="knows another plugin xdecoder_rt::MaskBits"):
        register_plugins(trt, PLUGINS)


# --- which kernels --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sm", "only", "message"),
    [
        (86, "", "compiled for sm_86; this device is sm_87.*--target 87"),
        (87, "^attend", "no open_bits, which the plugin MaskBits launches"),
        (87, "^open_bits|_split", "no attend, which the plugin AttendBits launches"),
    ],
)
def test_kernels_that_are_missing_are_named(sm: int, only: str, message: str) -> None:
    from fake_tensorrt import kernel_files

    compiled = CompiledKernels(kernel_files(sm, only).__getitem__)
    with pytest.raises(BackendError, match=message):
        PluginKernels(compiled, ORIN, CUDA, print)


def test_kernels_in_other_forms_than_this_release_launches(
    compiled: CompiledKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found when a plan is opened, not at its first decode."""
    from xdecoder_rt.kernels.masked_attention import schedule

    monkeypatch.setattr(schedule, "WIDE", schedule.Tiles(query=128, key=64))
    with pytest.raises(BackendError, match=r"no compiled form of attend \((fp16|bf16)\)"):
        PluginKernels(compiled, ORIN, CUDA, print)


# --- what reaches the driver ----------------------------------------------------------------------


@pytest.mark.parametrize("keys", [256, 1024, 4096, 165])
@pytest.mark.parametrize(("queries", "mask_element"), [(101, "fp32"), (1, "fp16")])
def test_a_launch_is_what_the_launcher_of_compiled_kernels_makes(
    keys: int,
    queries: int,
    mask_element: str,
    trt: Any,
    plugins: dict[str, Any],
    compiled: CompiledKernels,
    gpu: Gpu,
) -> None:
    """And so what the quick plugins' form has: test_quick_plugin.py compares it with the same."""
    from fake_tensorrt import node_calls

    for node, descs in tensors(trt, queries, keys, mask_element).items():
        plugins[node].on_shape_change(descs[:-1], descs[-1:])
        gpu.enqueue(plugins[node], descs)
    expected = node_calls(queries, keys, mask_element, gpu.addresses)
    for launch, wanted in zip(gpu.launches(), expected, strict=True):
        spec = compiled.form(wanted)
        assert (launch.name, launch.shared) == (wanted.function, 1024)
        assert launch.grid == spec.grid.of(wanted.sizes)
        assert launch.block == (spec.warps * 32, 1, 1)
        assert launch.stream == gpu.stream.handle
        codes = {"fp32": "f", "i32": "i"}
        types = "".join(codes.get(kind, "P") for kind in spec.arguments.values())
        values = [value.item() for value in kernel_arguments(spec, wanted.values)]
        assert list(launch.unpack(types + "PP")) == [*values, 0, 0]


def test_a_launch_is_all_that_a_call_asks_of_the_driver(
    trt: Any, plugins: dict[str, Any], gpu: Gpu
) -> None:
    """Kernels are loaded when sizes are told; copies of a plugin share them."""
    descs = tensors(trt, 101, 1024, "fp16")
    contexts = {node: [plugin.clone() for _ in range(2)] for node, plugin in plugins.items()}
    for node, copies in contexts.items():
        for copy in copies:
            copy.on_shape_change(descs[node][:-1], descs[node][-1:])
    assert gpu.fake.live().modules == 2
    before = len(gpu.fake.log())
    for _ in range(3):
        for node, copies in contexts.items():
            for copy in copies:
                gpu.enqueue(copy, descs[node])
    calls = [one.name for one in gpu.fake.log()[before:]]
    assert calls == ["cuLaunchKernel"] * 12


def test_contexts_have_sizes_of_their_own(trt: Any, plugins: dict[str, Any], gpu: Gpu) -> None:
    grids = []
    few, many = tensors(trt, 1, 256, "fp16")[ATTEND], tensors(trt, 101, 4096, "fp16")[ATTEND]
    one, other = (plugins[ATTEND].attach_to_context(None) for _ in range(2))
    one.on_shape_change(few[:-1], few[-1:])
    other.on_shape_change(many[:-1], many[-1:])
    gpu.enqueue(one, few)
    gpu.enqueue(other, many)
    gpu.enqueue(one, many)  # not told before: found in what the launch is told
    grids = [launch.grid for launch in gpu.launches()]
    assert grids == [(1, 3, 1), (4, 3, 1), (4, 3, 1)]


def test_a_captured_launch_runs_again_with_the_graph(
    trt: Any, plugins: dict[str, Any], gpu: Gpu
) -> None:
    descs = tensors(trt, 101, 1024, "fp16")
    for node, plugin in plugins.items():
        plugin.on_shape_change(descs[node][:-1], descs[node][-1:])
    ran: list[Launch] = []
    gpu.fake.on_launch(ran.append)
    stream, mode = gpu.stream.handle, cuda_driver.bindings().CUstreamCaptureMode
    call_driver("cuStreamBeginCapture", stream, mode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
    for node, plugin in plugins.items():
        gpu.enqueue(plugin, descs[node])
    graph = call_driver("cuStreamEndCapture", stream)
    assert not ran
    executable = call_driver("cuGraphInstantiate", graph, 0)
    for _ in range(2):
        call_driver("cuGraphLaunch", executable, stream)
    call_driver("cuStreamSynchronize", stream)
    assert [launch.name for launch in ran] == ["open_bits", "attend"] * 2
    assert ran[:2] == ran[2:]
    call_driver("cuGraphExecDestroy", executable)
    call_driver("cuGraphDestroy", graph)


def test_without_cuda_bindings_no_plugin_is_made(
    compiled: CompiledKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(MissingExtraError, match=r"cuda\.bindings\.driver.*xdecoder_rt\[jetson\]"):
        PluginKernels(compiled, ORIN, CUDA, print)


def test_what_fails_is_reported_and_raised(
    trt: Any, plugins: dict[str, Any], gpu: Gpu, said: list[str]
) -> None:
    descs = tensors(trt, 101, 1024, "fp16")[ATTEND]
    with pytest.raises(BackendError, match="multiple of 16"):
        gpu.enqueue(plugins[ATTEND], descs, query=gpu.addresses["query"] + 2)
    narrow = [tensor(trt, (1, 3, 101, 32), "fp16"), *descs[1:]]
    narrow[1] = tensor(trt, (1, 3, 32, 1024), "fp16")
    with pytest.raises(BackendError, match="no compiled form of attend"):
        plugins[ATTEND].on_shape_change(narrow[:-1], narrow[-1:])
    gpu.fake.fail("cuLaunchKernel")
    with pytest.raises(BackendError, match="refused to launch attend_fp16_32x64"):
        gpu.enqueue(plugins[ATTEND], descs)
    assert [line.split(":")[0] for line in said] == ["plugin AttendBits"] * 3
    assert not gpu.launches()


def test_kernels_are_unloaded_and_can_be_loaded_again(
    trt: Any, plugins: dict[str, Any], gpu: Gpu, kernels: PluginKernels
) -> None:
    descs = tensors(trt, 101, 1024, "fp16")[ATTEND]
    for _ in range(2):
        plugin = plugins[ATTEND].clone()
        gpu.enqueue(plugin, descs)
        assert gpu.fake.live().modules == 1
        kernels.close()
        assert gpu.fake.live().modules == 0


# --- the choice at a build ------------------------------------------------------------------------


def toolchain(module: Any, backend: str = "tensorrt", version: str = "10.3.0") -> Any:
    from xdecoder_rt.export.tensorrt.toolchain import Toolchain

    library: Any = SimpleNamespace(
        backend=backend, title="TensorRT", version=version, module=module
    )
    return Toolchain(library, (87,), False, CUDA)


def members(sm: int = 87) -> dict[str, bytes]:
    from fake_tensorrt import kernel_files

    return {KERNELS + name: data for name, data in kernel_files(sm).items()}


def test_without_ahead_of_time_plugins_these_are_chosen(
    trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="engines are built of ONNX graphs")
    from xdecoder_rt.export.tensorrt import engine
    from xdecoder_rt.export.tensorrt.plugins import choose_plugins

    flags = SimpleNamespace(STRONGLY_TYPED=1)
    monkeypatch.setattr(trt, "NetworkDefinitionCreationFlag", flags, raising=False)
    chosen = choose_plugins(toolchain(trt), members(), print)
    assert chosen is not None and chosen.launcher is not None
    assert chosen.names == PLUGINS
    assert chosen.fields == {"kernels": chosen.launcher.number}
    assert set(trt.get_plugin_registry().creators) == {(NAMESPACE, BITS), (NAMESPACE, ATTEND)}
    assert engine._flags(trt, chosen) == 1 << 1
    said: list[str] = []
    with chosen.launching(said.append):
        fields = NumberFields(trt, chosen.fields)
        creator = trt.get_plugin_registry().creators[NAMESPACE, BITS]
        plugin = creator.create_plugin("bits", fields.collection, trt.TensorRTPhase.BUILD)
    assert plugin.kernels is chosen.launcher
    plugin.kernels.report("a word")
    assert said == ["a word"]


def test_ahead_of_time_plugins_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason="engines are built of ONNX graphs")
    from fake_tensorrt import library

    from xdecoder_rt.export.tensorrt import engine, plugins

    trt = library.module("tensorrt", "10.9.0", None)  # type: ignore[arg-type]
    flags = SimpleNamespace(STRONGLY_TYPED=1, PREFER_AOT_PYTHON_PLUGINS=2)
    trt.NetworkDefinitionCreationFlag = flags  # type: ignore[attr-defined]
    registered: list[Any] = []
    monkeypatch.setattr(
        plugins.quick_plugin, "register_quick_plugins", lambda *given: registered.append(given)
    )
    quick = SimpleNamespace(aot_impl=None)
    imports: Callable[[str], Any] = {"tensorrt.plugin": quick}.__getitem__
    monkeypatch.setattr(plugins, "import_module", imports)
    chosen = plugins.choose_plugins(toolchain(trt, version="10.9.0"), members(), print)
    assert chosen is not None and (chosen.launcher, chosen.names) == (None, ())
    assert engine._flags(trt, chosen) == 1 << 1 | 1 << 2
    ((module, gpu),) = registered
    assert module is quick and (gpu.capability, gpu.cuda) == (ORIN, CUDA)
    del quick.aot_impl  # quick plugins of 10.8, which are Python
    chosen = plugins.choose_plugins(toolchain(trt, version="10.8.0"), members(), print)
    assert chosen is not None and chosen.names == PLUGINS


def test_where_there_is_no_form_the_operators_stay() -> None:
    pytest.importorskip("onnx", reason="engines are built of ONNX graphs")
    from xdecoder_rt.export.tensorrt import engine
    from xdecoder_rt.export.tensorrt.plugins import choose_plugins

    flags = SimpleNamespace(STRONGLY_TYPED=1)
    bare = SimpleNamespace(NetworkDefinitionCreationFlag=flags)
    said: list[str] = []
    assert choose_plugins(toolchain(bare), members(), said.append) is None
    assert said == ["TensorRT 10.3.0 has no plugins of ours: masked attention stays in operators"]
    assert engine._flags(bare, None) == 1 << 1


@pytest.mark.parametrize(
    ("backend", "kernels", "message"),
    [
        ("tensorrt_rtx", {}, "networks take no plugins.*without --plugin"),
        ("tensorrt", {}, "no compiled kernels.*--kernels"),
        ("tensorrt", {"sm": 86}, "compiled for sm_86; this device is sm_87.*--kernels"),
    ],
)
def test_where_there_can_be_no_plugin_the_way_out_is_told(
    backend: str, kernels: dict[str, int], message: str, trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdecoder_rt.export.tensorrt.plugins import choose_plugins

    monkeypatch.setattr(trt, "NetworkDefinitionCreationFlag", object(), raising=False)
    held = members(**kernels) if kernels else {}
    with pytest.raises(BuildError, match=message):
        choose_plugins(toolchain(trt, backend), held, print)


def test_a_plan_with_them_says_so_and_carries_their_kernels(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="engines are built of ONNX graphs")
    from fake_tensorrt import kernel_files, library

    from xdecoder_rt.export.tensorrt import build
    from xdecoder_rt.export.tensorrt.engine import BuiltEngine
    from xdecoder_rt.export.tensorrt.options import EngineOptions
    from xdecoder_rt.plan.file import Plan

    trt = library.module("tensorrt", "10.3.0", None)  # type: ignore[arg-type]
    trt.NetworkDefinitionCreationFlag = object()  # type: ignore[attr-defined]
    folder = tmp_path / "kernels"
    for name, data in kernel_files(87).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    numbers: dict[str, list[int]] = {}
    forms: dict[str, Any] = {}

    def built(name: str, model: Any, profiles: Any, *given: Any) -> BuiltEngine:
        attributes = [one for node in model.graph.node for one in node.attribute]
        numbers[name] = [one.i for one in attributes if one.name == "kernels"]
        forms[name] = given[-1]
        return BuiltEngine(b"engine", [], 0.0)

    monkeypatch.setattr(build, "open_toolchain", lambda *_: toolchain(trt))
    monkeypatch.setattr(build, "build_engine", built)
    for plugin in (True, False):
        options = EngineOptions("tensorrt", kernels=folder, plugin=plugin)
        build.build_engines(tiny_plan, tmp_path / "made.plan", options)
        with Plan.open(tmp_path / "made.plan") as plan:
            assert plan.manifest.plugins == (PLUGINS if plugin else ())
            layers = plan.manifest.decoder.layers
            held = {name.removeprefix(KERNELS): plan.read(name) for name in plan.names}
        kernels = PluginKernels(CompiledKernels(held.__getitem__), ORIN, CUDA, print)
        for name, found in numbers.items():
            has_plugins = plugin and name.startswith(("decode", "frame"))
            assert found == [kernels.number] * (2 * layers if has_plugins else 0)
            assert (forms[name] is not None) == has_plugins


def test_nodes_carry_the_number() -> None:
    pytest.importorskip("onnx", reason="engines are built of ONNX graphs")
    from onnx import helper

    from xdecoder_rt.export.tensorrt.masked_attention_nodes import _node

    node = _node(BITS, 0, ["a", "b"], "c", {"kernels": 12345})
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    assert given == {"plugin_namespace": b"xdecoder_rt", "plugin_version": b"1", "kernels": 12345}
