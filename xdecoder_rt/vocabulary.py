"""Vocabularies: the words that a caller asks for, checked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import VocabularyError, shown

# Words are names, not documents; a megabyte-long "word" is a caller's mistake.
MAX_CHARACTERS = 1000


@dataclass(frozen=True)
class Vocabulary:
    """Class names in the caller's order, each with its synonyms.

    Attributes:
        labels: one a class: the word, or the first of a group of synonyms.
        texts: every word to embed, groups laid end to end.
        starts: index in ``texts`` of each class's first word, int64.
        stuff: labels that are stuff; every other class is a thing.
    """

    labels: tuple[str, ...]
    texts: tuple[str, ...]
    starts: npt.NDArray[np.int64]
    stuff: frozenset[str]

    @classmethod
    def parse(
        cls, entries: Sequence[str | Sequence[str]], stuff: Collection[str] = ()
    ) -> Vocabulary:
        """Check a caller's vocabulary.

        Args:
            entries: class names; a class may be a group of synonyms.
            stuff: the labels that are stuff.

        Raises:
            VocabularyError: it is empty, or holds an empty, duplicate, over-long or unreadable
                word; or ``stuff`` names none of its labels.
        """
        if isinstance(entries, str) or not isinstance(entries, Sequence):
            raise VocabularyError(
                f"The vocabulary is a {type(entries).__name__}",
                expected="a list of words, such as ['mug', 'table']",
            )
        if not entries:
            raise VocabularyError("The vocabulary is empty", expected="at least one word")
        labels: list[str] = []
        texts: list[str] = []
        starts: list[int] = []
        for index, entry in enumerate(entries):
            if not isinstance(entry, str | Sequence):
                raise VocabularyError(
                    f"Vocabulary entry {index} is a {type(entry).__name__}",
                    expected="a word or a group of synonyms",
                )
            group = [entry] if isinstance(entry, str) else list(entry)
            if not group:
                raise VocabularyError(
                    f"Vocabulary entry {index} is an empty group", expected="at least one word"
                )
            starts.append(len(texts))
            texts += [check_text(word, f"Vocabulary entry {index}") for word in group]
            labels.append(texts[starts[-1]])
        _refuse_duplicates(texts)
        if isinstance(stuff, str):
            raise VocabularyError(
                f"stuff is the string {shown(stuff)}", expected="a list of labels"
            )
        unknown = [label for label in stuff if label not in set(labels)]
        if unknown:
            raise VocabularyError(
                f"stuff names {shown(unknown[0])}, which is not in the vocabulary",
                expected="labels of the vocabulary (of a group, its first word)",
            )
        return cls(tuple(labels), tuple(texts), np.array(starts, np.int64), frozenset(stuff))

    def is_thing(self) -> npt.NDArray[np.bool_]:
        """One flag a class: True for things."""
        return np.array([label not in self.stuff for label in self.labels], np.bool_)


def check_text(text: object, where: str) -> str:
    """A word or phrase as it will be embedded.

    Raises:
        VocabularyError: it is no string, empty, too long, or holds NUL or lone surrogates.
    """
    if not isinstance(text, str):
        raise VocabularyError(f"{where} is a {type(text).__name__}", expected="a string")
    if len(text) > MAX_CHARACTERS:
        raise VocabularyError(
            f"{where} has {len(text)} characters", expected=f"at most {MAX_CHARACTERS}"
        )
    if not text.strip():
        raise VocabularyError(f"{where} is empty", expected="a word")
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise VocabularyError(
            f"{where} holds characters that are no text ({shown(text)})", expected="valid Unicode"
        )
    return text


def _refuse_duplicates(texts: Sequence[str]) -> None:
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            raise VocabularyError(
                f"{shown(text)} is in the vocabulary twice",
                expected="each word once",
                fix="Remove one; synonyms may share a group: ['mug', ['sofa', 'couch']]",
            )
        seen.add(text)
