"""Kernel images without code: what the driver reads of a cubin or a PTX text, and nothing else."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_CUBIN_MACHINE = 190


@dataclass(frozen=True)
class Kernel:
    """A kernel's facts.

    Attributes:
        name: its entry point.
        parameters: the sizes of its parameters, 1, 2, 4 or 8 bytes each.
        threads: of every block along x, y and z, or None if any will do.
        registers: of a thread.
    """

    name: str
    parameters: tuple[int, ...] = ()
    threads: tuple[int, int, int] | None = None
    registers: int = 32


def ptx(sm: int, *kernels: Kernel, version: str = "8.5") -> bytes:
    """A PTX text for compute capability ``sm`` / 10, with the zero at its end that drivers need."""
    lines = [f".version {version}", f".target sm_{sm}", ".address_size 64"]
    for kernel in kernels:
        parameters = (f".param .u{8 * size} p{i}" for i, size in enumerate(kernel.parameters))
        lines.append(f".visible .entry {kernel.name}({', '.join(parameters)})")
        if kernel.threads:
            lines.append(".reqntid {}, {}, {}".format(*kernel.threads))
        lines.append("{ ret; }")
    return "\n".join(lines).encode() + b"\0"


def cubin(sm: int, *kernels: Kernel, abi: int = 7) -> bytes:
    """A cubin for compute capability ``sm`` / 10: an ELF file, of ABI version 8 as of CUDA 13."""
    sections: list[tuple[str, int, int, bytes]] = []  # name, type, info, content
    facts = b""
    for number, kernel in enumerate(kernels, 1):
        sections.append((f".text.{kernel.name}", 1, kernel.registers << 24 | number, bytes(16)))
        sections.append((f".nv.info.{kernel.name}", 0x70000000, 0, _kernel_info(kernel)))
        facts += _sized(0x2F, struct.pack("<II", number, kernel.registers))
    sections.append((".nv.info", 0x70000000, 0, facts))
    return _elf(sm, sections, abi)


def _kernel_info(kernel: Kernel) -> bytes:
    info, offset = b"", 0
    for ordinal, size in enumerate(kernel.parameters):
        offset = -(-offset // size) * size
        info += _sized(0x17, struct.pack("<IHHI", 0, ordinal, offset, size << 18))
        offset += size
    info += struct.pack("<BBH", 3, 0x19, offset)  # the size of them all
    if kernel.threads:
        info += _sized(0x10, struct.pack("<III", *kernel.threads))
    return info


def _sized(attribute: int, value: bytes) -> bytes:
    return struct.pack("<BBH", 4, attribute, len(value)) + value


def _elf(sm: int, sections: list[tuple[str, int, int, bytes]], abi: int) -> bytes:
    header_size, entry_size = 64, 64
    names = b"\0"
    entries = []
    for name, kind, info, content in [*sections, (".shstrtab", 3, 0, b"")]:
        entries.append((len(names), kind, info, content))
        names += name.encode() + b"\0"
    entries[-1] = (*entries[-1][:3], names)
    body, table = b"", bytes(entry_size)
    for name_at, kind, info, content in entries:
        at = header_size + len(body)
        table += struct.pack("<IIQQQQIIQQ", name_at, kind, 0, 0, at, len(content), 0, info, 1, 0)
        body += content
    body += bytes(-len(body) % 8)
    count = len(entries) + 1
    flags = sm if abi <= 7 else sm << 8
    header = b"\x7fELF" + bytes([2, 1, 1, 0x33, abi]) + bytes(7)
    header += struct.pack("<HHIQQQ", 2, _CUBIN_MACHINE, 1, 0, 0, header_size + len(body))
    header += struct.pack("<IHHHHHH", flags, header_size, 0, 0, entry_size, count, count - 1)
    return header + body + table
