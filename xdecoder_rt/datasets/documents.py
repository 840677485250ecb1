"""Annotation files as records: JSON, and pickles read as plain data."""

from __future__ import annotations

import json
from pathlib import Path

from xdecoder_rt.datasets.items import repeated
from xdecoder_rt.datasets.json_records import Record
from xdecoder_rt.datasets.plain_pickle import MAX_BYTES, parse_pickle
from xdecoder_rt.errors import DatasetError, shown

PICKLE_SUFFIXES = frozenset({".p", ".pkl", ".pickle"})


class Document(Record):
    """A record that also gives its values as they are, for what no other method reads.

    Args:
        value: A dictionary from JSON or from a pickle.
        where: The file and the place in it, as a person would say it.

    Raises:
        DatasetError: if `value` is not a dictionary.
    """

    __slots__ = ("_values",)

    def __init__(self, value: object, where: str) -> None:
        super().__init__(value, where)
        self._values: dict[str, object] = value  # type: ignore[assignment]  # checked by Record

    def value(self, key: str) -> object:
        """What is under `key`."""
        if key not in self._values:
            raise self.error(f"the key {key!r} is missing")
        return self._values[key]

    def words(self, key: str) -> str:
        """The string under `key`, its words parted by single spaces; it may be empty."""
        value = self.value(key)
        if isinstance(value, str) and not value.strip():
            return ""
        return " ".join(self.text(key).split())

    def documents(self, key: str, name: str) -> list[Document]:
        """The list of dictionaries under `key`; each knows its place as "`name` index"."""
        values = self.value(key)
        if not isinstance(values, list):
            raise self.error(f"{key!r} is {type(values).__name__}", expected="a list")
        return [Document(v, f"{self.where}, {name} {i}") for i, v in enumerate(values)]

    def by_id(self, key: str, name: str) -> dict[int, Document]:
        """The list of dictionaries under `key` by the `id` of each."""
        documents = self.documents(key, name)
        ids = [document.integer("id") for document in documents]
        if (twice := repeated(ids)) is not None:
            raise self.error(f"{key!r} has the id {twice} twice", expected="distinct ids")
        return dict(zip(ids, documents, strict=True))

    def reference(self, key: str, known: dict[int, Document], name: str) -> int:
        """The integer under `key`, which is the id of one of `known`, called a `name`."""
        id_ = self.integer(key)
        if id_ not in known:
            raise self.error(f"{key!r} is {id_}, which no {name} has")
        return id_


def read_value(path: Path) -> object:
    """The value of a JSON file, or of a pickle of plain data; which, its suffix says.

    Raises:
        DatasetError: if the file is missing, unreadable or broken, or a pickle of more than data.
    """
    pickled = path.suffix in PICKLE_SUFFIXES
    try:
        if pickled and (size := path.stat().st_size) > MAX_BYTES:
            raise DatasetError(f"{path} has {size:,} bytes", expected=f"at most {MAX_BYTES:,}")
        data = path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    if pickled:
        return parse_pickle(data, str(path))
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path} is not valid JSON: {shown(str(error))}", expected="UTF-8 JSON"
        ) from error


def read_document(path: Path) -> Document:
    """The same, of a file whose top level is a dictionary."""
    return Document(read_value(path), str(path))
