"""``xdecoder-rt check``: two plans of one model, output by output and end to end."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xdecoder_rt.backends import PORTABLE
from xdecoder_rt.cli.images import ImageList
from xdecoder_rt.cli.options import (
    ALSO_AN_OPTION,
    add_json,
    add_threads,
    positive,
)
from xdecoder_rt.cli.output import CommandReport, format_table
from xdecoder_rt.errors import ArgumentError, printable, quoted

SUMMARY = "compare two plans of one model: every output, masks, labels"
DESCRIPTION = """\
Run two plans of the same weights on the same images and say how far they are apart: each output of
the image graphs and of the latent queries (cosine, relative RMS error, largest difference), the
share of pixels with the same panoptic segment and with the same label, and the IoU of the masks of
phrases. PLAN is the one in doubt (INT8, fp16, an engine), --against the one it is held against, as
a rule the portable fp32 plan. Without images, drawn ones are used.

Exit code 1 where PLAN strays further than --least-cosine, --least-pixels or --least-iou allow.
"""
EXAMPLES = """\
  xdecoder-rt check int8.plan --against model.plan scenes/val/images --limit 20
  xdecoder-rt check fp16.plan --against model.plan --least-cosine 0.999 --json
  xdecoder-rt check model.plan --against model.plan --backend openvino --against-backend onnxruntime
"""
_PHRASES = ("the largest thing on the left", "the red box", "the table")
_DRAWN = 4
_WORDS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``check``."""
    parser.add_argument("plan", metavar="PLAN", help=f"the plan in doubt; {ALSO_AN_OPTION}")
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="image files, or folders of them"
    )
    parser.add_argument(
        "--against", required=True, metavar="PLAN", help="the plan that it is held against"
    )
    parser.add_argument(
        "--words", nargs="+", metavar="WORD", help="what to look for (default: 20 common things)"
    )
    parser.add_argument(
        "--phrases", nargs="+", metavar="PHRASE", default=list(_PHRASES), help="what to refer by"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    group = parser.add_argument_group("limits")
    for name, description in (
        ("cosine", "cosine of every output"),
        ("pixels", "share of pixels with the same label"),
        ("iou", "mean IoU of the masks of phrases"),
    ):
        group.add_argument(
            f"--least-{name}",
            type=_share,
            metavar="X",
            default=0.0,
            help=f"least {description}, from 0 to 1 (default: no limit)",
        )
    engine = parser.add_argument_group("engine")
    engine.add_argument("--backend", choices=PORTABLE, help="what runs PLAN")
    engine.add_argument("--against-backend", choices=PORTABLE, help="what runs the other")
    add_threads(engine)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, print, and judge.

    Raises:
        PlanError: a plan is not usable.
        ArgumentError: the plans are of different weights or input sizes.
        ImageError: an image cannot be read.
    """
    from xdecoder_rt.engine import Engine
    from xdecoder_rt.evaluation.agreement import compare
    from xdecoder_rt.image import load_image
    from xdecoder_rt.streams import synthetic

    report: CommandReport = args.command_report
    named = ImageList.read(args.images)
    paths = named.paths[: args.limit]
    shared = {"threads": args.threads, "cache_dir": args.cache_dir}
    with (
        Engine(args.plan, backend=args.backend, **shared) as tried,
        Engine(args.against, backend=args.against_backend, **shared) as reference,
    ):
        if tried.manifest.model.weights_sha256 != reference.manifest.model.weights_sha256:
            raise ArgumentError(
                f"{quoted(str(args.plan), 200)} and {quoted(str(args.against), 200)} hold "
                "different weights",
                expected="two plans that were built from one checkpoint",
            )
        sizes = [set(engine.manifest.input.sizes) for engine in (tried, reference)]
        if sizes[0] != sizes[1]:
            raise ArgumentError(
                f"{quoted(str(args.plan), 200)} and {quoted(str(args.against), 200)} have "
                "different input sizes",
                expected="two plans that were built with the same --size",
            )
        size = reference.manifest.input.sizes[0]
        images = (
            (load_image(Path(path)) for path in paths)
            if paths
            else (synthetic.image(size, seed) for seed in range(args.limit or _DRAWN))
        )
        words = args.words or synthetic.words(_WORDS)
        agreement = compare(tried, reference, images, words, args.phrases)
        names = [
            f"{engine.backend.name}, {engine.manifest.precision}" for engine in (tried, reference)
        ]
    failures = _failures(agreement.to_json(), args)
    document = {
        "plan": str(args.plan),
        "against": str(args.against),
        "forms": names,
        **agreement.to_json(),
        "left_out": named.left_out,
        "failures": failures,
    }
    report.text(_agreement_text(document))
    report.document(document)
    return int(bool(failures))


def _failures(agreement: dict[str, Any], args: argparse.Namespace) -> list[str]:
    failures = [
        f"{name} has a cosine of {row['cosine']:.5f}, less than {args.least_cosine:g}"
        for name, row in agreement["outputs"].items()
        if row["cosine"] < args.least_cosine
    ]
    for key, limit, description in (
        ("same_label", args.least_pixels, "of the pixels have the same label"),
        ("phrase_iou", args.least_iou, "is the mean IoU of the masks of phrases"),
    ):
        if agreement[key] is not None and agreement[key] < limit:
            failures.append(f"{agreement[key]:.4f} {description}, less than {limit:g}")
    return failures


def _agreement_text(document: dict[str, Any]) -> str:
    rows = [
        (
            printable(name, 60),
            f"{row['cosine']:.6f}",
            f"{row['relative_rms']:.2e}",
            f"{row['largest']:.2e}",
        )
        for name, row in document["outputs"].items()
    ]
    lines = [
        f"{printable(document['plan'], 200)} ({document['forms'][0]}) against "
        f"{printable(document['against'], 200)} ({document['forms'][1]}), "
        f"{document['images']} images",
        "",
        format_table(("output", "cosine", "relative RMS", "largest"), rows),
        "",
        f"same panoptic segment  {100 * document['same_segment']:.3f} % of the pixels",
        f"same label             {100 * document['same_label']:.3f} % of the pixels",
        f"segments               {document['segments'][0]}, against {document['segments'][1]}",
    ]
    if document["phrase_iou"] is not None:
        lines.append(f"masks of phrases       mean IoU {document['phrase_iou']:.4f}")
    lines += [f"too far apart: {failure}" for failure in document["failures"]]
    return "\n".join(lines)


def _share(text: str) -> float:
    """Return a number from 0 to 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a number from 0 to 1")
    return value
