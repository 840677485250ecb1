"""Portable plans with ONNX Runtime: on the CPU the default and the reference; on NVIDIA GPUs too.

On a GPU inputs and outputs are bound where they lie, so that what one graph hands to another stays
on the device.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

from xdecoder_rt.atomic import private_folder
from xdecoder_rt.backends.base import Array, Graph, ModelReader, Value, feeds_error, is_shortage
from xdecoder_rt.backends.unquantized import multiplies_bytes_slowly
from xdecoder_rt.errors import BackendError, MemoryShortageError, XDecoderError, quoted

_DEVICE = re.compile(r"(cuda|tensorrt)(?::(\d{1,3}))?")
# They leave a ReLU or a clip to the bounds of the rounding after it, and it would go with that.
_ROUNDING_ACTIVATIONS = ("ReluQuantRewrite", "ClipQuantRewrite")
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


class _Place(NamedTuple):
    """Where values lie, as ONNX Runtime names it."""

    kind: str
    number: int


_HOST = _Place("cpu", 0)


class OnnxRuntimeGraph:
    """One session; ONNX Runtime allows concurrent runs of it.

    Args:
        name: for messages.
        session: the session.
        place: where its values lie; elsewhere than on the host they are bound there.
    """

    def __init__(self, name: str, session: ort.InferenceSession, place: _Place = _HOST) -> None:
        self._name = name
        self._place = place
        self._session = session
        self.inputs = tuple(port.name for port in session.get_inputs())
        self._input_names = frozenset(self.inputs)
        self._outputs = [output.name for output in session.get_outputs()]

    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        """Run the graph; outputs stay in ONNX Runtime's memory.

        Raises:
            PlanError: the graph takes other inputs.
            BackendError: ONNX Runtime fails; `MemoryShortageError` for want of memory.
        """
        if feeds.keys() != self._input_names:
            raise feeds_error(self._name, self.inputs, feeds)
        values = {
            name: value if isinstance(value, ort.OrtValue) else self._wrap(value)
            for name, value in feeds.items()
        }
        try:
            if self._place == _HOST:
                results = self._session.run_with_ort_values(self._outputs, values)
            else:
                results = self._bound(values)
        except Exception as error:  # its errors share no base class but Exception
            if is_shortage(error):
                raise MemoryShortageError(f"ONNX Runtime to run the {self._name} graph") from error
            raise BackendError(
                f"ONNX Runtime cannot run the {self._name} graph ({error})",
                fix="build the plan again: xdecoder-rt build",
            ) from error
        return dict(zip(self._outputs, results, strict=True))

    def _wrap(self, array: Array) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), *self._place)

    def _bound(self, values: Mapping[str, ort.OrtValue]) -> list[ort.OrtValue]:
        """Run on values that lie on the device, and leave the outputs there."""
        binding = self._session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, *self._place)
        self._session.run_with_iobinding(binding)
        results: list[ort.OrtValue] = binding.get_outputs()
        return results


class OnnxRuntimeBackend:
    """ONNX Runtime's execution providers for CPUs, CUDA and TensorRT.

    Args:
        threads: threads of one call; None leaves the choice to ONNX Runtime.
        device: ``"cpu"``; ``"cuda"`` or ``"tensorrt"``, with the number of a GPU or without:
            ``"cuda:1"``; None for the CPU.
        cache_dir: where the engines that TensorRT builds are kept, or None.
        as_written: whether every quantization of INT8 graphs is carried out, also where a processor
            gains nothing by it.

    Raises:
        BackendError: there is no such device, or the installed ONNX Runtime is not made for it.
    """

    name = "onnxruntime"

    def __init__(
        self,
        threads: int | None = None,
        device: str | None = None,
        cache_dir: Path | None = None,
        *,
        as_written: bool = False,
    ) -> None:
        self.version = str(ort.__version__)
        self.device = "cpu" if device is None else device
        self._place, self._providers = _providers(self.device, self.version, cache_dir)
        # Where the process imported it before this package, which keeps it from beginning at all.
        ort.disable_telemetry_events()
        self._disabled: list[str] = []
        self._options = ort.SessionOptions()
        self._options.log_severity_level = 3
        if threads is not None:
            self._options.intra_op_num_threads = threads
        # An arena keeps the largest frame of every session: a hundred megabytes more.
        self._options.enable_cpu_mem_arena = False
        # A frame goes through several sessions: threads of one that spin for more work would take
        # the cores from the next.
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._place == _HOST and multiplies_bytes_slowly():
            # Its kernels for such processors add two products of bytes in 16 bits, which overflow:
            # sums were wrong by up to a fifth. Quantized values are multiplied in fp32 instead.
            self._options.add_session_config_entry("session.disable_quant_qdq", "1")
            if not as_written:
                # Rounding to bytes and back is then a third of the time of a graph, for nothing.
                self._options.add_session_config_entry("session.enable_quant_qdq_cleanup", "1")
                self._disabled = list(_ROUNDING_ACTIVATIONS)

    def load(self, name: str, model: ModelReader, is_steady: bool = False) -> Graph:
        """Create a session for a serialized ONNX model.

        Raises:
            BackendError: ONNX Runtime refuses the model, or there is too little memory.
            PlanError: the model cannot be read.
        """
        try:
            session = ort.InferenceSession(
                model(),
                self._options,
                providers=self._providers,
                disabled_optimizers=self._disabled,
            )
        except XDecoderError:
            raise
        except Exception as error:  # its errors share no base class but Exception
            if is_shortage(error):
                raise MemoryShortageError(f"ONNX Runtime to load the {name} graph") from error
            raise BackendError(
                f"ONNX Runtime {self.version} cannot load the {name} graph ({error})",
                expected="a graph of opset 18 made of standard operators",
                fix="Build the plan again, or update onnxruntime",
            ) from error
        # Kept for beginning anew with other providers, which nobody asks for: as much as the plan.
        session._model_bytes = None
        wanted, *_ = self._providers[0] if self._place != _HOST else ("CPUExecutionProvider",)
        if wanted not in session.get_providers():  # it goes on without, and says so in its log
            raise BackendError(
                f"ONNX Runtime {self.version} cannot use {wanted} here",
                expected="an NVIDIA GPU, its driver, and the CUDA and cuDNN that it was built with",
                fix="look at nvidia-smi; pip install onnxruntime-gpu[cuda,cudnn]",
            )
        return OnnxRuntimeGraph(name, session, self._place)

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """Copy a value out of ONNX Runtime's memory."""
        array: np.ndarray[Any, Any] = value.numpy()
        return array

    def to_numpy_all(self, values: Mapping[str, Value]) -> dict[str, np.ndarray[Any, Any]]:
        """Copy values out of ONNX Runtime's memory."""
        return {name: value.numpy() for name, value in values.items()}

    def close(self) -> None:
        """Release nothing: sessions end with the graphs that hold them."""


def _providers(device: str, version: str, cache_dir: Path | None) -> tuple[_Place, list[Any]]:
    """Where values lie on a device, and the providers that run graphs there, best first.

    Raises:
        BackendError: there is no such device, or no provider for it.
    """
    cpu = "CPUExecutionProvider"
    if device == "cpu":
        return _HOST, [cpu]
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise BackendError(
            f"ONNX Runtime cannot run on device {quoted(device)}",
            expected="'cpu', 'cuda', 'cuda:1', 'tensorrt' and so on, or None",
        )
    kind, number = match.group(1), int(match.group(2) or 0)
    if _PROVIDERS[kind] not in ort.get_available_providers():
        raise BackendError(
            f"ONNX Runtime {version} was built without {_PROVIDERS[kind]}",
            expected="onnxruntime-gpu in place of onnxruntime",
            fix="pip uninstall onnxruntime; pip install onnxruntime-gpu",
        )
    # CUDA and cuDNN of NVIDIA's wheels lie where the linker does not look. What cannot be loaded is
    # printed; without it the provider does not begin, which is told below.
    if (preload := getattr(ort, "preload_dlls", None)) is not None:  # from 1.21 on
        with contextlib.redirect_stdout(io.StringIO()):
            preload()
    # TF32 would round the factors of fp32 products to ten bits.
    cuda = (_PROVIDERS["cuda"], {"device_id": str(number), "use_tf32": "0"})
    if kind == "cuda":
        return _Place("cuda", number), [cuda, cpu]
    options = {"device_id": str(number)}
    if cache_dir is not None:
        folder = private_folder(cache_dir / "onnxruntime_tensorrt")
        options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
    return _Place("cuda", number), [(_PROVIDERS["tensorrt"], options), cuda, cpu]
