"""The GPUs that kernels are compiled for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A compute capability.

    Attributes:
        capability: major x 10 + minor.
        devices: what has it.
        shared_limit: bytes of shared memory that one program may take.
        elements: element types that its forms exist for.
        old_ptx: the PTX version that its forms are also there in, major x 10 + minor: drivers do
            not read one that is newer than they are, and the compiler writes the newest.
    """

    capability: int
    devices: str
    shared_limit: int
    elements: tuple[str, ...] = ("fp16", "bf16", "fp32", "u8", "i32")
    old_ptx: int = 85

    @property
    def version(self) -> tuple[int, int]:
        """Return major and minor."""
        return divmod(self.capability, 10)

    @property
    def name(self) -> str:
        """Return the name as NVIDIA's tools spell it."""
        return f"sm_{self.capability}"


_KIB = 1024
# Limits: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". PTX 8.5 is
# the newest that drivers of JetPack 6 read; later targets have the first version that knows them
# (PTX ISA, "Release Notes").
TARGETS = (
    # No bfloat16 arithmetic before 80.
    Target(75, "Turing: RTX 20, T4", 64 * _KIB, ("fp16", "fp32", "u8", "i32")),
    Target(80, "A100, A30", 163 * _KIB),
    Target(86, "RTX 30, A10, A40", 99 * _KIB),
    Target(87, "Jetson Orin", 163 * _KIB),
    Target(89, "RTX 40, L4, L40", 99 * _KIB),
    Target(90, "H100, H200", 227 * _KIB),
    Target(100, "B200", 227 * _KIB, old_ptx=86),
    # Thor's capability before CUDA 13 renamed it.
    Target(101, "Jetson Thor (CUDA 12)", 227 * _KIB, old_ptx=86),
    Target(110, "Jetson Thor", 227 * _KIB, old_ptx=90),
    Target(120, "RTX 50", 99 * _KIB, old_ptx=87),
)


def target(capability: int) -> Target:
    """Return the target of a compute capability.

    Raises:
        KeyError: it is none of :data:`TARGETS`.
    """
    return {target.capability: target for target in TARGETS}[capability]
