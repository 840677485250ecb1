"""Portable plans with OpenVINO: on x86-64 CPUs the faster choice, also for bf16 and INT8.

Its plugins for Intel's GPUs and NPUs take the same models.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from xdecoder_rt.backends.base import (
    Array,
    Graph,
    ModelReader,
    Recurring,
    Value,
    feeds_error,
    is_shortage,
)
from xdecoder_rt.backends.blobs import ModelBlobs
from xdecoder_rt.backends.specialised import drop_floors, fix_inputs
from xdecoder_rt.backends.unquantized import multiplies_bytes_slowly, unquantize
from xdecoder_rt.backends.winograd import use_winograd
from xdecoder_rt.cores import usable_cores
from xdecoder_rt.errors import BackendError, MemoryShortageError, quoted, require

_TELEMETRY = "openvino_telemetry"
# OpenVINO takes bf16 by itself where the processor has it: the plan's word is final.
_PRECISIONS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}
# Emulated bf16 is slower than fp32, so an INT8 plan's rest is bf16 only where it is native.
_PRECISIONS_WITH_BF16 = {**_PRECISIONS, "int8": "bf16"}


@cache
def _openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, or as this process imported it before.

    When imported, its model converter makes an id in the home and sends an event to Google
    Analytics, unless the package for that cannot be imported, in which case it takes a stub. So
    that package is hidden meanwhile.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    if "openvino" in sys.modules:
        return require("openvino", "openvino")
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_telemetry(name)}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return require("openvino", "openvino")
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update(hidden)


def _is_telemetry(name: str) -> bool:
    return name == _TELEMETRY or name.startswith(_TELEMETRY + ".")


@cache
def _core() -> Any:
    """The process's one OpenVINO.

    Its CPU plugin gives the thread that first uses it a stack for signal handlers, and frees that
    when it ends itself, in whichever thread: the next Ctrl-C would find no stack there. So it
    never ends.
    """
    return _openvino().Core()


# Compiled models of one graph for calls of their own, each with a copy of the weights.
_MOST_FIXED = 6


@dataclass(frozen=True)
class FixedCall:
    """Calls that a model is compiled for.

    Attributes:
        shapes: of all inputs.
        values: of the inputs that are the same in all these calls.
    """

    shapes: dict[str, tuple[int, ...]]
    values: dict[str, Array]

    @classmethod
    def of(cls, feeds: Mapping[str, Array], recurring: Collection[str]) -> FixedCall:
        """Return the form of a call, whose inputs of some names are the same in all of them."""
        values = {name: feeds[name] for name in recurring}
        return cls({name: array.shape for name, array in feeds.items()}, values)

    @property
    def key(self) -> Hashable:
        """What tells these calls from others."""
        values = tuple((name, array.tobytes()) for name, array in self.values.items())
        return tuple(self.shapes.items()), values


class OpenVINOGraph:
    """A model, compiled for any shapes or also for those that most calls come with.

    A model of fixed shapes infers none of them again and knows where every result goes: of the
    starter's decoder a fifth of the time. So a steady graph is compiled for the shapes of its first
    call, for those of calls with recurring inputs, whose values are then part of it, and for any
    others once these come.

    Args:
        name: the graph's, for messages.
        read: gives the model, uncompiled.
        compile_model: compiles a model, for calls of one form where it is given.
        is_steady: whether most calls come with the shapes of the first.

    Raises:
        BackendError: OpenVINO refuses the model.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], Any],
        compile_model: Callable[[Any, FixedCall | None], _Compiled],
        is_steady: bool,
    ) -> None:
        self._name = name
        self._read = read
        self._compile = compile_model
        self._is_steady = is_steady
        self._lock = threading.Lock()
        # None where OpenVINO refuses the shapes.
        self._fixed: dict[Hashable, _Compiled | None] = {}
        self._general: _Compiled | None = None
        with self._errors("read or compile"):
            network = read()
            self.inputs = tuple(port.get_any_name() for port in network.inputs)
            self._input_names = frozenset(self.inputs)
            # Until the first call, which fixes its shapes.
            self._network = network if is_steady else None
            if not is_steady:
                self._general = compile_model(network, None)

    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        """Run the graph; outputs are arrays of their own.

        Raises:
            PlanError: the graph takes other inputs.
            BackendError: OpenVINO fails, as it may with the first inputs of some shape.
        """
        if feeds.keys() != self._input_names:
            raise feeds_error(self._name, self.inputs, feeds)
        with self._errors("run"):
            inputs = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
            recurring = [name for name in self.inputs if isinstance(feeds[name], Recurring)]
            return self._for(FixedCall.of(inputs, recurring)).run(inputs)

    def _for(self, call: FixedCall) -> _Compiled:
        """What runs calls of this form, compiled on first need."""
        key = call.key
        with self._lock:
            network, self._network = self._network, None
            # The first is fixed whatever it is.
            is_new = key not in self._fixed and len(self._fixed) < _MOST_FIXED
            if network is not None or (self._is_steady and call.values and is_new):
                try:
                    self._fixed[key] = self._compile(network or self._read(), call)
                except RuntimeError as error:  # some models OpenVINO takes with open shapes alone
                    if is_shortage(error):
                        raise
                    self._fixed[key] = None
            fixed = self._fixed.get(key)
            if fixed is not None:
                return fixed
            if self._general is None:
                self._general = self._compile(self._read(), None)
            return self._general

    @contextmanager
    def _errors(self, deed: str) -> Iterator[None]:
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if is_shortage(error):
                task = f"OpenVINO to {deed} the {self._name} graph"
                raise MemoryShortageError(task) from error
            raise BackendError(
                f"OpenVINO cannot {deed} the {self._name} graph ({error})",
                expected="a graph that OpenVINO's CPU plugin supports",
                fix='Use Engine(…, backend="onnxruntime")',
            ) from error


class _Compiled:
    """A compiled model and a pool of requests: one for each call in flight.

    Args:
        model: the model, compiled.
        outputs: their names, in order.
        tensor: OpenVINO's class of tensors.
    """

    def __init__(self, model: Any, outputs: Sequence[str], tensor: Any) -> None:
        self._model = model
        self._tensor = tensor
        self._input_names = [port.get_any_name() for port in model.inputs]
        self._output_names = outputs
        # Outputs whose shapes are known are written where the caller keeps them, without a copy.
        ports = model.outputs
        self._output_types = (
            None
            if any(port.partial_shape.is_dynamic for port in ports)
            else [(tuple(port.shape), port.element_type.to_dtype()) for port in ports]
        )
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Value]:
        # Without those that are part of the model.
        inputs = {name: feeds[name] for name in self._input_names}
        try:
            request = self._requests.get_nowait()
        except queue.Empty:
            request = self._model.create_infer_request()
        try:
            if self._output_types is None:
                results = request.infer(inputs, share_inputs=True, share_outputs=False)
                return dict(zip(self._output_names, results.values(), strict=True))
            outputs = [np.empty(shape, dtype) for shape, dtype in self._output_types]
            for index, array in enumerate(outputs):
                request.set_output_tensor(index, self._tensor(array, shared_memory=True))
            request.infer(inputs, share_inputs=True, share_outputs=True)
            return dict(zip(self._output_names, outputs, strict=True))
        finally:
            self._requests.put(request)


class OpenVINOBackend:
    """OpenVINO's plugins for CPUs, GPUs and NPUs.

    Args:
        threads: threads of one call; None leaves the choice to OpenVINO.
        precision: the plan's precision; arithmetic is pinned to it. What an INT8 plan leaves
            unquantized is computed in bf16 where the processor does that itself, else in fp32;
            so are layers that the processor computes sooner that way.
        cache_dir: where compiled models are kept, or None. Where that fails, they are not.
        device: ``"cpu"``, ``"gpu"``, ``"gpu.1"``, ``"npu"``; None for the CPU.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BackendError: there is no such device.
    """

    name = "openvino"

    def __init__(
        self,
        threads: int | None = None,
        precision: str = "fp32",
        cache_dir: Path | None = None,
        device: str | None = None,
    ) -> None:
        openvino = _openvino()
        self._library, self._core = openvino, _core()
        self._tensor = openvino.Tensor
        self.version = str(openvino.__version__)
        self.device = "cpu" if device is None else device
        self._plugin = self._plugin_of(self.device)
        self._is_cpu = self._plugin == "CPU"
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            # A compiled model that is cut off while it is mapped ends the process.
            "ENABLE_MMAP": False,
        }
        self._unquantizes = False
        if self._is_cpu:
            has_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            precisions = _PRECISIONS_WITH_BF16 if has_bf16 else _PRECISIONS
            self._unquantizes = precision == "int8" and multiplies_bytes_slowly()
            self._settings["INFERENCE_PRECISION_HINT"] = precisions[precision]
            if threads is not None:
                self._settings["INFERENCE_NUM_THREADS"] = threads
        else:
            # These plugins compute in fp16 by themselves; an fp32 plan is meant as it is.
            self._settings["INFERENCE_PRECISION_HINT"] = "f32" if precision == "fp32" else "f16"
        self._cache_dir = cache_dir

    def _plugin_of(self, device: str) -> str:
        """Return OpenVINO's own name of a device that it has here."""
        plugin = device.upper()
        available = list(self._core.available_devices)
        # A machine's only GPU is listed as GPU, the first of several as GPU.0.
        if plugin == "CPU" or any(name.split(".")[0] == plugin or name == plugin
                                  for name in available):  # fmt: skip
            return plugin
        raise BackendError(
            f"OpenVINO {self.version} finds no device {quoted(device)}",
            expected=" or ".join(repr(name.lower()) for name in available),
            fix="install the device's driver, as OpenVINO's page on its devices says",
        )

    def load(self, name: str, model: ModelReader, is_steady: bool = False) -> Graph:
        """Read a serialized ONNX model, and compile it now or for the shapes of its first call.

        Raises:
            BackendError: OpenVINO refuses the model.
        """
        blobs: ModelBlobs | None = None

        def read() -> Any:
            nonlocal blobs
            data = model()
            if self._cache_dir is not None:
                library = self.name if self._is_cpu else f"{self.name}_{self.device}"
                blobs = ModelBlobs(self._cache_dir, library, name, len(data))
            return self._core.read_model(model=data)

        return OpenVINOGraph(
            name, read, lambda network, call: self._compile(blobs, network, call), is_steady
        )

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """Return a value, which is an array already."""
        array: np.ndarray[Any, Any] = value
        return array

    def to_numpy_all(self, values: Mapping[str, Value]) -> dict[str, np.ndarray[Any, Any]]:
        """Return values, which are arrays already."""
        return dict(values)

    def close(self) -> None:
        """Release nothing: compiled models end with the graphs that hold them."""

    def _compile(self, blobs: ModelBlobs | None, network: Any, call: FixedCall | None) -> _Compiled:
        # Before it is simplified, which merges names.
        outputs = [port.get_any_name() for port in network.outputs]
        settings = dict(self._settings)
        drop_floors(network)
        if call is not None:
            network.reshape(call.shapes)
        if self._unquantizes:
            unquantize(self._library, network)
        if call is not None:
            fix_inputs(self._library, network, call.values)
        if call is not None and self._is_cpu:
            if settings["INFERENCE_PRECISION_HINT"] == "f32":
                use_winograd(self._library, network)
            cores = usable_cores()
            if min(settings.get("INFERENCE_NUM_THREADS", cores), cores) == 1:
                # Fusing attention of fixed shapes for one thread, OpenVINO 2026.4 ends the process
                # with a segmentation fault.
                settings["SNIPPETS_MODE"] = "DISABLE"
        # Checked beforehand: into a folder that cannot be searched OpenVINO ends the process.
        folder = None if blobs is None else blobs.folder()
        if blobs is None or folder is None:
            model = self._core.compile_model(network, self._plugin, settings)
            return _Compiled(model, outputs, self._tensor)
        try:
            kept = {**settings, "CACHE_DIR": str(folder)}
            model = self._core.compile_model(network, self._plugin, kept)
        except RuntimeError:
            # OpenVINO compiles nothing where it cannot write, as on a full disk.
            model = self._core.compile_model(network, self._plugin, settings)
        blobs.seal()
        return _Compiled(model, outputs, self._tensor)
