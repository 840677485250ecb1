"""Descriptions of kernels for compiling and launching them: no Triton, no PyTorch.

A :class:`KernelSpec` is one compiled form of one Triton function: the types of its run-time
arguments in order, the constants baked into it, and its grid as a rule over named sizes. The rule
is data, so that whoever launches the kernel (PyTorch, pycuda, a TensorRT plugin) evaluates the
same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

ELEMENTS = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
"""Triton's names of the element types that kernels are compiled for, and PyTorch's."""

Constant: TypeAlias = "int | float | bool | str | None"
ARGUMENT_ALIGNMENT = 16
"""What an aligned argument is a multiple of."""


@dataclass(frozen=True)
class BlockCount:
    """How many blocks of ``per`` cover the size named ``of``."""

    of: str
    per: int = 1


@dataclass(frozen=True)
class Grid:
    """A launch grid: each axis is a product of counts.

    Attributes:
        axes: counts of the axes x, y and z.
    """

    axes: tuple[tuple[BlockCount, ...], tuple[BlockCount, ...], tuple[BlockCount, ...]]

    def of(self, sizes: Mapping[str, int]) -> tuple[int, int, int]:
        """Return the number of programs along each axis.

        Args:
            sizes: a value for every size that the rule names.
        """
        x, y, z = (_product(axis, sizes) for axis in self.axes)
        return x, y, z


def _product(counts: tuple[BlockCount, ...], sizes: Mapping[str, int]) -> int:
    product = 1
    for count in counts:
        product *= -(-sizes[count.of] // count.per)
    return product


@dataclass(frozen=True)
class KernelSpec:
    """One form of a kernel, to be compiled ahead of time.

    Attributes:
        name: of the form, unique among all kernels; file names derive from it.
        module: where the Triton function is, ``xdecoder_rt.kernels...``.
        function: its name there.
        element: the element type of the tensors that the forms differ in.
        arguments: run-time arguments in order and their Triton types: ``*fp16``, ``i32``, ``fp32``.
        aligned: those of them that are multiples of 16 (addresses: of 16 bytes).
        constants: values of the constants, by name.
        grid: the launch grid.
        warps: warps of a program.
        stages: depth of software pipelining.
        registers: at most so many a thread; None leaves it to the assembler.
    """

    name: str
    module: str
    function: str
    element: str
    arguments: Mapping[str, str]
    aligned: frozenset[str]
    constants: Mapping[str, Constant]
    grid: Grid
    warps: int = 4
    stages: int = 2
    registers: int | None = None


@dataclass(frozen=True)
class Call:
    """One launch of a kernel, by whoever can launch it.

    Attributes:
        module: where the Triton function is.
        function: its name there.
        element: the element type of the tensors that forms differ in.
        values: a value for every parameter of the function, constants included. Tensors are
            whatever the launcher understands: PyTorch tensors, or device addresses.
        sizes: the sizes that the grid names.
        grid: the launch grid.
        warps: warps of a program.
        stages: depth of software pipelining.
    """

    module: str
    function: str
    element: str
    values: Mapping[str, Any]
    sizes: Mapping[str, int]
    grid: Grid
    warps: int = 4
    stages: int = 2

    def is_served_by(self, spec: KernelSpec, address_of: Callable[[Any], int]) -> bool:
        """Return whether a compiled form is of this function, constants, types and alignment."""
        return (
            (self.module, self.function, self.element) == (spec.module, spec.function, spec.element)
            and (self.warps, self.stages, self.grid) == (spec.warps, spec.stages, spec.grid)
            and spec.constants.items() <= self.values.items()
            and all(
                address_of(self.values[name]) % ARGUMENT_ALIGNMENT == 0 for name in spec.aligned
            )
        )
