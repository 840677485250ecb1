"""Measures the peak memory of a process that imports, loads and segments, without PyTorch.

python benchmarks/memory.py [--plan model.plan] [--limit-mb 400] [-o memory.json]

Each line is a process of its own with an empty cache, so the text graph is loaded and run, and
graphs are compiled; the last column is of another process, which finds words and compiled models.
The figure is the kernel's high-water mark of resident memory, shared libraries included.

Exit code 1 when ONNX Runtime, the default backend, exceeds the limit, or PyTorch was imported.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cli.machine import describe_machine, machine_summary
from xdecoder_rt.cli.memory import measure_memory
from xdecoder_rt.cli.options import DEFAULT_PLAN, positive
from xdecoder_rt.errors import XDecoderError
from xdecoder_rt.plan.file import Plan

IMAGE_SIZES = ((512, 512), (720, 1280), (2160, 3840))
DEFAULT_BACKEND = "onnxruntime"


def run(options: argparse.Namespace) -> int:
    """Measure, print and judge; the exit code."""
    with Plan.open(options.plan) as plan:
        manifest = plan.manifest
    backends = [DEFAULT_BACKEND, *(["openvino"] if find_spec("openvino") else [])]
    rows: list[dict[str, Any]] = [
        {
            "backend": backend,
            "image": list(size),
            **asdict(measure_memory(options.plan, size, options.words, backend, options.threads)),
        }
        for backend in backends
        for size in IMAGE_SIZES
    ]
    document = {
        "model": manifest.model.name,
        "precision": manifest.precision,
        "input_sizes": [list(size) for size in manifest.input.sizes],
        "words": options.words,
        "threads": options.threads,
        "machine": describe_machine(),
        "rows": rows,
    }
    print(markdown(document))
    if options.output:
        with atomic_writer(options.output) as file:
            file.write((json.dumps(document, indent=2) + "\n").encode())
    too_much = [
        row
        for row in rows
        if row["backend"] == DEFAULT_BACKEND and row["segmented"] > options.limit_mb
    ]
    for row in too_much:
        print(f"error: more than {options.limit_mb} MB: {row}", file=sys.stderr)
    with_torch = [row for row in rows if row["with_torch"]]
    for row in with_torch:
        print(f"error: PyTorch was imported: {row}", file=sys.stderr)
    return int(bool(too_much or with_torch))


def markdown(document: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        f"{document['model']}, {document['precision']}, {document['words']} words, "
        f"{document['threads']} threads; peak resident memory in MB (10^6 bytes).",
        *machine_summary(document["machine"]).splitlines(),
        "",
        "| backend | image (height x width) | imported | plan loaded, words embedded | segmented "
        "| again |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['backend']} | {row['image'][0]} x {row['image'][1]} | {row['imported']:.0f} "
        f"| {row['loaded']:.0f} | {row['segmented']:.0f} | {row['again']:.0f} |"
        for row in document["rows"]
    ]
    return "\n".join(lines)


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", default=DEFAULT_PLAN, help="default: %(default)s")
    parser.add_argument("--words", type=positive, default=20, help="default: %(default)s")
    parser.add_argument("--threads", type=positive, default=2, help="default: %(default)s")
    parser.add_argument("--limit-mb", type=positive, default=400, help="default: %(default)s")
    parser.add_argument("-o", "--output", type=Path, metavar="JSON", help="write JSON there too")
    try:
        return run(parser.parse_args())
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
