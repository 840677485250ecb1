"""Options of a build of engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xdecoder_rt.backends.tensorrt.library import ENGINE_BACKENDS
from xdecoder_rt.errors import ArgumentError, quoted

ENGINE_MAX_ROWS = 1024
"""Rows of one run of the decode engine: the latents and eight phrases of a hundred queries."""


@dataclass(frozen=True)
class EngineOptions:
    """How engines are built.

    Attributes:
        backend: ``"tensorrt"`` or ``"tensorrt_rtx"``.
        targets: compute capabilities as major x 10 + minor, for TensorRT-RTX; none for the GPU of
            this machine, which is also TensorRT's only target.
        device: the GPU of this machine, by number (``"1"``, ``"cuda:1"``) or name; None for the
            first. Not with `targets`, which need none.
        batch: most frames of one call.
        max_rows: most rows of one run of the decode engine; the runtime divides what is more.
        workspace: most bytes of scratch memory that a layer may take; None leaves it to the
            library.
        timing_cache: the file that keeps TensorRT's measurements for the next build; None for
            none. TensorRT-RTX measures nothing and keeps none.
        kernels: a folder of compiled kernels for the plan to carry; None takes those of the
            portable plan.
        plugin: whether masked attention is our kernels, as plugins in the engine, rather than
            operators that TensorRT fuses.

    Raises:
        ArgumentError: a value is outside what is allowed.
    """

    backend: str
    targets: Sequence[int] = ()
    batch: int = 1
    max_rows: int = ENGINE_MAX_ROWS
    workspace: int | None = None
    timing_cache: Path | None = None
    kernels: Path | None = None
    plugin: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        if self.backend not in ENGINE_BACKENDS:
            raise ArgumentError(
                f"There are no engines for the backend {quoted(self.backend)}",
                expected=" or ".join(ENGINE_BACKENDS),
            )
        for target in self.targets:
            check_count("a target", target, "a compute capability such as 89")
        if self.device is not None and self.targets:
            raise ArgumentError(
                f"A GPU of this machine, {quoted(self.device)}, and targets are asked for",
                expected="one of them: engines for targets are built without a GPU",
            )
        check_count("batch", self.batch)
        check_count("max_rows", self.max_rows)
        if self.workspace is not None:
            check_count("workspace", self.workspace, "a number of bytes")


def check_count(name: str, value: object, expected: str = "a whole number of at least 1") -> None:
    """Refuse what is no positive whole number.

    Raises:
        ArgumentError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name} is {quoted(value)}", expected=expected)
