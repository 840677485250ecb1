"""Records the ranges of the starter's activations, with which INT8 plans are built without images.

    xdecoder-rt build -o fp32.plan
    python benchmarks/studies/starter_ranges.py fp32.plan workcell clipart photographs \\
        --held-out workcell_val clipart_val photo_val

It is to be run again whenever the weights of the starter change: a build takes the ranges for the
weights whose digest they name, and for no others. Labelled folders of as many kinds of scenes as
there are; each counts the same. Half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.calibration.sets import CalibrationSet
from xdecoder_rt.cli.options import positive
from xdecoder_rt.cli.output import note
from xdecoder_rt.errors import XDecoderError
from xdecoder_rt.export.record import RecordOptions, record
from xdecoder_rt.export.recorded import RECORDED
from xdecoder_rt.words.cache import default_directory


def run(options: argparse.Namespace) -> int:
    """Record and write; return the exit code."""
    warnings.filterwarnings("ignore", message="The calibration set")
    domains = [CalibrationSet.open(path, labelled=True) for path in options.domains]
    held_out = [CalibrationSet.open(path, labelled=True) for path in options.held_out]
    settings = RecordOptions(
        images=options.images,
        judged=options.judged,
        held_out_images=options.held_out_images,
        max_drop=options.max_drop,
        threads=options.threads,
        cache_dir=default_directory(),
    )
    recording = record(options.plan, domains, held_out, settings, note)
    document = json.dumps(recording.document(), separators=(",", ":"))
    with atomic_writer(options.output) as file:
        file.write(document.replace('],"', '],\n"').replace("],[", "],\n[").encode() + b"\n")
    for score in recording.held_out:
        print(f"{score.name}, {score.images} images: PQ {score.fp32:.2f}, INT8 {score.int8:.2f}")
    print(f"{options.output}: {options.output.stat().st_size} bytes")
    return 0


def main() -> int:
    """Read the command line and run."""
    defaults = RecordOptions()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path, help="of the starter, in fp32")
    parser.add_argument("domains", type=Path, nargs="+", help="labelled folders")
    parser.add_argument("--held-out", type=Path, nargs="*", default=[], metavar="DIR")
    parser.add_argument("--images", type=positive, default=defaults.images)
    parser.add_argument("--judged", type=positive, default=defaults.judged)
    parser.add_argument("--held-out-images", type=positive, default=defaults.held_out_images)
    parser.add_argument("--max-drop", type=float, default=defaults.max_drop, metavar="PQ")
    parser.add_argument("--threads", type=positive, help="default: the backend's choice")
    parser.add_argument("-o", "--output", type=Path, default=RECORDED, metavar="JSON")
    try:
        return run(parser.parse_args())
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
