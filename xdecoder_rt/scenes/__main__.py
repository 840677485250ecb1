"""`python -m xdecoder_rt.scenes`: write labelled folders of generated scenes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from xdecoder_rt.errors import exit_status
from xdecoder_rt.scenes.bank.build import BankPlan, build_bank
from xdecoder_rt.scenes.describe import describe_folder
from xdecoder_rt.scenes.generate import DOMAINS, SPLITS, default_cache, generate
from xdecoder_rt.scenes.photographs.grounds import DEFAULT_GROUNDS_DIR
from xdecoder_rt.scenes.photographs.stamps import DEFAULT_STAMPS_DIR

__all__ = ["main"]

_DESCRIPTION = """\
Draw labelled scenes and write them as a labelled folder: images, maps of segment ids and
annotations.json, as `xdecoder-rt train` and `xdecoder-rt eval` read them.

Four domains:
  clipart   Open Clip Art drawings over procedural textures: hundreds of everyday nouns.
            Needs the drawings: sudo apt-get install openclipart-svg
  workcell  rendered rooms with robot arms, tables, tools, groceries and furniture.
  mujoco    such rooms by another renderer, with other robots: to measure with, never to train on
            (splits val and novel). Needs OpenGL without a screen: sudo apt-get install libosmesa6
  photographs  things cut out of photographs on photographed grounds, with shadows and noise: to
            choose by (splits val and novel). Needs: sudo apt-get install tuxpaint-stamps-default
            tuxpaint-data mate-backgrounds lxqt-themes stellarium-data

Three splits:
  train     what to train on
  val       the names of training, in drawings and arrangements it never sees
  novel     things whose names (and their synonyms and compounds) training never uses

`describe` writes the phrases, captions and questions of a labelled folder anew.

`bank` collects what training composes scenes of while it runs: the drawings and many views of the
rendered things as cut-outs, whole scenes of labelled folders, and photographs; with --stamps-dir,
--furniture-dir and --grounds-dir also things cut out of photographs, views of furniture (sudo
apt-get install sweethome3d-furniture) and photographed grounds. `xdecoder-rt train` takes a bank
like any data set; every sample is another scene. `python -m
xdecoder_rt.training.sheet` draws the first of them side by side, to look at.
"""

_EXAMPLES = """\
examples:
  python -m xdecoder_rt.scenes clipart data/clipart_train --count 12000
  python -m xdecoder_rt.scenes workcell data/workcell_val --count 150 --split val
  python -m xdecoder_rt.scenes mujoco data/mujoco_val --count 100 --split val
  python -m xdecoder_rt.scenes photographs data/photo_val --count 160 --split val
  python -m xdecoder_rt.scenes workcell data/more --count 2000 --seed 1 --workers 8
  python -m xdecoder_rt.scenes describe data/workcell_val --seed 2
  python -m xdecoder_rt.scenes bank data/bank --scenes data/more --photographs wallpapers
  python -m xdecoder_rt.scenes bank data/larger --banks data/bank --no-drawings --views 0 \\
      --backdrops 0 --stamps-dir /usr/share/tuxpaint/stamps --grounds-dir /usr/share \\
      --furniture-dir /usr/share/sweethome3d/furniture

Scene i of a seed is the same on every run, whatever the number of workers. The folder appears when
it is complete; after an interruption, run the same command again.
"""


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, like 480x384") from None
    return height, width


def _add_generate_arguments(parser: argparse.ArgumentParser, domain: str) -> None:
    parser.add_argument("out", type=Path, help="folder to write; it must not hold a finished set")
    parser.add_argument(
        "--count",
        type=int,
        default=1000,
        metavar="N",
        help="how many scenes (default: %(default)s)",
    )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="train",
        help="which names and drawings to use (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="another seed gives other scenes (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=_size,
        metavar="WxH",
        help="size of every image (default: varied, at most 448 a side)",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one a processor core)"
    )
    if domain == "clipart":
        _add_clipart_arguments(parser)
    elif domain == "photographs":
        _add_photograph_arguments(parser, DEFAULT_STAMPS_DIR, DEFAULT_GROUNDS_DIR)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_clipart_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--names",
        nargs="+",
        default=(),
        metavar="NAME",
        help="draw things of these names alone (default: all of the split)",
    )
    parser.add_argument(
        "--clipart-dir",
        type=Path,
        metavar="DIR",
        help="folder of the drawings (default: /usr/share/openclipart/svg)",
    )
    parser.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="where rendered drawings are kept (default: the user's cache folder)",
    )


def _add_photograph_arguments(
    parser: argparse.ArgumentParser, stamps: Path | None, grounds: Path | None
) -> None:
    for option, about, default in (
        ("--stamps-dir", "folder of Tux Paint's stamps", stamps),
        ("--grounds-dir", "`share` folder of the packages with grounds", grounds),
    ):
        about = f"{about} (default: {default or 'none go in'})"
        parser.add_argument(option, type=Path, default=default, metavar="DIR", help=about)


def _add_describe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a labelled folder; its labels stay as they are")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="another seed gives other texts (default: %(default)s, the generator's too)",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one a processor core)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_bank_arguments(parser: argparse.ArgumentParser) -> None:
    plan = BankPlan()
    parser.add_argument("out", type=Path, help="folder of the bank")
    parser.add_argument(
        "--scenes",
        type=Path,
        nargs="+",
        default=(),
        metavar="FOLDER",
        help="labelled folders whose images go in as whole scenes",
    )
    parser.add_argument(
        "--photographs",
        type=Path,
        nargs="+",
        default=(),
        metavar="FOLDER",
        help="folders of pictures to paste on that show nothing of the vocabulary",
    )
    parser.add_argument(
        "--banks",
        type=Path,
        nargs="+",
        default=(),
        metavar="FOLDER",
        help="banks whose pictures go in as they are",
    )
    _add_photograph_arguments(parser, plan.stamps_dir, plan.grounds_dir)
    parser.add_argument(
        "--furniture-dir",
        type=Path,
        metavar="DIR",
        help="folder of Sweet Home 3D's furniture libraries (default: none go in)",
    )
    parser.add_argument(
        "--no-drawings", action="store_true", help="leave Open Clip Art's drawings out"
    )
    for name, about in (
        ("views", "renderings of each name"),
        ("backdrops", "scenes of stuff alone"),
        ("ground_parts", "parts of each photographed ground"),
        ("furniture_views", "renderings of each model of furniture"),
        ("side", "longest side of a cut-out, pixels"),
        ("scene_side", "longest side of a scene, pixels"),
        ("quality", "of the pictures, 1 to 100"),
        ("seed", "another seed gives other renderings"),
    ):
        default = getattr(plan, name)
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(
            option, type=int, default=default, metavar="N", help=f"{about} (default: {default})"
        )
    parser.add_argument(
        "--clipart-dir",
        type=Path,
        default=plan.clipart_dir,
        metavar="DIR",
        help="folder of the drawings (default: %(default)s)",
    )
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="where drawings are kept")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _bank(arguments: argparse.Namespace) -> str:
    plan = BankPlan(
        views=arguments.views,
        backdrops=arguments.backdrops,
        scenes=tuple(arguments.scenes),
        photographs=tuple(arguments.photographs),
        banks=tuple(arguments.banks),
        drawings=not arguments.no_drawings,
        stamps_dir=arguments.stamps_dir,
        grounds_dir=arguments.grounds_dir,
        ground_parts=arguments.ground_parts,
        furniture_dir=arguments.furniture_dir,
        furniture_views=arguments.furniture_views,
        side=arguments.side,
        scene_side=arguments.scene_side,
        quality=arguments.quality,
        seed=arguments.seed,
        clipart_dir=arguments.clipart_dir,
    )
    cache = arguments.cache_dir or default_cache()
    counts = build_bank(plan, arguments.out, cache, not arguments.quiet)
    return f"{arguments.out}: {counts}"


def _generate(arguments: argparse.Namespace) -> str:
    materials = ("names", "clipart_dir", "cache_dir", "stamps_dir", "grounds_dir")
    folder = generate(
        arguments.command,
        arguments.out,
        arguments.count,
        split=arguments.split,
        seed=arguments.seed,
        size=arguments.size,
        workers=arguments.workers,
        progress=not arguments.quiet,
        **{name: value for name, value in vars(arguments).items() if name in materials},
    )
    return (
        f"{folder.root}: {len(folder)} scenes, {len(folder.vocabulary)} names, "
        f"{len(folder.stuff)} of them stuff"
    )


def _describe(arguments: argparse.Namespace) -> str:
    folder = describe_folder(
        arguments.folder,
        seed=arguments.seed,
        workers=arguments.workers,
        progress=not arguments.quiet,
    )
    counts = [
        sum(len(texts) for texts in column)
        for column in zip(
            *((item.phrases, item.captions, item.questions) for item in folder.items), strict=True
        )
    ]
    return "{}: {} phrases, {} captions, {} questions".format(folder.root, *counts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 after an error, in one line, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m xdecoder_rt.scenes",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for domain in DOMAINS:
        about = f"draw {domain} scenes into a new labelled folder"
        domain_parser = commands.add_parser(domain, help=about, description=about)
        _add_generate_arguments(domain_parser, domain)
    about = "write the phrases, captions and questions of a labelled folder anew"
    _add_describe_arguments(commands.add_parser("describe", help=about, description=about))
    about = "collect what training composes scenes of while it runs"
    _add_bank_arguments(commands.add_parser("bank", help=about, description=about))
    arguments = parser.parse_args(argv)
    actions = {"describe": _describe, "bank": _bank}
    return exit_status(lambda: actions.get(arguments.command, _generate)(arguments))


if __name__ == "__main__":
    sys.exit(main())
