"""A folder of kernels compiled ahead of time, and what of it runs on a device.

Read with neither Triton nor PyTorch; :mod:`xdecoder_rt.kernels.loader` launches what it finds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xdecoder_rt.errors import BackendError, PlanError, shown
from xdecoder_rt.json_reader import parse_json_dict
from xdecoder_rt.kernels.spec import Call, Count, Grid, KernelSpec
from xdecoder_rt.kernels.targets import TARGETS

FORMAT_VERSION = 1
INDEX = "kernels.json"
INDEX_LIMIT = 8 << 20
KERNELS = "kernels/"
"""Where a plan's members have them."""
TEGRA = frozenset((53, 62, 72, 87, 101, 110))
"""Compute capabilities of Jetson and Drive chips."""
SPECIFIC = 90
"""From this compute capability on Triton compiles for a target with the suffix "a", whose machine
code and PTX run on that capability alone (PTX ISA, ".target")."""
UNIVERSAL = 89
"""The newest target whose PTX any later device can have compiled."""
# The PTX that a CUDA driver reads: release notes of the PTX ISA, table "PTX Release History".
PTX_OF_CUDA = (
    ((13, 0), (9, 0)),
    ((12, 9), (8, 8)),
    ((12, 8), (8, 7)),
    ((12, 5), (8, 5)),
)


@dataclass(frozen=True)
class Image:
    """Machine code or PTX of one form.

    Attributes:
        data: a cubin or PTX text.
        entry: the function's name in it.
        shared: bytes of shared memory that a program takes.
    """

    data: bytes
    entry: str
    shared: int


class CompiledKernels:
    """What ``python -m xdecoder_rt.kernels.aot`` left.

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
        data = self._file(INDEX)
        self.digest = hashlib.sha256(data).hexdigest()
        index = parse_json_dict(data, INDEX, INDEX_LIMIT)
        if index.get("format_version") != FORMAT_VERSION:
            raise PlanError(
                f"{INDEX} has format version {shown(index.get('format_version'))}",
                expected=str(FORMAT_VERSION),
            )
        try:
            self._forms = {
                name: (spec_of(name, fields), dict(fields["targets"]))
                for name, fields in index["kernels"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PlanError(f"{INDEX} does not describe kernels ({error!r})") from error

    @property
    def forms(self) -> dict[str, KernelSpec]:
        """Every form, by name."""
        return {name: spec for name, (spec, _) in self._forms.items()}

    def form(self, call: Call) -> KernelSpec:
        """The most specialised form that serves a call.

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

    def image(self, spec: KernelSpec, capability: tuple[int, int], cuda: tuple[int, int]) -> Image:
        """What to load on a device: machine code that it runs, or else PTX that its driver reads.

        Machine code runs on its own compute capability and on later ones of the same generation;
        between Tegra chips and others, among Tegra chips, and from :data:`SPECIFIC` on, on no other
        (CUDA C++ Programming Guide, "Binary Compatibility").

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
                return self._read(targets[name], "cubin")
        return self.ptx(spec, capability, cuda)

    def ptx(self, spec: KernelSpec, capability: tuple[int, int], cuda: tuple[int, int]) -> Image:
        """The PTX that a device's driver reads; arguments and errors as for :meth:`image`."""
        targets, older, device = self._older(spec, capability)
        for name in older:
            if not compiles_for(int(name.removeprefix("sm_")), device):
                continue
            for kind in sorted(key for key in targets[name] if key.startswith("ptx")):
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
    ) -> tuple[Mapping[str, Any], list[str], int]:
        """A form's files by target; its targets up to a device's, the newest first; the device."""
        _, targets = self._forms[spec.name]
        device = capability[0] * 10 + capability[1]
        numbers = {int(name.removeprefix("sm_")): name for name in targets}
        older = [numbers[number] for number in sorted(numbers, reverse=True) if number <= device]
        return {name: targets[name] for _, name in sorted(numbers.items())}, older, device

    def _read(self, facts: Mapping[str, Any], kind: str) -> Image:
        file = facts[kind]
        name = str(file["file"])
        data = self._file(name)
        if hashlib.sha256(data).hexdigest() != file["sha256"]:
            raise PlanError(
                f"{shown(name)} is not the file that was compiled", fix="compile the kernels again"
            )
        return Image(data, str(facts["entry"]), int(facts["shared"]))


def folder_reader(folder: Path) -> Callable[[str], bytes]:
    """Reads files of a folder, and nothing outside it."""

    def read(name: str) -> bytes:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise PlanError(f"{INDEX} names {shown(name)}, outside its folder")
        try:
            return path.read_bytes()
        except OSError as error:
            raise PlanError(
                f"{folder} holds no compiled kernels ({error})",
                expected=f"a folder with {INDEX} and the files that it names",
                fix="python -m xdecoder_rt.kernels.aot -o FOLDER",
            ) from error

    return read


def spec_of(name: str, fields: Mapping[str, Any]) -> KernelSpec:
    """A form as :func:`xdecoder_rt.kernels.aot.described` wrote it."""
    x, y, z = (
        tuple(Count(str(count["of"]), int(count["per"])) for count in axis)
        for axis in fields["grid"]
    )
    return KernelSpec(
        name=name,
        module=str(fields["module"]),
        function=str(fields["function"]),
        element=str(fields["element"]),
        arguments={str(argument): str(kind) for argument, kind in fields["arguments"]},
        aligned=frozenset(fields["aligned"]),
        constants=dict(fields["constants"]),
        grid=Grid((x, y, z)),
        warps=int(fields["warps"]),
        stages=int(fields["stages"]),
        registers=fields["registers"],
    )


def readable_ptx(cuda: tuple[int, int]) -> tuple[int, int]:
    """The newest PTX that a driver of a CUDA version reads; (0, 0) below CUDA 12.5."""
    return next((ptx for least, ptx in PTX_OF_CUDA if cuda >= least), (0, 0))


def runs_on(target: int, device: int) -> bool:
    """Whether machine code for one compute capability runs on a device of another."""
    if target >= SPECIFIC or target in TEGRA or device in TEGRA:
        return target == device
    return target // 10 == device // 10 and target <= device


def compiles_for(target: int, device: int) -> bool:
    """Whether a driver can compile PTX for one compute capability for a device of another."""
    return target == device if target >= SPECIFIC else target <= device


def target_for(device: int) -> int:
    """The target to compile kernels for, so that a device runs them."""
    known = {one.capability for one in TARGETS}
    return device if device in known or device < UNIVERSAL else UNIVERSAL


def _ptx_version(ptx: bytes) -> tuple[int, int]:
    found = next(line for line in ptx.splitlines() if line.startswith(b".version"))
    major, minor = found.split()[1].split(b".")
    return int(major), int(minor)
