"""JSON that may be hostile, read by the declaration of what it must be.

A dataclass is the description of a format: its annotations say what each key holds, with bounds::

    @dataclass(frozen=True)
    class Decoder:
        layers: Annotated[int, Rule(low=1, high=256)]
        norm: Annotated[str, Rule(one_of=("group", "batch"))] = "group"

    read_object(parse_json(data, "decoder.json", size_limit), Decoder, "decoder.json")

Understood are ``int`` (at most 64 bits), ``float`` (finite), ``bool``, ``str`` (valid Unicode),
``tuple``, ``Mapping[str, ...]``, dataclasses, unions of what JSON's types tell apart, and ``Any``
(plain values, at most 16 levels deep). A field with a default may be absent. An error names the
path of what is wrong: ``manifest.json: input.std[0] is 0.0``. :mod:`xdecoder_rt.plan.schema`
writes the same declarations as a JSON Schema.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, cast

from xdecoder_rt.errors import PlanError, XDecoderError, quoted

__all__ = ["INTEGER_LIMIT", "ITEMS_LIMIT", "TEXT_LIMIT", "Field", "JsonFault", "Node", "Rule"]
__all__ += ["check_fields", "node_of", "parse_json", "read_object", "read_part"]

T = TypeVar("T")
INTEGER_LIMIT = 1 << 53
"""Largest integer that every reader of JSON keeps exactly."""
TEXT_LIMIT = 4096
"""Characters of a text, where no rule says otherwise."""
ITEMS_LIMIT = 65536
"""Items of a list or keys of an object, where no rule says otherwise."""
_DEPTH_LIMIT = 16
_COUNTS = {2: "two", 3: "three", 4: "four"}


@dataclass(frozen=True, eq=False)  # typing compares and hashes what it is given, often
class Rule:
    """What an annotation adds to a type; several rules of one annotation add up.

    Attributes:
        low: least number allowed.
        high: largest number allowed.
        above: what a number is larger than.
        below: what a number is smaller than.
        least: fewest characters of a text, items of a list.
        most: most characters of a text, items of a list, keys of a map.
        one_of: the texts allowed.
        form: a regular expression for the whole of a text.
        wording: `form` in words: of one text, and of several.
        key: the key in the document, where the field has another name.
        stated: whether the document must have the key though the field has a default.
        lenient: whether 0 and 1 stand for false and true, as in COCO's files.
        unread: whether any value is kept as it is; whoever takes it checks it.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    least: int = 0
    most: int | None = None
    one_of: tuple[str, ...] | None = None
    form: str | None = None
    wording: tuple[str, str] = ("", "")
    key: str | None = None
    stated: bool = False
    lenient: bool = False
    unread: bool = False

    def allows(self, number: float) -> bool:
        """Whether a number is within the bounds."""
        return (
            (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )


class JsonFault(ValueError):  # noqa: N818  # its reader makes an error of ours of it
    """What is wrong with a value, and where.

    Args:
        problem: what was found, as the end of a sentence ("is missing", "is 7").
        expected: what would have been right.
        path: keys and indices that lead to the value.
    """

    def __init__(
        self, problem: str, expected: str | None = None, path: tuple[str | int, ...] = ()
    ) -> None:
        super().__init__(problem)
        self.problem, self.expected, self.path = problem, expected, path

    def __str__(self) -> str:
        """Place and problem: ``input.std[0] is 0.0``."""
        place = ""
        for part in self.path:
            if isinstance(part, int):
                place += f"[{part}]"
            else:
                place += ("." if place else "") + (part if part.isidentifier() else quoted(part))
        return f"{place} {self.problem}".strip()


def parse_json(
    data: bytes | str,
    name: str,
    size_limit: int,
    error: type[XDecoderError] = PlanError,
    *,
    non_finite: bool = False,
) -> Any:
    """Parse a document of any kind.

    Args:
        data: the document, UTF-8 if it is bytes.
        name: what to call it in error messages.
        size_limit: how many bytes it may have.
        error: what to raise.
        non_finite: whether NaN and infinities may stand where no number is read.

    Raises:
        error: it is too long, not JSON, nested too deeply, or has a key twice in one object.
    """
    if len(data) > size_limit:
        raise error(f"{name} has {len(data):,} bytes", expected=f"at most {size_limit:,}")
    try:
        return json.loads(
            data if isinstance(data, str) else data.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=None if non_finite else _refuse,
        )
    except RecursionError as cause:
        raise error(f"{name} is not valid JSON (it is nested too deeply)") from cause
    except ValueError as cause:
        raise error(f"{name} is not valid JSON ({cause})", expected="UTF-8 JSON") from cause


def read_object(
    value: Any,
    kind: type[T],
    name: str,
    error: type[XDecoderError] = PlanError,
    *,
    null_is_absent: bool = False,
    refuse_unknown: bool = False,
) -> T:
    """Read a parsed document.

    Args:
        value: what `parse_json` returned.
        kind: what describes it: a dataclass, or a ``dict`` of them.
        name: what to call the document in error messages.
        error: what to raise.
        null_is_absent: whether null gives a field its default.
        refuse_unknown: whether a key that nothing describes is an error; it is ignored otherwise.

    Raises:
        error: it is no object, or a value is missing or wrong; the message has the value's path.
    """
    if not isinstance(value, dict):
        raise error(f"{name} holds a {type(value).__name__}", expected="a JSON object")
    try:
        result: T = node_of(cast(Any, kind), null_is_absent, refuse_unknown).read(value)
        return result
    except JsonFault as fault:
        place = f"{name}:" if fault.path else name
        raise error(f"{place} {fault}", expected=fault.expected) from fault


def read_part(value: Any, kind: type[T]) -> T:
    """Read a parsed value of a document that somebody else reads.

    Raises:
        JsonFault: it is not what `kind` describes.
    """
    result: T = node_of(cast(Any, kind)).read(value)
    return result


def check_fields(instance: Any, error: type[XDecoderError], place: str = "") -> None:
    """Check the fields with rules of a dataclass's instance, however it was made.

    Args:
        instance: the instance.
        error: what to raise.
        place: what to put before a field's name.

    Raises:
        error: a field breaks its rule.
    """
    for name, hint in typing.get_type_hints(type(instance), include_extras=True).items():
        if any(_metadata(part) for part in (hint, *typing.get_args(hint))):
            try:
                _node(hint).read(getattr(instance, name))
            except JsonFault as fault:
                raise error(f"{place}{name} {fault}", expected=fault.expected) from fault


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {quoted(key)} stands twice in one object")
            seen.add(key)
    return result


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


# --- what annotations ask for ---------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """A field of a dataclass; null gives it its default where it is `nullable`."""

    name: str
    key: str
    node: Node
    required: bool
    nullable: bool


@dataclass(frozen=True, eq=False)
class Node:
    """What one annotation asks for.

    Attributes:
        base: int, float, bool, str, Any, tuple, Mapping, Union or a dataclass.
        rule: what is added to it.
        inner: of a tuple its item, of a Mapping key and value, of a Union its kinds.
        fields: of a dataclass.
        option: of a Union, whether null is allowed; of a dataclass, whether other keys are refused.
        reader: takes the node and a value.
    """

    base: Any
    rule: Rule
    inner: tuple[Node, ...] = ()
    fields: tuple[Field, ...] = ()
    option: bool = False
    reader: Callable[[Node, Any], Any] = lambda _, value: value

    def read(self, value: Any) -> Any:
        """Return what a value says; raise `JsonFault`."""
        return self.reader(self, value)

    def fault(self, value: object) -> JsonFault:
        """Return the fault of a value that is something else."""
        return JsonFault(f"is {_described(value)}", _expected(self))


@cache
def node_of(kind: type, null_is_absent: bool = False, refuse_unknown: bool = False) -> Node:
    """Return the node of a kind; the options are those of `read_object`."""
    if not dataclasses.is_dataclass(kind):
        return _node(kind, null_is_absent, refuse_unknown)
    hints = {field.name: field.type for field in dataclasses.fields(kind)}
    if any(isinstance(hint, str) for hint in hints.values()):
        hints = typing.get_type_hints(kind, include_extras=True)
    fields = []
    for field in dataclasses.fields(kind):
        node = _node(hints[field.name], null_is_absent, refuse_unknown)
        optional = field.default is not MISSING or field.default_factory is not MISSING
        required = node.rule.stated or not optional
        nullable = null_is_absent and not required
        fields.append(Field(field.name, node.rule.key or field.name, node, required, nullable))
    return Node(kind, Rule(), (), tuple(fields), refuse_unknown, _read_dataclass)


def _metadata(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__metadata__", ())


def _node(hint: Any, *options: bool) -> Node:
    """The node of an annotation."""
    rules = [rule for rule in _metadata(hint) if isinstance(rule, Rule)]
    rule = rules[0] if rules else _RULE
    for more in rules[1:]:
        changes = {k: v for k, v in vars(more).items() if v != getattr(_RULE, k)}
        rule = dataclasses.replace(rule, **changes)
    base = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if origin is None and base in _SCALARS:  # hashing the others would take most of the time
        return Node(base, rule, reader=_SCALARS[base])
    if dataclasses.is_dataclass(base):
        return dataclasses.replace(node_of(cast(type, base), *options), rule=rule)
    if origin in (typing.Union, UnionType):
        kinds = tuple(_node(kind, *options) for kind in arguments if kind is not NoneType)
        return Node(typing.Union, rule, kinds, (), NoneType in arguments, _read_union)
    if origin in (Mapping, dict):
        inner = tuple(_node(kind, *options) for kind in arguments)
        return Node(Mapping, rule, inner, reader=_read_map)
    if origin is tuple and len({*arguments} - {...}) == 1:
        if arguments[-1] is not ...:
            rule = dataclasses.replace(rule, least=len(arguments), most=len(arguments))
        return Node(tuple, rule, (_node(arguments[0], *options),), reader=_read_list)
    raise TypeError(f"{hint} describes nothing in JSON")


def _read_number(node: Node, value: Any) -> float:
    whole = type(value) is int and -(1 << 63) <= value < 1 << 63
    finite = whole or (type(value) is float and node.base is float and math.isfinite(value))
    if not finite or not node.rule.allows(value):
        raise node.fault(value)
    number: float = node.base(value)
    return number


def _read_flag(node: Node, value: Any) -> bool:
    if type(value) is bool or (node.rule.lenient and type(value) is int and value in (0, 1)):
        return bool(value)
    raise node.fault(value)


def _read_text(node: Node, value: Any) -> str:
    rule = node.rule
    if (
        not _is_text(value, rule.most or TEXT_LIMIT)
        or len(value) < rule.least
        or (rule.one_of is not None and value not in rule.one_of)
        or (rule.form is not None and not re.fullmatch(rule.form, value, re.DOTALL))
    ):
        raise node.fault(value)
    return str(value)


def _read_any(node: Node, value: Any) -> Any:
    if node.rule.unread or _is_plain(value, _DEPTH_LIMIT - 1):
        return value
    raise node.fault(value)


def _read_list(node: Node, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise node.fault(value)
    if not node.rule.least <= len(value) <= (node.rule.most or ITEMS_LIMIT):
        problem = f"has {len(value):,} items" if value else "is empty"
        raise JsonFault(problem, _expected(node))
    (item,) = node.inner
    if item.rule.unread:
        return tuple(value)
    items: list[Any] = []
    try:
        for part in value:
            items.append(item.read(part))
    except JsonFault as fault:
        if item.base in _SCALARS:
            fault.expected = _expected(node)
        fault.path = (len(items), *fault.path)
        raise
    return tuple(items)


def _read_map(node: Node, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise node.fault(value)
    if len(value) > (most := node.rule.most or ITEMS_LIMIT):
        raise JsonFault(f"has {len(value):,} keys", f"at most {most:,}")
    names, parts = node.inner
    result = {}
    for key, part in value.items():
        try:
            names.read(key)
        except JsonFault as fault:
            raise JsonFault(f"has the key {_described(key)}", fault.expected) from None
        try:
            result[key] = parts.read(part)
        except JsonFault as fault:
            fault.path = (key, *fault.path)
            raise
    return result


def _read_union(node: Node, value: Any) -> Any:
    if value is None and node.option:
        return None
    for kind in node.inner:
        if len(node.inner) == 1 or type(value) in _JSON_TYPES.get(kind.base, (dict,)):
            return kind.read(value)
    raise node.fault(value)


def _read_dataclass(node: Node, value: Any) -> Any:
    if not isinstance(value, dict):
        raise node.fault(value)
    if node.option and (unknown := value.keys() - (known := {field.key for field in node.fields})):
        problem = f"has the unknown key {_described(min(unknown))}"
        raise JsonFault(problem, f"some of {', '.join(sorted(known))}")
    result: dict[str, Any] = {}
    for field in node.fields:
        part = value.get(field.key, MISSING)
        if part is MISSING and field.required:
            raise JsonFault("is missing", path=(field.key,))
        if part is MISSING or (part is None and field.nullable):
            continue
        try:
            result[field.name] = field.node.read(part)
        except JsonFault as fault:
            fault.path = (field.key, *fault.path)
            raise
    return node.base(**result)


_RULE = Rule()
_SCALARS: dict[Any, Callable[[Node, Any], Any]] = {
    int: _read_number,
    float: _read_number,
    bool: _read_flag,
    str: _read_text,
    Any: _read_any,
}
_JSON_TYPES = {int: (int,), float: (int, float), bool: (bool,), str: (str,), tuple: (list,)}


def _is_plain(value: object, depth: int) -> bool:
    """Whether `value` has at most `depth` levels and holds nothing but plain, finite values."""
    if isinstance(value, dict):
        return depth > 0 and all(
            _is_text(key, TEXT_LIMIT) and _is_plain(item, depth - 1) for key, item in value.items()
        )
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    if isinstance(value, int | float):
        return math.isfinite(value) if isinstance(value, float) else abs(value) <= INTEGER_LIMIT
    return value is None or isinstance(value, str)


def _is_text(value: object, most: int) -> bool:
    """Whether `value` is a text of at most `most` characters without halves of pairs."""
    if type(value) is not str or len(value) > most:
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


# --- in words -------------------------------------------------------------------------------------


def _described(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    # repr of an integer with thousands of digits is slow, and refused by newer Pythons.
    if isinstance(value, int) and abs(value) > 1 << 64:
        return "an enormous integer"
    return quoted(value)


def _expected(node: Node, many: bool = False) -> str:
    """What a node asks for: "an integer from 1 to 9", or "integers from 1 to 9"."""
    rule = node.rule
    if rule.one_of is not None:
        return "one of " + ", ".join(map(repr, rule.one_of))
    if rule.form is not None:
        return rule.wording[many]
    if node.base in (int, float):
        kind = "integer" if node.base is int else "number"
        noun = f"{kind}s" if many else f"an {kind}" if kind == "integer" else f"a {kind}"
        bounds = {"from": rule.low, "above": rule.above, "to": rule.high, "and below": rule.below}
        return noun + "".join(f" {word} {n:,}" for word, n in bounds.items() if n is not None)
    if node.base is str:
        limit = rule.most or TEXT_LIMIT
        least = f"of {rule.least} to" if rule.least else "of at most"
        return f"{'texts' if many else 'a text'} {least} {limit:,} characters"
    if node.base is tuple:
        exact = rule.least and rule.least == rule.most
        count = f"{_COUNTS.get(rule.least, rule.least)} " if exact else ""
        tail = f", at least {rule.least}" if rule.least and not exact else ""
        return f"{'lists' if many else 'a list'} of {count}{_expected(node.inner[0], True)}{tail}"
    if node.base is typing.Union:
        return " or ".join(_expected(kind, many) for kind in node.inner)
    if node.base is bool:
        return "true or false"
    if node.base is Any:
        return f"plain values, at most {_DEPTH_LIMIT} levels deep"
    return "JSON objects" if many else "a JSON object"
