"""Typed reading of a data set's JSON files; errors name the file, the item and the field."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from xdecoder_rt.errors import DatasetError, shown


class Record:
    """A JSON object together with its place in the file, so that an error can say where it is.

    Args:
        value: What the JSON decoder returned for this place.
        where: The file and the place in it, as a person would say it.

    Raises:
        DatasetError: if `value` is not a JSON object.
    """

    __slots__ = ("_fields", "where")

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise DatasetError(f"{where} is {_kind(value)}", expected="a JSON object")
        self._fields: dict[str, object] = value
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def error(
        self, what: str, *, expected: str | None = None, fix: str | None = None
    ) -> DatasetError:
        """A `DatasetError` that starts with this record's place."""
        return DatasetError(f"{self.where}: {what}", expected=expected, fix=fix)

    def text(self, key: str) -> str:
        """The string under `key`, which holds more than white space."""
        value = self._get(key)
        if not _is_text(value):
            raise self._wrong(key, value, "a non-empty string")
        return str(value)

    def integer(self, key: str) -> int:
        """The integer under `key` (JSON's `true` is not one)."""
        value = self._get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(key, value, "an integer")
        return value

    def flag(self, key: str) -> bool:
        """The truth value under `key`: true, false, or COCO's 1 and 0."""
        value = self._get(key)
        if isinstance(value, int) and value in (0, 1):
            return bool(value)
        raise self._wrong(key, value, "true or false")

    def texts(self, key: str, *, required: bool = True) -> tuple[str, ...]:
        """The list of non-empty strings under `key`; `()` if it is absent and not required."""
        values = self._list(key, required)
        for value in values:
            if not _is_text(value):
                raise self._wrong(key, value, "a list of non-empty strings", "contains")
        return tuple(values)  # type: ignore[arg-type]  # every element was checked above

    def integers(self, key: str) -> tuple[int, ...]:
        """The list of integers under `key`."""
        values = self._list(key, required=True)
        for value in values:
            if not isinstance(value, int) or isinstance(value, bool):
                raise self._wrong(key, value, "a list of integers", "contains")
        return tuple(values)  # type: ignore[arg-type]  # every element was checked above

    def records(self, key: str, name: str, *, required: bool = True) -> list[Record]:
        """The list of objects under `key`; each knows its place as "`name` index"."""
        values = self._list(key, required)
        return [Record(v, f"{self.where}, {name} {i}") for i, v in enumerate(values)]

    def path_inside(self, root: Path, key: str) -> Path:
        """The path under `key`, relative to `root` and not outside it; it need not exist."""
        name = self.text(key)
        # A path of either system's kind is refused on both: folders travel.
        absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
        if absolute or ".." in PureWindowsPath(name).parts:
            raise self.error(
                f"{key!r} is {shown(name)}, which is outside the folder",
                expected=f"a path relative to {root}",
            )
        return root / name

    def file_inside(self, root: Path, key: str) -> Path:
        """The same, of a file that exists."""
        path = self.path_inside(root, key)
        if not os.path.isfile(path):  # False, not an exception, for an impossible name
            raise self.error(f"{key!r} names {shown(str(path))}, which does not exist")
        return path

    def is_null(self, key: str) -> bool:
        """Whether `key` is absent or null."""
        return self._fields.get(key) is None

    def _get(self, key: str) -> object:
        try:
            return self._fields[key]
        except KeyError:
            raise self.error(f"the key {key!r} is missing") from None

    def _list(self, key: str, required: bool) -> list[object]:
        if not required and key not in self._fields:
            return []
        value = self._get(key)
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list")
        return value

    def _wrong(self, key: str, value: object, expected: str, verb: str = "is") -> DatasetError:
        return self.error(f"{key!r} {verb} {_kind(value)}", expected=expected)


def read_json(path: Path) -> Record:
    """Read a JSON file whose top level is an object.

    Raises:
        DatasetError: if the file is missing or unreadable, or not UTF-8 JSON of an object.
    """
    try:
        return Record(json.loads(path.read_bytes()), str(path))
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError too
        raise DatasetError(f"{path} is not valid JSON: {error}", expected="UTF-8 JSON") from error


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or not value.strip():
        return False
    return not any("\ud800" <= c <= "\udfff" for c in value)  # half a pair: no character


def _kind(value: object) -> str:
    """What a JSON value is, in words, or itself where it is a scalar."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return shown(value)
