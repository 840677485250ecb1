"""Compiled kernels launched from device addresses, with neither Triton nor PyTorch.

Without a GPU, what arrives at the driver is checked: by a stand-in for pycuda, and by cuda-bindings
and the real pycuda, where it is installed, on a fake driver. What arrived is then run for what it
means, by Triton's interpreter on the memory at those addresses.
"""

from __future__ import annotations

import ctypes
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from fake_cuda import Launch, bindings

from xdecoder_rt.errors import BackendError
from xdecoder_rt.kernels import cuda_driver
from xdecoder_rt.kernels.compiled import CompiledKernels
from xdecoder_rt.kernels.loader import Kernels, kernel_arguments
from xdecoder_rt.kernels.masked_attention import reference, schedule
from xdecoder_rt.kernels.masked_attention.schedule import DeviceTraits, Operand, Problem, Schedule
from xdecoder_rt.kernels.spec import Call, KernelSpec

# Rows of a block that no query has hold nothing, and divide by it.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in divide")

ORIN = DeviceTraits(16, (8, 7))
# A shape with odd sizes: the general forms. And one of multiples of 16: the aligned ones.
SHAPES = {
    "any": Problem(2, 3, 21, 300, 64, 65, "fp16"),
    "aligned": Problem(1, 3, 65, 512, 64, 65, "fp16"),
}
CODES = {"fp32": "f", "i32": "i"}
TENSORS = {"*fp16": torch.float16, "*fp32": torch.float32, "*i32": torch.int32, "*u8": torch.uint8}


class StandIn(ModuleType):
    """What the loader uses of ``pycuda.driver``, on host memory; launches are recorded."""

    class Error(Exception):
        """As pycuda raises."""

    @dataclass
    class Function:
        """A kernel of a module."""

        driver: StandIn
        name: str
        shared: int = 48 * 1024

        def set_attribute(self, attribute: str, value: int) -> None:
            assert attribute == "shared memory"
            self.shared = value

        def __call__(
            self,
            *arguments: Any,
            block: tuple[int, int, int],
            grid: tuple[int, int, int],
            shared: int,
            stream: Any,
        ) -> None:
            if shared > self.shared:
                raise self.driver.Error("invalid argument")
            codes = {np.uintp: "P", np.int32: "i", np.float32: "f"}
            types = "".join(codes[type(argument)] for argument in arguments)
            parameters = struct.pack("@" + types, *(argument.item() for argument in arguments))
            launch = Launch(self.name, grid, block, shared, stream.handle, parameters)
            self.driver.launches.append(launch)

    @dataclass
    class Memory:
        """Host memory in the role of the device's."""

        size: int
        bytes: Any = field(init=False)

        def __post_init__(self) -> None:
            # Aligned as the driver's.
            self.bytes = np.zeros(self.size + 256, np.uint8)

        def __int__(self) -> int:
            return -(-int(self.bytes.ctypes.data) // 256) * 256

        def free(self) -> None:
            """Nothing to do."""

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.launches: list[Launch] = []
        self.device_attribute = SimpleNamespace(MULTIPROCESSOR_COUNT="multiprocessors")
        self.function_attribute = SimpleNamespace(MAX_DYNAMIC_SHARED_SIZE_BYTES="shared memory")
        device = SimpleNamespace(
            compute_capability=lambda: ORIN.capability,
            get_attribute=lambda attribute: {"multiprocessors": 16}[attribute],
        )
        self.Context = SimpleNamespace(get_device=lambda: device)
        self.mem_alloc = self.Memory

    def get_driver_version(self) -> int:
        return 12060

    def memcpy_htod(self, held: Memory, array: Any) -> None:
        ctypes.memmove(int(held), array.ctypes.data, array.nbytes)

    def module_from_buffer(self, image: bytes) -> Any:
        if not image.startswith(b"\x7fELF"):
            raise self.Error("device kernel image is invalid")
        return SimpleNamespace(get_function=lambda name: self._function(image, name))

    def Stream(self) -> Any:  # noqa: N802 (pycuda's name)
        return SimpleNamespace(handle=1, synchronize=lambda: None)

    def _function(self, image: bytes, name: str) -> Function:
        if b".text." + name.encode() not in image:
            raise self.Error("named symbol not found")
        return self.Function(self, name)


@dataclass(frozen=True)
class Cuda:
    """A driver, what it was asked to launch, and by what the loader calls it if not by pycuda."""

    driver: Any
    launches: Callable[[], list[Launch]]
    called_by: ModuleType | None = None


@pytest.fixture(params=["stand-in", "cuda-bindings", "pycuda"])
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    if request.param == "stand-in":
        package, driver = ModuleType("pycuda"), StandIn()
        package.driver = driver  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
        yield Cuda(driver, lambda: driver.launches)
        return
    if request.param == "cuda-bindings":
        fake = request.getfixturevalue("fake_driver")
        driver = SimpleNamespace(
            mem_alloc=cuda_driver.mem_alloc,
            memcpy_htod=bindings.memcpy_htod,
            Stream=cuda_driver.Stream,
        )
        with bindings.current_context():
            yield Cuda(driver, fake.launches, cuda_driver)
        return
    fake = request.getfixturevalue("fake_cuda")
    driver = import_module("pycuda.driver")
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    yield Cuda(driver, fake.launches)
    context.pop()
    context.detach()


class Arrays:
    """NumPy arrays in device memory."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._held: dict[int, tuple[Any, int]] = {}

    def put(self, array: Any) -> int:
        """The address of a copy."""
        held = self._driver.mem_alloc(array.nbytes)
        self._driver.memcpy_htod(held, np.ascontiguousarray(array))
        self._held[int(held)] = (held, array.nbytes)
        return int(held)

    def tensor(self, address: int, dtype: torch.dtype) -> torch.Tensor:
        """What lies there, as a flat tensor of the same memory."""
        if not address:
            return torch.empty(0, dtype=dtype)
        _, size = self._held[address]
        return torch.frombuffer((ctypes.c_char * size).from_address(address), dtype=dtype)

    def free(self) -> None:
        for held, _ in self._held.values():
            held.free()


def tensors_of(problem: Problem) -> dict[str, torch.Tensor]:
    """Inputs in fp16 whose mask logits are exact, a tenth of them open; the keys transposed."""
    generator = torch.Generator().manual_seed(0)
    batch, heads, width = problem.batch, problem.heads, problem.width

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).half()

    embedding = torch.zeros(batch, problem.queries, problem.channels)
    embedding[..., 0] = -1
    open_share = torch.rand(batch, problem.queries, problem.keys, generator=generator) < 0.1
    features = torch.ones(batch, problem.channels, problem.keys)
    # Channel 1 + q opens the keys of query q, as far as the channels reach.
    rows = min(problem.queries, problem.channels - 1)
    embedding[:, range(rows), range(1, rows + 1)] = 2
    features[:, 1 : rows + 1] = open_share[:, :rows].float()
    return {
        "query": normal(batch, heads, problem.queries, width),
        "key": normal(batch, heads, width, problem.keys).transpose(-1, -2),
        "value": normal(batch, heads, problem.keys, width),
        "mask_embedding": embedding.half(),
        "mask_features": features.half(),
    }


def on_device(tensors: dict[str, torch.Tensor], arrays: Arrays) -> dict[str, Operand]:
    """The same by address, strides kept."""
    return {
        name: Operand(arrays.put(memory_of(t).numpy()), t.stride()) for name, t in tensors.items()
    }


def memory_of(tensor: torch.Tensor) -> torch.Tensor:
    """What a dense tensor occupies, in order."""
    return torch.as_strided(tensor, (tensor.numel(),), (1,))


def types_of(spec: KernelSpec) -> str:
    """Of all parameters, as of ``struct``: those of the kernel and Triton's two pointers."""
    return "".join(CODES.get(kind, "P") for kind in spec.arguments.values()) + "PP"


def run(launch: Launch, spec: KernelSpec, arrays: Arrays) -> None:
    """Do what a launch asks for."""
    given = zip(spec.arguments.items(), launch.unpack(types_of(spec)), strict=False)
    values = {
        name: arrays.tensor(value, TENSORS[kind]) if kind in TENSORS else value
        for (name, kind), value in given
    }
    kernel = getattr(import_module(spec.module), spec.function)
    kernel[launch.grid](**values, **spec.constants)


@pytest.mark.skipif(torch.cuda.is_available(), reason="fakes stand in for a GPU; there is one")
@pytest.mark.parametrize("splits", [None, 3], ids=["as chosen", "three parts"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_loader_launches_masked_attention_by_addresses(
    shape: str, splits: int | None, compiled: CompiledKernels, cuda: Cuda
) -> None:
    """Every parameter arrives in its place, and the launches amount to the reference."""
    problem = SHAPES[shape]
    tensors = tensors_of(problem)
    arrays = Arrays(cuda.driver)
    kernels = Kernels(compiled, cuda.called_by)
    assert DeviceTraits(kernels.multiprocessors, kernels.capability) == ORIN
    way = schedule.choose(problem, ORIN)
    if splits:
        way = Schedule(way.tiles, way.bits, splits)
    operands = on_device(tensors, arrays)
    for name, (size, kind) in schedule.workspace(problem, way).items():
        operands[name] = Operand(arrays.put(np.full(size, -1, kind)), ())
    out = arrays.put(np.full(tensors["query"].shape, np.nan, np.float16))
    calls = schedule.calls(problem, way, operands, out)
    stream = cuda.driver.Stream()
    for call in calls:
        kernels.launch(call, stream)
    stream.synchronize()

    launches = cuda.launches()
    assert [launch.name for launch in launches] == [call.function for call in calls]
    assert ("combine" in [call.function for call in calls]) == (way.splits > 1)
    for launch, call in zip(launches, calls, strict=True):
        spec = compiled.form(call)
        check(launch, call, spec)
        assert spec.name.endswith("_any") == (shape == "any" and call.function != "combine")
        run(launch, spec, arrays)
    found = arrays.tensor(out, torch.float16).view(tensors["query"].shape).float()
    expected = reference.masked_attention(*(t.double() for t in tensors.values())).float()
    torch.testing.assert_close(found, expected, atol=4e-3, rtol=4e-3)
    del found
    arrays.free()


def check(launch: Launch, call: Call, spec: KernelSpec) -> None:
    """What arrived at the driver is what was called."""
    assert launch.grid == spec.grid.of(call.sizes)
    assert launch.block == (spec.warps * 32, 1, 1)
    *given, scratch, profile = launch.unpack(types_of(spec))
    assert (scratch, profile) == (0, 0)
    assert given == pytest.approx([float(value) for value in kernel_arguments(spec, call.values)])


@pytest.mark.skipif(torch.cuda.is_available(), reason="fakes stand in for a GPU; there is one")
def test_a_call_that_was_not_compiled_is_refused(compiled: CompiledKernels, cuda: Cuda) -> None:
    problem = Problem(1, 3, 21, 300, 32, 65, "fp16")
    axes = {"query": 4, "key": 4, "value": 4, "bits": 3, "boolean": 3}
    operands = {name: Operand(256, (1,) * number) for name, number in axes.items()}
    way = Schedule(schedule.WIDE, schedule.BITS)
    attend = schedule.calls(problem, way, operands, 256)[-1]
    with pytest.raises(BackendError, match="no compiled form of attend"):
        Kernels(compiled, cuda.called_by).launch(attend)
    assert not cuda.launches()


def test_a_form_with_a_constant_that_its_kernel_no_longer_has_serves_no_call(
    compiled: CompiledKernels,
) -> None:
    """As forms of an earlier release may."""
    spec = compiled.forms["combine_fp16"]
    values = dict.fromkeys(spec.arguments, 256) | dict(spec.constants)
    sizes = {"rows": 1}
    call = Call(
        *(spec.module, spec.function, spec.element, values, sizes),
        *(spec.grid, spec.warps, spec.stages),
    )
    assert call.is_served_by(spec, int)
    assert not call.is_served_by(replace(spec, constants={**spec.constants, "FORMER": 1}), int)


def test_neither_triton_nor_torch_is_imported_by_the_loader() -> None:
    code = (
        "import sys, xdecoder_rt.kernels.loader, xdecoder_rt.kernels.masked_attention.schedule;"
        "print([m for m in ('torch', 'triton', 'pycuda', 'cuda') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
