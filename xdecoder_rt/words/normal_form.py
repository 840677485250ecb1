"""Class names as people type them: what is embedded of a name, and which names are one word.

Names come out of editors, spreadsheets and web pages, with characters that look like others or like
nothing. The text encoder reads every one of them, and a name that looks right finds nothing. So a
caller's class names are embedded in the form of :func:`clean_name`, and two names are one word when
:func:`name_key` says so. Results carry a name as it was typed. Sentences (phrases, questions,
prompts) are embedded as they are.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

__all__ = ["SPLIT", "clean_name", "name_key"]

SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""CLIP's division of a text into words, a regular expression of the package ``tokenizers``."""

_PLAIN = re.compile(r"[a-z]+(?: [a-z]+)*")
# SPLIT for ASCII in lower case, in a tenth of its time.
_ASCII_SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+")
_JOINTS = re.compile(r"(?<=[^\W\d_])_+(?=[^\W\d_])")
# Unicode's Default_Ignorable_Code_Point beyond the categories Cf and Cc: fillers, selectors, tags.
_INVISIBLE = frozenset(
    [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2065, 0x3164, 0xFFA0]
    + [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xFFF0, 0xFFF9)]
    + [*range(0xE0000, 0xE1000)]
)
_HYPHENS = "\N{MINUS SIGN}\N{MODIFIER LETTER MINUS SIGN}\N{HYPHEN BULLET}"
_APOSTROPHES = (
    "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}\N{PRIME}"
    "\N{SINGLE HIGH-REVERSED-9 QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}\N{ACUTE ACCENT}"
)
_LOOK_ALIKES: dict[int, str] = {
    **dict.fromkeys(map(ord, _HYPHENS), "-"),
    **dict.fromkeys(map(ord, _APOSTROPHES), "'"),
    # Full-width ASCII and Latin ligatures, as the original's ftfy writes them.
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **{code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)},
    ord("\N{BRAILLE PATTERN BLANK}"): " ",
}


def clean_name(name: str) -> str:
    """Return what is embedded of a class name.

    Characters that cannot be seen (zero-width spaces, byte order marks, variation selectors) are
    left out; hyphens, spaces, apostrophes and Latin letters that only look like ASCII's become
    ASCII's; ``_`` between letters becomes a space; the ends are trimmed and Unicode is composed. A
    name of printable ASCII without ``_`` stays as it is, and so does every class list of a
    published benchmark.

    Args:
        name: as typed, valid Unicode.

    Returns:
        The text; empty if there is nothing to be seen.
    """
    if name.isascii() and name.isprintable() and "_" not in name:
        return name.strip()
    visible = "".join(map(_visible, name.translate(_LOOK_ALIKES)))
    return _JOINTS.sub(" ", unicodedata.normalize("NFC", visible)).strip()


def name_key(name: str) -> str:
    """Return the same text for names that the tokenizer makes the same tokens of.

    That is the clean name in lower case, with one space between the words that the tokenizer reads:
    "Coffee  mug" and "coffee mug" are one word, "don't" and "don 't" as well.
    """
    if _PLAIN.fullmatch(name):
        return name
    lowered = " ".join(clean_name(name).split()).lower()
    if lowered.isascii():
        return " ".join(_ASCII_SPLIT.findall(lowered))
    return " ".join(piece for piece, _ in _splitter().pre_tokenize_str(lowered))


def _visible(letter: str) -> str:
    """Return a character, the ASCII character that it looks like, or nothing."""
    if letter.isascii() and letter.isprintable():
        return letter
    category = unicodedata.category(letter)
    if category[0] == "Z" or letter.isspace():
        return " "
    if category == "Pd":
        return "-"
    return "" if category in ("Cf", "Cc") or ord(letter) in _INVISIBLE else letter


@lru_cache(maxsize=1)
def _splitter() -> Any:
    # Imported on first need: most names need no more than lower case.
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True)
