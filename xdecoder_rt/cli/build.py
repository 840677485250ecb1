"""``xdecoder-rt build``: a plan from a checkpoint, or from another plan."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdecoder_rt.backends.tensorrt.library import BACKENDS
from xdecoder_rt.cli.engine_build import (
    build_engines,
    check_toolchain,
    engine_summary,
    engine_text,
)
from xdecoder_rt.cli.engine_options import (
    add_engine_options,
    engine_options,
    refuse_engine_options,
)
from xdecoder_rt.cli.info import graph_members, member_errors
from xdecoder_rt.cli.options import DEFAULT_PLAN, add_json, positive, size, task_names
from xdecoder_rt.cli.output import (
    Progress,
    Report,
    check_writable,
    count,
    counted,
    note,
    printable,
    table,
)
from xdecoder_rt.cli.precision_options import add_precision, check_precision, convert
from xdecoder_rt.errors import ArgumentError, require
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import Manifest, size_key
from xdecoder_rt.tasks import TASKS

if TYPE_CHECKING:
    from xdecoder_rt.words.vocabulary import Vocabulary

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
size; needs images to calibrate on), bf16 (for CPUs that have it), fp16 (for TensorRT).
"""
EXAMPLES = """\
  xdecoder-rt build                                     the starter model, to model.plan
  xdecoder-rt build --checkpoint runs/train/model.safetensors -o kitchen.plan
  xdecoder-rt build --checkpoint xdecoder_focalt_last.pt -o focal.plan
  xdecoder-rt build --size 512x512 --size 288x512       two sizes; a frame takes what fits it best
  xdecoder-rt build --plan model.plan --size 288x512 -o small.plan
  xdecoder-rt build --plan model.plan --backend tensorrt -o orin.plan             on the device
  xdecoder-rt build --plan model.plan --backend tensorrt_rtx --sm 86 89 -o rtx.plan
  xdecoder-rt build --plan model.plan --vocabulary kitchen.txt -o robot.plan
  xdecoder-rt build --precision int8 --calibration scenes/val --report report -o int8.plan
  xdecoder-rt build --plan model.plan --precision bf16 -o bf16.plan
"""
_EXPORT_MODULES = ("torch", "safetensors", "onnx", "onnxscript", "onnxsim")
# By family. Compact models see 320 to 384 pixels in training, and were measured at several sizes.
_DEFAULT_SIZES = {"compact": (448, 448), "published": (512, 512)}


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
        type=Path,
        metavar="FILE",
        help="weights: a checkpoint of xdecoder-rt train, or a published X-Decoder .pt or "
        ".safetensors (default: the starter model)",
    )
    source.add_argument("--plan", type=Path, metavar="FILE", help="an existing portable plan")
    parser.add_argument(
        "--size",
        type=size,
        action="append",
        metavar="HxW",
        help="height x width of the network's input, multiples of 32; may be given several times "
        "(default 448x448, of published models 512x512; with --plan: every size it has)",
    )
    parser.add_argument(
        "--tasks",
        type=task_names,
        metavar="A,B",
        help=f"what the plan is to do, of {','.join(TASKS)} (default: all; a plan without captions "
        "is smaller)",
    )
    parser.add_argument(
        "--max-phrases",
        type=positive,
        metavar="N",
        help="phrases that one call may refer by (default 64)",
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
        choices=("portable", *BACKENDS),
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
    report, progress = Report(args.json), Progress()
    if args.plan and (args.tasks or args.max_phrases):
        raise ArgumentError(
            "--tasks and --max-phrases were given with --plan",
            expected="a plan keeps its tasks",
            fix="build from a checkpoint to choose them",
        )
    check_precision(args)
    check_writable(args.output, "the plan")
    from xdecoder_rt.words.carried import check_name
    from xdecoder_rt.words.vocabulary import Vocabulary

    vocabularies = {check_name(path.stem): Vocabulary.load(path) for path in args.vocabulary}
    if args.backend != "portable":
        summary = _engines(args, vocabularies, progress)
    else:
        refuse_engine_options(args)
        summary = _portable(args, vocabularies, progress)
    summary["vocabularies"] = {name: len(one.texts) for name, one in vocabularies.items()}
    summary["seconds"] = round(progress.seconds, 1)
    report.text(_text(summary) if args.backend == "portable" else engine_text(summary))
    report.document(summary)
    return 0


def _portable(
    args: argparse.Namespace, vocabularies: Mapping[str, Vocabulary], progress: Progress
) -> dict[str, Any]:
    """A portable plan, which appears when its words are in it."""
    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as folder:
        made = Path(folder) / "wordless.plan" if vocabularies else args.output
        step = argparse.Namespace(**{**vars(args), "output": made})
        summary = _repacked(step, progress) if args.plan else _exported(step, progress)
        _carry(made, vocabularies, progress, args.output)
    return {**summary, "plan": str(args.output), "size": args.output.stat().st_size}


def _engines(
    args: argparse.Namespace, vocabularies: Mapping[str, Vocabulary], progress: Progress
) -> dict[str, Any]:
    """Engines of a portable plan, which is made first where there is none."""
    options = engine_options(args)
    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as folder:
        source = args.plan
        fp32 = {**vars(args), "precision": None, "output": Path(folder) / "portable.plan"}
        if source is None or args.precision is not None:
            check_toolchain(options)  # before long work
        if source is None:
            source = fp32["output"]
            _exported(argparse.Namespace(**fp32), progress)
        elif vocabularies:
            # Words are embedded with the portable plan, here: engines may be for another machine.
            source = fp32["output"]
            _repacked(argparse.Namespace(**fp32), progress)
        _carry(source, vocabularies, progress, source)
        if args.precision not in (None, _precision_of(source)):
            typed = {**vars(args), "profile": "tensorrt", "output": Path(folder) / "typed.plan"}
            convert(argparse.Namespace(**typed), source, progress)
            source = typed["output"]
        built = build_engines(source, args.output, options, progress)
    return engine_summary(_summary(args.output, built.manifest), built)


def _precision_of(plan: Path) -> str:
    with Plan.open(plan) as opened:
        return opened.manifest.precision


def _exported(args: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    for module in _EXPORT_MODULES:
        require(module, "export")
    from xdecoder_rt.export.portable import MAX_PHRASES, build_portable
    from xdecoder_rt.export.sources import load_model

    progress(f"Loading {args.checkpoint or 'the starter model'}")
    model = load_model(args.checkpoint)
    sizes = args.size or [_DEFAULT_SIZES[model.config.family]]
    is_final = args.precision in (None, "fp32")
    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as folder:
        exported = args.output if is_final else Path(folder) / "fp32.plan"
        built = build_portable(
            model,
            exported,
            sizes=sizes,
            tasks=args.tasks or tuple(TASKS),
            max_phrases=args.max_phrases or MAX_PHRASES,
            progress=progress,
        )
        summary = (
            _summary(args.output, built.manifest)
            if is_final
            else _converted(args, exported, progress)
        )
    made = {graph.member: graph for graph in built.graphs}
    for graph in summary["graphs"]:
        graph.update(nodes=made[graph["member"]].nodes, macs=made[graph["member"]].macs)
    return summary


def _repacked(args: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    if args.precision is not None:
        return _converted(args, args.plan, progress)
    from xdecoder_rt.export.repack import repack_portable

    progress(f"Checking {args.plan} and writing {args.output}")
    return _summary(args.output, repack_portable(args.plan, args.output, args.size))


def _carry(
    plan: Path, vocabularies: Mapping[str, Vocabulary], progress: Progress, output: Path
) -> None:
    """Embed words with a plan's own text graph; the last are written into it as the output."""
    from xdecoder_rt.engine import Engine
    from xdecoder_rt.words.carried import carry

    names = list(vocabularies)
    for name, words in vocabularies.items():
        progress(f"Embedding the vocabulary {name}")
        with Engine(plan) as engine, counted("sentences embedded") as told:
            table = engine.class_table(words, told)
        carry(plan, output if name == names[-1] else plan, name, words, table)


def _converted(args: argparse.Namespace, source: Path, progress: Progress) -> dict[str, Any]:
    made = convert(args, source, progress)
    for complaint in made.complaints:
        note(f"warning: written all the same, as --force says: {complaint}")
    return _summary(args.output, made.manifest)


def _summary(path: Path, manifest: Manifest) -> dict[str, Any]:
    """What was made, for programs; `nodes` and `macs` of a graph are known after an export only."""
    errors = member_errors(manifest)
    return {
        "plan": str(path),
        "backend": manifest.backend,
        "size": path.stat().st_size,
        "model": manifest.model.name,
        "family": manifest.model.family,
        "parameters": manifest.model.parameters,
        "macs": manifest.model.macs,
        "precision": manifest.precision,
        "profile": manifest.profile,
        "calibration": manifest.calibration,
        "accuracy": dict(manifest.accuracy),
        "sizes": [list(one) for one in manifest.input.sizes],
        "graphs": [
            {
                "graph": graph,
                "member": member,
                "nodes": None,
                "macs": None,
                "size": manifest.members[member].size,
                "error": errors.get(member),
            }
            for graph, _, member in graph_members(manifest.graphs)
        ],
    }


def _text(summary: dict[str, Any]) -> str:
    rows = [
        (
            printable(graph["member"], 60),
            "-" if graph["nodes"] is None else str(graph["nodes"]),
            "-" if graph["macs"] is None else count(graph["macs"]),
            f"{graph['size'] / 1e6:.2f} MB",
            "-" if graph["error"] is None else f"{graph['error']:.1e}",
        )
        for graph in summary["graphs"]
    ]
    sizes = ", ".join(size_key((height, width)) for height, width in summary["sizes"])
    head = (
        f"{printable(summary['plan'], 200)}  {summary['size'] / 1e6:.1f} MB, "
        f"{printable(summary['model'])} ({summary['family']}), {summary['precision']}\n"
        f"{count(summary['parameters'])} parameters, {count(summary['macs'])}MAC a frame, "
        f"input {sizes} (height x width), made in {summary['seconds']:.0f} s"
    )
    return "\n".join(
        (
            head,
            "",
            table(("graph", "nodes", "MAC", "size", "error"), rows),
            "",
            "The last column: how far the fp32 graph is from PyTorch, relative RMS (1e-4 may be).",
            *precision_lines(summary),
        )
    )


def precision_lines(summary: dict[str, Any]) -> list[str]:
    """What another precision costs and gains, as measured when the plan was built."""
    accuracy = summary["accuracy"]
    lines = []
    if "metric" in accuracy:
        lines.append(
            f"{printable(str(accuracy['metric']))}: {accuracy['fp32']:.2f} in fp32, "
            f"{accuracy['int8']:.2f} in int8, on {accuracy['images']} images"
        )
    if "times_faster_than_fp32" in accuracy:
        lines.append(f"a frame: {accuracy['times_faster_than_fp32']:.2f} times as fast as in fp32")
    return lines
