"""``xdecoder-rt info``: what a plan, or a file of weights, is."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xdecoder_rt.cli.engine_layers import layer_tables, precision_table
from xdecoder_rt.cli.images import quantity
from xdecoder_rt.cli.options import add_cache, add_json, add_offline, add_plan
from xdecoder_rt.cli.output import CommandReport, format_count, format_table, note
from xdecoder_rt.errors import ArgumentError, printable, quoted, require
from xdecoder_rt.export.download import fetch_checkpoint, is_address
from xdecoder_rt.export.sources import WEIGHTS_SUFFIXES, is_plan
from xdecoder_rt.export.tensorrt.layers import LAYERS, layers_from_json, precisions
from xdecoder_rt.plan.contents import graph_members, graph_size, member_errors
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import InputInfo, Manifest, size_key

SUMMARY = "say what a plan, or a file of weights, holds and whether it is whole"
DESCRIPTION = """\
Open a plan, check the digest of every member, and say what it is: the model, the input sizes, the
graphs, the thresholds, how exact it is, and what it was made with; and what this machine's cache of
text embeddings has for it. Of a TensorRT plan it also says in which precision the layers of each
engine compute, as the builder chose; --layers lists them. Nothing in it is run.

Of a file of weights (.pt, .safetensors) it says of which network it is, its sizes, what it is
trained for, which tensors are missing, extra or misshapen, its SHA-256, and how to build from it.
No pickled code is run. This needs the extra "export" (pip install "xdecoder_rt[export]"). The file
may be named by its address, hf://owner/name/file[@revision] or https://..., and is downloaded.
"""
EXAMPLES = """\
  xdecoder-rt info                      the plan model.plan of this folder
  xdecoder-rt info robot.plan
  xdecoder-rt info robot.plan --json    the manifest, for a program
  xdecoder-rt info rtx.plan --layers    every kernel of every engine
  xdecoder-rt info xdecoder_focalt_last.pt
  xdecoder-rt info hf://xdecoder/X-Decoder/xdecoder_focalt_last.pt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``info``."""
    add_plan(parser, positional=True)
    parser.add_argument(
        "--layers", action="store_true", help="list the layers of the engines of a TensorRT plan"
    )
    add_offline(parser)
    add_json(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Print the plan's manifest.

    Raises:
        PlanError: the file is not a sound plan.
        CheckpointError: the file is no whole file of weights, or cannot be downloaded.
        ArgumentError: layers were asked for and the plan has no engines.
    """
    report: CommandReport = args.command_report
    path = fetch_checkpoint(args.plan, offline=args.offline, progress=note)
    if is_address(args.plan) or _is_weights(path):
        return _weights(path, args, report)
    with Plan.open(args.plan, verify=True) as plan:
        manifest, total = plan.manifest, plan.path.stat().st_size
        cache = _cache_entry(plan, args.cache_dir)
        layers = layers_from_json(plan.read(LAYERS)) if LAYERS in plan.names else None
    if args.layers and layers is None:
        raise ArgumentError(
            f"{quoted(str(args.plan), 200)} lists no layers",
            expected="a plan built with --backend tensorrt or tensorrt_rtx",
        )
    report.text(f"{printable(str(args.plan), 200)}  {total / 1e6:.1f} MB, every member whole\n")
    report.text("\n".join(f"{name:12}{value}" for name, value in _facts(manifest)))
    report.text("\ngraphs")
    report.text(_graph_table(manifest))
    document: dict[str, Any] = {
        "plan": str(args.plan),
        "size": total,
        "manifest": json.loads(manifest.to_json()),
        "text_cache": cache,
    }
    if layers is not None:
        report.text("\nlayers with products, by the precision that they compute in")
        report.text(precision_table(layers))
        document["precisions"] = {
            name: precisions(engine_layers) for name, engine_layers in layers.items()
        }
        if args.layers:
            report.text(layer_tables(layers))
            document["layers"] = {
                name: [asdict(layer) for layer in engine_layers]
                for name, engine_layers in layers.items()
            }
    report.text("\ntext cache of this machine")
    report.text(_cache_text(cache))
    report.document(document)
    return 0


def _is_weights(path: Path) -> bool:
    """Return whether a file is to be read as weights: by its ending, unless it is a plan."""
    return path.suffix.lower() in WEIGHTS_SUFFIXES and not is_plan(path)


def _weights(path: Path, args: argparse.Namespace, report: CommandReport) -> int:
    if args.layers:
        raise ArgumentError("--layers was given for a file of weights", expected="a TensorRT plan")
    require("torch", "export")
    from xdecoder_rt.cli.weights_report import weights_document, weights_text

    document = weights_document(path)
    report.text(weights_text(document))
    report.document(document)
    return 0


def _cache_entry(plan: Plan, directory: Path | None) -> dict[str, Any]:
    """Return the texts that a folder's cache has for a plan, and its counts since it was begun."""
    from xdecoder_rt.words.cache import CACHE_FILE, default_directory
    from xdecoder_rt.words.carried import PlanWords, cache_of

    folder = directory or default_directory()
    place: dict[str, Any] = {"file": None if folder is None else str(folder / CACHE_FILE)}
    if folder is None or not os.path.isfile(folder / CACHE_FILE):
        return {**place, "texts": 0, "entries": 0, "bytes": 0, "counts": {}}
    with contextlib.closing(cache_of(plan, PlanWords(plan), folder)) as cache:
        summary, texts = cache.summary(), len(cache.entries())
        return {
            **place,
            "texts": texts,
            "entries": summary.entries,
            "bytes": summary.bytes,
            "limit": cache.disk_bytes,
            "counts": dict(summary.counts),
        }


def _cache_text(cache: dict[str, Any]) -> str:
    if not cache["entries"]:
        return f"  {cache['file'] or 'none'}: empty"
    counts = {name: f"{number:,}" for name, number in sorted(cache["counts"].items())}
    hits = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts.items())
    return (
        f"  {cache['file']}: {cache['texts']:,} texts of this plan, {cache['entries']:,} of all, "
        f"{cache['bytes'] / 1e6:.1f} of {cache['limit'] / 1e6:.0f} MB\n"
        f"  so far: {hits or 'nothing was looked up'}"
    )


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    """Return the manifest without its members, a line each."""
    model, image, text = manifest.model, manifest.input, manifest.text
    thresholds = manifest.postprocess
    sizes = ", ".join(size_key(size) for size in image.sizes)
    facts = [
        ("model", f"{printable(model.name)} ({model.family})"),
        ("weights", f"{format_count(model.parameters)}, SHA-256 {model.weights_sha256[:16]}…"),
        (
            "compute",
            f"{format_count(model.macs)}MAC a frame of {size_key(image.sizes[0])}, text excluded",
        ),
        ("backend", f"{manifest.backend}, {printable(manifest.backend_version)}"),
        (
            "precision",
            manifest.precision + (f", for {manifest.profile}" if manifest.profile else ""),
        ),
        ("input", f"{sizes} (height x width), {_resize_text(image)}, {image.interpolation}"),
        ("batch", f"{image.batch[0]} to {image.batch[1]}"),
        ("tasks", ", ".join(manifest.tasks)),
        ("queries", str(manifest.decoder.num_queries)),
        (
            "text",
            f"{len(text.templates)} templates, {text.context_length} tokens, "
            f"embeddings of {text.proj_dim}",
        ),
        (
            "thresholds",
            f"score {thresholds.object_mask_threshold:g}, "
            f"overlap {thresholds.overlap_threshold:g}, {thresholds.instance_topk} instances",
        ),
        (
            "masks",
            f"without pieces below {100 * thresholds.piece_share:g} % of a mask's largest"
            if thresholds.piece_share
            else "as they are, specks too",
        ),
    ]
    if manifest.region is not None:
        facts.append(("regions", f"named by a classifier of {manifest.region.names} names"))
    if manifest.distractors is not None:
        facts.append(
            ("distractors", f"{manifest.distractors.count} words of its training compete unasked")
        )
    if thresholds.votes:
        facts.append(("votes", "queries with much the same mask agree on its name"))
    if manifest.targets:
        facts.append(("targets", "compute capability " + ", ".join(manifest.targets)))
    if manifest.plugins:
        facts.append(("plugins", f"{printable(', '.join(manifest.plugins), 200)}: of xdecoder_rt"))
    facts += [
        ("vocabulary", f"{printable(vocabulary.name)}: {vocabulary.count} words embedded")
        for vocabulary in manifest.vocabularies
    ]
    if manifest.build:
        tools = (f"{printable(k)} {printable(v)}" for k, v in sorted(manifest.build.items()))
        facts.append(("made with", ", ".join(tools)))
    facts.append(("format", _format_text(manifest)))
    return facts


def _format_text(manifest: Manifest) -> str:
    """Return the format version, and what of the plan its graphs share."""
    names = {name for used in manifest.weights.values() for name in used}
    version = f"version {manifest.format_version}"
    if not names:
        return version
    size = sum(manifest.members[name].size for name in names)
    return f"{version}, {size / 1e6:.1f} MB of weights in {quantity(len(names), 'member')}"


def _resize_text(image: InputInfo) -> str:
    """Return how images are scaled, in words."""
    text = (
        "" if image.text_size is None else f"; for texts squashed into {size_key(image.text_size)}"
    )
    if image.resize != "short_side":
        return image.resize + text
    limit = "" if image.longest_side is None else f", the long one at most {image.longest_side}"
    return f"scaled to a short side of {image.short_side}{limit}{text}"


def _graph_table(manifest: Manifest) -> str:
    errors = member_errors(manifest)
    rows = []
    for graph, key, member in graph_members(manifest.graphs):
        error = errors.get(member)
        rows.append(
            (
                graph,
                printable(key),
                printable(member, 60),
                f"{graph_size(manifest, member) / 1e6:.2f} MB",
                "-" if error is None else f"{error:.1e}",
            )
        )
    return format_table(("graph", "for", "member", "size", "error"), rows, left_columns=3)
