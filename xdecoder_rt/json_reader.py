"""Reading JSON that may be hostile: every value is checked, every failure says where it is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from xdecoder_rt.errors import PlanError, shown

__all__ = ["JsonObject", "parse_json_dict", "parse_json_object"]

_T = TypeVar("_T")
_DEPTH_LIMIT = 16
_TEXT_LIMIT = 4096
_ITEMS_LIMIT = 65536
_INTEGER_LIMIT = 1 << 53


def parse_json_object(data: bytes, name: str, size_limit: int) -> JsonObject:
    """Parses `data` as one JSON object in UTF-8.

    Args:
        data: the document.
        name: what to call it in error messages.
        size_limit: how many bytes it may have.

    Returns:
        The object, whose values are checked as they are taken.

    Raises:
        PlanError: too long, not JSON, not an object, a key twice, NaN or infinity, too deep.
    """
    return JsonObject(parse_json_dict(data, name, size_limit), name)


def parse_json_dict(data: bytes, name: str, size_limit: int) -> dict[str, Any]:
    """The same as a plain dictionary, for documents whose reader checks the values itself."""
    if len(data) > size_limit:
        raise PlanError(f"{name} has {len(data):,} bytes", expected=f"at most {size_limit:,}")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_refuse
        )
    except RecursionError as error:
        raise PlanError(f"{name} is nested too deeply") from error
    except ValueError as error:
        raise PlanError(f"{name} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise PlanError(f"{name} holds a {type(value).__name__}", expected="a JSON object")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {shown(key)} stands twice in one object")
            seen.add(key)
    return result


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


class JsonObject:
    """A JSON object and its place in the document; the methods take typed, bounded values.

    Each method raises `PlanError` when the key is missing or the value is not what is asked for.
    Keys that nobody asks for are ignored.
    """

    def __init__(self, values: dict[str, Any], place: str) -> None:
        self._values = values
        self.place = place

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def names(self) -> list[str]:
        """The keys, in the order of the document."""
        return list(self._values)

    def integer(self, key: str, low: int = 0, high: int = _INTEGER_LIMIT) -> int:
        """An integer from `low` to `high`."""
        value = self._take(key)
        if type(value) is not int or not low <= value <= high:
            self._fail(key, value, f"an integer from {low:,} to {high:,}")
        return int(value)

    def number(self, key: str, low: float, high: float) -> float:
        """A finite number from `low` to `high`."""
        value = self._take(key)
        if not _is_number(value) or not low <= value <= high:
            self._fail(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._take(key)
        if not isinstance(value, bool):
            self._fail(key, value, "true or false")
        return bool(value)

    def text(self, key: str, limit: int = _TEXT_LIMIT) -> str:
        """A text of at most `limit` characters."""
        value = self._take(key)
        if not _is_text(value, limit):
            self._fail(key, value, f"a text of at most {limit:,} characters")
        return str(value)

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of `choices`."""
        value = self._take(key)
        if not isinstance(value, str) or value not in choices:
            self._fail(key, value, "one of " + ", ".join(map(repr, choices)))
        return str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        items = self._list(key, lambda item: _is_text(item, _TEXT_LIMIT), "a list of texts")
        return tuple(items)

    def numbers(self, key: str, count: int, low: float, high: float) -> tuple[float, ...]:
        """A list of exactly `count` finite numbers from `low` to `high`."""
        expected = f"a list of {count} numbers from {low:g} to {high:g}"
        items = self._list(key, lambda item: _is_number(item) and low <= item <= high, expected)
        if len(items) != count:
            self._fail(key, items, expected)
        return tuple(float(item) for item in items)

    def integer_pair(self, key: str, low: int, high: int) -> tuple[int, int]:
        """A list of two integers from `low` to `high`."""
        value = self._take(key)
        if not _is_pair(value, low, high):
            self._fail(key, value, f"a list of two integers from {low:,} to {high:,}")
        return value[0], value[1]

    def integer_pairs(self, key: str, low: int, high: int) -> tuple[tuple[int, int], ...]:
        """A list of lists of two integers from `low` to `high`; not empty."""
        expected = f"a list of pairs of integers from {low:,} to {high:,}, at least one"
        items = self._list(key, lambda item: _is_pair(item, low, high), expected)
        if not items:
            self._fail(key, items, expected)
        return tuple((item[0], item[1]) for item in items)

    def text_map(self, key: str) -> dict[str, str]:
        """An object whose values are texts."""
        inner = self.child(key)
        return {name: inner.text(name) for name in inner.names()}

    def child(self, key: str) -> JsonObject:
        """The object inside this one."""
        value = self._take(key)
        if not isinstance(value, dict):
            self._fail(key, value, "an object")
        return JsonObject(value, self._where(key))

    def children(self, key: str) -> list[JsonObject]:
        """A list of objects."""
        items = self._list(key, lambda item: isinstance(item, dict), "a list of objects")
        return [
            JsonObject(item, f"{self._where(key)}[{index}]") for index, item in enumerate(items)
        ]

    def free_form(self, key: str) -> dict[str, Any]:
        """An object of any content, at most 16 levels deep, with finite numbers."""
        value = self._take(key)
        if not isinstance(value, dict) or not _is_plain(value, _DEPTH_LIMIT):
            self._fail(key, value, "an object of plain values, at most 16 levels deep")
        return dict(value)

    def optional(self, key: str, take: Callable[[str], _T], default: _T) -> _T:
        """`take(key)`, or `default` when the key is absent or null."""
        return take(key) if key in self else default

    def fail(self, key: str, problem: str, expected: str | None = None) -> NoReturn:
        """Raises `PlanError` about the value of `key`."""
        raise PlanError(f"{self._where(key)} {problem}", expected=expected)

    def _take(self, key: str) -> Any:
        if key not in self._values:
            raise PlanError(f"{self._where(key)} is missing")
        return self._values[key]

    def _list(self, key: str, is_good: Callable[[Any], bool], expected: str) -> list[Any]:
        value = self._take(key)
        if not isinstance(value, list) or len(value) > _ITEMS_LIMIT:
            self._fail(key, value, expected)
        for item in value:
            if not is_good(item):
                self._fail(key, item, expected)
        return list(value)

    def _fail(self, key: str, value: object, expected: str) -> NoReturn:
        self.fail(key, f"is {_described(value)}", expected)

    def _where(self, key: str) -> str:
        key = key if key.isidentifier() else shown(key)
        return f"{self.place}{'.' if ':' in self.place else ': '}{key}"


def _described(value: object) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    # repr of an integer with thousands of digits is slow, and refused by newer Pythons.
    if isinstance(value, int) and abs(value) > _INTEGER_LIMIT:
        return "an enormous integer"
    return shown(value)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _INTEGER_LIMIT if isinstance(value, int) else math.isfinite(value)


def _is_text(value: object, limit: int) -> bool:
    if not isinstance(value, str) or len(value) > limit:
        return False
    return not any("\ud800" <= char <= "\udfff" for char in value)


def _is_pair(value: object, low: int, high: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(item) is int and low <= item <= high for item in value)
    )


def _is_plain(value: object, depth: int) -> bool:
    """Whether `value` has at most `depth` levels and holds nothing but plain, finite values."""
    if isinstance(value, dict):
        return depth > 0 and all(
            _is_text(key, _TEXT_LIMIT) and _is_plain(item, depth - 1) for key, item in value.items()
        )
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    return value is None or isinstance(value, bool | str) or _is_number(value)
