"""Class lists of public data sets: the names as X-Decoder is asked for them, and the ids of files.

They lie in `assets/classes` as files of words (:mod:`xdecoder_rt.words.files`), each with its
source; `segment --words-file` takes them too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

from xdecoder_rt.errors import ArgumentError, DatasetError, quoted
from xdecoder_rt.words.files import parse_lines
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import Word

CLASS_LISTS = (
    *("coco-133", "ade20k-150", "ade20k-847", "cityscapes-19", "bdd-40", "sun-37"),
    *("scannet-20", "scannet-40"),
)
# Files call these classes otherwise than the model is asked for them.
_NAMES_IN_FILES = {"ade20k-150": {90: "plane"}}


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set, in the order that a class's index is its place in.

    Attributes:
        name: One of `CLASS_LISTS`.
        words: The classes, with the ids that the data set's files have for them.
    """

    name: str
    words: tuple[Word, ...]

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.words)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names for a report, each once: a second "bag" is "bag (2)"."""
        seen: Counter[str] = Counter()
        labels = []
        for word in self.words:
            seen[word.name] += 1
            count = seen[word.name]
            labels.append(word.name if count == 1 else f"{word.name} ({count})")
        return tuple(labels)

    @cached_property
    def stuff(self) -> frozenset[str]:
        """Those of `labels` that have no instances."""
        pairs = zip(self.labels, self.words, strict=True)
        return frozenset(label for label, word in pairs if word.stuff)

    @cached_property
    def index_of(self) -> dict[int, int]:
        """The index of each class by its id in files."""
        return {word.id: index for index, word in enumerate(self.words) if word.id is not None}

    def vocabulary(self, threshold: float | None = None) -> Vocabulary:
        """Return the classes to ask for, whose `label_id` is the index; names may repeat.

        Args:
            threshold: Least score of every class; None for the plan's rules.
        """
        words = (
            Word(word.name, stuff=word.stuff, threshold=threshold, id=index)
            for index, word in enumerate(self.words)
        )
        return Vocabulary(tuple(words), None, len(self.words))

    def checked_index(self, id_: int, name: str, where: str) -> int:
        """Return the index of a category of a file, after its name is compared.

        Args:
            id_: Its id there.
            name: Its name there, or several of which the first counts ("road, route").
            where: The place in the file, for the error.

        Raises:
            DatasetError: if no class has the id, or the one that has it another name.
        """
        if id_ not in self.index_of:
            raise DatasetError(
                f"{where}: 'id' is {id_}, which no class of {self.name} has",
                expected="the categories of the data set that the protocol is measured on",
            )
        index = self.index_of[id_]
        expected = _NAMES_IN_FILES.get(self.name, {}).get(id_, self.words[index].name)
        if name.split(",")[0].strip() != expected:
            raise DatasetError(
                f"{where}: the category {id_} is {quoted(name)}",
                expected=f"{quoted(expected)}, as {self.name} has it",
            )
        return index


def class_list(name: str) -> ClassList:
    """Read a class list.

    Args:
        name: One of `CLASS_LISTS`.

    Raises:
        ArgumentError: if there is none of that name.
    """
    if name not in CLASS_LISTS:
        raise ArgumentError(
            f"There is no class list {quoted(name)}", expected="one of " + ", ".join(CLASS_LISTS)
        )
    asset = resources.files("xdecoder_rt") / "assets" / "classes" / f"{name}.txt"
    lines = asset.read_text(encoding="utf-8").splitlines()
    entries = parse_lines([line for line in lines if not line.startswith("#")]).entries
    return ClassList(name, tuple(entry for entry in entries if isinstance(entry, Word)))
