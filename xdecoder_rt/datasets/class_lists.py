"""Class lists of public data sets: the names as X-Decoder is asked for them, and the ids of files.

They lie in `assets/classes`, each with its source, a line `name [stuff, id 7]` a class: the form of
files of words, so `segment --words-file` takes those without repetitions too.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

from xdecoder_rt.errors import ArgumentError, DatasetError, quoted

CLASS_LISTS = (
    *("coco-133", "ade20k-150", "ade20k-847", "cityscapes-19", "bdd-40", "sun-37"),
    *("scannet-20", "scannet-40"),
)
_LINE = re.compile(r"(?P<name>[^\[\]]+) \[(?P<stuff>stuff, )?id (?P<id>\d+)\]")
# Files call these classes otherwise than the model is asked for them.
_NAMES_IN_FILES = {"ade20k-150": {90: "plane"}}


@dataclass(frozen=True)
class NamedClass:
    """One class.

    Attributes:
        name: What the model is asked for; other classes may have it, too.
        id: The class's id in the data set's files.
        stuff: Whether it has no instances.
    """

    name: str
    id: int
    stuff: bool = False


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set, in the order that a class's index is its place in.

    Attributes:
        name: One of `CLASS_LISTS`.
        classes: The classes.
    """

    name: str
    classes: tuple[NamedClass, ...]

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names for a report, each once: a second "bag" is "bag (2)"."""
        seen: Counter[str] = Counter()
        labels = []
        for class_ in self.classes:
            seen[class_.name] += 1
            count = seen[class_.name]
            labels.append(class_.name if count == 1 else f"{class_.name} ({count})")
        return tuple(labels)

    @cached_property
    def stuff(self) -> frozenset[str]:
        """Those of `labels` that have no instances."""
        pairs = zip(self.labels, self.classes, strict=True)
        return frozenset(label for label, class_ in pairs if class_.stuff)

    @cached_property
    def index_of(self) -> dict[int, int]:
        """The index of each class by its id in files."""
        return {class_.id: index for index, class_ in enumerate(self.classes)}

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
        expected = _NAMES_IN_FILES.get(self.name, {}).get(id_, self.classes[index].name)
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
    matches = [_LINE.fullmatch(line) for line in lines if not line.startswith("#")]
    return ClassList(
        name,
        tuple(
            NamedClass(match["name"], int(match["id"]), match["stuff"] is not None)
            for match in matches
            if match is not None
        ),
    )
