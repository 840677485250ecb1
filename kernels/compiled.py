"""A folder of kernels compiled ahead of time, and what of it runs on a device.

Read with neither Triton nor PyTorch; :mod:`xdecoder_rt.kernels.loader` launches what it finds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from xdecoder_rt.errors import BackendError, PlanError, quoted
from xdecoder_rt.files.regular import read_regular
from xdecoder_rt.json_reader import INTEGER_LIMIT, Rule, parse_json, read_object
from xdecoder_rt.kernels.spec import BlockCount, Call, Grid, KernelSpec
from xdecoder_rt.kernels.targets import TARGETS

KERNELS_FORMAT_VERSION = 1
KERNEL_INDEX = "kernels.json"
KERNEL_INDEX_LIMIT = 8 << 20
_FILE_LIMIT = 64 << 20
KERNELS = "kernels/"
"""Where a plan's members have them."""
TEGRA = frozenset((53, 62, 72, 87, 101, 110))
"""Compute capabilities of Jetson and Drive chips."""
SPECIFIC = 90
"""From this compute capability on Triton compiles for a target with the suffix "a", whose machine
code and PTX run on that capability alone (PTX ISA, ".target")."""
UNIVERSAL = 89
"""The newest target whose PTX any later device can have compiled."""
NEW_CODE = (13, 0)
"""The CUDA version of drivers that take machine code of the ABI of CUDA 13, whatever its GPU."""
_NEW_ABI = b"\x08"
_ABI_BYTE = 8  # e_ident[EI_ABIVERSION] of an ELF file
# The PTX that a CUDA driver reads: release notes of the PTX ISA, table "PTX Release History".
PTX_OF_CUDA = (
    ((13, 0), (9, 0)),
    ((12, 9), (8, 8)),
    ((12, 8), (8, 7)),
    ((12, 5), (8, 5)),
)


@dataclass(frozen=True)
class KernelImage:
    """Machine code or PTX of one form.

    Attributes:
        data: a cubin or PTX text.
        entry: the function's name in it.
        shared: bytes of shared memory that a program takes.
    """

    data: bytes
    entry: str
    shared: int

    @property
    def is_code(self) -> bool:
        """Whether it is machine code, and not PTX."""
        return self.data[:4] == b"\x7fELF"

    @property
    def is_new_code(self) -> bool:
        """Whether it is machine code of the ABI of CUDA 13."""
        return self.is_code and self.data[_ABI_BYTE : _ABI_BYTE + 1] >= _NEW_ABI


@dataclass(frozen=True)
class _File:
    """A file of the folder and its SHA-256, hexadecimal."""

    file: str
    sha256: str


@dataclass(frozen=True)
class _Facts:
    """What every target of a form has beside its files."""

    entry: str
    shared: Annotated[int, Rule(low=0, high=INTEGER_LIMIT)]


@dataclass(frozen=True)
class _Form:
    """A form as :func:`xdecoder_rt.kernels.aot.described` writes it, and its targets."""

    module: str
    function: str
    element: str
    arguments: tuple[tuple[str, str], ...]
    aligned: tuple[str, ...]
    constants: Mapping[str, Any]
    grid: tuple[tuple[BlockCount, ...], tuple[BlockCount, ...], tuple[BlockCount, ...]]
    warps: Annotated[int, Rule(low=1, high=64)]
    stages: Annotated[int, Rule(low=0, high=64)]
    registers: Annotated[int, Rule(low=1, high=1024)] | None
    targets: Mapping[
        Annotated[str, Rule(form="sm_[0-9]{2,3}", wording=("targets such as sm_87", ""))],
        Mapping[str, Any],
    ]

    def spec(self, name: str) -> KernelSpec:
        """Return the form as it was compiled."""
        return KernelSpec(
            name=name,
            module=self.module,
            function=self.function,
            element=self.element,
            arguments=dict(self.arguments),
            aligned=frozenset(self.aligned),
            constants=self.constants,
            grid=Grid(self.grid),
            warps=self.warps,
            stages=self.stages,
            registers=self.registers,
        )


@dataclass(frozen=True)
class _Index:
    kernels: Mapping[str, _Form]


@dataclass(frozen=True)
class _Target:
    """A form compiled for one target: its files by kind (cubin, ptx86), and the rest."""

    facts: Mapping[str, Any]
    files: Mapping[str, _File]


class CompiledKernels:
    """The kernels that ``python -m xdecoder_rt.kernels.aot`` compiled.

    Args:
        files: the folder where ``kernels.json`` is, or what reads a file of one by its name, as
            from a plan.

    Attributes:
        digest: SHA-256 (hexadecimal) of ``kernels.json``, which has those of all other files.

    Raises:
        PlanError: there is no such folder, or it is of another format version.
    """

    def __init__(self, files: Path | Callable[[str], bytes]) -> None:
        self._file = folder_reader(files) if isinstance(files, Path) else files
        data = self._file(KERNEL_INDEX)
        self.digest = hashlib.sha256(data).hexdigest()
        index = parse_json(data, KERNEL_INDEX, KERNEL_INDEX_LIMIT)
        version = index.get("format_version") if isinstance(index, dict) else None
        if version != KERNELS_FORMAT_VERSION:
            raise PlanError(
                f"{KERNEL_INDEX} has format version {quoted(version)}",
                expected=str(KERNELS_FORMAT_VERSION),
            )
        try:
            forms = read_object(index, _Index, KERNEL_INDEX).kernels
            self._forms = {name: (form.spec(name), _targets(form)) for name, form in forms.items()}
        except PlanError as error:
            raise PlanError(
                f"{KERNEL_INDEX} does not describe kernels ({error.what})", expected=error.expected
            ) from error

    @property
    def forms(self) -> dict[str, KernelSpec]:
        """Return every form, by name."""
        return {name: spec for name, (spec, _) in self._forms.items()}

    def form(self, call: Call) -> KernelSpec:
        """Return the most specialised form that serves a call.

        Raises:
            BackendError: none does.
        """
        serving = [spec for spec in self.forms.values() if call.is_served_by(spec, int)]
        if not serving:
            raise BackendError(
                f"no compiled form of {call.function} ({call.element}) serves this call",
                expected="shapes and tiles that were compiled ahead of time",
                fix="compile the kernels again with this version of xdecoder_rt",
            )
        return max(serving, key=lambda spec: len(spec.aligned))

    def image(
        self, spec: KernelSpec, capability: tuple[int, int], cuda: tuple[int, int]
    ) -> KernelImage:
        """Return the machine code that a device runs, or else PTX that its driver reads.

        Machine code runs on its own compute capability and on later ones of the same generation;
        between Tegra chips and others, among Tegra chips, and from :data:`SPECIFIC` on, on no other
        (CUDA C++ Programming Guide, "Binary Compatibility"). A driver older than CUDA 13 takes none
        that CUDA 13 assembled.

        Args:
            spec: the form.
            capability: of the device.
            cuda: the CUDA version of the driver.

        Raises:
            BackendError: neither is there.
            PlanError: a file is missing or is not the one that was compiled.
        """
        targets, older, device = self._older(spec, capability)
        for name in older:
            if runs_on(int(name.removeprefix("sm_")), device):
                image = self._read(targets[name], "cubin")
                if cuda >= NEW_CODE or not image.is_new_code:
                    return image
        return self.ptx(spec, capability, cuda)

    def ptx(
        self, spec: KernelSpec, capability: tuple[int, int], cuda: tuple[int, int]
    ) -> KernelImage:
        """Return the PTX that a driver reads; arguments and errors as for :meth:`image`."""
        targets, older, device = self._older(spec, capability)
        for name in older:
            if not compiles_for(int(name.removeprefix("sm_")), device):
                continue
            for kind in sorted(key for key in targets[name].files if key.startswith("ptx")):
                image = self._read(targets[name], kind)
                if _ptx_version(image.data) <= readable_ptx(cuda):
                    return image
        raise BackendError(
            f"the kernel {spec.name} was compiled for {', '.join(targets)}; "
            f"this device is sm_{device} with a driver of CUDA {cuda[0]}.{cuda[1]}",
            fix="update the NVIDIA driver"
            if f"sm_{device}" in targets
            else f"python -m xdecoder_rt.kernels.aot -o FOLDER --target {target_for(device)}",
        )

    def _older(
        self, spec: KernelSpec, capability: tuple[int, int]
    ) -> tuple[Mapping[str, _Target], list[str], int]:
        """A form's files by target; its targets up to a device's, the newest first; the device."""
        _, targets = self._forms[spec.name]
        device = capability[0] * 10 + capability[1]
        numbers = {int(name.removeprefix("sm_")): name for name in targets}
        older = [numbers[number] for number in sorted(numbers, reverse=True) if number <= device]
        return {name: targets[name] for _, name in sorted(numbers.items())}, older, device

    def _read(self, target: _Target, kind: str) -> KernelImage:
        if (file := target.files.get(kind)) is None:
            raise PlanError(f"{KERNEL_INDEX} names no {kind} file", fix="compile the kernels again")
        data = self._file(file.file)
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise PlanError(
                f"{quoted(file.file)} is not the file that was compiled",
                fix="compile the kernels again",
            )
        facts = read_object(target.facts, _Facts, KERNEL_INDEX)
        return KernelImage(data, facts.entry, facts.shared)


def _targets(form: _Form) -> dict[str, _Target]:
    """A form's targets by name, their files told apart from the rest."""
    return {
        name: _Target(
            facts,
            {
                kind: read_object(file, _File, KERNEL_INDEX)
                for kind, file in facts.items()
                if kind == "cubin" or kind.startswith("ptx")
            },
        )
        for name, facts in form.targets.items()
    }


def folder_reader(folder: Path) -> Callable[[str], bytes]:
    """Return a function that reads files of a folder, and nothing outside it."""

    def read(name: str) -> bytes:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise PlanError(f"{KERNEL_INDEX} names {quoted(name)}, outside its folder")
        try:
            return read_regular(path, _FILE_LIMIT)
        except OSError as error:
            raise PlanError(
                f"{folder} holds no compiled kernels ({error})",
                expected=f"a folder with {KERNEL_INDEX} and the files that it names",
                fix="python -m xdecoder_rt.kernels.aot -o FOLDER",
            ) from error

    return read


def readable_ptx(cuda: tuple[int, int]) -> tuple[int, int]:
    """Return the newest PTX that a driver of a CUDA version reads; (0, 0) below CUDA 12.5."""
    return next((ptx for least, ptx in PTX_OF_CUDA if cuda >= least), (0, 0))


def runs_on(target: int, device: int) -> bool:
    """Return whether machine code for one compute capability runs on a device of another."""
    if target >= SPECIFIC or target in TEGRA or device in TEGRA:
        return target == device
    return target // 10 == device // 10 and target <= device


def compiles_for(target: int, device: int) -> bool:
    """Return whether a driver compiles PTX of one compute capability for a device of another."""
    return target == device if target >= SPECIFIC else target <= device


def target_for(device: int) -> int:
    """Return the target to compile kernels for, so that a device runs them."""
    capabilities = {target.capability for target in TARGETS}
    return device if device in capabilities or device < UNIVERSAL else UNIVERSAL


def _ptx_version(ptx: bytes) -> tuple[int, int]:
    line = next(line for line in ptx.splitlines() if line.startswith(b".version"))
    major, minor = line.split()[1].split(b".")
    return int(major), int(minor)
