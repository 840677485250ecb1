"""Masked attention as two ahead-of-time quick plugins of TensorRT 10.9 and newer.

A quick plugin puts a kernel's PTX and the expressions of its launch into the engine: what runs the
engine needs neither these kernels nor this package. The launches are those of
:mod:`xdecoder_rt.kernels.masked_attention.schedule`, evaluated over symbolic sizes; keys are not
split over programs, because the joining kernel would be a third plugin.

No GPU has run this; ``tests/engines/test_quick_plugin.py`` says what is verified.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Any

from xdecoder_rt.errors import BuildError
from xdecoder_rt.export.tensorrt.masked_attention_nodes import ATTEND, BITS, NAMESPACE
from xdecoder_rt.export.tensorrt.plugin_ptx import reordered
from xdecoder_rt.export.tensorrt.toolchain import Toolchain
from xdecoder_rt.kernels.compiled import CompiledKernels
from xdecoder_rt.kernels.masked_attention import schedule as attention
from xdecoder_rt.kernels.masked_attention.schedule import Operand, Problem
from xdecoder_rt.kernels.spec import ALIGNMENT, Call, Count

_WARP = 32
# TensorRT aligns what it allocates to more than this.
_ALIGNED = ALIGNMENT
_ELEMENTS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}
_BITS_INPUTS = ("mask_embedding", "mask_features")
_ATTEND_INPUTS = ("query", "key", "value", "bits")


@dataclass(frozen=True)
class Gpu:
    """What plugins are made for.

    Attributes:
        kernels: compiled for it.
        capability: its compute capability.
        cuda: the CUDA version of its driver, which compiles the PTX.
    """

    kernels: CompiledKernels
    capability: tuple[int, int]
    cuda: tuple[int, int]


_goal: list[Gpu] = []
"""What the next engine is built for: TensorRT takes a plugin's name once a process."""


def enable(toolchain: Toolchain, files: Callable[[str], bytes] | None) -> None:
    """Register the plugins for a build.

    Args:
        toolchain: the library, and the GPU of this machine.
        files: reads the compiled kernels; None where there are none.

    Raises:
        BuildError: the library takes no such plugins, or there are no kernels for them.
    """
    without = "build without --plugin: the graph's own operators compute the same"
    library: Any = toolchain.library
    if library.backend == "tensorrt_rtx" or toolchain.cuda is None:
        raise BuildError(f"{library.title} networks take no plugins", fix=without)
    if not hasattr(library.module.NetworkDefinitionCreationFlag, "PREFER_AOT_PYTHON_PLUGINS"):
        raise BuildError(
            f"{toolchain.shown} has no plugins that are compiled ahead of time",
            expected="TensorRT 10.9 or newer",
            fix=without,
        )
    if files is None:
        raise BuildError(
            "There are no compiled kernels to make plugins of",
            fix="python -m xdecoder_rt.kernels.aot -o FOLDER, then --kernels FOLDER",
        )
    (target,) = toolchain.targets
    gpu = Gpu(CompiledKernels(files), divmod(target, 10), toolchain.cuda)
    register(import_module(f"{library.module.__name__}.plugin"), gpu)


def register(plugin: ModuleType, gpu: Gpu) -> None:
    """Make the two plugins known to TensorRT, for engines that are built from now on.

    Args:
        plugin: the module ``tensorrt.plugin``.
        gpu: that they are for.
    """
    if not _goal:
        _define(plugin)
    _goal[:] = [gpu]


def _define(plugin: ModuleType) -> None:
    trtp: Any = plugin
    desc = trtp.TensorDesc
    result = tuple[str, str, trtp.KernelLaunchParams, trtp.SymIntExprs]

    def bits_shape(mask_embedding: Any, mask_features: Any) -> Any:
        batch, queries, _ = mask_embedding.shape_expr
        words = trtp.cdiv(mask_features.shape_expr[2], attention.BITS_ALIGNMENT)
        shape = (batch, queries, words * (attention.BITS_ALIGNMENT // 32))
        return trtp.from_shape_expr(shape, trtp.trt.int32)

    def attend_shape(query: Any, key: Any, value: Any, bits: Any) -> Any:
        return query.like()

    def bits_kernel(mask_embedding: Any, mask_features: Any, outputs: Any, tactic: int) -> Any:
        launch = bits_launch(mask_embedding, mask_features, _goal[0].capability)
        return packed(trtp, launch, _BITS_INPUTS, "bits", _goal[0])

    def attend_kernel(
        query: Any, key: Any, value: Any, bits: Any, outputs: Any, tactic: int
    ) -> Any:
        launch = attend_launch(query, key, _goal[0].capability)
        return packed(trtp, launch, _ATTEND_INPUTS, "out", _goal[0])

    for name, inputs, shape, kernel in (
        (BITS, _BITS_INPUTS, bits_shape, bits_kernel),
        (ATTEND, _ATTEND_INPUTS, attend_shape, attend_kernel),
    ):
        identifier = f"{NAMESPACE}::{name}"
        # TensorRT reads annotations as they are, and those of this module are strings.
        shape.__annotations__ = {**dict.fromkeys(inputs, desc), "return": desc}
        kernel.__annotations__ = {"return": result}
        trtp.register(identifier)(shape)
        trtp.aot_impl(identifier)(kernel)


@dataclass(frozen=True)
class Launch:
    """One launch, twice.

    Attributes:
        call: over the symbolic sizes of an engine.
        example: over sizes of one, to choose the compiled form by: what it asks to be multiples of
            16 does not depend on the sizes that are symbolic.
    """

    call: Call
    example: Call


def bits_launch(mask_embedding: Any, mask_features: Any, capability: tuple[int, int]) -> Launch:
    """The launch of ``open_bits``, from descriptions ``[B, Q, C]`` and ``[B, C, N]``."""
    batch, queries, _ = mask_embedding.shape_expr
    channels, keys = _known(mask_features, 1, 2)

    def call(batch: Any, queries: Any) -> Call:
        problem = Problem(batch, 1, queries, keys, 1, channels, _element(mask_embedding))
        operands = {
            "mask_embedding": Operand(_ALIGNED, (queries * channels, channels, 1)),
            "mask_features": Operand(_ALIGNED, (channels * keys, keys, 1)),
        }
        return _calls(problem, capability, operands)[0]

    return Launch(call(batch, queries), call(1, 1))


def attend_launch(query: Any, key: Any, capability: tuple[int, int]) -> Launch:
    """The launch of ``attend``, from descriptions ``[B, h, Q, d]`` and ``[B, h, d, N]``."""
    batch, _, queries, _ = query.shape_expr
    heads, width, keys = _known(key, 1, 2, 3)

    def call(batch: Any, queries: Any) -> Call:
        problem = Problem(batch, heads, queries, keys, width, 1, _element(query))
        operands = {
            "query": Operand(_ALIGNED, (queries * (heads * width), queries * width, width, 1)),
            "key": Operand(_ALIGNED, (heads * width * keys, width * keys, 1, keys)),
            "value": Operand(_ALIGNED, (heads * keys * width, keys * width, width, 1)),
        }
        return _calls(problem, capability, operands)[1]

    return Launch(call(batch, queries), call(1, 1))


def packed(
    trtp: Any,
    launch: Launch,
    inputs: Sequence[str],
    output: str,
    gpu: Gpu,
) -> tuple[str, str, Any, Any]:
    """A launch as TensorRT takes it: entry, PTX, launch parameters, and integers between tensors.

    Raises:
        BackendError: no compiled form serves it, or the driver reads none of the PTX there is.
        BuildError: the kernel cannot be a plugin.
    """
    call, spec = launch.call, gpu.kernels.form(launch.example)
    image = gpu.kernels.ptx(spec, gpu.capability, gpu.cuda)
    floats = {name: call.values[name] for name, kind in spec.arguments.items() if kind == "fp32"}
    integers = [name for name, kind in spec.arguments.items() if kind == "i32"]
    order = [*inputs, *integers, output]
    ptx = reordered(image.data.decode(), list(spec.arguments), order, floats)
    parameters = trtp.KernelLaunchParams()
    parameters.grid_x, parameters.grid_y, parameters.grid_z = (
        _programs(trtp, axis, call.sizes) for axis in spec.grid.axes
    )
    parameters.block_x = spec.warps * _WARP
    parameters.shared_mem = image.shared
    scalars = trtp.SymIntExprs(len(integers))
    for index, name in enumerate(integers):
        scalars[index] = trtp.SymInt32(call.values[name])
    return image.entry, ptx, parameters, scalars


def _calls(
    problem: Problem, capability: tuple[int, int], operands: Mapping[str, Operand]
) -> list[Call]:
    """Both launches; of operands that one of them does not read there is no more than a name."""
    none = Operand(_ALIGNED, (0, 0, 0, 0))
    names = ("query", "key", "value", "bits")
    strides = {name: Operand(_ALIGNED, (0, 0, 0)) for name in ("mask_embedding", "mask_features")}
    # The tiles do not depend on the sizes that are symbolic, and keys are not split.
    known = replace(problem, batch=1, queries=1)
    schedule = replace(attention.choose(known, attention.Device(1, capability)), splits=1)
    every = {**dict.fromkeys(names, none), **strides, **operands}
    return attention.calls(problem, schedule, every, _ALIGNED)


def _programs(trtp: Any, axis: Sequence[Count], sizes: Mapping[str, Any]) -> Any:
    """A grid's axis over sizes that may be symbolic."""
    product: Any = 1
    for count in axis:
        size = sizes[count.of]
        if isinstance(size, int):
            programs: Any = -(-size // count.per)
        else:
            programs = size if count.per == 1 else trtp.cdiv(size, count.per)
        # A symbolic size knows products on its right side only.
        product = programs * product if isinstance(product, int) else product * programs
    return product


def _known(tensor: Any, *axes: int) -> list[int]:
    """Sizes that are the same in every call of an engine."""
    sizes = [tensor.shape_expr[axis] for axis in axes]
    if not all(size.is_constant for size in sizes):
        raise BuildError(
            "Masked attention over a number of positions that changes is no plugin",
            expected="keys, values and mask features of one input size",
        )
    return [int(size.constant_value()) for size in sizes]


def _element(tensor: Any) -> str:
    name = tensor.dtype.name
    if name not in _ELEMENTS:
        raise BuildError(
            f"Masked attention of the type {name} is no plugin",
            expected=f"one of {', '.join(_ELEMENTS)}",
        )
    return _ELEMENTS[name]
