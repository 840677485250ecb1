"""Options that several commands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xdecoder_rt.cli.output import STDOUT
from xdecoder_rt.errors import VocabularyError, shown
from xdecoder_rt.tasks import TASKS

DEFAULT_PLAN = "model.plan"
BACKENDS = ("onnxruntime", "openvino")
RULES = ("panoptic", "semantic", "instance")
_SYNONYM_MARK = "|"
_WORDS_FILE_LIMIT = 64 << 20


@dataclass(frozen=True)
class Words:
    """What to look for.

    Attributes:
        entries: class names, or groups of synonyms.
        stuff: labels without instances.
    """

    entries: list[str | list[str]]
    stuff: list[str]


def add_plan(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """Add the plan, by default ``model.plan`` in the working folder."""
    note = f"the plan to run (default {DEFAULT_PLAN}); build one with: xdecoder-rt build"
    if positional:
        parser.add_argument("plan", nargs="?", default=DEFAULT_PLAN, metavar="PLAN", help=note)
    else:
        parser.add_argument("--plan", default=DEFAULT_PLAN, metavar="FILE", help=note)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add what decides how a plan is run."""
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--backend",
        choices=BACKENDS,
        help="what runs the graphs (default: chosen by the plan and what is installed)",
    )
    add_threads(group)


def add_threads(group: argparse._ActionsContainer) -> None:
    """Add the processor threads and the folder of caches."""
    group.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="processor threads (default: the backend's choice)",
    )
    group.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="folder of cached text embeddings (default: $XDECODER_RT_CACHE, or xdecoder_rt in "
        "the user's cache folder)",
    )


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add what to look for."""
    group = parser.add_argument_group("words")
    group.add_argument(
        "--words",
        nargs="+",
        default=[],
        metavar="WORD",
        help='what to look for; synonyms of one class are joined by "|": "sofa|couch"',
    )
    group.add_argument(
        "--words-file",
        type=Path,
        metavar="FILE",
        help="more words, one class a line (UTF-8); empty lines and lines with # are skipped",
    )
    group.add_argument(
        "--stuff",
        nargs="+",
        default=[],
        metavar="WORD",
        help="those of the words that have no instances (wall, floor, sky); words that are only "
        "here are looked for too",
    )


def add_rule(parser: argparse._ActionsContainer) -> None:
    """Add the kind of segments."""
    parser.add_argument(
        "--task", choices=RULES, default="panoptic", help="kind of segments (default: %(default)s)"
    )


def add_phrases(parser: argparse._ActionsContainer) -> None:
    """Add what to refer by."""
    parser.add_argument(
        "--phrases",
        nargs="+",
        action="extend",
        default=[],
        metavar="PHRASE",
        help='what to look for, each in quotes: "the red mug left of the plate"',
    )
    parser.add_argument(
        "--joint",
        action="store_true",
        help="decode all phrases in one group, as the original does: faster, and what a phrase "
        "gets then depends on the others",
    )


def add_strict(parser: argparse._ActionsContainer) -> None:
    """Add what to do with texts that are too long."""
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse texts over the context length, which are otherwise cut with a warning",
    )


def add_caption(parser: argparse._ActionsContainer) -> None:
    """Add how captions are written."""
    parser.add_argument("--prompt", metavar="TEXT", help="words that the caption begins with")
    parser.add_argument(
        "--beams",
        type=positive,
        metavar="N",
        help="drafts followed at a time; 1 takes the likeliest token each time (default: the "
        "plan's)",
    )
    parser.add_argument(
        "--max-tokens", type=positive, metavar="N", help="longest caption (default: 50 tokens)"
    )


def add_choices(parser: argparse._ActionsContainer) -> None:
    """Add what a question is answered from."""
    parser.add_argument(
        "--choices",
        nargs="+",
        metavar="ANSWER",
        help="possible answers: A B C or A,B,C (default: those that the plan was trained on)",
    )


def add_json(parser: argparse._ActionsContainer) -> None:
    """Add ``--json [FILE]``."""
    parser.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="also write JSON to FILE; without FILE, stdout is JSON and nothing else and the "
        "text goes to stderr",
    )


def read_words(args: argparse.Namespace) -> Words:
    """The words of a command line with the options of `add_words`.

    Raises:
        VocabularyError: there are none, or the file of words cannot be read.
    """
    texts = list(args.words)
    if args.words_file is not None:
        texts += _lines(args.words_file)
    entries, known = parse_entries(texts), set(labels(parse_entries(texts)))
    stuff = parse_entries(args.stuff)
    entries += [
        entry for entry, label in zip(stuff, labels(stuff), strict=True) if label not in known
    ]
    if not entries:
        raise VocabularyError(
            "There are no words to look for",
            expected="some words",
            fix='give them after the images: --words mug "robot arm"',
        )
    return Words(entries, list(dict.fromkeys(labels(stuff))))


def read_choices(args: argparse.Namespace) -> list[str] | None:
    """The possible answers of a command line with the option of `add_choices`."""
    if args.choices is None:
        return None
    texts = args.choices[0].split(",") if len(args.choices) == 1 else args.choices
    return [text.strip() for text in texts]


def labels(entries: Sequence[str | list[str]]) -> list[str]:
    """The label of each entry: the word, or the first of its synonyms."""
    return [entry if isinstance(entry, str) else entry[0] for entry in entries]


def parse_entries(texts: Sequence[str]) -> list[str | list[str]]:
    """Words as typed, those with ``|`` split into synonyms."""
    return [
        [word.strip() for word in text.split(_SYNONYM_MARK)] if _SYNONYM_MARK in text else text
        for text in texts
    ]


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not re.fullmatch(r"\+?[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a whole number of at least 1")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """(height, width) from ``HEIGHTxWIDTH``, for argparse."""
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if not match or not all(int(side) for side in match.groups()):
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not HEIGHTxWIDTH in pixels, such as 512x512"
        )
    return int(match[1]), int(match[2])


def task_names(text: str) -> tuple[str, ...]:
    """Distinct names of tasks from ``A,B``, for argparse."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in TASKS:
            raise argparse.ArgumentTypeError(
                f"there is no task {shown(name)}; tasks are {', '.join(TASKS)}"
            )
        if names.count(name) > 1:
            raise argparse.ArgumentTypeError(f"the task {name} is there twice")
    return names


def _lines(path: Path) -> list[str]:
    name = shown(str(path), 200)
    try:
        with path.open("rb") as file:
            data = file.read(_WORDS_FILE_LIMIT + 1)
        if len(data) > _WORDS_FILE_LIMIT:
            raise VocabularyError(
                f"The file of words {name} is larger than {_WORDS_FILE_LIMIT >> 20} MiB",
                expected="one class a line",
            )
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise VocabularyError(
            f"The file of words {name} cannot be read: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise VocabularyError(
            f"The file of words {name} is not text", expected="UTF-8, one class a line"
        ) from error
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
