"""Checks of what a caller says of words: entries, labels, ids, thresholds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from xdecoder_rt.errors import VocabularyError, quoted
from xdecoder_rt.words.example import Example
from xdecoder_rt.words.files import SYNONYM_MARK
from xdecoder_rt.words.normal_form import name_key
from xdecoder_rt.words.word import MAX_ID, Entry, Word, check_text

__all__ = [
    "check_flags",
    "check_plain",
    "checked_id",
    "checked_labels",
    "checked_threshold",
    "checked_words",
    "distinct_keys",
    "is_empty",
    "is_share",
    "refuse_unknown",
    "stuff_words",
]


def is_empty(value: object) -> bool:
    """Whether a value is a list, or the like, of nothing; other values are not."""
    return isinstance(value, Collection) and not isinstance(value, str) and len(value) == 0


def checked_words(entries: Iterable[Entry], where: str) -> list[Word]:
    """Return entries as words, texts checked."""
    if isinstance(entries, str) or not isinstance(entries, Sequence):
        raise VocabularyError(
            f"The vocabulary is a {type(entries).__name__}",
            expected="a list of words, such as ['mug', 'table']",
        )
    words = []
    for index, entry in enumerate(entries):
        place = f"{where} {index}"
        if isinstance(entry, Word):
            texts, word = entry.texts, entry
            check_flags(word)
            if word.example is not None and not isinstance(word.example, Example):
                raise VocabularyError(
                    f"The example of {place} is a {type(word.example).__name__}",
                    expected="one that Engine.example made",
                )
        elif isinstance(entry, str):
            texts, word = (entry,), Word(entry)
        elif isinstance(entry, Sequence):
            texts = tuple(entry)
            if not texts:
                raise VocabularyError(f"{place} is an empty group", expected="at least one word")
            word = Word(texts[0], texts[1:])
        else:
            raise VocabularyError(
                f"{place} is a {type(entry).__name__}", expected="a word or a group of synonyms"
            )
        for text in texts:
            check_plain(check_text(text, place), place, entry)
        words.append(word)
    return words


def checked_id(value: object) -> int:
    """Return an id, NumPy's integers included."""
    if (
        not isinstance(value, int | np.integer)
        or isinstance(value, bool)
        or not 0 <= value <= MAX_ID
    ):
        raise VocabularyError(
            f"A word has the id {quoted(value)}", expected=f"a whole number from 0 to {MAX_ID}"
        )
    return int(value)


def checked_threshold(value: object, label: str) -> float | None:
    """Return a threshold, NumPy's numbers included."""
    if value is None:
        return None
    if not is_share(value):
        raise VocabularyError(
            f"The threshold of {quoted(label)} is {quoted(value)}", expected="a number from 0 to 1"
        )
    return float(value)  # type: ignore[arg-type]


def is_share(value: object) -> bool:
    """Return whether a value is a number from 0 to 1, NumPy's numbers included."""
    is_number = isinstance(value, int | float | np.integer | np.floating)
    return is_number and not isinstance(value, bool) and bool(0 <= value <= 1)  # type: ignore[operator]


def checked_labels(subject: str, labels: object) -> dict[str, str]:
    """Return labels by what they are compared by; the first of two that are one word.

    Raises:
        VocabularyError: they are no list of labels.
    """
    if isinstance(labels, str | bytes | Mapping) or not isinstance(labels, Collection):
        raise VocabularyError(f"{subject} is {quoted(labels)}", expected="a list of labels")
    by_key: dict[str, str] = {}
    for label in labels:
        if not isinstance(label, str):
            raise VocabularyError(f"{subject} names {quoted(label)}", expected="labels (str)")
        by_key.setdefault(name_key(check_text(label, f"A label of {subject}")), label)
    return by_key


def stuff_words(
    stuff: Mapping[str, str], texts: Collection[str], labels: Collection[str]
) -> list[Word]:
    """Return words for what is named as stuff only.

    Args:
        stuff: labels by key.
        texts: keys of the words and their synonyms.
        labels: keys of what is reported.
    """
    words = []
    for key, label in stuff.items():
        if key in labels:
            continue
        if key in texts:
            raise VocabularyError(
                f"stuff names {quoted(label)}, which is a synonym",
                expected="labels (of a group, its first word)",
            )
        check_plain(label, "A label of stuff", label)
        words.append(Word(label, stuff=True))
    return words


def refuse_unknown(subject: str, labels: Mapping[str, str], known: Iterable[str]) -> None:
    """Refuse labels, by key, that are not among known keys."""
    keys = set(known)
    unknown = [label for key, label in labels.items() if key not in keys]
    if unknown:
        raise VocabularyError(
            f"{subject} names {quoted(unknown[0])}, which is not in the vocabulary",
            expected="labels of the vocabulary (of a group, its first word)",
        )


def distinct_keys(words: Iterable[Word]) -> set[str]:
    """Return what all texts of some words are compared by.

    Raises:
        VocabularyError: a text is there twice, or two that are one word.
    """
    earlier: dict[str, str] = {}
    for text in (text for word in words for text in word.texts):
        key = name_key(text)
        if key in earlier:
            spelling = "" if earlier[key] == text else f" (also as {quoted(earlier[key])})"
            raise VocabularyError(
                f"{quoted(text)} is in the vocabulary twice{spelling}",
                expected="each word once, whatever its case and spacing",
                fix="Remove one; synonyms may share a group: ['mug', ['sofa', 'couch']]",
            )
        earlier[key] = text
    return set(earlier)


def check_plain(text: str, place: str, entry: object) -> None:
    """Refuse what is a rule in a file of words and would be embedded as it stands here."""
    if not isinstance(entry, Word) and ("[" in text or SYNONYM_MARK in text):
        raise VocabularyError(
            f"{place} is {quoted(text)}: brackets and bars are rules in files of words only",
            expected="a name",
            fix="say rules with Word: Word('mug', ('cup',), threshold=0.9)",
        )


def check_flags(word: Word) -> None:
    """Refuse what is neither true nor false where a word says one of them."""
    for name in ("stuff", "negative"):
        value = getattr(word, name)
        if not isinstance(value, bool | np.bool_):
            raise VocabularyError(
                f"{name} of {quoted(word.name)} is {quoted(value)}", expected="True or False"
            )
