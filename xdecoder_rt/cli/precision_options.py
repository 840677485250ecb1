"""Options of ``xdecoder-rt build`` that decide what a plan computes in."""

from __future__ import annotations

import argparse
from pathlib import Path

from xdecoder_rt.cli.options import positive
from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.export.options import (
    BUILD_PRECISIONS,
    CALIBRATION_IMAGES,
    ESTIMATOR_NAMES,
    MAX_DROP,
    PROFILES,
    SEARCH_IMAGES,
    ConvertOptions,
)
from xdecoder_rt.words.cache import default_directory


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add the group "precision"."""
    group = parser.add_argument_group("precision")
    group.add_argument(
        "--precision",
        choices=BUILD_PRECISIONS,
        help="what the heavy layers compute in (default: fp32, with --plan what it is in); the "
        "result is compared with fp32 and refused where it is worse or slower",
    )
    group.add_argument(
        "--profile",
        choices=PROFILES,
        help="which target the graphs of another precision are for: cpu (int8, bf16) or tensorrt "
        "(int8, fp16, bf16; a portable plan that engines are built from) (default: cpu)",
    )
    group.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="for int8: images like those that the model will see, some hundreds: a labelled "
        "folder, a folder of images, or a video (default: none, where ranges are recorded of the "
        "weights over several kinds of scenes)",
    )
    group.add_argument(
        "--max-drop",
        type=_percentage,
        metavar="X",
        help="for int8: the most that may be lost, in PQ where the calibration set is labelled, "
        "in percent of pixels that change their label where not (default 1.0)",
    )
    group.add_argument(
        "--estimator",
        choices=ESTIMATOR_NAMES,
        help="for int8: how ranges are found (default: all are tried, the best is taken)",
    )
    group.add_argument(
        "--calibration-images",
        type=positive,
        metavar="N",
        help="images that ranges come from, at most (default 128)",
    )
    group.add_argument(
        "--search-images",
        type=positive,
        metavar="N",
        help="images that accuracy is measured on, at most (default 48)",
    )
    group.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="for int8: write what was kept and why there (Markdown, JSON, a plot)",
    )
    group.add_argument(
        "--force",
        action="store_true",
        help="write the plan even if it is worse or slower than fp32",
    )
    group.add_argument(
        "--threads", type=positive, metavar="N", help="processor threads of what is measured"
    )


def check_precision(args: argparse.Namespace) -> None:
    """Refuse options that contradict one another, before any work.

    Raises:
        ArgumentError: an option of INT8 without it, or one of calibration without a set.
    """
    if args.precision != "int8":
        int8_options = ("calibration", "max_drop", "estimator", "calibration_images", "report")
        for name in int8_options:
            if getattr(args, name) is not None and args.precision in (None, "fp32"):
                raise ArgumentError(
                    f"--{name.replace('_', '-')} was given without a precision that needs it",
                    expected="--precision int8",
                )
        return
    for name in ("max_drop", "estimator", "calibration_images", "search_images", "report"):
        if args.calibration is None and getattr(args, name) is not None:
            raise ArgumentError(
                f"--{name.replace('_', '-')} was given without a calibration set",
                expected="a labelled folder (accuracy is then measured by PQ), a folder of images, "
                "or a video; without one, ranges are taken that are recorded of the weights",
                fix="add --calibration DIR",
            )


def convert_options(args: argparse.Namespace) -> ConvertOptions | None:
    """Return the conversion that a command line gives; engines get graphs written for them.

    Raises:
        ArgumentError: the precision and the profile do not go together.
    """
    if args.precision is None:
        return None
    profile = (args.profile or "cpu") if args.backend == "portable" else "tensorrt"
    return ConvertOptions(
        precision=args.precision,
        profile=profile,
        calibration=args.calibration,
        max_drop=MAX_DROP if args.max_drop is None else args.max_drop,
        estimator=args.estimator,
        images=args.calibration_images or CALIBRATION_IMAGES,
        search_images=args.search_images or SEARCH_IMAGES,
        report=args.report,
        force=args.force,
        threads=args.threads,
        cache_dir=default_directory(),
    )


def _percentage(text: str) -> float:
    """Return a number from 0 to 100, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 100.0:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a number from 0 to 100")
    return value
