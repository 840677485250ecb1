"""Portable plans with OpenVINO: on x86-64 CPUs the faster choice, also for bf16 and INT8.

Its plugins for Intel's GPUs and NPUs take the same models.
"""

from __future__ import annotations

import hashlib
import io
import queue
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from xdecoder_rt.backends.base import (
    Array,
    DigestedModel,
    Graph,
    ModelReader,
    Recurring,
    Value,
    feeds_error,
    is_shortage,
)
from xdecoder_rt.backends.blobs import Blob
from xdecoder_rt.backends.kept import KeptModels, signature
from xdecoder_rt.backends.specialised import FixedCall, drop_floors, fix_inputs, repeats
from xdecoder_rt.backends.unquantized import multiplies_bytes_slowly, unquantize
from xdecoder_rt.backends.winograd import use_winograd
from xdecoder_rt.cores import usable_cores
from xdecoder_rt.errors import BackendError, MemoryShortageError, PlanError, quoted, require

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
        kept: models that were compiled before, for which nothing is read.

    Raises:
        BackendError: OpenVINO refuses the model.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], Any],
        compile_model: Callable[[Any, FixedCall | None], _Compiled],
        is_steady: bool,
        kept: _Kept | None = None,
    ) -> None:
        self._name = name
        self._read = read
        self._compile = compile_model
        self._is_steady = is_steady
        self._lock = threading.Lock()
        # None where OpenVINO refuses the shapes, or the model forgets what was made part of it.
        self._fixed: dict[Hashable, _Compiled | None] = {}
        self._general: _Compiled | None = None
        self._kept = kept
        # Until the first call, which fixes its shapes.
        self._network: Any | None = None
        with self._errors("read or compile"):
            if not is_steady:
                self._general = self._made(None)
            known = self._general or (kept.latest() if kept is not None else None)
            if known is None:
                self._network = read()
                names = tuple(port.get_any_name() for port in self._network.inputs)
            self.inputs = names if known is None else known.inputs
            self._input_names = frozenset(self.inputs)

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
            return self._for(FixedCall.of(inputs, recurring), inputs).run(inputs)

    def _for(self, call: FixedCall, inputs: Mapping[str, Array]) -> _Compiled:
        """What runs calls of this form, compiled on first need."""
        key = call.key
        with self._lock:
            # The first is fixed whatever it is.
            is_new = key not in self._fixed and len(self._fixed) < _MOST_FIXED
            if self._is_steady and is_new and (call.values or not self._fixed):
                try:
                    made = self._made(call)
                    self._fixed[key] = (
                        made if not call.values or repeats(made.run, inputs) else None
                    )
                except RuntimeError as error:  # some models OpenVINO takes with open shapes alone
                    if is_shortage(error):
                        raise
                    self._fixed[key] = None
            fixed = self._fixed.get(key)
            if fixed is not None:
                return fixed
            if self._general is None:
                self._general = self._made(None)
            return self._general

    def _made(self, call: FixedCall | None) -> _Compiled:
        """Return a model compiled for a call, as it was kept or anew."""
        found = None if self._kept is None else self._kept.find(call)
        if found is not None:
            return found
        network, self._network = self._network, None
        return self._compile(network or self._read(), call)

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
        inputs: names of what its graph takes, also where that is part of the model.
        outputs: their names, in order.
        tensor: OpenVINO's class of tensors.
        memory: what the model lies in, if it was read back: weights may be used where they are.
    """

    def __init__(
        self,
        model: Any,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        tensor: Any,
        memory: Any = None,
    ) -> None:
        self._model = model
        self._memory = memory
        self._tensor = tensor
        self.inputs = inputs
        self._input_names = [port.get_any_name() for port in model.inputs]
        self.outputs = outputs
        # Outputs whose shapes are known are written where the caller keeps them, without a copy.
        ports = model.outputs
        self._output_types = (
            None
            if any(port.partial_shape.is_dynamic for port in ports)
            else [(tuple(port.shape), port.element_type.to_dtype()) for port in ports]
        )
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def export(self) -> bytes:
        """Return the model as bytes."""
        stream: io.BytesIO = self._model.export_model()
        return stream.getvalue()

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
                return dict(zip(self.outputs, results.values(), strict=True))
            outputs = [np.empty(shape, dtype) for shape, dtype in self._output_types]
            for index, array in enumerate(outputs):
                request.set_output_tensor(index, self._tensor(array, shared_memory=True))
            request.infer(inputs, share_inputs=True, share_outputs=True)
            return dict(zip(self.outputs, outputs, strict=True))
        finally:
            self._requests.put(request)


class _Kept:
    """Compiled models of one graph, brought back.

    Args:
        models: where they are kept.
        bring: makes a compiled model of what was kept.
    """

    def __init__(self, models: KeptModels, bring: Callable[[Blob], _Compiled]) -> None:
        self._models = models
        self._bring = bring
        self._ahead: tuple[str, _Compiled] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bring back, meanwhile, what was used last."""
        self._thread = threading.Thread(target=self._bring_quietly, name="xdecoder_rt models")
        self._thread.start()

    def _bring_quietly(self) -> None:
        # Whoever needs the model meets the error again.
        with suppress(PlanError, RuntimeError, MemoryError):
            self._bring_latest()

    def _bring_latest(self) -> None:
        form = self._models.latest()
        blob = None if form is None else self._models.read(form)
        if form is not None and blob is not None:
            self._ahead = form, self._bring(blob)

    def latest(self) -> _Compiled | None:
        """Return the model that was used last, brought back."""
        if self._thread is None:
            self._bring_quietly()
        else:
            self._thread.join()
        return None if self._ahead is None else self._ahead[1]

    def find(self, call: FixedCall | None) -> _Compiled | None:
        """Return the model for a call, if it was compiled before."""
        form = _form(call)
        if self._ahead is not None:
            ahead, compiled = self._ahead
            if ahead == form:
                return compiled
        blob = self._models.read(form)
        if blob is None:
            return None
        try:
            found = self._bring(blob)
        except RuntimeError as error:
            if is_shortage(error):
                raise
            return None  # it is compiled, and written, again
        if self._ahead is not None:
            self._models.note_use(form)
        return found

    def keep(self, call: FixedCall | None, compiled: _Compiled) -> None:
        """Keep a model for processes to come."""
        self._models.write(_form(call), compiled.inputs, compiled.outputs, compiled.export())


def _form(call: FixedCall | None) -> str:
    return hashlib.sha256(b"any").hexdigest() if call is None else call.digest


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
        self._prepared: dict[str, _Kept] = {}

    def prepare(self, name: str, model: ModelReader) -> None:
        """Bring back a compiled model in another thread, until :meth:`load` asks for it.

        Nothing is compiled: that takes all cores and much memory already.
        """
        kept = self._kept(name, model)
        if kept is not None:
            kept.start()
            self._prepared[name] = kept

    def _plugin_of(self, device: str) -> str:
        """Return OpenVINO's own name of a device that it has here."""
        plugin = device.upper()
        if plugin == "CPU":  # it is there, and listing others would load their plugins
            return plugin
        available = list(self._core.available_devices)
        # A machine's only GPU is listed as GPU, the first of several as GPU.0.
        if any(plugin in (name, name.split(".")[0]) for name in available):
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
        kept = self._prepared.pop(name, None) or self._kept(name, model)
        return OpenVINOGraph(
            name,
            lambda: self._core.read_model(model=model()),
            lambda network, call: self._compile(kept, network, call),
            is_steady,
            kept,
        )

    def _kept(self, name: str, model: ModelReader) -> _Kept | None:
        if self._cache_dir is None:
            return None

        def digest() -> str:
            source: object = model  # some readers tell the digest too
            if isinstance(source, DigestedModel):
                return source.digest()
            return hashlib.sha256(model()).hexdigest()

        made_by = signature(
            *(self._library, self._core, self._plugin, self._settings, self._unquantizes)
        )
        library = self.name if self._is_cpu else f"{self.name}_{self.device}"
        return _Kept(KeptModels(self._cache_dir, library, name, made_by, digest), self._bring)

    def _bring(self, blob: Blob) -> _Compiled:
        memory = self._tensor(blob.model, shared_memory=True)
        model = self._core.import_model(memory, self._plugin, self._settings_for_shapes())
        return _Compiled(model, blob.inputs, blob.outputs, self._tensor, (memory, blob.model))

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """Return a value, which is an array already."""
        array: np.ndarray[Any, Any] = value
        return array

    def to_numpy_all(self, values: Mapping[str, Value]) -> dict[str, np.ndarray[Any, Any]]:
        """Return values, which are arrays already."""
        return dict(values)

    def close(self) -> None:
        """Release nothing: compiled models end with the graphs that hold them."""

    def _compile(self, kept: _Kept | None, network: Any, call: FixedCall | None) -> _Compiled:
        # Before it is simplified, which merges names.
        inputs = tuple(port.get_any_name() for port in network.inputs)
        outputs = tuple(port.get_any_name() for port in network.outputs)
        drop_floors(network)
        if call is not None:
            network.reshape(call.shapes)
        if self._unquantizes:
            unquantize(self._library, network)
        if call is not None:
            fix_inputs(self._library, network, call.values)
            if self._is_cpu and self._settings["INFERENCE_PRECISION_HINT"] == "f32":
                use_winograd(self._library, network)
        settings = self._settings if call is None else self._settings_for_shapes()
        model = self._core.compile_model(network, self._plugin, settings)
        compiled = _Compiled(model, inputs, outputs, self._tensor)
        if kept is not None:
            kept.keep(call, compiled)
        return compiled

    def _settings_for_shapes(self) -> dict[str, Any]:
        """Return the settings for models of fixed shapes."""
        if not self._is_cpu:
            return self._settings
        cores = usable_cores()
        if min(self._settings.get("INFERENCE_NUM_THREADS", cores), cores) > 1:
            return self._settings
        # Fusing attention of fixed shapes for one thread, OpenVINO 2026.4 ends the process with a
        # segmentation fault.
        return {**self._settings, "SNIPPETS_MODE": "DISABLE"}
