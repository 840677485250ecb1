"""CLIP's byte-pair tokenizer, over the Rust package ``tokenizers``.

The algorithm is that of OpenAI's CLIP (https://github.com/openai/CLIP, ``simple_tokenizer.py``):
lower case, one space between words, a regular-expression split into words, single digits and runs
of punctuation, then byte-level pair merging with an end-of-word mark.

What is cleaned before: Unicode is composed (NFC), runs of white space become one space, and the
ends are trimmed. The original also runs ``ftfy`` (repair of wrongly decoded text) and unescapes
HTML entities, both aids for text scraped from web pages; here text is taken as it is given, so that
a result depends on no optional package. Spellings of special tokens ("<|endoftext|>") inside a text
are ordinary characters: a text cannot smuggle in a token.
"""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from xdecoder_rt.errors import ArgumentError, PlanError, VocabularyError, printable, quoted
from xdecoder_rt.json_reader import Rule, parse_json, read_object
from xdecoder_rt.words.normal_form import SPLIT

__all__ = ["END_OF_TEXT", "START_OF_TEXT", "ClipTokenizer"]

START_OF_TEXT = "<|startoftext|>"
END_OF_TEXT = "<|endoftext|>"
_END_OF_WORD = "</w>"
_MERGES_LIMIT = 1 << 17
_JSON_LIMIT = 16 << 20
# Decoding separates all tokens by spaces; these belong to the word before them.
_CLOSED_UP = re.compile(r" ([.,?!]|'(?:s|t|re|ve|m|ll|d)\b)")


@dataclass(frozen=True)
class _Model:
    type: Annotated[str, Rule(one_of=("BPE",))]
    merges: Annotated[tuple[Annotated[Any, Rule(unread=True)], ...], Rule(most=_MERGES_LIMIT)]


@dataclass(frozen=True)
class _TokenizerFile:
    """A ``tokenizer.json`` of the package ``tokenizers``, as far as it is read here."""

    model: _Model


def _byte_letters() -> dict[int, str]:
    """Return the printable character that stands for each byte, in the vocabulary's order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other_bytes = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters.update({byte: chr(256 + index) for index, byte in enumerate(other_bytes)})
    return letters


class ClipTokenizer:
    """Turns texts into the token ids that X-Decoder's text encoder reads, and back.

    The vocabulary follows from the merges: 256 bytes, the same 256 at the end of a word, one entry
    per merge, start, end (49,408 entries for CLIP's 48,894 merges). One tokenizer may be used from
    many threads.

    Args:
        merges: the pairs in order of priority, each as ``"left right"``.
        context_length: number of ids per text, start and end included; at least 3.

    Raises:
        ArgumentError: `context_length` is below 3.
        VocabularyError: a merge joins pieces that are not in the vocabulary.
    """

    def __init__(self, merges: Sequence[str], context_length: int = 77) -> None:
        if context_length < 3:
            raise ArgumentError(
                f"A context length of {context_length} leaves no room for a text",
                expected="at least 3 (start, one token, end)",
            )
        letters = _byte_letters()
        pieces = [*letters.values(), *(letter + _END_OF_WORD for letter in letters.values())]
        pairs = []
        for merge in merges:
            left, separator, right = merge.partition(" ")
            if not (left and separator and right) or " " in right:
                raise VocabularyError(
                    f"The merge {quoted(merge)} is malformed", expected='two pieces, "left right"'
                )
            pairs.append((left, right))
            pieces.append(left + right)
        pieces += [START_OF_TEXT, END_OF_TEXT]
        vocabulary = {piece: index for index, piece in enumerate(pieces)}
        if len(vocabulary) != len(pieces):
            raise VocabularyError(
                "Two merges make the same token", expected="every merge to make a new token"
            )
        try:
            bpe = models.BPE(vocab=vocabulary, merges=pairs, end_of_word_suffix=_END_OF_WORD)
        except Exception as error:  # tokenizers raises plain Exception
            raise VocabularyError(
                f"The merges do not fit together ({printable(str(error), 200)})",
                expected="every merge to join pieces that exist before it",
            ) from error
        self._tokenizer = Tokenizer(bpe)
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self.context_length = context_length
        self.vocab_size = len(pieces)
        self.start_token = len(pieces) - 2
        self.end_token = len(pieces) - 1

    @classmethod
    def from_json(cls, data: bytes | str, context_length: int = 77) -> ClipTokenizer:
        """Rebuild a tokenizer from `to_json`'s text, which a plan carries.

        Only the merges are taken from the file; the rules are this module's. A file can therefore
        change neither the splitting expression nor the place of a token.

        Args:
            data: the JSON text (the ``tokenizers`` package's format, model type BPE).
            context_length: number of ids per text.

        Returns:
            The tokenizer.

        Raises:
            PlanError: the text is not such a JSON document.
        """
        try:
            return cls(_merges_of_json(data), context_length)
        except VocabularyError as error:
            raise PlanError(
                f"The tokenizer is unusable: {error.what}", expected=error.expected
            ) from error

    @classmethod
    def default(cls, context_length: int = 77) -> ClipTokenizer:
        """Return CLIP's own tokenizer, from the merges that this package carries."""
        return cls(_packaged_merges(), context_length)

    def to_json(self) -> bytes:
        """Write the tokenizer as JSON of the package ``tokenizers`` (UTF-8, about 2 MB)."""
        return self._tokenizer.to_str().encode("utf-8")

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Token ids of `texts`.

        A text longer than the context is cut, keeping the end token.

        Args:
            texts: T texts of any length; an empty one becomes start, end.

        Returns:
            int64 ``[T, context_length]``, filled up with the end token as X-Decoder does.

        Raises:
            VocabularyError: an entry is not a text, or is not valid Unicode (a lone surrogate).
        """
        if isinstance(texts, str):
            raise VocabularyError(
                f"One text {quoted(texts)} was given where a list is needed",
                fix="put it in a list: [text]",
            )
        ids = np.full((len(texts), self.context_length), self.end_token, dtype=np.int64)
        for row, text in zip(ids, texts, strict=True):
            tokens = self.tokens(text)
            row[: len(tokens)] = tokens
        return ids

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return token ids of one text, from the start token to the end token, cut as in a call.

        Raises:
            VocabularyError: as for a call.
        """
        room = self.context_length - 2
        ids = self._tokenizer.encode(_cleaned(text, room), add_special_tokens=False).ids
        return (self.start_token, *ids[:room], self.end_token)

    def fits(self, text: str) -> bool:
        """Whether a text is embedded whole, or cut to the context length.

        Raises:
            VocabularyError: as for a call.
        """
        cleaned = _cleaned(text, self.context_length - 1)
        tokens = self._tokenizer.encode(cleaned, add_special_tokens=False).ids
        return len(tokens) <= self.context_length - 2

    def lengths(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the number of tokens of each row, up to and including the first end token.

        Args:
            ids: integers ``[T, L]``.

        Returns:
            int64 ``[T]``; L for a row without an end token.
        """
        is_end = np.asarray(ids) == self.end_token
        length = is_end.shape[-1]
        lengths: npt.NDArray[np.int64] = np.where(
            is_end.any(axis=-1), is_end.argmax(axis=-1) + 1, length
        ).astype(np.int64)
        return lengths

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`, up to the first end token; start tokens are skipped.

        Spaces before punctuation and contractions ("isn 't") are taken out, and bytes that are not
        UTF-8 become U+FFFD.

        Raises:
            ArgumentError: an id is outside the vocabulary.
        """
        pieces = []
        for token in (int(token) for token in ids):
            if token == self.end_token:
                break
            if token == self.start_token:
                continue
            piece = self._tokenizer.id_to_token(token) if 0 <= token < self.vocab_size else None
            if piece is None:
                raise ArgumentError(
                    f"The token id {token} is unknown", expected=f"0 to {self.vocab_size - 1}"
                )
            pieces.append(piece)
        byte_of = _bytes_of_letters()
        joined = "".join(pieces).replace(_END_OF_WORD, " ")
        raw = bytes(byte_of[letter] for letter in joined)
        return _CLOSED_UP.sub(r"\1", raw.decode("utf-8", errors="replace").strip())


def _cleaned(text: object, words: int) -> str:
    """Return the first `words` words of `text`: composed, single spaces, lower case.

    A word is one token or more, so what follows `words` words cannot reach the first `words` ids.
    """
    if not isinstance(text, str):
        raise VocabularyError(
            f"{quoted(text)} is of type {type(text).__name__}", expected="a text (str)"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise VocabularyError(
            f"The text {quoted(text)} is not valid Unicode ({error.reason})",
            fix="decode it with the encoding it was written in",
        ) from error
    composed = unicodedata.normalize("NFC", text)
    return " ".join(composed.split(maxsplit=words)[:words]).lower()


@lru_cache(maxsize=1)
def _bytes_of_letters() -> dict[str, int]:
    """Invert `_byte_letters`, and add the space, which stands for itself after joining."""
    return {letter: byte for byte, letter in _byte_letters().items()} | {" ": 0x20}


def _packaged_merges() -> list[str]:
    """Return CLIP's merges from the file inside this package (MIT, Copyright (c) 2021 OpenAI)."""
    asset = resources.files("xdecoder_rt") / "assets" / "clip_bpe_merges.txt.gz"
    return gzip.decompress(asset.read_bytes()).decode("utf-8").splitlines()


def _merges_of_json(data: bytes | str) -> list[str]:
    """Return the merges in a ``tokenizers`` JSON document, as ``"left right"``."""
    document = parse_json(data, "The tokenizer", _JSON_LIMIT)
    merges = read_object(document, _TokenizerFile, "The tokenizer").model.merges
    # Older releases of tokenizers write "left right", newer ones ["left", "right"]. There are fifty
    # thousand of them: reading each by its declaration would take three times as long as all this.
    try:
        joined = [
            " ".join(merge) if type(merge) is list and len(merge) == 2 else merge
            for merge in merges
        ]
        if all(type(merge) is str for merge in joined):
            return joined
    except TypeError as error:  # a pair, and not of texts
        raise PlanError("A merge of the tokenizer is not a pair of texts") from error
    raise PlanError("A merge of the tokenizer is neither a text nor a pair")
