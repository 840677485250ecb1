"""What a build of engines may be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_ROWS = 1024
"""Rows of one run of the decode engine: the latents and eight phrases of a hundred queries."""


@dataclass(frozen=True)
class EngineOptions:
    """How engines are built.

    Attributes:
        backend: ``"tensorrt"`` or ``"tensorrt_rtx"``.
        targets: compute capabilities as major x 10 + minor, for TensorRT-RTX; none for the GPU of
            this machine, which is also TensorRT's only target.
        sizes: the input sizes to keep of the portable plan; None keeps all.
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
    """

    backend: str
    targets: Sequence[int] = ()
    sizes: Sequence[tuple[int, int]] | None = None
    batch: int = 1
    max_rows: int = MAX_ROWS
    workspace: int | None = None
    timing_cache: Path | None = None
    kernels: Path | None = None
    plugin: bool = False
