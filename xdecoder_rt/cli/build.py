"""``xdecoder-rt build``: a plan from a checkpoint, or from another plan."""

from __future__ import annotations

import argparse
from pathlib import Path

from xdecoder_rt.cli.engine_options import (
    add_engine_options,
    engine_options,
    refuse_engine_options,
)
from xdecoder_rt.cli.options import (
    DEFAULT_PLAN,
    add_json,
    add_offline,
    add_thresholds,
    input_size,
    positive,
    share,
    size,
    task_names,
)
from xdecoder_rt.cli.output import CommandReport, ProgressPrinter, note
from xdecoder_rt.cli.precision_options import add_precision, check_precision, convert_options
from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.export.download import fetch_checkpoint
from xdecoder_rt.export.options import BACKENDS, BuildOptions
from xdecoder_rt.export.presets import PRESET_NAMES
from xdecoder_rt.export.sources import STARTER_NAME, check_checkpoint
from xdecoder_rt.files.output_file import check_writable
from xdecoder_rt.pixels.letterbox import ResizeRule
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import INTERPOLATIONS
from xdecoder_rt.tasks import TASKS

SUMMARY = "make a plan from a checkpoint or from another plan"
DESCRIPTION = """\
Make a plan: the one file with graphs, tokenizer and settings that every other command runs. From a
checkpoint the graphs are exported, simplified and compared with PyTorch; this needs the extra
"export" (pip install "xdecoder_rt[export]"). From an existing portable plan (--plan) a smaller one
with some of its input sizes is made; this needs neither PyTorch nor ONNX. Without --checkpoint and
--plan the starter model of this package is built. The file appears whole or not at all.

--backend tensorrt or tensorrt_rtx makes engines for NVIDIA GPUs. With --plan this needs no PyTorch:
that is how a Jetson builds its own plan. TensorRT builds for the GPU that it runs on; TensorRT-RTX
builds on any machine for the GPUs that --sm names.

--precision makes a plan of either in less: int8 (fastest on a CPU with VNNI or AMX, a third of the
size; calibrated on your images, or with ranges recorded of the weights), bf16 (for CPUs that have
it), fp16 (for TensorRT).
"""
EXAMPLES = """\
  xdecoder-rt build                                     the starter model, to model.plan
  xdecoder-rt build --checkpoint runs/train/model.safetensors -o kitchen.plan
  xdecoder-rt build --checkpoint xdecoder_focalt_last.pt -o focal.plan
  xdecoder-rt build --checkpoint hf://xdecoder/X-Decoder/xdecoder_focalt_last.pt -o focal.plan
  xdecoder-rt build --checkpoint xdecoder_focalt_last.pt --preset coco -o coco.plan
  xdecoder-rt build --size short:512,longest:1024       images keep their size, not their margins
  xdecoder-rt build --size 512x512 --size 288x512       two sizes; a frame takes what fits it best
  xdecoder-rt build --plan model.plan --size 288x512 -o small.plan
  xdecoder-rt build --plan model.plan --backend tensorrt -o orin.plan             on the device
  xdecoder-rt build --plan model.plan --backend tensorrt_rtx --sm 86 89 -o rtx.plan
  xdecoder-rt build --plan model.plan --vocabulary kitchen.txt -o robot.plan
  xdecoder-rt build --precision int8 -o int8.plan                                 of the starter
  xdecoder-rt build --precision int8 --calibration scenes/val --report report -o int8.plan
  xdecoder-rt build --plan model.plan --precision bf16 -o bf16.plan
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``build``."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(DEFAULT_PLAN),
        metavar="FILE",
        help=f"the plan to write (default {DEFAULT_PLAN})",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="weights: a checkpoint of xdecoder-rt train, a published X-Decoder .pt or "
        ".safetensors, the address of one (hf://owner/name/file[@revision] or https://..., with "
        "#sha256=... to demand a digest), or starter for the starter model (default)",
    )
    source.add_argument("--plan", type=Path, metavar="FILE", help="an existing portable plan")
    add_offline(parser)
    parser.add_argument(
        "--preset",
        choices=PRESET_NAMES,
        metavar="NAME",
        help="inputs, interpolation and thresholds of a published figure, of "
        f"{', '.join(PRESET_NAMES)}; other options go before it",
    )
    parser.add_argument(
        "--size",
        type=input_size,
        action="append",
        metavar="SIZE",
        help="height x width of the network's input, multiples of 32, such as 512x512; may be "
        "given several times. Or a rule, once: short:800,longest:1333 scales every image to a "
        "short side of 800 pixels, less where the long one would be over 1333, and makes the "
        "inputs that photographs need, unless sizes are given beside it (default 448x448, of "
        "published models 512x512; with --plan: every size it has)",
    )
    parser.add_argument(
        "--text-size",
        type=size,
        metavar="HxW",
        help="one more input, which images are squashed into where only a caption or an embedding "
        "is asked: faster, and as published with 224x224 (default: none)",
    )
    parser.add_argument(
        "--interpolation",
        choices=INTERPOLATIONS,
        help="how images are scaled (default bilinear, of published models bicubic)",
    )
    add_thresholds(parser, "the model's")
    parser.add_argument(
        "--tasks",
        type=task_names,
        metavar="A,B",
        help=f"what the plan is to do, of {','.join(TASKS)} (default: all that the checkpoint is "
        "trained for; a plan without captions is smaller)",
    )
    parser.add_argument(
        "--max-phrases",
        type=positive,
        metavar="N",
        help="phrases that one call may refer by (default 64)",
    )
    parser.add_argument(
        "--piece-share",
        type=share,
        metavar="S",
        help="leave connected pieces out of a thing's mask that are smaller than this share of its "
        "largest, 0 to 1; 0 keeps every speck (default 0.3, of published models 0: their rule)",
    )
    parser.add_argument(
        "--no-regions",
        dest="regions",
        action="store_false",
        default=None,
        help="leave the classifier of regions out of a model that has one, as the starter: frames "
        "take less time, and fewer things of photographs get their names",
    )
    parser.add_argument(
        "--no-distractors",
        dest="distractors",
        action="store_false",
        default=None,
        help="leave out the words of its training that compete with those of a call: more is "
        "named then, and more that is not there",
    )
    parser.add_argument(
        "--vocabulary",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a file of words that the plan is to carry, embedded, named as the file without its "
        "ending; may be given several times",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="portable",
        help="kind of plan: portable runs on any CPU, the others on NVIDIA GPUs (default: "
        "%(default)s)",
    )
    add_engine_options(parser)
    add_precision(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Build the plan and print what it holds.

    Raises:
        XDecoderError: the source is not usable, a graph is not exact, or the plan cannot be
            written; nothing is left behind.
    """
    report: CommandReport = args.command_report
    progress = ProgressPrinter()
    check_precision(args)
    options = _options(args)
    if args.plan and options.for_weights():
        flags = {"rule": "--size", "regions": "--no-regions", "distractors": "--no-distractors"}
        named = [flags.get(name, "--" + name.replace("_", "-")) for name in options.for_weights()]
        raise ArgumentError(
            f"{', '.join(named)} given with --plan",
            expected="a plan keeps its tasks and rules",
            fix="build from a checkpoint to choose them",
        )
    check_writable(args.output, "the plan")
    from xdecoder_rt.cli.build_report import build_text
    from xdecoder_rt.export.pipeline import build

    summary = build(_source(args, progress), args.output, options, progress)
    for complaint in summary.complaints:
        note(f"warning: written all the same, as --force says: {complaint}")
    report.text(build_text(summary))
    report.document(summary.to_dict())
    return 0


def _options(args: argparse.Namespace) -> BuildOptions:
    from xdecoder_rt.words.carried import check_name
    from xdecoder_rt.words.vocabulary import Vocabulary

    vocabularies = {check_name(path.stem): Vocabulary.load(path) for path in args.vocabulary}
    if args.backend == "portable":
        refuse_engine_options(args)
    given = args.size or []
    rules = [rule for rule in given if isinstance(rule, ResizeRule)]
    sizes = [pixels for pixels in given if not isinstance(pixels, ResizeRule)]
    if len(rules) > 1:
        raise ArgumentError(
            "--size was given several rules", expected="one rule, and any number of HEIGHTxWIDTH"
        )
    return BuildOptions(
        sizes=sizes or None,
        preset=args.preset,
        rule=rules[0] if rules else None,
        interpolation=args.interpolation,
        text_size=args.text_size,
        object_threshold=args.object_threshold,
        overlap_threshold=args.overlap_threshold,
        tasks=args.tasks,
        max_phrases=args.max_phrases,
        piece_share=args.piece_share,
        regions=args.regions,
        distractors=args.distractors,
        vocabularies=vocabularies,
        conversion=convert_options(args),
        engines=None if args.backend == "portable" else engine_options(args),
    )


def _source(args: argparse.Namespace, progress: ProgressPrinter) -> Path | None:
    """Return the plan or the checkpoint; each option refuses the other kind of file.

    Raises:
        PlanError: --plan names something else.
        CheckpointError: --checkpoint names a plan, or what cannot be downloaded.
    """
    if args.plan is not None:
        Plan.open(args.plan).close()
        plan: Path = args.plan
        return plan
    if args.checkpoint is None:
        return None
    checkpoint = fetch_checkpoint(args.checkpoint, offline=args.offline, progress=progress)
    if checkpoint != Path(STARTER_NAME):
        check_checkpoint(checkpoint)
    return checkpoint
