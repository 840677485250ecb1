"""Records the ranges of the starter's activations, with which INT8 plans are built without images.

    xdecoder-rt build -o fp32.plan
    python benchmarks/studies/starter_ranges.py fp32.plan workcell clipart \\
        --held-out workcell_val clipart_val photo_val

It is to be run again whenever the weights of the starter change, or its graphs: a build takes the
ranges for the weights and layers whose digests they name, and for no others. Labelled folders of as
many kinds of scenes as there are; each counts the same. Six minutes of one core, and 12 with
--alone, if every block fits the budget; a search takes some minutes more.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.calibration.sets import CalibrationSet
from xdecoder_rt.cli.options import positive
from xdecoder_rt.cli.output import note
from xdecoder_rt.errors import XDecoderError
from xdecoder_rt.export.record import RecordOptions, calibrated_on, held_out_folders, record
from xdecoder_rt.export.recorded import RECORDED, HeldOutScore
from xdecoder_rt.files.output_file import check_writable
from xdecoder_rt.words.cache import default_directory


def run(options: argparse.Namespace) -> int:
    """Record and write; return the exit code."""
    check_writable(options.output, "the ranges")
    warnings.filterwarnings("ignore", message="The calibration set")
    domains = [CalibrationSet.open(path, labelled=True) for path in options.domains]
    settings = RecordOptions(
        images=options.images,
        judged=options.judged,
        held_out_images=options.limit,
        max_drop=options.max_drop,
        threads=options.threads,
        cache_dir=default_directory(),
    )
    note("Measuring fp32 on held-out folders")
    folders = [CalibrationSet.open(path, labelled=True) for path in options.held_out]
    held_out = held_out_folders(options.plan, folders, settings)
    recording = record(options.plan, domains, held_out, settings, note)
    document = json.dumps(recording.document(), separators=(",", ":"))
    with atomic_writer(options.output) as file:
        file.write(document.replace('],"', '],\n"').replace("],[", "],\n[").encode() + b"\n")
    print(f"{options.output}: {options.output.stat().st_size} bytes")
    show("recorded ranges", recording.held_out)
    for domain in domains if options.alone else ():
        name = domain.path.name
        show(f"{name} alone", held_out.scores(calibrated_on(options.plan, domain, settings)))
        graphs = calibrated_on(options.plan, domain, settings, recording)
        show(f"{name} with recorded ranges", held_out.scores(graphs))
    return 0


def show(title: str, scores: Sequence[HeldOutScore]) -> None:
    """Print what INT8 costs on each held-out folder."""
    for score in scores:
        print(
            f"{title}: {score.name}, {score.images} images: PQ {score.fp32:.2f}, INT8 "
            f"{score.int8:.2f}, lost {score.fp32 - score.int8:.2f} "
            f"({score.low:.2f} to {score.high:.2f})",
            flush=True,
        )


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
    parser.add_argument(
        "--limit", type=positive, default=defaults.held_out_images, help="of each held-out folder"
    )
    parser.add_argument(
        "--alone", action="store_true", help="measure what each domain alone gives, too"
    )
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
