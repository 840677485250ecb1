"""Where PyTorch runs: a device, a stream of its own there, and arrays on their way to it and back.

Everything is queued on one stream, so that what one graph makes is there when the next one reads
it. On a CPU there are no streams, and nothing is queued.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xdecoder_rt.backends.base import is_shortage
from xdecoder_rt.errors import BackendError, MemoryShortageError, quoted

_DEVICE = re.compile(r"cpu|cuda(?::\d{1,3})?")


def new_stream(device: torch.device) -> torch.cuda.Stream:
    """Return a stream that does not wait for the default one."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def new_event() -> torch.cuda.Event:
    """Return an event, for order and not for time."""
    return torch.cuda.Event()  # type: ignore[no-untyped-call]


class Device:
    """A device of PyTorch.

    Args:
        name: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; None for the first GPU, or the CPU without one.

    Attributes:
        device: as PyTorch names it.
        stream: where work is queued, or None on a CPU.

    Raises:
        BackendError: there is no such device, or PyTorch has no code for it.
    """

    def __init__(self, name: str | None) -> None:
        has_cuda = torch.cuda.is_available()
        if name is None:
            name = "cuda" if has_cuda else "cpu"
        if _DEVICE.fullmatch(name) is None:
            raise BackendError(
                f"The torch backend cannot run on device {quoted(name)}",
                expected="'cpu', 'cuda', 'cuda:0' and so on, or None",
            )
        self.device = torch.device(name)
        self.stream: torch.cuda.Stream | None = None
        self.lock = threading.RLock()
        if self.device.type != "cuda":
            return
        if not has_cuda:
            raise _no_cuda()
        number, count = self.device.index or 0, torch.cuda.device_count()
        if number >= count:
            raise BackendError(
                f"There is no CUDA device {number}", expected=f"one of 0 to {count - 1}"
            )
        self.device = torch.device("cuda", number)
        _check_code(self.device)
        self.stream = new_stream(self.device)

    @property
    def is_gpu(self) -> bool:
        """Return whether it is no CPU."""
        return self.device.type == "cuda"

    def __str__(self) -> str:
        if not self.is_gpu:
            return "cpu"
        major, minor = torch.cuda.get_device_capability(self.device)
        return f"{torch.cuda.get_device_name(self.device)} (compute capability {major}.{minor})"

    @contextmanager
    def working(self) -> Iterator[None]:
        """Queue what PyTorch does inside on the stream, one thread at a time."""
        with self.lock, torch.inference_mode():
            if self.stream is None:
                yield
                return
            with torch.cuda.stream(self.stream):
                yield

    def up(self, array: npt.NDArray[Any], dtype: torch.dtype) -> Tensor:
        """Queue the copy of an array to the device; on a CPU the tensor may share its memory."""
        tensor = torch.from_numpy(np.require(array, requirements=["C", "W"])).to(dtype)
        if self.stream is None:
            return tensor
        # From page-locked memory, which PyTorch keeps until the copy is over.
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def down(self, tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
        """Wait for tensors and return them on the host; bfloat16 becomes float32."""
        with self.working():
            typed = {
                name: tensor.float() if tensor.dtype == torch.bfloat16 else tensor
                for name, tensor in tensors.items()
            }
            if self.stream is None:
                return {name: tensor.numpy() for name, tensor in typed.items()}
            copies = {}
            for name, tensor in typed.items():
                copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                copies[name] = copy.copy_(tensor, non_blocking=True)
            copied = new_event()
            copied.record(self.stream)
        copied.synchronize()  # others may queue meanwhile
        return {name: copy.numpy() for name, copy in copies.items()}


def _no_cuda() -> BackendError:
    """Return the error of a PyTorch that finds no GPU, with what PyTorch says of it."""
    cuda = torch.version.cuda
    reason = ""
    if cuda is not None:
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            reason = f" ({str(error).split('. ')[0]})"
    return BackendError(
        f"PyTorch {torch.__version__} finds no CUDA device{reason}",
        expected="an NVIDIA GPU, its driver and a PyTorch that is built for CUDA"
        if cuda is None
        else f"an NVIDIA GPU and a driver for CUDA {cuda}",
        fix="look at nvidia-smi and at torch.version.cuda; the plan runs with device='cpu'"
        if cuda is None
        else f"look at nvidia-smi; update the driver where its CUDA is older than {cuda}, or "
        "install PyTorch for that CUDA; the plan runs with device='cpu'",
    )


def _check_code(device: torch.device) -> None:
    """Run one operation: PyTorch finds GPUs for which it has no code, and fails at the first.

    Raises:
        BackendError: it fails; `MemoryShortageError` for want of memory.
    """
    try:
        torch.ones(1, device=device).add_(1).item()
    except RuntimeError as error:
        if is_shortage(error):
            raise MemoryShortageError("PyTorch to begin on the GPU") from error
        major, minor = torch.cuda.get_device_capability(device)
        raise BackendError(
            f"PyTorch {torch.__version__} cannot compute on {torch.cuda.get_device_name(device)} "
            f"(compute capability {major}.{minor}): {str(error).splitlines()[0]}",
            expected=f"a GPU that it is built for: {', '.join(torch.cuda.get_arch_list())}",
            fix="install a PyTorch for this GPU; the plan runs with device='cpu'",
        ) from error
