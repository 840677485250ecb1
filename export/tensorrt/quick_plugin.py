"""Masked attention as two ahead-of-time quick plugins of TensorRT 10.9 and newer.

A quick plugin puts a kernel's PTX and the expressions of its launch into the engine: what runs the
engine needs neither these kernels nor this package. The launches are those of
:mod:`xdecoder_rt.kernels.masked_attention.nodes`, evaluated over symbolic sizes.

No GPU has run this; ``tests/export/tensorrt/test_quick_plugin.py`` says what is verified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from xdecoder_rt.backends.tensorrt.plugin_class import KERNEL_ELEMENTS
from xdecoder_rt.errors import BuildError
from xdecoder_rt.export.tensorrt.plugin_ptx import reordered
from xdecoder_rt.kernels.compiled import CompiledKernels
from xdecoder_rt.kernels.masked_attention.nodes import (
    ATTEND,
    BITS,
    INPUTS,
    NAMESPACE,
    OUTPUT,
    call_of,
)
from xdecoder_rt.kernels.masked_attention.schedule import BITS_ALIGNMENT
from xdecoder_rt.kernels.masked_attention.specs import WIDE_CHANNELS
from xdecoder_rt.kernels.spec import ARGUMENT_ALIGNMENT, BlockCount, Call

_WARP = 32
# TensorRT aligns what it allocates to more than this.
_ALIGNED = ARGUMENT_ALIGNMENT


@dataclass(frozen=True)
class Gpu:
    """The GPU that plugins are made for.

    Attributes:
        kernels: compiled for it.
        capability: its compute capability.
        cuda: the CUDA version of its driver, which compiles the PTX.
    """

    kernels: CompiledKernels
    capability: tuple[int, int]
    cuda: tuple[int, int]


_targets: list[Gpu] = []
"""What the next engine is built for: TensorRT takes a plugin's name once a process."""


def register_quick_plugins(plugin: ModuleType, gpu: Gpu) -> None:
    """Make the two plugins known to TensorRT, for engines that are built from now on.

    Args:
        plugin: the module ``tensorrt.plugin``.
        gpu: that they are for.
    """
    if not _targets:
        _define(plugin)
    _targets[:] = [gpu]


def _define(plugin: ModuleType) -> None:
    trtp: Any = plugin
    desc = trtp.TensorDesc
    result = tuple[str, str, trtp.KernelLaunchParams, trtp.SymIntExprs]

    def bits_shape(mask_embedding: Any, mask_features: Any) -> Any:
        batch, queries, _ = mask_embedding.shape_expr
        words = trtp.cdiv(mask_features.shape_expr[2], BITS_ALIGNMENT)
        shape = (batch, queries, words * (BITS_ALIGNMENT // 32))
        return trtp.from_shape_expr(shape, trtp.trt.int32)

    def attend_shape(query: Any, key: Any, value: Any, bits: Any) -> Any:
        return query.like()

    def bits_kernel(mask_embedding: Any, mask_features: Any, outputs: Any, tactic: int) -> Any:
        return aot_kernel(trtp, BITS, (mask_embedding, mask_features), _targets[0])

    def attend_kernel(
        query: Any, key: Any, value: Any, bits: Any, outputs: Any, tactic: int
    ) -> Any:
        return aot_kernel(trtp, ATTEND, (query, key, value, bits), _targets[0])

    for node, shape, kernel in (
        (BITS, bits_shape, bits_kernel),
        (ATTEND, attend_shape, attend_kernel),
    ):
        identifier = f"{NAMESPACE}::{node}"
        # TensorRT reads annotations as they are, and those of this module are strings.
        shape.__annotations__ = {**dict.fromkeys(INPUTS[node], desc), "return": desc}
        kernel.__annotations__ = {"return": result}
        trtp.register(identifier)(shape)
        trtp.aot_impl(identifier)(kernel)


@dataclass(frozen=True)
class NodeLaunch:
    """One launch, over symbolic sizes and over an example.

    Attributes:
        call: over the symbolic sizes of an engine.
        example: over sizes of one, to choose the compiled form by: what it asks to be multiples of
            16 does not depend on the sizes that are symbolic.
    """

    call: Call
    example: Call


def node_launch(node: str, tensors: Sequence[Any], capability: tuple[int, int]) -> NodeLaunch:
    """Return the launch of a node, from descriptions of its inputs."""
    first, second = (list(tensor.shape_expr) for tensor in tensors[:2])
    # Mask features have a channel for each region, of which there may be any number.
    free = second[1:2] if node == BITS and not second[1].is_constant else []
    fixed_sizes = _constant_sizes(second[1 + len(free) :])

    def call(shape: Sequence[Any], channels: Sequence[Any]) -> Call:
        addresses = dict.fromkeys((*INPUTS[node], OUTPUT[node]), _ALIGNED)
        shapes = [shape, [1, *channels, *fixed_sizes]]
        return call_of(node, shapes, _element(tensors[0]), capability, addresses)

    return NodeLaunch(call(first, free), call([1] * len(first), [WIDE_CHANNELS] * len(free)))


def aot_kernel(trtp: Any, node: str, tensors: Sequence[Any], gpu: Gpu) -> tuple[str, str, Any, Any]:
    """Return a launch as TensorRT takes it: entry, PTX, parameters, integers between tensors.

    Raises:
        BackendError: no compiled form serves it, or the driver reads none of the PTX there is.
        BuildError: the kernel cannot be a plugin.
    """
    launch = node_launch(node, tensors, gpu.capability)
    call, spec = launch.call, gpu.kernels.form(launch.example)
    image = gpu.kernels.ptx(spec, gpu.capability, gpu.cuda)
    floats = {name: call.values[name] for name, kind in spec.arguments.items() if kind == "fp32"}
    integers = [name for name, kind in spec.arguments.items() if kind == "i32"]
    order = [*INPUTS[node], *integers, OUTPUT[node]]
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


def _programs(trtp: Any, axis: Sequence[BlockCount], sizes: Mapping[str, Any]) -> Any:
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


def _constant_sizes(sizes: Sequence[Any]) -> list[int]:
    """Sizes that are the same in every call of an engine."""
    if not all(size.is_constant for size in sizes):
        raise BuildError(
            "Masked attention over a number of positions that changes is no plugin",
            expected="keys, values and mask features of one input size",
        )
    return [int(size.constant_value()) for size in sizes]


def _element(tensor: Any) -> str:
    name = tensor.dtype.name
    if name not in KERNEL_ELEMENTS:
        raise BuildError(
            f"Masked attention of the type {name} is no plugin",
            expected=f"one of {', '.join(KERNEL_ELEMENTS)}",
        )
    return KERNEL_ELEMENTS[name]
