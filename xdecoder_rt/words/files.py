"""Files of words: a class a line for people, JSON for programs.

A line is a name, its synonyms after ``|``, and in brackets what else is to be said of it::

    # kitchen.txt
    mug | cup
    knife                [threshold 0.9]
    floor | ground       [stuff, id 7]
    hand                 [negative]
    something            [other]

Empty lines and lines that begin with ``#`` are skipped; lines of YAML and CSV are refused. The JSON
form is a list of names, of lists of synonyms or of objects with the fields of
:class:`~xdecoder_rt.words.word.Word`; or what ``Vocabulary.save`` writes, which also remembers the
ids of words that were left out.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import VocabularyError, quoted
from xdecoder_rt.files.regular import read_regular
from xdecoder_rt.json_reader import Rule, parse_json, read_object
from xdecoder_rt.words.example import Example, ExampleFields
from xdecoder_rt.words.word import MAX_ID, Entry, Word

__all__ = [
    "SYNONYM_MARK",
    "WordList",
    "words_from_json",
    "parse_lines",
    "plain_entries",
    "read_words",
    "save_words",
    "words_to_json",
]

SIZE_LIMIT = 64 << 20
_FORMAT = "xdecoder_rt words"
_VERSION = 1
_NAME = "The file of words"
_WORDS_LIMIT = 10_000_000
SYNONYM_MARK = "|"
_OTHER = "other"
# What no name of a line begins with, ends with or holds: a line of a list, a table or a mapping.
_OF_YAML = re.compile(r"-(?:\s|$)|---|%YAML|.*:(?:\s|$)", re.DOTALL)
_OF_CSV = re.compile(r"[,;\t]|^[\"']")
_EXPECTED = "stuff, negative, other, threshold 0.9 or id 7, separated by commas"
_FIELDS = {field.name for field in fields(Word)}


class WordList(NamedTuple):
    """Classes before :meth:`~xdecoder_rt.words.vocabulary.Vocabulary.from_list` checks them.

    Attributes:
        entries: the classes.
        other: the class of what is none of them, or None.
        next_id: no id below is to be given to a word that has none, if there are ids at all.
    """

    entries: list[Entry]
    other: Word | None = None
    next_id: int = 0


@dataclass(frozen=True)
class _JsonWord:
    """A :class:`Word` in JSON; its values are checked with the rest of the vocabulary."""

    name: str
    synonyms: tuple[str, ...] = ()
    stuff: bool = False
    negative: bool = False
    threshold: float | None = None
    id: int | None = None
    example: ExampleFields | None = None


@dataclass(frozen=True)
class _JsonWords:
    """The JSON form of a file; an entry is a name, a list of synonyms or a `_JsonWord`."""

    words: Annotated[tuple[Annotated[Any, Rule(unread=True)], ...], Rule(most=_WORDS_LIMIT)]
    other: Annotated[Any, Rule(unread=True)] = None
    next_id: Annotated[int, Rule(low=0, high=MAX_ID + 1)] = 0
    format: str = _FORMAT
    version: int = _VERSION


def parse_line(line: str) -> tuple[Word, bool]:
    """Parse one class as people write it.

    Args:
        line: such as ``sofa | couch [stuff, threshold 0.9]``.

    Returns:
        The word, and whether it is the class of what is none of the words.

    Raises:
        VocabularyError: what is in the brackets is not understood, or the line is one of another
            format (YAML, CSV).
    """
    names, rules = _split_rules(line.strip())
    _check_names(names, line)
    first, *synonyms = (name.strip() for name in names.split(SYNONYM_MARK))
    word, is_other = Word(first, tuple(synonyms)), False
    for rule in filter(None, (part.strip() for part in rules.split(","))):
        try:
            name, *values = rule.replace("=", " ").split()
            if name == _OTHER and not values:
                is_other = True
            elif name == "stuff" and not values:
                word = replace(word, stuff=True)
            elif name == "negative" and not values:
                word = replace(word, negative=True)
            elif name == "threshold" and len(values) == 1:
                word = replace(word, threshold=float(values[0]))
            elif name == "id" and len(values) == 1:
                word = replace(word, id=int(values[0]))
            else:
                raise ValueError(rule)
        except ValueError as error:
            raise VocabularyError(
                f"{quoted(rule)} is not understood in {quoted(line)}", expected=_EXPECTED
            ) from error
    return word, is_other


def _split_rules(line: str) -> tuple[str, str]:
    """Return the names of a line, and what its last brackets hold."""
    if line.endswith("]"):
        names, bracket, rules = line[:-1].rpartition("[")
        if bracket and "]" not in rules:
            return names, rules
    return line, ""


def _check_names(names: str, line: str) -> None:
    """Refuse names that a person means otherwise than they would be embedded."""
    if "[" in names or "]" in names:
        raise VocabularyError(
            f"The brackets of {quoted(line)} are not understood",
            expected="rules in one pair of brackets at the end: mug [threshold 0.9]",
        )
    is_yaml = _OF_YAML.match(names.strip())
    if is_yaml or _OF_CSV.search(names.strip()):
        raise VocabularyError(
            f"{quoted(line)} looks like a line of {'YAML' if is_yaml else 'CSV'}",
            expected="one class a line, without quotes, commas, semicolons and tabs, its synonyms "
            f"after {SYNONYM_MARK}",
            fix='give each class by itself, or a file of JSON: ["mug", "cup"]',
        )


def parse_lines(lines: Sequence[str]) -> WordList:
    """Parse classes as people write them.

    Raises:
        VocabularyError: a line is not understood, or two are ``other``.
    """
    words: list[Entry] = []
    other: Word | None = None
    for line in lines:
        word, is_other = parse_line(line)
        if not is_other:
            words.append(word)
        elif other is not None:
            raise VocabularyError(f"{quoted(line)} is a second other class", expected="one")
        else:
            other = word
    return WordList(words, other)


def read_words(path: str | os.PathLike[str]) -> WordList:
    """Read a file of words, in either form.

    Raises:
        VocabularyError: it cannot be read, is too large, or is not such a file.

    Example:
        >>> save_words("words.json", [Word("sofa", ["couch"]), Word("floor", stuff=True)], None, 0)
        >>> [word.stuff for word in read_words("words.json").entries]
        [False, True]
    """
    name = quoted(str(path), 200)
    try:
        data = read_regular(path, SIZE_LIMIT)
    except (OSError, TypeError, ValueError) as error:  # no such file, no path, no file name
        raise VocabularyError(
            f"The file of words {name} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    if len(data) > SIZE_LIMIT:
        raise VocabularyError(
            f"The file of words {name} is larger than {SIZE_LIMIT >> 20} MiB",
            expected="one class a line",
        )
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        if data.lstrip()[:1] in (b"{", b"["):
            words = words_from_json(data)
        else:
            lines = [line.strip() for line in data.decode().splitlines()]
            words = parse_lines([line for line in lines if line and not line.startswith("#")])
    except UnicodeDecodeError as error:
        raise VocabularyError(
            f"The file of words {name} is not text", expected="UTF-8, one class a line"
        ) from error
    except VocabularyError as error:
        raise VocabularyError(
            f"{name}: {error.what}", expected=error.expected, fix=error.fix
        ) from error
    if not words.entries:
        raise VocabularyError(f"The file {name} has no words", expected="one class a line")
    return words


def save_words(
    path: str | os.PathLike[str], words: Sequence[Word], other: Word | None, next_id: int
) -> None:
    """Write a file of words: JSON where the name ends in ``.json``, else text.

    Args:
        path: the file.
        words: the classes, with their ids.
        other: the class of what is none of them, or None.
        next_id: the id of the next class to come; text has no place for it.

    Raises:
        VocabularyError: it cannot be written, or a name cannot be written as text.

    Example:
        >>> save_words("words.json", [Word("mug", id=4)], None, 5)
        >>> read_words("words.json").next_id
        5
    """
    if Path(path).suffix.lower() == ".json":
        data = words_to_json(words, other, next_id)
    else:
        data = "".join(f"{line}\n" for line in _text_lines(words, other)).encode()
    try:
        with atomic_writer(path) as file:
            file.write(data)
    except OSError as error:
        raise VocabularyError(
            f"The file of words {quoted(str(path), 200)} cannot be written: "
            f"{error.strerror or error}"
        ) from error


def words_to_json(words: Sequence[Word], other: Word | None, next_id: int) -> bytes:
    """Write classes with all their rules and ids; :func:`words_from_json` reads them back."""
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "words": [_stated_fields(word) for word in words],
        "other": None if other is None else _stated_fields(other),
        "next_id": next_id,
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def words_from_json(data: bytes) -> WordList:
    """Read words from JSON.

    Raises:
        VocabularyError: it is no such document.
    """
    document = parse_json(data, _NAME, SIZE_LIMIT, VocabularyError)
    if isinstance(document, list):
        document = {"words": document}
    words = read_object(document, _JsonWords, _NAME, VocabularyError)
    if (words.format, words.version) != (_FORMAT, _VERSION):
        raise VocabularyError(
            f"The file of words is {quoted(words.format)}, version {words.version}",
            expected=f"{_FORMAT!r}, version {_VERSION}",
        )
    entries = [
        _word_from_json(entry, f"{_NAME}, word {index}") if isinstance(entry, dict) else entry
        for index, entry in enumerate(words.words)
    ]
    other = None if words.other is None else _word_from_json(words.other, f"{_NAME}, other")
    return WordList(entries, other, words.next_id)


def plain_entries(words: Sequence[Word]) -> list[Any]:
    """Return classes as plain values for ``json.dumps``: names, groups, or words with rules."""
    return [
        word.name
        if _stated_fields(word).keys() <= {"name", "id", "stuff"} and not word.synonyms
        else list(word.texts)
        if _stated_fields(word).keys() <= {"name", "id", "stuff", "synonyms"}
        else _stated_fields(word)
        for word in words
    ]


def _stated_fields(word: Word) -> dict[str, Any]:
    """Return the fields that are not as they are by default."""
    default = Word(word.name)
    values = {name: getattr(word, name) for name in sorted(_FIELDS)}
    return {
        name: _plain(value)
        for name, value in values.items()
        if name == "name" or value != getattr(default, name)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Example):
        return value.to_json()
    return list(value) if isinstance(value, tuple) else value


def _word_from_json(value: Any, name: str) -> Word:
    values = vars(read_object(value, _JsonWord, name, VocabularyError, refuse_unknown=True))
    example = values["example"]
    return Word(**(values | {"example": None if example is None else Example.from_json(example)}))


def _text_lines(words: Sequence[Word], other: Word | None) -> list[str]:
    lines = []
    for word in (*words, *filter(None, [other])):
        rules = [name for name in ("stuff", "negative") if getattr(word, name)]
        rules += [_OTHER] if word is other else []
        rules += [] if word.threshold is None else [f"threshold {word.threshold!r}"]
        rules += [f"id {word.id}"]
        line = f"{f' {SYNONYM_MARK} '.join(word.texts)}  [{', '.join(rules)}]"
        try:
            reparsed, _ = parse_line(line)
        except VocabularyError:
            reparsed = None
        if reparsed != word or line.startswith("#") or len(line.splitlines()) > 1:
            raise VocabularyError(
                f"{quoted(word.name)} cannot be written as a line of text",
                fix="give the file a name that ends in .json",
            )
        lines.append(line)
    return lines
