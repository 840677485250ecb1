"""A data set's annotation files, JSON or pickles read as plain data, as typed values.

A dataclass says what an object of a file holds (:mod:`xdecoder_rt.json_reader`), and
:class:`Document` knows where the object is: errors name the file, the item and the field. Large
files are read an object at a time.
"""

from __future__ import annotations

import codecs
import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, TypeAlias, TypeVar

from xdecoder_rt.datasets.items import repeated
from xdecoder_rt.errors import DatasetError, quoted
from xdecoder_rt.files.plain_pickle import MAX_BYTES, parse_pickle
from xdecoder_rt.files.regular import open_regular
from xdecoder_rt.json_reader import JsonFault, Rule, parse_json, read_part

__all__ = ["Document", "Flag", "LongText", "NonEmptyText", "read_document"]
__all__ += ["read_value", "squeezed"]

_T = TypeVar("_T")
PICKLE_SUFFIXES = frozenset({".p", ".pkl", ".pickle"})
MAX_JSON_BYTES = 4 << 30
"""Longest JSON file read; COCO's instances are about a tenth of it."""

LongText: TypeAlias = Annotated[str, Rule(most=1 << 24)]
NonEmptyText: TypeAlias = Annotated[
    LongText, Rule(form=r"\s*\S.*", wording=("a non-empty string", "non-empty strings"))
]
Flag: TypeAlias = Annotated[bool, Rule(lenient=True)]


class Document:
    """An object of a file, and its place there as a person would say it.

    Args:
        value: a dictionary from JSON or from a pickle.
        where: the file and the place in it, or the object whose list has this one.
        name: of such an object in the list.
        index: its place in the list.

    Raises:
        DatasetError: `value` is not a dictionary.
    """

    __slots__ = ("_index", "_name", "_values", "_where")

    def __init__(
        self, value: object, where: str | Document, name: str = "", index: int = 0
    ) -> None:
        # Not a text: there are hundreds of thousands of objects, and paths are long.
        self._where, self._name, self._index = where, name, index
        if not isinstance(value, dict):
            kind = "null" if value is None else "a list" if isinstance(value, list) else ""
            raise DatasetError(f"{self.where} is {kind or quoted(value)}", expected="a JSON object")
        self._values: dict[str, object] = value

    @property
    def where(self) -> str:
        """The file and the place in it: ``FILE, annotation 3, segmentation``."""
        if isinstance(self._where, str):
            return self._where
        return f"{self._where.where}, {self._name} {self._index}"

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def error(
        self, what: str, *, at: str = "", expected: str | None = None, fix: str | None = None
    ) -> DatasetError:
        """Return an error that starts with this object's place, or a place in it ("phrase 3")."""
        place = f"{self.where}, {at}" if at else self.where
        return DatasetError(f"{place}: {what}", expected=expected, fix=fix)

    def read(self, kind: type[_T]) -> _T:
        """Return what the object holds of the fields of a dataclass.

        Raises:
            DatasetError: a field is missing or wrong.
        """
        try:
            return read_part(self._values, kind)
        except JsonFault as fault:
            raise self._worded(fault) from fault

    def value(self, key: str) -> object:
        """Return what is under `key`, as it is."""
        if key not in self._values:
            raise self.error(f"the key {key!r} is missing")
        return self._values[key]

    def documents(self, key: str, name: str) -> list[Document]:
        """Return the objects in the list under `key`; each knows its place as "`name` index"."""
        values = self.value(key)
        if not isinstance(values, list):
            raise self.error(f"{key!r} is {type(values).__name__}", expected="a list")
        return [Document(value, self, name, index) for index, value in enumerate(values)]

    def by_id(self, key: str, name: str, id_key: str = "id") -> dict[int, Document]:
        """Return the objects in the list under `key` by the integer that each has as `id_key`."""
        documents = self.documents(key, name)
        ids = [document.integer(id_key) for document in documents]
        if (twice := repeated(ids)) is not None:
            raise self.error(f"{key!r} has the {id_key} {twice} twice", expected="distinct ids")
        return dict(zip(ids, documents, strict=True))

    def integer(self, key: str) -> int:
        """Return the integer under `key`."""
        value = self.value(key)
        try:
            return read_part(value, int)
        except JsonFault as fault:
            fault.path = (key,)
            raise self._worded(fault) from fault

    def reference(self, key: str, documents: dict[int, Document], name: str) -> int:
        """Return the integer under `key`, the id of one of `documents`; errors call it `name`."""
        id_ = self.integer(key)
        if id_ not in documents:
            raise self.error(f"{key!r} is {id_}, which no {name} has")
        return id_

    def path_inside(self, root: Path, key: str, name: str) -> Path:
        """Return the path `name` that stands under `key`, which may not lead out of `root`."""
        # A path of either system's kind is refused on both: folders travel.
        absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
        if absolute or ".." in PureWindowsPath(name).parts:
            raise self.error(
                f"{key!r} is {quoted(name)}, which is outside the folder",
                expected=f"a path relative to {root}",
            )
        return root / name

    def file_inside(self, root: Path, key: str, name: str) -> Path:
        """Return the path of a file that exists; otherwise as `path_inside`."""
        path = self.path_inside(root, key, name)
        self.check_file(key, path)
        return path

    def check_file(self, key: str, path: Path) -> None:
        """Refuse the path that stands under `key` where no file is."""
        if not os.path.isfile(path):  # False, not an exception, for an impossible name
            raise self.error(f"{key!r} names {quoted(str(path))}, which does not exist")

    def _worded(self, fault: JsonFault) -> DatasetError:
        """Return the error of a fault: ``FILE, item 3, segment 0: 'id' is null``."""
        place, path = self.where, list(fault.path)
        in_list = isinstance(path[-1], int) and (fault.expected or "").startswith("a list")
        index = path.pop() if in_list else None
        while len(path) > 1:
            kind, number = str(path.pop(0)), path.pop(0)
            place += f", {kind.removesuffix('_info').removesuffix('s')} {number}"
        if not path:
            return DatasetError(f"{place} {fault.problem}", expected=fault.expected)
        if index is not None:
            what = f"{path[0]!r} contains {fault.problem.removeprefix('is ')}"
        elif fault.problem == "is missing":
            what = f"the key {path[0]!r} is missing"
        else:
            what = f"{path[0]!r} {fault.problem}"
        return DatasetError(f"{place}: {what}", expected=fault.expected)


def squeezed(words: str) -> str:
    """Return words parted by single spaces; none of white space alone."""
    return " ".join(words.split())


def read_value(path: Path) -> object:
    """Return the value of a JSON file, or of a pickle of plain data; which, its suffix says.

    Raises:
        DatasetError: the file is missing, unreadable or broken, or a pickle of more than data.
    """
    pickled = path.suffix in PICKLE_SUFFIXES
    limit = MAX_BYTES if pickled else MAX_JSON_BYTES
    try:
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > limit:
                raise DatasetError(f"{path} has {size:,} bytes", expected=f"at most {limit:,}")
            data = file.read(limit)
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    if pickled:
        return parse_pickle(data, str(path))
    text = data.removeprefix(codecs.BOM_UTF8)
    return parse_json(text, str(path), limit, DatasetError, non_finite=True)


def read_document(path: Path) -> Document:
    """Return the object of a file whose top level is one; errors as for `read_value`."""
    return Document(read_value(path), str(path))
