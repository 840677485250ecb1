"""Vocabularies: the words that a caller asks for, checked, and the rules that go with them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import VocabularyError, quoted
from xdecoder_rt.words.checks import (
    check_flags,
    check_plain,
    checked_id,
    checked_labels,
    checked_threshold,
    checked_words,
    distinct_keys,
    is_empty,
    refuse_unknown,
    stuff_words,
)
from xdecoder_rt.words.example import Example
from xdecoder_rt.words.files import WordList, read_words, save_words
from xdecoder_rt.words.normal_form import clean_name, name_key
from xdecoder_rt.words.templates import clean_class_name
from xdecoder_rt.words.word import MAX_ID, Entry, Word, check_text

_PARSED_KEPT = 16
_Scalar = TypeVar("_Scalar", bound=np.generic)


def is_void_name(text: str, background: str, suffixes: Sequence[str] = ()) -> bool:
    """Whether a class of this name would be the void class, and so never be reported.

    Args:
        text: the class's name.
        background: the void class's.
        suffixes: what a plan cuts from names.
    """
    return name_key(clean_class_name(clean_name(text), suffixes)) == name_key(background)


@dataclass(frozen=True)
class Vocabulary:
    """Classes in the caller's order. Made by :meth:`parse` or :meth:`load`.

    Attributes:
        words: the classes, each with its id.
        other: the label of what is there and is none of the words for sure, or None for leaving
            that out. Its name is not embedded.
        next_id: the id of the next word to come; no id below is given twice.

    Example:
        >>> words = Vocabulary.parse(["mug", ["sofa", "couch"]], stuff=["floor"], other="thing")
        >>> words.labels
        ('mug', 'sofa', 'floor', 'thing')
    """

    words: tuple[Word, ...]
    other: Word | None = None
    next_id: int = 0

    @classmethod
    def parse(
        cls,
        entries: Sequence[Entry] | Vocabulary,
        stuff: Collection[str] = (),
        *,
        negatives: Sequence[Entry] | None = None,
        thresholds: Mapping[str, float] | None = None,
        other: str | Word | None = None,
    ) -> Vocabulary:
        """Check a caller's vocabulary.

        Names that the tokenizer makes the same tokens of ("bin" and "Bin") are one word, here and
        wherever a label is looked up.

        Args:
            entries: class names; a class may be a group of synonyms, named by its first, or a
                :class:`Word`.
            stuff: labels that are stuff; every other class is a thing, unless its word says so.
                Words that are only here are looked for too.
            negatives: more words, which compete with the others and are never reported.
            thresholds: label to the least score at which it is reported.
            other: label of what is there and is none of the words for sure.

        Raises:
            VocabularyError: it is empty, or holds an empty, duplicate, over-long or unreadable
                word; a threshold or an id is out of range; ``thresholds`` names none of its
                labels; or an argument is of another kind.

        Example:
            >>> words = Vocabulary.parse(["mug", "knife"], negatives=["hand"])
            >>> words.found_labels, words.texts
            (('mug', 'knife'), ('mug', 'knife', 'hand'))
        """
        has_rules = other is not None or any(
            rules is not None and not is_empty(rules) for rules in (negatives, thresholds)
        )
        negatives = () if negatives is None else negatives
        thresholds = {} if thresholds is None else thresholds
        if isinstance(entries, Vocabulary):
            if is_empty(stuff) and not has_rules:
                return entries
            other = entries.other if other is None else other
            changed = _checked_vocabulary(entries.words, stuff, negatives, thresholds, other)
            return changed.keeping_ids_of(entries)
        if not (isinstance(stuff, str | Mapping) or has_rules):
            key = _cache_key(entries, stuff)
            if key is not None:
                return _parsed_vocabulary(*key)
        return _checked_vocabulary(entries, stuff, negatives, thresholds, other)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Read a file of words; see :mod:`xdecoder_rt.words.files`.

        Raises:
            VocabularyError: it cannot be read, or is not such a file.

        Example:
            >>> Vocabulary.parse(["mug", "table"]).save("words.txt")
            >>> Vocabulary.load("words.txt").labels
            ('mug', 'table')
        """
        return cls.from_list(read_words(path))

    @classmethod
    def from_list(cls, words: WordList) -> Vocabulary:
        """Check what a file of words holds.

        Raises:
            VocabularyError: as for :meth:`parse`.

        Example:
            >>> from xdecoder_rt.words.files import WordList
            >>> Vocabulary.from_list(WordList(["mug", "table"])).labels
            ('mug', 'table')
        """
        parsed = cls.parse(words.entries, other=words.other)
        return replace(parsed, next_id=max(parsed.next_id, words.next_id))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file of words that :meth:`load` reads back: JSON for ``.json``, else text.

        Raises:
            VocabularyError: it cannot be written.

        Example:
            >>> Vocabulary.parse(["mug", ["sofa", "couch"]]).save("words.json")
            >>> Vocabulary.load("words.json").texts
            ('mug', 'sofa', 'couch')
        """
        save_words(path, self.words, self.other, self.next_id)

    def with_words(self, *entries: Entry) -> Vocabulary:
        """Return this vocabulary and more words, which get ids that no word had before.

        Raises:
            VocabularyError: as for :meth:`parse`.

        Example:
            >>> words = Vocabulary.parse(["mug", "table"]).with_words("bin")
            >>> words.labels, words.ids.tolist()
            (('mug', 'table', 'bin'), [0, 1, 2])
        """
        return _checked_vocabulary((*self.words, *entries), (), (), {}, self.other).keeping_ids_of(
            self
        )

    def with_thresholds(self, change: Callable[[float], float]) -> Vocabulary:
        """Return this vocabulary with every threshold that a word has changed.

        Args:
            change: from a threshold to another, 0 to 1.

        Example:
            >>> words = Vocabulary.parse(["mug", "knife"], thresholds={"knife": 0.9})
            >>> words.with_thresholds(lambda threshold: threshold / 2).words[1].threshold
            0.45
        """

        def changed(word: Word) -> Word:
            return (
                word if word.threshold is None else replace(word, threshold=change(word.threshold))
            )

        other = None if self.other is None else changed(self.other)
        return replace(self, words=tuple(map(changed, self.words)), other=other)

    def without(self, *labels: str) -> Vocabulary:
        """Return this vocabulary without some words; the others keep their ids.

        Raises:
            VocabularyError: a label is not in it, or none would be left.

        Example:
            >>> words = Vocabulary.parse(["mug", "table", "bin"]).without("table")
            >>> words.labels, words.ids.tolist()
            (('mug', 'bin'), [0, 2])
        """
        gone = checked_labels("The words to leave out", labels)
        refuse_unknown("The words to leave out", gone, map(name_key, self.labels))
        words = tuple(word for word in self.words if name_key(word.name) not in gone)
        if all(word.negative for word in words):
            raise VocabularyError("No word would be left", expected="one that can be found")
        drops_other = self.other is not None and name_key(self.other.name) in gone
        return replace(self, words=words, other=None if drops_other else self.other)

    def keeping_ids_of(self, earlier: Vocabulary) -> Vocabulary:
        """Return this vocabulary with the ids of an earlier one where their labels are the same.

        Words that are new, and a new label of ``other``, get ids that none of the earlier one had.

        Example:
            >>> earlier = Vocabulary.parse(["mug", "table"])
            >>> Vocabulary.parse(["bin", "mug"]).keeping_ids_of(earlier).ids.tolist()
            [2, 0]
        """
        ids = {name_key(word.name): word.id for word in earlier._reported}
        following = earlier.next_id
        words = []
        for word in self._reported:
            id_ = ids.get(name_key(word.name))
            if id_ is not None:
                words.append(replace(word, id=id_))
            else:
                words.append(replace(word, id=following))
                following += 1
        _refuse_beyond(following, earlier.next_id)
        other = None if self.other is None else words.pop()
        return Vocabulary(tuple(words), other, following)

    def without_void(self, background: str, suffixes: Sequence[str] = ()) -> Vocabulary:
        """Return this vocabulary without the name of the void class, which every plan adds itself.

        A class of that name is never reported. Its synonyms stay, as negative words; as a synonym
        of another class the name is left out. The others keep their labels and ids.

        Args:
            background: the void class's name.
            suffixes: what a plan cuts from names.

        Returns:
            The same object where no word is that name.

        Raises:
            VocabularyError: no word would be left that can be found.

        Example:
            >>> Vocabulary.parse(["mug", "background"]).without_void("background").labels
            ('mug',)
        """
        key = (background, tuple(suffixes))
        if key not in self._void_forms:
            self._void_forms[key] = self._without_void(*key)
        return self._void_forms[key]

    @cached_property
    def _void_forms(self) -> dict[tuple[str, tuple[str, ...]], Vocabulary]:
        return {}

    def _without_void(self, background: str, suffixes: Sequence[str]) -> Vocabulary:
        def is_void(text: str) -> bool:
            return is_void_name(text, background, suffixes)

        if not any(map(is_void, self.texts)):
            return self
        words = []
        for word in self.words:
            names = tuple(text for text in word.texts if not is_void(text))
            if names:
                is_negative = word.negative or is_void(word.name)
                words.append(
                    replace(
                        word,
                        name=names[0],
                        synonyms=names[1:],
                        negative=is_negative,
                        example=word.example if names[0] == word.name else None,
                    )
                )
        if all(word.negative for word in words):
            raise VocabularyError(
                f"{quoted(background)} is the name of what is none of the words, and there is no "
                "other word to find",
                expected="a word for a thing or for stuff",
            )
        return replace(self, words=tuple(words))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The name of each class, then that of ``other`` if there is one."""
        return tuple(word.name for word in self._reported)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Every text to embed, groups of synonyms laid end to end."""
        return tuple(clean_name(text) for word in self.words for text in word.texts)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Index in ``texts`` of each class's first."""
        sizes = [len(word.texts) for word in self.words]
        return np.cumsum([0, *sizes[:-1]], dtype=np.int64)

    @cached_property
    def examples(self) -> Mapping[int, Example]:
        """What words look like that were learnt from images, by the index of their name's text."""
        return {
            int(start): word.example
            for start, word in zip(self.starts, self.words, strict=True)
            if word.example is not None
        }

    @cached_property
    def ids(self) -> npt.NDArray[np.int64]:
        """The ``label_id`` of each of ``labels``."""
        return _read_only(np.array([word.id for word in self._reported], np.int64))

    @cached_property
    def negative(self) -> npt.NDArray[np.bool_]:
        """Which of the words are negative."""
        return _read_only(np.array([word.negative for word in self.words], np.bool_))

    @cached_property
    def thresholds(self) -> npt.NDArray[np.float32]:
        """The threshold of each word, NaN where the plan's rules hold."""
        thresholds = [np.nan if word.threshold is None else word.threshold for word in self.words]
        return _read_only(np.array(thresholds, np.float32))

    @cached_property
    def stuff(self) -> frozenset[str]:
        """Labels that are stuff."""
        return frozenset(word.name for word in self._reported if word.stuff)

    @cached_property
    def found_labels(self) -> tuple[str, ...]:
        """Labels that a segment may have: all but negative words', then that of ``other``."""
        return tuple(word.name for word in self._reported if not word.negative)

    @cached_property
    def has_rules(self) -> bool:
        """Whether it has negatives, thresholds or ``other``."""
        has_word_rules = any(word.negative or word.threshold is not None for word in self.words)
        return has_word_rules or self.other is not None

    def is_thing(self) -> npt.NDArray[np.bool_]:
        """Return one flag for each of ``labels``: True for things; read-only.

        Example:
            >>> Vocabulary.parse(["mug"], stuff=["floor"]).is_thing().tolist()
            [True, False]
        """
        return self._is_thing

    @cached_property
    def _is_thing(self) -> npt.NDArray[np.bool_]:
        return _read_only(np.array([not word.stuff for word in self._reported], np.bool_))

    @cached_property
    def _reported(self) -> tuple[Word, ...]:
        return self.words if self.other is None else (*self.words, self.other)


def _cache_key(
    entries: object, stuff: Collection[str]
) -> tuple[tuple[str | tuple[str, ...] | Word, ...], tuple[str, ...]] | None:
    """Return what a vocabulary is known by when it is asked for again; None for what is none."""
    if isinstance(entries, str) or not isinstance(entries, Sequence):
        return None
    key = tuple(
        entry
        if isinstance(entry, str | Word)
        else tuple(entry)
        if isinstance(entry, Sequence)
        else None
        for entry in entries
    )
    try:
        hash((key, stuff_key := tuple(stuff)))
    except TypeError:
        return None
    return (key, stuff_key) if None not in key else None  # type: ignore[return-value]


@lru_cache(maxsize=_PARSED_KEPT)
def _parsed_vocabulary(entries: tuple[Entry, ...], stuff: tuple[str, ...]) -> Vocabulary:
    """Parse a vocabulary without rules: one object for the same words, with all that it caches."""
    return _checked_vocabulary(entries, stuff, (), {}, None)


def _checked_vocabulary(
    entries: Sequence[Entry],
    stuff: Collection[str],
    negatives: Sequence[Entry],
    thresholds: Mapping[str, float],
    other: str | Word | None,
) -> Vocabulary:
    words = checked_words(entries, "Vocabulary entry")
    negative_words = [] if is_empty(negatives) else checked_words(negatives, "Negative word")
    negative_words = [replace(word, negative=True) for word in negative_words]
    stuff_labels = checked_labels("stuff", stuff)
    if not isinstance(thresholds, Mapping):
        raise VocabularyError(
            f"thresholds is {quoted(thresholds)}", expected="a mapping of labels to numbers"
        )
    threshold_labels = checked_labels("thresholds", list(thresholds))
    if len(threshold_labels) < len(thresholds):
        raise VocabularyError(
            "thresholds names a label in two spellings", expected="each label once"
        )
    thresholds_of = {key: thresholds[label] for key, label in threshold_labels.items()}
    listed = distinct_keys([*words, *negative_words])
    other_word = Word(other) if isinstance(other, str) else other
    labels = {name_key(word.name) for word in (*words, *negative_words)}
    if other_word is not None:
        if not isinstance(other_word, Word):
            raise VocabularyError(f"The other class is {quoted(other_word)}", expected="a label")
        check_plain(check_text(other_word.name, "The other class"), "The other class", other)
        check_flags(other_word)
        if other_word.synonyms or other_word.negative or other_word.example is not None:
            raise VocabularyError(
                f"The other class {quoted(other_word.name)} is negative, or has synonyms or an "
                "example",
                expected="a class that is reported, by one name: it is not embedded",
            )
        if name_key(other_word.name) in labels:
            raise VocabularyError(
                f"The other class {quoted(other_word.name)} is a word of the vocabulary too",
                expected="a label that no word has",
            )
        labels.add(name_key(other_word.name))
    words += stuff_words(stuff_labels, listed, labels)
    labels |= stuff_labels.keys()
    words += negative_words
    if not words:
        raise VocabularyError("The vocabulary is empty", expected="at least one word")
    if all(word.negative for word in words):
        raise VocabularyError(
            "Every word of the vocabulary is negative", expected="a word that can be found"
        )
    refuse_unknown("thresholds", threshold_labels, labels)

    def with_rules(word: Word) -> Word:
        if not (thresholds_of or stuff_labels) and word.threshold is None:
            return word
        key = name_key(word.name)
        threshold = thresholds_of.get(key, word.threshold)
        if threshold is None and key not in stuff_labels:
            return word
        is_stuff = word.stuff or key in stuff_labels
        return replace(word, stuff=is_stuff, threshold=checked_threshold(threshold, word.name))

    return _numbered_vocabulary(
        [with_rules(word) for word in words], None if other_word is None else with_rules(other_word)
    )


def _numbered_vocabulary(words: list[Word], other: Word | None) -> Vocabulary:
    """Number words: their own ids, else places; beside own ids, the next free."""
    numbered = list(words) if other is None else [*words, other]
    ids: list[int] = []
    for index, word in enumerate(numbered):
        if word.id is not None:
            ids.append(checked_id(word.id))
            if type(word.id) is not int:
                numbered[index] = _with_id(word, ids[-1])
    if len(set(ids)) < len(ids):
        duplicate = next(id_ for id_, count in Counter(ids).items() if count > 1)
        raise VocabularyError(f"The id {duplicate} is there twice", expected="each once")
    first = following = max(ids) + 1 if ids else 0
    for index, word in enumerate(numbered):
        if word.id is None:
            numbered[index] = _with_id(word, following)
            following += 1
    _refuse_beyond(following, first)
    if other is None:
        return Vocabulary(tuple(numbered), None, following)
    return Vocabulary(tuple(numbered[:-1]), numbered[-1], following)


def _with_id(word: Word, id_: int) -> Word:
    # What dataclasses.replace does, in a third of its time: vocabularies may be large.
    return Word(
        word.name, word.synonyms, word.stuff, word.negative, word.threshold, id_, word.example
    )


def _refuse_beyond(following: int, first: int) -> None:
    """Refuse ids from `first` on, up to `following`, that maps of 32 bits cannot hold."""
    if following > max(first, MAX_ID + 1):
        raise VocabularyError(
            f"A new word would get the id {following - 1}",
            expected=f"at most {MAX_ID}",
            fix="give the words smaller ids of their own, or begin a new vocabulary",
        )


def _read_only(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    array.setflags(write=False)
    return array
