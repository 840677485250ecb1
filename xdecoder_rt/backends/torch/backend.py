"""Portable plans through PyTorch: on any GPU that it runs on, and on the CPU for comparison.

The plan's graphs run operator by operator, those of steady shapes as CUDA graphs; masked attention,
frames and panoptic maps are the work of our Triton kernels, where Triton is installed. States stay
on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xdecoder_rt.backends.base import Graph, ModelReader, PanopticMap, Value, is_shortage
from xdecoder_rt.backends.torch.device import Device
from xdecoder_rt.backends.torch.frames import PanopticMaps, TorchPicture, device_picture, laid
from xdecoder_rt.backends.torch.graph import TorchGraph
from xdecoder_rt.backends.torch.program import Model
from xdecoder_rt.errors import MemoryShortageError, warn_caller
from xdecoder_rt.kernels.panoptic_map.schedule import relabel
from xdecoder_rt.pixels.letterbox import Letterbox

_LEAST_TRITON = (3, 6)


class TorchBackend:
    """PyTorch on one device.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; None for the first GPU, or the CPU without one.
        kernels: whether our Triton kernels work beside PyTorch's; None: on a GPU with Triton 3.6 or
            later that can compile them, with a warning where it cannot. On a CPU they run in
            Triton's interpreter (``TRITON_INTERPRET=1``), for tests.
        cuda_graphs: whether graphs of steady shapes run as CUDA graphs, on a GPU.

    Attributes:
        name: ``"torch"``.
        version: PyTorch's.
        device: where it runs.
        scales_frames: whether frames are scaled there.
        panoptic_map: makes panoptic maps there, or None.

    Raises:
        BackendError: there is no such device.
    """

    name = "torch"

    def __init__(
        self, device: str | None = None, kernels: bool | None = None, cuda_graphs: bool = True
    ) -> None:
        self._place = Device(device)
        is_gpu = self._place.is_gpu
        self.version = str(torch.__version__)
        self.device = str(self._place)
        self._has_kernels = (
            is_gpu and _has_triton() and _can_compile(self._place) if kernels is None else kernels
        )
        self._pool = torch.cuda.graph_pool_handle() if is_gpu and cuda_graphs else None
        self.scales_frames = self._has_kernels
        self.panoptic_map: PanopticMap | None = (
            PanopticMaps(self._place) if self._has_kernels else None
        )

    def load(self, name: str, model: ModelReader, is_steady: bool = False) -> Graph:
        """Read a graph and put its weights on the device.

        Raises:
            BackendError: it has an operator that there is not here; `MemoryShortageError` for want
                of memory.
            PlanError: the model cannot be read.
        """
        try:
            with self._place.working():
                read = Model(name, model(), self._place.device, self._has_kernels)
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            raise MemoryShortageError(f"PyTorch to load the {name} graph") from error
        return TorchGraph(name, read, self._place, self._pool if is_steady else None)

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """Wait for a value and return it on the host; bfloat16 becomes float32."""
        return self.to_numpy_all({"value": value})["value"]

    def to_numpy_all(self, values: Mapping[str, Value]) -> dict[str, np.ndarray[Any, Any]]:
        """Wait for values, once, and return them on the host; bfloat16 becomes float32."""
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        return {**values, **self._place.down(tensors)}

    def take_kernels(self, read: Callable[[str], bytes]) -> None:
        """Leave a plan's compiled kernels alone: the same ones are compiled for this device."""

    def picture(self, image: object) -> TorchPicture | None:
        """Return an image on the device (DLPack, ``__cuda_array_interface__``), or None.

        Raises:
            ImageError: it is on the device and not uint8 RGB, or on another device.
        """
        return device_picture(image, self._place)

    def frame(
        self, picture: TorchPicture | npt.NDArray[np.uint8], box: Letterbox, interpolation: str
    ) -> Tensor:
        """Return a picture laid into a network input, on the device."""
        with self._place.working():
            if isinstance(picture, TorchPicture):
                frame = laid(picture.pixels, box, interpolation)
                picture.done()
                return frame
            return laid(self._place.up(picture, torch.uint8), box, interpolation)

    def close(self) -> None:
        """Release nothing: memory goes back with the graphs that hold it."""


def _has_triton() -> bool:
    """Whether Triton is installed, as new as our kernels need it."""
    try:
        parts = version("triton").split(".")
        return (int(parts[0]), int(parts[1])) >= _LEAST_TRITON
    except (PackageNotFoundError, ValueError, IndexError):
        return False


def _can_compile(place: Device) -> bool:
    """Whether Triton compiles and launches a kernel; warns where it does not.

    On a GPU it compiles its launcher too, when first used: with a C compiler and Python's headers.
    """
    from xdecoder_rt.kernels.launch import launch

    try:
        with place.working():
            table = torch.zeros(2, dtype=torch.int32, device=place.device)
            launch(relabel(table[:1].clone(), table, 1))
    except Exception as error:  # a compiler that is missing or fails; its errors share no class
        reason = " ".join(str(error).split())[:120]
        warn_caller(
            f"Triton cannot compile kernels here ({type(error).__name__}: {reason}); results stay "
            "the same, slower. Fix: install a C compiler and Python's headers, as in apt-get "
            "install gcc python3-dev"
        )
        return False
    return True
