"""Options of ``xdecoder-rt build`` for TensorRT and TensorRT-RTX."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from xdecoder_rt.backends.tensorrt.library import ENGINE_BACKENDS
from xdecoder_rt.cli.options import positive
from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.export.tensorrt.options import ENGINE_MAX_ROWS, EngineOptions
from xdecoder_rt.words.cache import default_directory

_UNITS = {"": 1 << 20, "M": 1 << 20, "G": 1 << 30}
_NAMES = ("sm", "device", "batch", "max_rows", "workspace", "timing_cache", "kernels", "plugin")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of engines."""
    group = parser.add_argument_group(
        "engines",
        "for --backend tensorrt and tensorrt_rtx; what a plan is built for is fixed in it",
    )
    group.add_argument(
        "--sm",
        type=_capability,
        nargs="+",
        metavar="SM",
        help="GPUs by compute capability: 86 for RTX 30, 89 for RTX 40, 120 for RTX 50; with "
        "tensorrt_rtx alone, which then needs no GPU (default: the GPU of this machine)",
    )
    group.add_argument(
        "--device",
        metavar="GPU",
        help="the GPU of this machine to build on and for, by number (1, cuda:1) or by name or a "
        "part of it (default: the first)",
    )
    group.add_argument(
        "--batch", type=positive, metavar="N", help="most frames of one call (default 1)"
    )
    group.add_argument(
        "--max-rows",
        type=positive,
        metavar="N",
        help="rows decoded at a time: the latents, and for each phrase about as many again; what "
        "is more takes several runs. It bounds the engine's memory (default 1024)",
    )
    group.add_argument(
        "--workspace",
        type=_memory,
        metavar="SIZE",
        help="most scratch memory of a layer: 512M, 2G (default: all that the GPU has free)",
    )
    group.add_argument(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="where tensorrt keeps its measurements, which make the next build faster (default: "
        "in the folder of caches)",
    )
    group.add_argument(
        "--kernels",
        type=Path,
        metavar="DIR",
        help="kernels compiled by python -m xdecoder_rt.kernels.aot, for the plan to carry: "
        "panoptic maps are then made on the GPU (default: those of the portable plan)",
    )
    group.add_argument(
        "--plugin",
        action="store_true",
        default=None,
        help="with tensorrt: masked attention by our kernels, as plugins, instead of operators "
        "that TensorRT fuses; needs compiled kernels. From 10.9 on they are in the engine; before, "
        "xdecoder_rt alone can run it. Not measured yet",
    )


def engine_options(args: argparse.Namespace) -> EngineOptions:
    """Return the options of engines that a command line gives."""
    cache = args.timing_cache
    if cache is None and (folder := default_directory()) is not None:
        cache = folder / "tensorrt.timing"
    return EngineOptions(
        args.backend,
        targets=tuple(args.sm or ()),
        batch=args.batch or 1,
        max_rows=args.max_rows or ENGINE_MAX_ROWS,
        workspace=args.workspace,
        timing_cache=cache,
        kernels=args.kernels,
        plugin=bool(args.plugin),
        device=args.device,
    )


def refuse_engine_options(args: argparse.Namespace) -> None:
    """Refuse options of engines for another backend.

    Raises:
        ArgumentError: an option of engines was given.
    """
    for name in _NAMES:
        if getattr(args, name) is not None:
            raise ArgumentError(
                f"--{name.replace('_', '-')} was given for a {args.backend} plan",
                expected=f"--backend {' or '.join(ENGINE_BACKENDS)} with it",
            )


def _capability(text: str) -> int:
    """Return a compute capability from ``89``, ``8.9`` or ``sm_89``, for argparse."""
    match = re.fullmatch(r"(?:sm_?)?([0-9]{1,2})\.?([0-9])", text.lower())
    if not match:
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is not a compute capability, such as 89 or 8.9"
        )
    return int(match[1] + match[2])


def _memory(text: str) -> int:
    """Return bytes from ``512M`` or ``2G``, for argparse."""
    match = re.fullmatch(r"([1-9][0-9]{0,6})([MG]?)(?:i?B)?", text.upper().replace("IB", "B"))
    if not match:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a size such as 512M or 2G")
    return int(match[1]) * _UNITS[match[2]]
