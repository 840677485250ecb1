"""Articles, plurals, numbers and lists of English; and sentences seen in a mirror."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["NUMBERS", "counted_name", "has_plural", "indefinite", "is_plural", "listed", "mirrored",
           "plural_name"]  # fmt: skip

NUMBERS: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)  # fmt: skip
"""The numbers that are written out; more than the last are "many"."""

# fmt: off
_UNCOUNTED: Final = frozenset({
    "bacon", "bamboo", "beer", "bread", "butter", "cattle", "cheese", "corn", "dna", "fire",
    "fondue", "garlic", "honey", "knitting", "lasagna", "lemonade", "milk", "money", "pantyhose",
    "paper", "pasta", "popcorn", "salad", "salami", "soap", "soda", "spaghetti", "toast", "yarn",
    # and the stuff of backgrounds
    "concrete", "fabric", "grass", "gravel", "marble", "metal", "sand", "snow", "soil", "water",
    "wood",
})
_IRREGULAR: Final = {
    "aircraft": "aircraft", "bison": "bison", "deer": "deer", "dice": "dice",
    "die": "dice", "domino": "dominoes", "foot": "feet", "knife": "knives", "leaf": "leaves",
    "loaf": "loaves", "mouse": "mice", "potato": "potatoes", "sheep": "sheep", "shelf": "shelves",
    "tomato": "tomatoes", "tooth": "teeth", "wolf": "wolves",
}
# fmt: on
_UNIQUE: Final = {
    "earth": "the earth",
    "eiffel tower": "the eiffel tower",
    "father christmas": "father christmas",
    "santa claus": "santa claus",
    "saturn": "saturn",
}  # fmt: skip
_SINGULAR_S: Final = ("ss", "us", "is", "os", "lens", "gps", "christmas")
_VOWEL_SOUND: Final = ("hour", "x-ray")
_CONSONANT_SOUND: Final = ("uni", "us", "eu", "ukulele", "one")
_SIDE: Final = re.compile(r"\b(left|right)(?=(most)?\b)", re.IGNORECASE)


def is_plural(name: str) -> bool:
    """Return whether one `name` takes a plural verb, like "scissors"."""
    last = name.split()[-1]
    return last.endswith("s") and not last.endswith(_SINGULAR_S) and " of " not in name


def indefinite(name: str, adjective: str = "") -> str:
    """`name` with "a" or "an", or nothing where an article would be wrong.

    Args:
        name: A noun phrase.
        adjective: Written before the noun if not empty.
    """
    words = f"{adjective} {name}" if adjective else name
    if name in _UNIQUE and not adjective:
        return _UNIQUE[name]
    if name in _UNCOUNTED or is_plural(name):
        return words
    vowel = words[0] in "aeiou" and not words.startswith(_CONSONANT_SOUND)
    return f"{'an' if vowel or words.startswith(_VOWEL_SOUND) else 'a'} {words}"


def plural_name(name: str) -> str:
    """More than one `name`: of "loaf of bread" the first noun changes, of "toy car" the last."""
    if " of " in name:
        head, complement = name.split(" of ", 1)
        return f"{plural_name(head)} of {complement}"
    if name in _UNCOUNTED or is_plural(name):
        return name
    *before, last = name.split(" ")
    if last in _IRREGULAR or last.endswith("fish"):
        last = _IRREGULAR.get(last, last)
    elif last.endswith("man") and last != "human":
        last = f"{last[:-3]}men"
    elif last.endswith(("s", "x", "ch", "sh", "z")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = f"{last[:-1]}ies"
    else:
        last += "s"
    return " ".join([*before, last])


def has_plural(name: str) -> bool:
    """Return whether several of `name` are called otherwise than one, so that a phrase can tell."""
    return plural_name(name) != name


def counted_name(name: str, count: int, adjective: str = "") -> str:
    """So many of `name`: "a mug", "two red mugs", "some bread", "several scissors"."""
    words = f"{adjective} {plural_name(name)}" if adjective else plural_name(name)
    if name in _UNCOUNTED:
        return f"some {words}"
    if count == 1:
        return indefinite(name, adjective)
    if is_plural(name):
        return f"several {words}"
    return f"{NUMBERS[count] if count < len(NUMBERS) else 'many'} {words}"


def listed(parts: Sequence[str]) -> str:
    """Return the parts with commas and "and" between them."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def mirrored(text: str) -> str:
    """Return the text with left and right exchanged: what is true of the mirrored picture."""

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        other = "right" if word.lower() == "left" else "left"
        return other.upper() if word.isupper() else other.title() if word[0].isupper() else other

    return _SIDE.sub(swap, text)
