"""Launches kernels compiled ahead of time from device addresses, with pycuda or cuda-bindings.

Neither Triton nor PyTorch takes part::

    kernels = Kernels(CompiledKernels(folder))
    for call in schedule.calls(problem, schedule.choose(problem, kernels.multiprocessors), ...):
        kernels.launch(call, stream)
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from xdecoder_rt.errors import BackendError
from xdecoder_rt.kernels import cuda_driver
from xdecoder_rt.kernels.compiled import CompiledKernels, KernelImage
from xdecoder_rt.kernels.spec import ARGUMENT_ALIGNMENT, Call, KernelSpec

# Beyond this a kernel must ask for its shared memory.
_DEFAULT_SHARED = 48 * 1024
_WARP = 32
# Pointers that Triton appends to every kernel's parameters; ours need no scratch memory.
_SCRATCH = (np.uintp(0), np.uintp(0))


class Kernels:
    """Compiled kernels on the device of the current CUDA context.

    A kernel is loaded when it is first launched and belongs to that context.

    Args:
        compiled: the kernels.
        driver: ``pycuda.driver`` or, for streams and contexts that are not pycuda's,
            :mod:`xdecoder_rt.kernels.cuda_driver`; None takes the first of them that is installed.

    Raises:
        MissingExtraError: neither is installed.
    """

    def __init__(self, compiled: CompiledKernels, driver: ModuleType | None = None) -> None:
        self._compiled = compiled
        self._driver: Any = cuda_driver.choose("tensorrt") if driver is None else driver
        device = self._driver.Context.get_device()
        attribute = self._driver.device_attribute
        self.capability: tuple[int, int] = device.compute_capability()
        """Compute capability of the device."""
        self.multiprocessors = int(device.get_attribute(attribute.MULTIPROCESSOR_COUNT))
        """Multiprocessors of the device."""
        self._functions: dict[str, tuple[Any, int]] = {}
        self._modules: list[Any] = []

    def prepare(self, call: Call) -> PreparedCall:
        """Load what a call needs, so that its launch is no more than that.

        Raises:
            BackendError: no compiled form serves the call or the device, or the driver refuses.
            PlanError: a compiled file is missing or altered.
        """
        spec = self._compiled.form(call)
        if spec.name not in self._functions:
            self._functions[spec.name] = self._load(spec)
        function, shared = self._functions[spec.name]
        return PreparedCall(spec, call, function, shared, self._driver.Error)

    def launch(self, call: Call, stream: Any = None) -> None:
        """Queue a call whose tensors are device addresses.

        Args:
            call: the launch.
            stream: a ``pycuda.driver.Stream``; None for the default stream.

        Raises:
            BackendError: no compiled form serves the call or the device, or the driver refuses.
            PlanError: a compiled file is missing or altered.
        """
        self.prepare(call).launch(stream)

    def close(self) -> None:
        """Unload everything; pycuda does so by itself. The context is current, nothing queued."""
        self._functions.clear()
        while self._modules:
            # One whose context is gone is gone with it.
            with contextlib.suppress(self._driver.Error):
                self._modules.pop().unload()

    def _load(self, spec: KernelSpec) -> tuple[Any, int]:
        # As 12060 for CUDA 12.6.
        version = int(self._driver.get_driver_version())
        cuda = (version // 1000, version % 1000 // 10)
        try:
            image, module = self._module(spec, cuda)
            function = module.get_function(image.entry)
            if image.shared > _DEFAULT_SHARED:
                attribute = self._driver.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
                function.set_attribute(attribute, image.shared)
        except self._driver.Error as error:
            raise BackendError(
                f"the driver of CUDA {cuda[0]}.{cuda[1]} refused the kernel {spec.name} ({error})",
                expected="a driver as new as the toolkit that compiled the kernel",
                fix="update the NVIDIA driver, or compile the kernels on this machine: "
                "python -m xdecoder_rt.kernels.aot",
            ) from error
        self._modules.append(module)
        return function, image.shared

    def _module(self, spec: KernelSpec, cuda: tuple[int, int]) -> tuple[KernelImage, Any]:
        """Load machine code, or PTX where the driver refuses it: it may be older than the code."""
        image = self._compiled.image(spec, self.capability, cuda)
        try:
            return image, self._driver.module_from_buffer(image.data)
        except self._driver.Error:
            if not image.is_code:
                raise
            try:
                text = self._compiled.ptx(spec, self.capability, cuda)
            except BackendError:
                text = None
            if text is None:  # what the driver said of the code tells more
                raise
            return text, self._driver.module_from_buffer(text.data)


class PreparedCall:
    """A call whose kernel is loaded, to be launched over the same sizes at any addresses.

    Args:
        spec: the compiled form.
        call: the launch.
        function: the kernel, of the driver's module.
        shared: bytes of shared memory that a program takes.
        refusal: what the driver raises.
    """

    def __init__(
        self, spec: KernelSpec, call: Call, function: Any, shared: int, refusal: type[Exception]
    ) -> None:
        self._spec = spec
        self._function = function
        self._refusal = refusal
        self._arguments = kernel_arguments(spec, call.values)
        self._shape = {
            "block": (spec.warps * _WARP, 1, 1),
            "grid": spec.grid.of(call.sizes),
            "shared": shared,
        }

    def launch(self, stream: Any, addresses: Mapping[str, int] | None = None) -> None:
        """Queue it.

        Args:
            stream: the driver's; None for the default stream.
            addresses: of the tensors, by argument, as well aligned as those of the call; None for
                those of the call.

        Raises:
            BackendError: an address is not aligned, or the driver refuses.
        """
        arguments = self._arguments
        if addresses is not None:
            arguments = [
                self._address(name, addresses[name]) if kind.startswith("*") else argument
                for (name, kind), argument in zip(
                    self._spec.arguments.items(), arguments, strict=True
                )
            ]
        try:
            self._function(*arguments, *_SCRATCH, stream=stream, **self._shape)
        except self._refusal as error:
            raise BackendError(
                f"the driver refused to launch {self._spec.name} ({error})"
            ) from error

    def _address(self, name: str, address: int) -> Any:
        if name in self._spec.aligned and address % ARGUMENT_ALIGNMENT:
            raise BackendError(
                f"{name} of the kernel {self._spec.name} is at {address:#x}",
                expected=f"a multiple of {ARGUMENT_ALIGNMENT}",
            )
        return np.uintp(address)


def kernel_arguments(spec: KernelSpec, values: Mapping[str, Any]) -> list[Any]:
    """Return run-time arguments in order, as NumPy scalars of the types that the kernel takes."""
    return [_scalar(kind, values[name]) for name, kind in spec.arguments.items()]


def _scalar(kind: str, value: float) -> Any:
    if kind.startswith("*"):
        return np.uintp(value)
    return np.float32(value) if kind == "fp32" else np.int32(value)
