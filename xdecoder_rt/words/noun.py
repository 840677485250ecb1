"""The noun of an English phrase: what it names, without where that is and what it is like.

A short list of rules, not a parser: a phrase that no rule knows is its own noun.
"""

from __future__ import annotations

import re

__all__ = ["noun_of"]


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_THE = _words("the this that these those")
_DETERMINERS = _THE | _words(
    "a an all both each every any some only another other one two three four five six",
    "my your his her its our their",
)
_PLACES = _words(
    "left right top bottom middle center central upper lower front rear near far",
    "leftmost rightmost topmost bottommost nearest closest farthest furthest",
    "first second third last",
)
_LOOKS = _words(
    "big bigger biggest large larger largest small smaller smallest little tiny huge",
    "tall taller tallest short shorter shortest long longer longest wide wider widest",
    "narrow thick thin high low",
    "red green blue yellow black white grey gray purple violet orange pink brown beige",
    "cyan magenta golden silver",
)
_AFTER = _words(
    "on in at to by near next beside besides behind before under underneath over above below",
    "beneath between among against along across around inside outside within with without",
    "from for that which who whose where and or closest nearest left right is are was",
)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def noun_of(phrase: str) -> str:
    """Return the noun of a phrase, in lower case; the phrase itself where none is left.

    Examples:
        >>> noun_of("the red mug on the left"), noun_of("a ball of yarn"), noun_of("cutting board")
        ('mug', 'ball of yarn', 'cutting board')
    """
    words: list[str] = _WORD.findall(phrase.lower())
    while len(words) > 1 and (count := _words_before(words)):
        words = words[count:]
    noun = words[:1]
    for word, following in zip(words[1:], [*words[2:], ""], strict=False):
        is_of_another = word == "of" and (following in _THE or not following)
        # A cutting board is one; a horse lying down is a horse.
        if word in _AFTER or is_of_another or (word.endswith("ing") and len(word) > 4):
            break
        noun.append(word)
    return " ".join(noun) or phrase


def _words_before(words: list[str]) -> int:
    """Return how many words at the beginning say which of its kind it is, or how it looks."""
    first, second, third = words[0], words[1], words[2] if len(words) > 2 else ""
    if first in _PLACES and second == "of":
        return 2  # the top of the table
    if first in _DETERMINERS:
        return 1
    if first not in _PLACES | _LOOKS:
        return 0
    if second == "and" and third in _LOOKS:
        return 2  # the black and white cow
    # The word may be the noun itself: the orange on the left, but not the orange left shoe.
    is_last = second in _AFTER and not (second in _PLACES and third and third not in _AFTER)
    return 0 if is_last or (second in _PLACES and third == "of") else 1
