"""Options that several commands share."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xdecoder_rt.backends import PORTABLE
from xdecoder_rt.cli.output import STDOUT
from xdecoder_rt.errors import VocabularyError, quoted
from xdecoder_rt.tasks import TASKS

if TYPE_CHECKING:
    from xdecoder_rt.pixels.letterbox import ResizeRule
    from xdecoder_rt.words.vocabulary import Vocabulary
    from xdecoder_rt.words.word import Entry

DEFAULT_PLAN = "model.plan"
ALSO_AN_OPTION = "also taken as --plan FILE"
SEGMENT_TASKS = ("panoptic", "semantic", "instance")
_OTHER = "other"
_NUMBER = r"[+-]?(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})"


def add_plan(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """Add the plan, by default ``model.plan`` in the working folder."""
    note = f"the plan to run (default {DEFAULT_PLAN}); build one with: xdecoder-rt build"
    if positional:
        note += f"; {ALSO_AN_OPTION}"
        parser.add_argument("plan", nargs="?", default=DEFAULT_PLAN, metavar="PLAN", help=note)
    else:
        parser.add_argument("--plan", default=DEFAULT_PLAN, metavar="FILE", help=note)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the backend, the threads and the folder of caches."""
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--backend",
        choices=PORTABLE,
        help="what runs the graphs of a portable plan (default: chosen by the plan and what is "
        "installed)",
    )
    group.add_argument(
        "--device",
        metavar="DEVICE",
        help="where they run: cpu; cuda or cuda:1 with torch, onnxruntime and plans of engines; "
        "gpu or npu with openvino (default: chosen)",
    )
    add_threads(group)


def add_threads(group: argparse._ActionsContainer) -> None:
    """Add the processor threads and the folder of caches."""
    group.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="processor threads (default: the backend's choice within affinity and quota)",
    )
    add_cache(group)


def add_cache(group: argparse._ActionsContainer) -> None:
    """Add the folder of caches."""
    group.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="folder of cached text embeddings (default: $XDECODER_RT_CACHE, or xdecoder_rt in "
        "the user's cache folder)",
    )


def add_offline(parser: argparse.ArgumentParser) -> None:
    """Add that nothing is to be downloaded."""
    parser.add_argument(
        "--offline",
        action="store_true",
        help="take a checkpoint's address from the cache and ask nobody (also: HF_HUB_OFFLINE=1)",
    )


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add the words to look for, from the command line, a file or the plan."""
    group = parser.add_argument_group("words")
    group.add_argument(
        "--words",
        nargs="+",
        default=[],
        metavar="WORD",
        help='what to look for; synonyms of one class are joined by "|": "sofa|couch"; rules stand '
        'in brackets: "knife [threshold 0.9]"',
    )
    group.add_argument(
        "--words-file",
        type=Path,
        metavar="FILE",
        help="more words, one class a line as for --words, or JSON; empty lines and lines with # "
        "are skipped",
    )
    group.add_argument(
        "--vocabulary",
        metavar="NAME",
        help="more words: a vocabulary that the plan carries (xdecoder-rt info lists them)",
    )
    group.add_argument(
        "--stuff",
        nargs="+",
        default=[],
        metavar="WORD",
        help="those of the words that have no instances (wall, floor, sky); words that are only "
        "here are looked for too",
    )
    group.add_argument(
        "--negatives",
        nargs="+",
        default=[],
        metavar="WORD",
        help="words that compete with the others and are never reported",
    )
    group.add_argument(
        "--other",
        nargs="?",
        const=_OTHER,
        metavar="LABEL",
        help="report what is there and is none of the words for sure, under this label (default "
        "without LABEL: other)",
    )


def add_segment_task(parser: argparse._ActionsContainer) -> None:
    """Add the kind of segments."""
    parser.add_argument(
        "--task",
        choices=SEGMENT_TASKS,
        default="panoptic",
        help="kind of segments (default: %(default)s)",
    )


def add_phrases(parser: argparse._ActionsContainer) -> None:
    """Add the phrases to look for."""
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


def add_min_score(parser: argparse._ActionsContainer, subject: str, defaults: str) -> None:
    """Add ``--min-score``.

    Args:
        parser: of the command.
        subject: what is left out below it.
        defaults: the default of a compact plan without one of its own, in words.
    """
    parser.add_argument(
        "--min-score",
        type=share,
        metavar="S",
        help=f"leave out {subject} below this score, 0 to 1; 0 shows all that the plan's rules "
        f"give (default: the plan's own; if it has none, {defaults}; 0 of published plans)",
    )


def add_thresholds(parser: argparse._ActionsContainer, default: str) -> None:
    """Add the two thresholds of panoptic output.

    Args:
        parser: of the command.
        default: whose they are by default.
    """
    parser.add_argument(
        "--object-threshold",
        type=share,
        metavar="S",
        help=f"least score of a query in panoptic output, 0 to 1 (default: {default})",
    )
    parser.add_argument(
        "--overlap-threshold",
        type=share,
        metavar="S",
        help="least share of its own mask that a panoptic segment must own, others being before "
        f"it, 0 to 1 (default: {default})",
    )


def add_segments_and_phrases(parser: argparse.ArgumentParser) -> None:
    """Add the words and the phrases that are asked for together, and their rules."""
    add_words(parser)
    add_segment_task(parser)
    add_phrases(parser.add_argument_group("phrases"))
    add_min_score(parser, "segments and phrases", "0.25 for phrases and --task instance, else 0")
    add_thresholds(parser, "the plan's")


def add_strict(parser: argparse._ActionsContainer) -> None:
    """Add ``--strict``, which refuses texts that are too long."""
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse texts over the context length, which are otherwise cut with a warning",
    )


def add_caption(parser: argparse._ActionsContainer) -> None:
    """Add the prompt, the beams and the length of captions."""
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
    """Add the possible answers of a question."""
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
        "text goes to stderr (xdecoder-rt schema COMMAND prints its form)",
    )


def has_words(args: argparse.Namespace) -> bool:
    """Whether a command line with the options of `add_words` names any words to find."""
    return bool(args.words or args.words_file or args.vocabulary or args.stuff)


def read_vocabulary(args: argparse.Namespace) -> Vocabulary:
    """Return the words of a command line with the options of `add_words`.

    Raises:
        VocabularyError: there are none, the file of words cannot be read, or the plan carries no
            such vocabulary.
        PlanError: the plan is not sound.
    """
    from xdecoder_rt.words.files import WordList, parse_lines, read_words
    from xdecoder_rt.words.normal_form import name_key
    from xdecoder_rt.words.vocabulary import Vocabulary

    if not has_words(args):
        raise VocabularyError(
            "There are no words to look for",
            expected="some words",
            fix='give them after the images: --words mug "robot arm"',
        )
    typed = parse_lines(args.words)
    filed = WordList([]) if args.words_file is None else read_words(args.words_file)
    carried = None if args.vocabulary is None else _carried(args.plan, args.vocabulary)
    if carried is not None:
        filed = WordList(
            [*filed.entries, *carried.words], filed.other or carried.other, carried.next_id
        )
    entries = [*typed.entries, *filed.entries]
    known = {name_key(_label(entry)) for entry in entries}
    stuff = parse_lines(args.stuff).entries
    entries += [entry for entry in stuff if name_key(_label(entry)) not in known]
    parsed = Vocabulary.parse(
        entries,
        list(dict.fromkeys(map(_label, stuff))),
        negatives=parse_lines(args.negatives).entries,
        other=args.other or typed.other or filed.other,
    )
    return replace(parsed, next_id=max(parsed.next_id, filed.next_id))


def read_choices(args: argparse.Namespace) -> list[str] | None:
    """Return the possible answers of a command line with the option of `add_choices`."""
    if args.choices is None:
        return None
    texts = args.choices[0].split(",") if len(args.choices) == 1 else args.choices
    return [text.strip() for text in texts]


def positive(text: str) -> int:
    """Return a whole number of at least 1, for argparse."""
    if not re.fullmatch(r"\+?[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a whole number of at least 1")
    return int(text)


def share(text: str) -> float:
    """Return a number from 0 to 1, for argparse."""
    if (
        not re.fullmatch(r"\+?(?:[0-9]{1,9}(?:\.[0-9]{0,99})?|\.[0-9]{1,99})", text)
        or float(text) > 1
    ):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a number from 0 to 1")
    return float(text)


def size(text: str) -> tuple[int, int]:
    """Return (height, width) from ``HEIGHTxWIDTH``, for argparse."""
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if not match or not all(int(side) for side in match.groups()):
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is not HEIGHTxWIDTH in pixels, such as 512x512"
        )
    return int(match[1]), int(match[2])


def input_size(text: str) -> tuple[int, int] | ResizeRule:
    """Return (height, width), or the rule of ``short:800,longest:1333``, for argparse."""
    match = re.fullmatch(r"short:([0-9]{1,5})(?:,longest:([0-9]{1,5}))?", text)
    if not match:
        return size(text)
    from xdecoder_rt.pixels.letterbox import ResizeRule

    short, longest = int(match[1]), None if match[2] is None else int(match[2])
    if short < 1 or (longest is not None and longest < short):
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} has no short side of at least 1 pixel and a longest of at least that"
        )
    return ResizeRule("short_side", short, longest)


def task_names(text: str) -> tuple[str, ...]:
    """Return distinct names of tasks from ``A,B``, for argparse."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in TASKS:
            raise argparse.ArgumentTypeError(
                f"there is no task {quoted(name)}; tasks are {', '.join(TASKS)}"
            )
        if names.count(name) > 1:
            raise argparse.ArgumentTypeError(f"the task {name} is there twice")
    return names


def _carried(path: str, name: str) -> Vocabulary:
    from xdecoder_rt.plan.file import Plan
    from xdecoder_rt.words.carried import PlanWords

    with Plan.open(path) as plan:
        vocabularies = PlanWords(plan).vocabularies()
        if name not in vocabularies:
            raise VocabularyError(
                f"The plan carries no vocabulary {quoted(name)}",
                expected=", ".join(vocabularies) or "none at all",
                fix="xdecoder-rt vocab embed --into writes a plan that does",
            )
        return vocabularies[name]


def _label(entry: Entry) -> str:
    """Return the word, or the first of its synonyms."""
    from xdecoder_rt.words.word import Word

    return entry.name if isinstance(entry, Word) else entry if isinstance(entry, str) else entry[0]


def parse_box(text: str) -> list[float]:
    """Return four numbers from ``L,T,R,B``, for argparse."""
    if not re.fullmatch(rf"{_NUMBER}(?:,{_NUMBER}){{3}}", text.replace(" ", "")):
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is not left,top,right,bottom in pixels, such as 120,80,360,300"
        )
    return [float(edge) for edge in text.split(",")]
