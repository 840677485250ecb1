"""Forms in which masked attention enters engines as plugins: what the installed TensorRT has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from xdecoder_rt.backends.tensorrt import plugins as tensorrt_plugins
from xdecoder_rt.backends.tensorrt.plugin_class import FIELD
from xdecoder_rt.backends.tensorrt.plugins import PLUGINS, PluginKernels
from xdecoder_rt.errors import BackendError, BuildError
from xdecoder_rt.export.progress import StepProgress
from xdecoder_rt.export.tensorrt import quick_plugin
from xdecoder_rt.export.tensorrt.toolchain import Toolchain
from xdecoder_rt.kernels.compiled import KERNELS, CompiledKernels

_COMPILE = "python -m xdecoder_rt.kernels.aot -o FOLDER, then --kernels FOLDER"


@dataclass(frozen=True)
class Plugins:
    """A form of the plugins, ready for a build.

    Attributes:
        launcher: what launches them where the engine does not hold their kernels (``IPluginV3``);
            None for ahead-of-time quick plugins, whose kernels are in the engine.
    """

    launcher: PluginKernels | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Return what must be registered before the engines are read."""
        return () if self.launcher is None else PLUGINS

    @property
    def fields(self) -> Mapping[str, int]:
        """Return what the nodes carry."""
        return {} if self.launcher is None else {FIELD: self.launcher.number}

    @contextmanager
    def launching(self, report: Callable[[str], None]) -> Iterator[None]:
        """Launch plugins while an engine is built.

        Args:
            report: takes what goes wrong in a plugin.
        """
        if self.launcher is None:
            yield
            return
        self.launcher.report = report
        with tensorrt_plugins.offering(self.launcher):
            try:
                yield
            finally:
                self.launcher.close()


def choose_plugins(
    toolchain: Toolchain, kernels: Mapping[str, bytes], progress: StepProgress
) -> Plugins | None:
    """Register the plugins in the form that the library has.

    Args:
        toolchain: the library, and the GPU of this machine.
        kernels: members of the plan that hold the kernels for it.
        progress: told where there is no form at all.

    Returns:
        The form; None where the graph's own operators stay.

    Raises:
        BuildError: the library's networks take no plugins at all, or a kernel is missing.
        PlanError: the kernels are damaged.
    """
    library: Any = toolchain.library
    if library.backend == "tensorrt_rtx" or toolchain.cuda is None:
        raise BuildError(
            f"{library.title} networks take no plugins",
            fix="build without --plugin: the graph's own operators compute the same",
        )
    quick = _ahead_of_time(library.module)
    if quick is None and not tensorrt_plugins.has_plugins(library.module):
        progress(f"{toolchain.release} has no plugins of ours: masked attention stays in operators")
        return None
    if not kernels:
        raise BuildError("There are no compiled kernels to make plugins of", fix=_COMPILE)
    compiled = CompiledKernels(lambda name: kernels[KERNELS + name])
    (target,) = toolchain.targets
    capability = divmod(target, 10)
    if quick is not None:
        quick_plugin.register_quick_plugins(
            quick, quick_plugin.Gpu(compiled, capability, toolchain.cuda)
        )
        return Plugins()
    try:
        launcher = PluginKernels(compiled, capability, toolchain.cuda, progress)
        tensorrt_plugins.register_plugins(library.module, PLUGINS)
    except BackendError as error:
        raise BuildError(error.what, expected=error.expected, fix=_COMPILE) from error
    return Plugins(launcher)


def _ahead_of_time(module: Any) -> ModuleType | None:
    """``tensorrt.plugin``, where it puts kernels into engines."""
    if not hasattr(module.NetworkDefinitionCreationFlag, "PREFER_AOT_PYTHON_PLUGINS"):
        return None
    try:
        plugin = import_module(f"{module.__name__}.plugin")
    except ImportError:
        return None
    return plugin if hasattr(plugin, "aot_impl") else None
