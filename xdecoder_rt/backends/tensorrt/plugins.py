"""Masked attention inside an engine, launched by this package: ``IPluginV3`` in Python.

The form for TensorRT 10.3 to 10.8, which cannot put a kernel into an engine. An engine then holds a
plugin's name and the number by which the kernels of its plan are known again; all else follows
from the tensors. So whoever reads such an engine must have registered the plugins, and offer the
kernels while it is read; trtexec cannot run it.

No GPU has run this; ``tests/export/tensorrt/test_plugin_v3.py`` says what is verified.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from xdecoder_rt.backends.tensorrt.plugin_class import (
    FIELD,
    NumberFields,
    plugin_class,
    read_numbers,
)
from xdecoder_rt.errors import BackendError
from xdecoder_rt.kernels import cuda_driver
from xdecoder_rt.kernels.compiled import CompiledKernels
from xdecoder_rt.kernels.loader import Kernels, PreparedCall
from xdecoder_rt.kernels.masked_attention.nodes import (
    BITS,
    FUNCTION,
    INPUTS,
    NAMESPACE,
    OUTPUT,
    VERSION,
    call_of,
)
from xdecoder_rt.kernels.masked_attention.schedule import MODULE
from xdecoder_rt.kernels.spec import ARGUMENT_ALIGNMENT, Call, KernelSpec

PLUGINS = tuple(f"{NAMESPACE}::{node}" for node in FUNCTION)
"""What a manifest calls them."""
_CLASSES = (
    "IPluginV3",
    "IPluginV3OneCore",
    "IPluginV3OneBuild",
    "IPluginV3OneRuntime",
    "IPluginCreatorV3One",
)
_COMPILE = "python -m xdecoder_rt.kernels.aot -o FOLDER, then build the plan with --kernels FOLDER"


class PluginKernels:
    """A plan's compiled kernels, as its engines' plugins launch them.

    They are loaded into the context that is current when the first plugin learns its sizes.

    Args:
        compiled: the plan's kernels.
        capability: of the device.
        cuda: the CUDA version of its driver.
        report: takes what goes wrong inside TensorRT, which does not pass it on.

    Attributes:
        number: by which engines know these kernels.
        report: as given.

    Raises:
        BackendError: a kernel is missing, or is not there for this device.
        MissingExtraError: ``cuda-bindings`` is not installed.
        PlanError: a compiled file is missing or altered.
    """

    def __init__(
        self,
        compiled: CompiledKernels,
        capability: tuple[int, int],
        cuda: tuple[int, int],
        report: Callable[[str], None],
    ) -> None:
        self.report = report
        # A positive int32, enough to tell builds of the kernels apart.
        self.number = int(compiled.digest[:8], 16) >> 1
        self._compiled = compiled
        self._capability = capability
        self._kernels: Kernels | None = None
        self._loading = threading.Lock()
        # A missing package is found when a plan is opened, not at its first decode.
        cuda_driver.bindings()
        for node in FUNCTION:
            for spec in self._compiled_forms(node):
                compiled.image(spec, capability, cuda)
                # What this release launches is among them.
                compiled.form(self._call(node, _smallest_shapes(spec), spec.element))

    def prepare(self, node: str, shapes: Sequence[Sequence[int]], element: str) -> PreparedCall:
        """Return the launch of a node over sizes, its kernel loaded.

        Args:
            node: which.
            shapes: of its inputs.
            element: of the first of them.

        Raises:
            BackendError: no compiled form serves the sizes, or the driver refuses.
        """
        with self._loading:
            if self._kernels is None:
                self._kernels = Kernels(self._compiled, cuda_driver)
            return self._kernels.prepare(self._call(node, shapes, element))

    def close(self) -> None:
        """Unload them. Their context is current, and no engine with their plugins is left."""
        if self._kernels is not None:
            self._kernels.close()

    def _call(self, node: str, shapes: Sequence[Sequence[int]], element: str) -> Call:
        # TensorRT aligns tensors to more than this.
        addresses = dict.fromkeys((*INPUTS[node], OUTPUT[node]), ARGUMENT_ALIGNMENT)
        return call_of(node, shapes, element, self._capability, addresses)

    def _compiled_forms(self, node: str) -> list[KernelSpec]:
        """The compiled forms of a node's kernel, for whole keys."""
        kernel = FUNCTION[node]
        forms = [
            spec
            for spec in self._compiled.forms.values()
            if (spec.module, spec.function) == (MODULE, kernel) and not spec.constants.get("SPLIT")
        ]
        if not forms:
            raise BackendError(
                f"The compiled kernels have no {kernel}, which the plugin {node} launches",
                fix=_COMPILE,
            )
        return forms


def _smallest_shapes(spec: KernelSpec) -> list[list[int]]:
    """Sizes of a node's first inputs that a form of its kernel serves, if any does."""
    constants = spec.constants
    if spec.function == FUNCTION[BITS]:
        channels = int(constants["CHANNEL_TILE"] or 1)
        return [[1, 1, channels], [1, channels, 1]]
    width = int(constants["WIDTH"] or 1)
    return [[1, 1, 1, width], [1, 1, width, 1]]


_creators: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
"""What is registered, by TensorRT's module and plugin: TensorRT keeps pointers to creators."""
_offers: list[PluginKernels] = []
_offer_lock = threading.RLock()


def has_plugins(module: Any) -> bool:
    """Return whether a TensorRT has such plugins."""
    return all(hasattr(module, name) for name in _CLASSES)


def register_plugins(module: Any, plugins: Sequence[str]) -> None:
    """Make plugins known to TensorRT, for engines that are built or read from now on.

    Args:
        module: TensorRT's.
        plugins: some of :data:`PLUGINS`.

    Raises:
        BackendError: this release has no such plugin, or another one has its name.
    """
    unknown = [name for name in plugins if name not in PLUGINS]
    if unknown:
        raise BackendError(
            f"The engines of the plan hold the plugins {', '.join(unknown)}",
            expected=f"some of {', '.join(PLUGINS)}",
            fix="use the release of xdecoder_rt that the plan was built with",
        )
    if plugins and not has_plugins(module):
        raise BackendError(
            f"{module.__name__} {module.__version__} takes no plugins in Python",
            expected="TensorRT, which does",
            fix="build the plan again without --plugin",
        )
    creators = _creators.setdefault(module, {})
    for name in plugins:
        if name in creators:
            continue
        creator = _creator(module, name.removeprefix(f"{NAMESPACE}::"))
        if not module.get_plugin_registry().register_creator(creator, NAMESPACE):
            raise BackendError(
                f"TensorRT knows another plugin {name} in this process",
                fix="open the plan in a process where nothing else registers it",
            )
        creators[name] = creator


@contextmanager
def offering(kernels: PluginKernels) -> Iterator[None]:
    """Give kernels to the plugins of the engines that are built or read meanwhile."""
    with _offer_lock:
        _offers.append(kernels)
        try:
            yield
        finally:
            _offers.pop()


def _creator(trt: Any, node: str) -> Any:
    """What makes a node's plugins: when a graph is parsed, and when an engine is read."""
    make = plugin_class(trt)

    class Creator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_namespace, self.plugin_version = node, NAMESPACE, VERSION
            self._fields = NumberFields(trt, {FIELD: 0})
            self.field_names = self._fields.collection

        def create_plugin(self, name: str, field_collection: Any, phase: Any) -> Any:
            return make(node, _kernels_of(node, read_numbers(field_collection).get(FIELD)))

    return Creator()


def _kernels_of(node: str, number: int | None) -> PluginKernels:
    """Return what is offered to a plugin; its number must be the one that it was built with."""
    if not _offers:
        raise BackendError(
            f"Nothing offers kernels to the plugin {node}",
            fix="open the plan that holds the engine, with xdecoder_rt.Engine",
        )
    kernels = _offers[-1]
    if number != kernels.number:
        error = BackendError(
            f"The plugin {node} was built with other kernels than those of the plan",
            fix="build the plan again on this machine, with --plugin",
        )
        kernels.report(str(error))
        raise error
    return kernels
