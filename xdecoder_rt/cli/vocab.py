"""``xdecoder-rt vocab``: a robot's words, prepared where there is time for it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdecoder_rt.cli.images import open_engine, quantity
from xdecoder_rt.cli.options import (
    add_cache,
    add_engine,
    add_json,
    add_plan,
    add_words,
    has_words,
    parse_box,
    read_vocabulary,
)
from xdecoder_rt.cli.output import (
    CommandReport,
    format_table,
    progress_bar,
)
from xdecoder_rt.errors import VocabularyError, printable
from xdecoder_rt.files.output_file import check_writable

if TYPE_CHECKING:
    from xdecoder_rt.plan.file import Plan
    from xdecoder_rt.plan.manifest import Manifest
    from xdecoder_rt.questions.question import AnyImage
    from xdecoder_rt.questions.regions import RegionSource
    from xdecoder_rt.words.cache import TextCache
    from xdecoder_rt.words.vocabulary import Vocabulary
    from xdecoder_rt.words.word import Word

SUMMARY = "embed words ahead, and carry them to another machine or in a plan"
DESCRIPTION = """\
A word is embedded once: then its embedding is found in the cache of the machine, or in the plan. Do
it where there is time for it, and a robot never runs the text graph.

  embed   embed words into this machine's cache; with --into, write a plan that carries them
  list    the vocabularies that a plan carries, and the words that the cache has for it
  export  write embeddings to a file, for the cache of another machine
  import  read such a file into this machine's cache
  example make a word of things that are marked in images, and add it to a file of words

A word by example is for what has no name, or a name that the model does not know. It belongs to the
plan's weights: the same weights in another precision or for other hardware take it.

A file of embeddings is data: checked by its SHA-256 and never executed. It belongs to one text
graph and is refused by plans with another; a plan that was made from that plan takes it.
"""
EXAMPLES = """\
  xdecoder-rt vocab embed --words-file kitchen.txt
  xdecoder-rt vocab embed --words-file kitchen.txt --into robot.plan    named "kitchen" in the plan
  xdecoder-rt segment desk.jpg --plan robot.plan --vocabulary kitchen
  xdecoder-rt vocab list --plan robot.plan
  xdecoder-rt vocab export kitchen.words --words-file kitchen.txt       on a workstation
  xdecoder-rt vocab import kitchen.words                                on the robot
  xdecoder-rt vocab example mine.json --name "my mug" --mark a.jpg 120,80,360,300
  xdecoder-rt segment desk.jpg --words-file mine.json
"""
_KINDS = {"class": "class", "text": "text", "tokens": "phrase"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``vocab`` and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    embed = actions.add_parser("embed", help="embed words; with --into, into a plan")
    add_plan(embed)
    add_words(embed)
    embed.add_argument(
        "--into",
        type=Path,
        metavar="FILE",
        help="write the plan anew with the words in it; may be the plan itself",
    )
    embed.add_argument(
        "--name",
        metavar="NAME",
        help="what the words are called in the plan (default: the file of words without its "
        'ending, or "words")',
    )
    add_json(embed)
    add_engine(embed)

    list_ = actions.add_parser("list", help="what the plan carries and the cache holds")
    add_plan(list_)
    add_json(list_)
    add_cache(list_)

    export = actions.add_parser("export", help="write embeddings to a file")
    export.add_argument("file", type=Path, metavar="FILE", help="the file to write")
    add_plan(export)
    add_words(export)
    add_json(export)
    add_engine(export)

    import_ = actions.add_parser("import", help="read a file of embeddings into the cache")
    import_.add_argument("file", type=Path, metavar="FILE", help="written by vocab export")
    add_plan(import_)
    add_json(import_)
    add_cache(import_)

    example = actions.add_parser("example", help="a word of what it looks like")
    example.add_argument(
        "file", type=Path, metavar="FILE", help="words in JSON, to which it is added, or a new file"
    )
    example.add_argument("--name", required=True, metavar="NAME", help="its label in results")
    example.add_argument(
        "--mark",
        nargs=2,
        action="append",
        required=True,
        metavar=("IMAGE", "REGION"),
        help="an image and where the thing is in it: left,top,right,bottom in pixels, or an image "
        "of the same size that is not black there; repeated for more: three are better than one",
    )
    add_plan(example)
    add_json(example)
    add_engine(example)


def run(args: argparse.Namespace) -> int:
    """Do the action.

    Raises:
        XDecoderError: the plan, the words or a file are not usable.
    """
    report: CommandReport = args.command_report
    actions = {
        "embed": _embed,
        "list": _list,
        "export": _export,
        "import": _import,
        "example": _example,
    }
    document = actions[args.action](args, report)
    report.document({"plan": str(args.plan), "action": args.action, **document})
    return 0


def _embed(args: argparse.Namespace, report: CommandReport) -> dict[str, Any]:
    from xdecoder_rt.words.carried import carry, check_name

    words = read_vocabulary(args)
    name = args.name or (args.words_file.stem if args.words_file else "words")
    if args.into is not None:
        check_writable(args.into, "the plan")
        check_name(name)
    with open_engine(args) as engine:
        with progress_bar("sentences embedded") as progress:
            embedded = engine.class_table(words, progress)
        stats = engine.text_cache.stats
    # The void class is embedded with every vocabulary.
    number = quantity(len(words.texts) + 1, "text")
    report.text(f"{number} with the void class: {stats.misses} embedded now, the others were known")
    if args.into is not None:
        carry(args.plan, args.into, name, words, embedded)
        report.text(f"{printable(str(args.into), 200)} carries them as {name!r}")
    return {
        "words": len(words.texts),
        "embedded": stats.misses,
        "into": None if args.into is None else str(args.into),
        "name": None if args.into is None else name,
    }


def _list(args: argparse.Namespace, report: CommandReport) -> dict[str, Any]:
    from xdecoder_rt.words.carried import PlanWords
    from xdecoder_rt.words.files import plain_entries

    with _open_plan_and_cache(args) as (plan, cache):
        carried = {
            name: plain_entries(words.words)
            for name, words in PlanWords(plan).vocabularies().items()
        }
        entries = [(*_kind_and_text(entry.text), entry) for entry in cache.entries()]
        path = cache.path
    number = {0: "no vocabulary", 1: "one vocabulary"}.get(len(carried))
    report.text(
        f"{printable(str(args.plan), 200)} carries {number or f'{len(carried)} vocabularies'}"
    )
    for name, words in carried.items():
        labels = (
            word if isinstance(word, str) else " | ".join(_word_names(word)) for word in words
        )
        report.text(f"  {name}: {', '.join(printable(label) for label in labels)}")
    report.text(f"\n{path or 'no cache file'}: {quantity(len(entries), 'text')} of this text graph")
    if entries:
        rows = [
            (kind, printable(text, 60), str(entry.bytes), _day(entry.used))
            for kind, text, entry in entries
        ]
        report.text(format_table(("kind", "text", "bytes", "last used"), rows, left_columns=2))
    return {
        "vocabularies": carried,
        "cache": None if path is None else str(path),
        "texts": [
            {"kind": kind, "text": text, "bytes": entry.bytes, "used": entry.used}
            for kind, text, entry in entries
        ],
    }


def _export(args: argparse.Namespace, report: CommandReport) -> dict[str, Any]:
    from xdecoder_rt.words.carried import templates_digest
    from xdecoder_rt.words.embedding_file import EmbeddingFile, is_embedding_file
    from xdecoder_rt.words.encoder import class_key

    check_writable(args.file, "the embeddings")
    if os.path.isfile(args.file) and not is_embedding_file(args.file):
        raise VocabularyError(
            f"{printable(str(args.file), 200)} exists and is no file of embeddings",
            expected="the file to write; the plan is given with --plan",
        )
    if has_words(args):
        words = read_vocabulary(args)
        with open_engine(args) as engine:
            with progress_bar("sentences embedded") as progress:
                rows = engine.class_table(words, progress)
            background = engine.manifest.text.background
            manifest = engine.manifest
        texts = (*words.texts, background)
        vectors = {
            class_key(text): row
            for index, (text, row) in enumerate(zip(texts, rows, strict=True))
            if index not in words.examples
        }
    else:
        with _open_plan_and_cache(args) as (plan, cache):
            manifest = plan.manifest
            vectors = cache.get_many([entry.text for entry in cache.entries()])
        if not vectors:
            raise VocabularyError(
                "The cache has no words of this plan",
                fix="name some with --words, or embed them before: xdecoder-rt vocab embed",
            )
    EmbeddingFile(manifest.text_graph_sha256, templates_digest(manifest), vectors).write(args.file)
    size = args.file.stat().st_size
    number = quantity(len(vectors), "embedding")
    report.text(f"{printable(str(args.file), 200)}  {number}, {size / 1e6:.2f} MB")
    return {"file": str(args.file), "embeddings": len(vectors), "size": size}


def _import(args: argparse.Namespace, report: CommandReport) -> dict[str, Any]:
    from xdecoder_rt.words.embedding_file import EmbeddingFile

    file = EmbeddingFile.read(args.file)
    with _open_plan_and_cache(args) as (plan, cache):
        _refuse_another(file, plan.manifest, args.file)
        known_vectors = cache.get_many(list(file.vectors))
        fresh = {text: row for text, row in file.vectors.items() if text not in known_vectors}
        cache.put_many(fresh)
        path = cache.path
    report.text(
        f"{printable(str(args.file), 200)}: {quantity(len(fresh), 'embedding')} new to "
        f"{path or 'no cache file'}, {len(known_vectors)} known"
    )
    return {
        "file": str(args.file),
        "new": len(fresh),
        "known": len(known_vectors),
        "cache": None if path is None else str(path),
    }


def _refuse_another(file: Any, manifest: Manifest, path: Path) -> None:
    """Refuse embeddings that this plan's text graph, or the one it comes from, did not make."""
    from xdecoder_rt.words.carried import templates_digest

    text_graph = manifest.text_graph_sha256
    if file.text_graph not in (text_graph, manifest.text.origin_sha256):
        raise VocabularyError(
            f"{printable(str(path), 200)} was made by the text graph {file.text_graph[:16]}…",
            expected=f"one made by this plan's, {text_graph[:16]}…",
            fix="export it with the plan that will read it, or with the one that it was made from",
        )
    if file.templates != templates_digest(manifest):
        raise VocabularyError(
            f"{printable(str(path), 200)} was made with other templates than this plan's",
            fix="export it with the plan that will read it",
        )
    width = manifest.text.proj_dim
    # A phrase has an embedding a token, the others one.
    if any(
        len(row) % width if _kind_and_text(key)[0] == _KINDS["tokens"] else len(row) != width
        for key, row in file.vectors.items()
    ):
        raise VocabularyError(
            f"{printable(str(path), 200)} has embeddings of another length",
            expected=f"{manifest.text.proj_dim} values",
        )


def _example(args: argparse.Namespace, report: CommandReport) -> dict[str, Any]:
    import numpy as np

    from xdecoder_rt.files.image_file import read_image
    from xdecoder_rt.words.vocabulary import Vocabulary

    if args.file.suffix.lower() != ".json":
        raise VocabularyError(
            f"The file of words {printable(str(args.file), 200)} is no JSON",
            expected="a name that ends in .json: an example is no line of text",
        )
    check_writable(args.file, "the words")
    words = Vocabulary.load(args.file) if args.file.exists() else None
    images: list[AnyImage] = [read_image(path) for path, _ in args.mark]
    regions: list[RegionSource] = []
    for _, region in args.mark:
        try:
            regions.append(parse_box(region))
        except argparse.ArgumentTypeError:
            regions.append(np.asarray(read_image(region).any(axis=2)))
    with open_engine(args) as engine:
        word = engine.example(images, regions, args.name)
    words = _with_example(words, word)
    words.save(args.file)
    report.text(
        f"{printable(args.name)} in {printable(str(args.file), 200)}, of "
        f"{quantity(len(regions), 'mark')}; {quantity(len(words.words), 'word')} in all"
    )
    return {"file": str(args.file), "name": args.name, "marks": len(regions)}


def _with_example(words: Vocabulary | None, word: Word) -> Vocabulary:
    """Add a word; one of its name stays what it is, and gets the example."""
    from xdecoder_rt.words.normal_form import name_key
    from xdecoder_rt.words.vocabulary import Vocabulary

    if words is None:
        return Vocabulary.parse([word])
    key = name_key(word.name)
    if key not in (name_key(old.name) for old in words.words):
        return words.with_words(word)
    changed = [
        replace(old, example=word.example) if name_key(old.name) == key else old
        for old in words.words
    ]
    return Vocabulary.parse(changed, other=words.other).keeping_ids_of(words)


@contextmanager
def _open_plan_and_cache(args: argparse.Namespace) -> Iterator[tuple[Plan, TextCache]]:
    """Open the plan and its cache, without what would run graphs."""
    from xdecoder_rt.plan.file import Plan
    from xdecoder_rt.words.cache import default_directory
    from xdecoder_rt.words.carried import PlanWords, cache_of

    with Plan.open(args.plan) as plan:
        cache = cache_of(plan, PlanWords(plan), args.cache_dir or default_directory())
        try:
            yield plan, cache
        finally:
            cache.close()


def _kind_and_text(key: str) -> tuple[str, str]:
    """Return the kind and the text of a cache's entry."""
    kind, _, text = key.partition("\0")
    return _KINDS.get(kind, kind), text


def _word_names(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value["name"], *value.get("synonyms", [])]


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M}"
