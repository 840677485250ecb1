"""Pickles as plain data: the opcodes are walked, and nothing that they name is imported or called.

RefCOCO's expressions and PyTorch's checkpoints are pickles, and loading a pickle runs whatever its
maker wrote into it. Here only the opcodes that numbers, texts, lists, tuples and dictionaries need
are carried out (https://docs.python.org/3/library/pickletools.html); a file with any other is
refused, but by a machine that knows what else to note down (:mod:`xdecoder_rt.models.pt_pickle`).

A `pickle.Unpickler` whose ``find_class`` refuses would be shorter, and was measured (Python 3.11,
x86-64). It runs no code, but it cannot be bounded: a pickle of seven bytes with the memo index 2^27
takes 2.0 GiB and 3 s (the memo is an array as long as its largest index), 1 MB of empty lists takes
73 MiB; 140 bytes of tuples, each twice in the next, are a dictionary's key that takes 1 s to hash,
twice that with every further five bytes. Nor can it refuse a list that contains itself. Here a memo
index takes nothing, such keys and lists are refused, and 1 MB of empty lists takes 165 MiB and 3 s.

A part that occurs again takes two bytes, whatever its size, and 28 kB once meant 49 million
expressions. So the length of the value written out, every part as often as it occurs, is bounded by
a few times the length of the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from xdecoder_rt.errors import DatasetError, XDecoderError, quoted

MAX_BYTES = 1 << 28
"""Longest pickle read; RefCOCO's are about a fifth of it."""
MAX_OPCODES = 1 << 25
"""Most opcodes carried out: one byte of a pickle can make an object of sixty."""
MAX_DEPTH = 32
"""Deepest nesting of containers."""
MAX_PROTOCOL = 5
_WRITTEN_OUT = 4  # characters a byte; of RefCOCO's own files it is about one
_LEAST_WRITTEN_OUT = 1 << 20

_INTEGERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
_SCALARS = (
    *("FLOAT", "BINFLOAT"),
    *("STRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)
_CONTAINERS = (list, dict, tuple)
_KEYS = (str, bytes, int, float, type(None))
_EXPECTED = "a pickle of numbers, texts, lists and dictionaries alone"


def parse_pickle(data: bytes, where: str) -> object:
    """Read the plain value of a pickle of protocol 0 to 5.

    Args:
        data: the pickle; what follows its end is ignored.
        where: what to call it in errors.

    Returns:
        None, truth values, integers of at most 64 bits, floats, texts, bytes, and lists, tuples
        and dictionaries of these; the keys of a dictionary are no containers. A part that occurs
        twice is the same object in both places. Python 2's byte strings come as texts (UTF-8).

    Raises:
        DatasetError: the pickle names a class, calls anything, contains itself, is broken or
            truncated, or exceeds a limit.
    """
    if len(data) > MAX_BYTES:
        raise DatasetError(f"{where} has {len(data):,} bytes", expected=f"at most {MAX_BYTES:,}")
    return PickleMachine(where, most_characters(len(data))).read(data)


def most_characters(size: int) -> int:
    """Return how long the value of a pickle of so many bytes may be when it is written out."""
    return max(_LEAST_WRITTEN_OUT, _WRITTEN_OUT * size)


class PickleMachine:
    """The stack, the marks on it and the memo of a pickle that is being walked.

    The value may have at most `most_characters` when it is written out like JSON.

    A container that lies in another may not change any more: no pickle of plain data does that,
    and without it nothing can contain itself and every depth is known as soon as it arises.

    Args:
        where: what to call the pickle in errors.
        most_characters: of the value.
        error: the class of errors.
        max_opcodes: most opcodes carried out.
    """

    def __init__(
        self,
        where: str,
        most_characters: int,
        error: type[XDecoderError] = DatasetError,
        max_opcodes: int | None = None,
    ) -> None:
        self._where = where
        self._most_characters = most_characters
        self._error_class = error
        self._max_opcodes = MAX_OPCODES if max_opcodes is None else max_opcodes
        self._stack: list[object] = []
        self._outer: list[list[object]] = []  # the stacks below each open mark
        self._memo: dict[int, object] = {}
        # By the id() of containers that are not empty; of the others 1 level and 2 characters.
        self._depths: dict[int, int] = {}
        self._lengths: dict[int, int] = {}
        self._closed: set[int] = set()
        self._containers: list[object] = []  # keeps every container alive, and so its id() its own
        self._count = 0
        self._position = 0
        self._actions: dict[str, Callable[[Any], object]] = {
            **dict.fromkeys(_INTEGERS, self._push_integer),
            **dict.fromkeys(_SCALARS, self._push),
            **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), self._push_python_2_string),
            "NONE": lambda _: self._push(None),
            "NEWTRUE": lambda _: self._push(True),
            "NEWFALSE": lambda _: self._push(False),
            "EMPTY_LIST": lambda _: self._push_container([], ()),
            "EMPTY_DICT": lambda _: self._push_container({}, ()),
            "EMPTY_TUPLE": lambda _: self._push_container((), ()),
            "LIST": lambda _: self._push_list(self._since_mark()),
            "DICT": lambda _: self._push_dict(self._since_mark()),
            "TUPLE": lambda _: self._push_tuple(self._since_mark()),
            "TUPLE1": lambda _: self._push_tuple(self._last(1)),
            "TUPLE2": lambda _: self._push_tuple(self._last(2)),
            "TUPLE3": lambda _: self._push_tuple(self._last(3)),
            "APPEND": lambda _: self._extend(self._last(1)),
            "APPENDS": lambda _: self._extend(self._since_mark()),
            "SETITEM": lambda _: self._update(self._last(2)),
            "SETITEMS": lambda _: self._update(self._since_mark()),
            "MARK": lambda _: self._mark(),
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._remember),
            "MEMOIZE": lambda _: self._remember(len(self._memo)),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), self._recall),
            "PROTO": self._check_protocol,
            **dict.fromkeys(("FRAME", "STOP"), lambda _: None),
        }

    def read(self, data: bytes | BinaryIO) -> object:
        """Walk a pickle to its end, and return its value.

        Args:
            data: the pickle, or a file that it begins in, which is left behind the pickle's end.

        Raises:
            XDecoderError: of the class given; see :func:`parse_pickle`.
        """
        try:
            for opcode, argument, position in pickletools.genops(data):
                self._carry_out(opcode.name, argument, position or 0)
        except XDecoderError:
            raise
        except ValueError as error:  # from pickletools
            raise self._error_class(
                f"{self._where} is not a whole pickle: {quoted(str(error))}", expected=_EXPECTED
            ) from error
        return self._result()

    def _carry_out(self, name: str, argument: object, position: int) -> None:
        """Carry out one opcode, or refuse it."""
        self._position = position
        self._count += 1
        if self._count > self._max_opcodes:
            raise self._error("is too long", f"at most {self._max_opcodes:,} opcodes")
        action = self._actions.get(name)
        if action is None:
            raise self._error_class(
                f"{self._where} is more than data: {name} at byte {position:,} asks for what only "
                "running the pickle could give",
                expected=_EXPECTED,
                fix="get the file from its makers again, or give the same list as JSON",
            )
        action(argument)

    def _result(self) -> object:
        """Return the value left on the stack."""
        if self._outer or len(self._stack) != 1:
            raise self._error("does not end with one value", _EXPECTED)
        return self._stack[0]

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _push_integer(self, value: int) -> None:
        # Not only for memory: Python refuses to print integers of thousands of digits.
        if not -(1 << 63) <= value < 1 << 63:
            raise self._error("has an integer of more than 64 bits", _EXPECTED)
        self._stack.append(value)

    def _push_python_2_string(self, text: str) -> None:
        # pickletools decodes these as Latin-1, which maps bytes one to one.
        self._stack.append(text.encode("latin-1").decode("utf-8"))

    def _push_list(self, values: list[object]) -> None:
        self._push_container(values, values)

    def _push_tuple(self, values: list[object]) -> None:
        self._push_container(tuple(values), values)

    def _push_dict(self, flat: list[object]) -> None:
        self._push_container({}, ())
        self._update(flat)

    def _push_container(self, container: object, parts: Sequence[object]) -> None:
        self._containers.append(container)
        self._adopt(container, parts)
        self._stack.append(container)

    def _remember(self, index: int) -> None:
        if index < 0:
            raise self._error(f"has the memo index {index}", "0 or more")
        self._memo[index] = self._top()

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            raise self._error(f"recalls the memo's {quoted(index)}, which is empty", _EXPECTED)
        self._stack.append(self._memo[index])

    def _check_protocol(self, protocol: int) -> None:
        if protocol > MAX_PROTOCOL:
            raise self._error(f"is of protocol {protocol}", f"0 to {MAX_PROTOCOL}")

    def _top(self) -> object:
        return self._at_least(1)[-1]

    def _last(self, count: int) -> list[object]:
        stack = self._at_least(count)
        values = stack[-count:]
        del stack[-count:]
        return values

    def _at_least(self, count: int) -> list[object]:
        if len(self._stack) < count:
            raise self._error("takes a value where there is none", _EXPECTED)
        return self._stack

    def _mark(self) -> None:
        if len(self._outer) == MAX_DEPTH:
            raise self._too_deep()
        self._outer.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[object]:
        if not self._outer:
            raise self._error("closes a mark that it did not set", _EXPECTED)
        values, self._stack = self._stack, self._outer.pop()
        return values

    def _extend(self, values: list[object]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise self._error("appends to what is no list", _EXPECTED)
        self._adopt(target, values)
        target.extend(values)

    def _update(self, flat: list[object]) -> None:
        """Set `flat`, keys and values by turns, in the dictionary on top of the stack."""
        target = self._top()
        if not isinstance(target, dict) or len(flat) % 2:
            raise self._error("sets an item of what is no dictionary", _EXPECTED)
        keys, values = flat[::2], flat[1::2]
        for key in keys:
            if not isinstance(key, _KEYS):  # hashing a tuple is recursive, in C, without a limit
                raise self._error("has a container as a dictionary's key", "a number or a text")
        self._adopt(target, values)
        self._lengthen(target, keys)
        target.update(zip(keys, values, strict=True))

    def _adopt(self, parent: object, children: Sequence[object]) -> None:
        """Note that `children` lie in `parent`, which must not yet lie in anything."""
        inner = [id(child) for child in children if isinstance(child, _CONTAINERS)]
        self._closed.update(inner)
        if id(parent) in self._closed and not isinstance(parent, tuple):
            raise self._error("changes a part that already lies in another, or itself", _EXPECTED)
        if inner:
            depth = 1 + max(self._depths.get(child, 1) for child in inner)
            if depth > MAX_DEPTH:
                raise self._too_deep()
            self._depths[id(parent)] = max(self._depths.get(id(parent), 1), depth)
        self._lengthen(parent, children)

    def _lengthen(self, parent: object, parts: Sequence[object]) -> None:
        """Add to the length of `parent`, written out, that of parts."""
        if not parts:
            return
        length = self._lengths.get(id(parent), 2)
        for part in parts:
            if isinstance(part, _CONTAINERS):
                length += self._lengths.get(id(part), 2)
            else:
                length += 1 + (len(part) if isinstance(part, str | bytes) else 0)
        self._lengths[id(parent)] = length
        if length > self._most_characters:
            raise self._error(
                "uses its parts again and again: written out, its value would be longer",
                f"at most {self._most_characters:,} characters",
            )

    def _too_deep(self) -> XDecoderError:
        return self._error("is nested too deeply", f"at most {MAX_DEPTH} levels")

    def _error(self, what: str, expected: str) -> XDecoderError:
        return self._error_class(
            f"{self._where} {what} (byte {self._position:,})", expected=expected
        )
