"""TensorRT or TensorRT-RTX as a builder: which library, and which GPUs it can build for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from xdecoder_rt.backends.cuda.context import CudaContext, find_device
from xdecoder_rt.backends.tensorrt.compatibility import check_driver
from xdecoder_rt.backends.tensorrt.library import Library, extra_of
from xdecoder_rt.errors import BackendError, BuildError, MissingExtraError, install_command

_TARGET = re.compile(r"SM(\d+)")


@dataclass(frozen=True)
class Toolchain:
    """A library and the compute capabilities that engines are built for.

    Attributes:
        library: TensorRT or TensorRT-RTX.
        targets: as major x 10 + minor.
        is_named: whether they were named, rather than the GPU of this machine.
        cuda: the CUDA version of this machine's driver, where its GPU is the target.
        device: that GPU, as of `CudaContext`.
        gpu: the same for people: its number, name and compute capability.
    """

    library: Library
    targets: tuple[int, ...]
    is_named: bool
    cuda: tuple[int, int] | None = None
    device: str | None = None
    gpu: str = ""

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Return the targets as a manifest has them: ``"8.9"``."""
        return tuple(f"{target // 10}.{target % 10}" for target in self.targets)

    @property
    def release(self) -> str:
        """Return library and version, for people."""
        return f"{self.library.title} {self.library.version}"

    @property
    def aims(self) -> str:
        """Return what it builds for, for people."""
        return self.gpu or f"compute capability {', '.join(self.capabilities)}"

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Make the chosen GPU the one that the library works on, which is the current one."""
        if self.device is None:
            yield
            return
        cuda = CudaContext(self.device, extra_of(self.library.backend))
        try:
            with cuda:
                yield
        finally:
            cuda.close()

    def aim(self, config: Any) -> None:
        """Set the targets of a builder config."""
        if not self.is_named:
            return
        config.num_compute_capabilities = len(self.targets)
        for index, target in enumerate(self.targets):
            capability = getattr(self.library.module.ComputeCapability, f"SM{target}")
            if not config.set_compute_capability(capability, index):
                raise BuildError(f"{self.release} refuses the target sm_{target}")


def open_toolchain(backend: str, targets: Sequence[int], device: str | None = None) -> Toolchain:
    """Load a library and check what it is to build for.

    Args:
        backend: ``"tensorrt"`` or ``"tensorrt_rtx"``.
        targets: compute capabilities as major x 10 + minor; none for the GPU of this machine.
        device: which of its GPUs, by number or name; None for the first.

    Raises:
        MissingExtraError: the library is not installed.
        BuildError: it cannot build for a target, or there is neither a target nor a GPU.
        BackendError: the driver is older than the library.
    """
    try:
        library = Library(backend)
    except MissingExtraError as error:
        if backend != "tensorrt_rtx":
            raise
        # Building takes less than running, where there is no GPU.
        raise MissingExtraError(error.what, fix=install_command("tensorrt-rtx-build")) from error
    if targets:
        return Toolchain(library, _checked_targets(library, targets), True)
    capabilities = supported(library)
    try:
        extra = extra_of(backend)
        place = find_device("0" if device is None else device, extra)
        cuda = CudaContext(place, extra)
    except (BackendError, MissingExtraError) as error:
        if device is not None:
            raise
        named = f"name the GPUs, as in --sm {capabilities[-1]}; or " if capabilities else ""
        raise BuildError(
            f"{library.title} builds for the GPU of this machine, which cannot be used "
            f"({error.what})",
            expected="a machine with the GPU that is to run the plan",
            fix=f"{named}{error.fix}",
        ) from error
    facts = cuda.facts
    cuda.close()
    check_driver(library, facts)
    target = int(facts.capability.replace(".", ""))
    gpu = f"GPU {place.removeprefix('cuda:')}, {facts}"
    return Toolchain(library, (target,), False, facts.cuda, place, gpu)


def supported(library: Library) -> list[int]:
    """Return the compute capabilities that a library builds for without their GPU."""
    names = getattr(getattr(library.module, "ComputeCapability", None), "__members__", ())
    return sorted(int(match.group(1)) for name in names if (match := _TARGET.fullmatch(name)))


def _checked_targets(library: Library, targets: Sequence[int]) -> tuple[int, ...]:
    capabilities = supported(library)
    if not capabilities:
        raise BuildError(
            f"{library.title} builds for the GPU that it runs on",
            expected="no --sm",
            fix="build on the device itself, or build for --backend tensorrt_rtx",
        )
    unknown = [str(target) for target in targets if target not in capabilities]
    if unknown:
        raise BuildError(
            f"{library.title} {library.version} does not build for sm_{', sm_'.join(unknown)}",
            expected=f"some of {', '.join(map(str, capabilities))}",
            fix="for a Jetson or a data centre's GPU use --backend tensorrt on that machine",
        )
    return tuple(dict.fromkeys(targets))
