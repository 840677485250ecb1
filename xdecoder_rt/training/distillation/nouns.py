"""Nouns that people use for things one can see, from WordNet's files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from xdecoder_rt.errors import DatasetError

DEFAULT_WORDNET = Path("/usr/share/wordnet")
"""Where Debian's ``wordnet-base`` is."""

_ROOTS = ("physical_entity", "shape", "plant_part", "food")
_MOST_WORDS = 3


def visible_nouns(folder: Path = DEFAULT_WORDNET) -> list[str]:
    """Return names of physical things, those that occur most in WordNet's tagged texts first.

    Args:
        folder: with ``data.noun`` and ``cntlist.rev``.

    Returns:
        Lower-case nouns and compounds of up to three words; no proper names.

    Raises:
        DatasetError: the files are not there, or are others.
    """
    words, children = read_synsets(folder)
    lines = _lines(folder, "cntlist.rev")
    try:
        tagged = _times_tagged(lines)
    except ValueError as error:
        raise _damaged(folder, error) from error
    synsets = {synset for synset, names in words.items() if set(names) & set(_ROOTS)}
    waiting = list(synsets)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in synsets:
                synsets.add(child)
                waiting.append(child)
    names = {
        name.replace("_", " ")
        for synset in synsets
        for name in words[synset]
        if name.islower() and name.replace("_", "").replace("-", "").isalpha()
    }
    short_names = [name for name in names if len(name.split()) <= _MOST_WORDS]
    return sorted(short_names, key=lambda name: (-tagged[name.replace(" ", "_")], name))


def read_synsets(folder: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the words of each synset of nouns, and the synsets right below it.

    Args:
        folder: with ``data.noun``; wndb(5) describes its lines.

    Raises:
        DatasetError: the file is not there, or is another.
    """
    lines = _lines(folder, "data.noun")
    try:
        return _synsets(lines)
    except (IndexError, ValueError) as error:
        raise _damaged(folder, error) from error


def _lines(folder: Path, name: str) -> list[str]:
    try:
        return (folder / name).read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise DatasetError(
            f"{folder / name} cannot be read: {error.strerror or error}",
            expected="WordNet's data.noun and cntlist.rev",
            fix='install Debian\'s package with "sudo apt-get install wordnet-base"',
        ) from error


def _damaged(folder: Path, error: Exception) -> DatasetError:
    return DatasetError(
        f"{folder} does not hold WordNet's files ({error})",
        expected="data.noun and cntlist.rev of WordNet 3",
    )


def _synsets(lines: list[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    words: dict[str, list[str]] = {}
    children: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith(" "):
            continue
        fields = line.split("|")[0].split()
        synset, count = fields[0], int(fields[3], 16)
        words[synset] = [fields[4 + 2 * i] for i in range(count)]
        pointers = fields[4 + 2 * count + 1 :]
        for kind, target in zip(pointers[0::4], pointers[1::4], strict=False):
            if kind == "@":
                children.setdefault(target, []).append(synset)
    return words, children


def _times_tagged(lines: list[str]) -> Counter[str]:
    """Count how often each noun was tagged: of "plane%1:06:01:: 1 12" the last number."""
    tagged: Counter[str] = Counter()
    for line in lines:
        key, _, times = line.split()
        lemma, _, position = key.partition("%")
        if position.startswith("1:"):
            tagged[lemma] += int(times)
    return tagged
