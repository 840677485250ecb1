"""``python -m xdecoder_rt.training.region``: the classifier of regions of a compact model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path

from xdecoder_rt.errors import ArgumentError, exit_status, require
from xdecoder_rt.files.folder import list_images
from xdecoder_rt.files.output_file import prepare_output
from xdecoder_rt.image import RgbImage, load_image
from xdecoder_rt.training.distillation.nouns import DEFAULT_WORDNET

_DESCRIPTION = """\
Give a compact checkpoint the ImageNet classifier of its trunk, which then names what the decoder
finds, photographs of things that no training data shows included. The checkpoint must have been
trained with a frozen trunk, or gets a second one (--trunk own). Nothing is learnt of labels:
WordNet says which words are true of ImageNet's names. Needs

  sudo apt-get install wordnet-base

Fit again whenever the text encoder was trained further.
"""
_MOST_WIDTH = 999
"""What all of a thousand names share is left out, so their matrix has no higher rank."""
_MOST_SHRINK = 4
_EXAMPLES = """\
examples:
  python -m xdecoder_rt.training.region fit runs/model.safetensors -o runs/naming.safetensors
  python -m xdecoder_rt.training.region fit starter -o naming.safetensors --trunk own
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m xdecoder_rt.training.region",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fit = commands.add_parser("fit", help="write a checkpoint with the classifier")
    fit.add_argument(
        "checkpoint", help="a compact checkpoint, its address, or starter, with a frozen trunk"
    )
    fit.add_argument("-o", "--out", type=Path, required=True, help="the checkpoint to write")
    fit.add_argument(
        "--width",
        type=int,
        default=0,
        metavar="N",
        help="narrow the classifier's features to so many, for a smaller checkpoint that names "
        "less well; needs --images (default: 0, as they are)",
    )
    fit.add_argument(
        "--images",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders of images to narrow it by, of which nothing need be known",
    )
    fit.add_argument(
        "--limit", type=int, default=300, metavar="N", help="images at most (default: 300)"
    )
    fit.add_argument(
        "--wordnet",
        type=Path,
        default=DEFAULT_WORDNET,
        metavar="DIR",
        help="folder of data.noun (default: %(default)s)",
    )
    fit.add_argument("--steps", type=int, default=150, help="(default: 150)")
    fit.add_argument("--seed", type=int, default=0, help="(default: 0)")
    fit.add_argument("--weight", type=float, help="share of the regions' scores, 0 to 1")
    fit.add_argument("--scale", type=float, help="factor of the regions' scores")
    fit.add_argument("--void", type=float, help="the regions' score of void")
    fit.add_argument(
        "--void-yield",
        type=float,
        help="share of void's probability that it loses where the regions are sure of a word",
    )
    fit.add_argument(
        "--votes",
        type=float,
        default=0.5,
        help="weight in panoptic output of queries with much the same mask (default: 0.5)",
    )
    fit.add_argument(
        "--trunk",
        choices=("shared", "own"),
        default="shared",
        help="what the classifier looks through: shared, the model's own trunk, which must be as "
        "ImageNet made it; own, a second one beside it, for models whose trunk was trained, which "
        "costs its time in every frame (default: %(default)s)",
    )
    fit.add_argument(
        "--shrink",
        type=int,
        default=1,
        metavar="N",
        help="with --trunk own: look at the image smaller by N, in a fraction of the time "
        "(default: 1)",
    )
    return parser


def _images(folders: Sequence[Path], limit: int) -> Iterator[RgbImage]:
    """Yield images of folders, one of each in turn."""
    turns = zip_longest(*(list_images(folder).images for folder in folders))
    paths = (path for turn in turns for path in turn if path is not None)
    for path in islice(paths, limit):
        yield load_image(path)


def _fit(arguments: argparse.Namespace) -> str:
    for module in ("torch", "safetensors"):
        require(module, "train")
    from dataclasses import replace

    from xdecoder_rt.export.download import fetch_checkpoint
    from xdecoder_rt.training.region.fitting import FitSettings, fit_region_classifier

    if arguments.limit < 1:
        raise ArgumentError(f"--limit is {arguments.limit}", expected="1 or more")
    if not 0 <= arguments.width <= _MOST_WIDTH:
        raise ArgumentError(f"--width is {arguments.width}", expected=f"0 to {_MOST_WIDTH}")
    if bool(arguments.width) != bool(arguments.images):
        raise ArgumentError(
            "--width and --images go together", expected="both, or neither to keep all features"
        )
    if not 1 <= arguments.shrink <= _MOST_SHRINK:
        raise ArgumentError(f"--shrink is {arguments.shrink}", expected=f"1 to {_MOST_SHRINK}")
    if arguments.shrink > 1 and arguments.trunk == "shared":
        raise ArgumentError(
            "--shrink was given for a shared trunk", expected="it with --trunk own alone"
        )
    if arguments.width and arguments.trunk == "own":
        raise ArgumentError(
            "--width was given with --trunk own", expected="one of them", fix="leave --width out"
        )
    prepare_output(arguments.out, "the checkpoint")
    settings = FitSettings(steps=arguments.steps, seed=arguments.seed, votes=arguments.votes)
    joining = {
        name: value
        for name in ("width", "weight", "scale", "void", "void_yield", "trunk", "shrink")
        if (value := getattr(arguments, name)) is not None
    }
    settings = replace(settings, config=replace(settings.config, **joining))
    report = fit_region_classifier(
        fetch_checkpoint(arguments.checkpoint),
        arguments.out,
        _images(arguments.images, arguments.limit),
        arguments.wordnet,
        settings,
    )
    said = f"{arguments.out}: {report.texts} texts, loss {report.loss:.3f}"
    if not arguments.width:
        return said
    return f"{said}; {report.same_name:.1%} of the images' positions keep their best name"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 after an error, in one line, or 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    return exit_status(lambda: _fit(arguments))


if __name__ == "__main__":
    sys.exit(main())
