"""One word of a vocabulary, and which texts may be words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from xdecoder_rt.errors import VocabularyError, quoted
from xdecoder_rt.words.example import Example
from xdecoder_rt.words.normal_form import clean_name

# Words are names, not documents; a megabyte-long "word" is a caller's mistake.
MAX_CHARACTERS = 1000
MAX_ID = (1 << 31) - 2


@dataclass(frozen=True)
class Word:
    """One class of a vocabulary.

    Attributes:
        name: its label in results, as typed; embedded as
            :func:`~xdecoder_rt.words.normal_form.clean_name` has it.
        synonyms: other names of the class; the one that fits best speaks for it.
        stuff: whether it has no instances (floor, sky).
        negative: whether it only competes: it is never reported, nor is what it wins.
        threshold: least score at which it is reported, 0 to 1; None for the plan's rules.
        id: its ``label_id`` in results; None for its place in the vocabulary.
        example: what it looks like, as :meth:`Engine.example` learnt it, in place of its name's
            embedding; None for the name's. Synonyms are texts all the same.

    Example:
        >>> Word("sofa", synonyms=["couch"], threshold=0.5).texts
        ('sofa', 'couch')
    """

    name: str
    synonyms: Sequence[str] = ()
    stuff: bool = False
    negative: bool = False
    threshold: float | None = None
    id: int | None = None
    example: Example | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.synonyms, tuple):
            synonyms = [self.synonyms] if isinstance(self.synonyms, str) else self.synonyms
            if not isinstance(synonyms, Iterable):
                raise VocabularyError(
                    f"The synonyms of {quoted(self.name)} are {quoted(synonyms)}",
                    expected="a list of names",
                )
            object.__setattr__(self, "synonyms", tuple(synonyms))

    @property
    def texts(self) -> tuple[str, ...]:
        """The name and its synonyms, as typed."""
        return (self.name, *self.synonyms)


Entry: TypeAlias = "str | Sequence[str] | Word"


def check_text(text: object, where: str) -> str:
    """Return a word or phrase, checked.

    Raises:
        VocabularyError: it is no string, has nothing to be seen, is too long, or holds NUL or lone
            surrogates.
    """
    if not isinstance(text, str):
        raise VocabularyError(f"{where} is a {type(text).__name__}", expected="a string")
    if len(text) > MAX_CHARACTERS:
        raise VocabularyError(
            f"{where} has {len(text)} characters", expected=f"at most {MAX_CHARACTERS}"
        )
    if not text.strip():
        raise VocabularyError(f"{where} is empty", expected="a word")
    if not clean_name(text):
        raise VocabularyError(
            f"{where} is empty but for characters that cannot be seen ({quoted(text)})",
            expected="a word",
        )
    if "\0" in text or not (text.isascii() or _is_unicode(text)):
        raise VocabularyError(
            f"{where} holds characters that are no text ({quoted(text)})", expected="valid Unicode"
        )
    return text


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
