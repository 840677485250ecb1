"""The pickle of a PyTorch file as what it says: tensors are noted down, nothing is called.

``torch.save`` pickles a tensor as a call of a function of PyTorch's with the number of a storage.
Such calls are noted down here as :class:`StoredTensor`; every other call, class or object is noted
down by its name as a :class:`PickledObject`, so that the tensors beside it can be taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from xdecoder_rt.errors import CheckpointError
from xdecoder_rt.files.plain_pickle import PickleMachine

MAX_OPCODES = 1 << 20
"""Most opcodes carried out: the largest published file has about 30,000, with an optimiser thrice
as many. A million empty lists take 256 MiB."""
_KEYS = (str, bytes, int, float, type(None))
# Plain data, or parts of a tensor; anything else is an object of its maker's.
_PLAIN = {
    "builtins": ("set", "frozenset", "complex", "bytearray", "slice", "range"),
    "__builtin__": ("set", "frozenset", "complex", "bytearray", "slice", "xrange"),
    "collections": ("OrderedDict", "defaultdict", "Counter", "deque"),
    "_codecs": ("encode",),
    "torch._tensor": ("_rebuild_from_type_v2",),
    "torch.nn.parameter": ("Parameter", "Buffer"),
    "torch.serialization": ("_get_layout",),
    "torch.storage": ("UntypedStorage", "TypedStorage"),
}
# Element types, quantisation schemes and layouts.
_TORCH_NAMES = (
    r"(q|u|qu)?int\d+(x\d+)?|b?float\d+\w*|complex\d+|bool|device|Size|strided|per_\w+_affine\w*"
)
_DICTIONARIES = ("OrderedDict", "defaultdict", "Counter")
_ARRAYS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_STORAGE_NAMES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "UntypedStorage": "uint8",
}


@dataclass(frozen=True)
class PickledName:
    """A class or function that a pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class PickledObject:
    """What only running the pickle could make; what it was made from is not kept."""

    maker: PickledName


@dataclass(frozen=True)
class StoredNumbers:
    """A storage: where the numbers of tensors lie.

    Attributes:
        key: its name in the file.
        dtype: of its numbers, as PyTorch names it.
        count: of its numbers.
    """

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a view of a storage; offset and strides count numbers, as PyTorch's."""

    storage: StoredNumbers
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class UnusualTensor:
    """A tensor that is no view of a storage: sparse, quantised, without data."""

    kind: str


class PtPickleMachine(PickleMachine):
    """Walks the pickle of a PyTorch file; see :class:`PickleMachine`.

    Attributes:
        foreign: names of classes and functions that belong neither to plain data nor to tensors.
    """

    def __init__(self, where: str, most_characters: int) -> None:
        super().__init__(where, most_characters, CheckpointError, MAX_OPCODES)
        self.foreign: dict[str, None] = {}
        self._actions |= {
            "GLOBAL": lambda argument: self._push_name(*str(argument).split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._push_name(*self._last(2)),
            "REDUCE": lambda _: self._call(*self._last(2)),
            "NEWOBJ": lambda _: self._call(*self._last(2)),
            "NEWOBJ_EX": lambda _: self._call(*self._last(3)[:2]),
            "OBJ": lambda _: self._call_of(self._since_mark()),
            "INST": self._instance,
            "BUILD": lambda _: self._last(1),  # attributes: of tensors they are hooks alone
            "PERSID": lambda argument: self._push_storage(argument),
            "BINPERSID": lambda _: self._push_storage(self._last(1)[0]),
            "EMPTY_SET": lambda _: self._push(PickledObject(PickledName("builtins", "set"))),
            "FROZENSET": lambda _: self._freeze(),
            "ADDITEMS": lambda _: self._since_mark(),
            "BYTEARRAY8": self._push,
            "POP": lambda _: self._last(1),
        }

    def _push_name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise self._error("names a class by what is no text", "the file that torch.save writes")
        symbol = PickledName(module, name)
        if not _is_plain(symbol):
            self.foreign[str(symbol)] = None
        self._push(symbol)

    def _call_of(self, values: list[object]) -> None:
        self._push(None) if not values else self._call(values[0], tuple(values[1:]))

    def _instance(self, argument: object) -> None:
        values = self._since_mark()
        self._push_name(*str(argument).split(" ", 1))
        self._call(self._last(1)[0], tuple(values))

    def _freeze(self) -> None:
        self._since_mark()
        self._push(PickledObject(PickledName("builtins", "frozenset")))

    def _call(self, maker: object, arguments: object) -> None:
        """Note down what a call would have made."""
        if not isinstance(maker, PickledName) or not isinstance(arguments, tuple):
            self._push(PickledObject(PickledName("pickle", "object")))
            return
        if maker.module == "collections" and maker.name in _DICTIONARIES:
            self._push_container({}, ())
        elif maker.module == "torch" and maker.name == "Size":
            self._push_tuple(list(arguments[0]) if _is_shape(arguments[:1]) else [])
        else:
            self._push(self._made(maker, arguments))

    def _made(self, maker: PickledName, arguments: tuple[object, ...]) -> object:
        if maker.module == "torch._tensor" and maker.name == "_rebuild_from_type_v2":
            # A subclass of Tensor: the function that makes it, its type, and arguments.
            inner, rest = arguments[0], arguments[2] if len(arguments) > 2 else None
            if isinstance(inner, PickledName) and isinstance(rest, tuple):
                return self._made(inner, rest)
        if maker.module != "torch._utils":
            return PickledObject(maker)
        if maker.name in _PARAMETERS and arguments:
            return arguments[0]
        if maker.name in _ARRAYS:
            return self._tensor(maker, arguments)
        if "tensor" in maker.name:
            kind = maker.name.removeprefix("_rebuild_").removesuffix("_no_storage")
            return UnusualTensor({"qtensor": "quantised"}.get(kind, kind.split("_")[0]))
        return PickledObject(maker)

    def _tensor(self, maker: PickledName, arguments: tuple[object, ...]) -> StoredTensor:
        storage, offset, shape, stride = (*arguments, None, None, None, None)[:4]
        if (
            not isinstance(storage, StoredNumbers)
            or not _is_count(offset)
            or not _is_shape((shape, stride))
            or len(shape) != len(stride)  # type: ignore[arg-type]
        ):
            raise self._error("describes a tensor otherwise than PyTorch does", "a whole file")
        dtype = storage.dtype
        if maker.name == "_rebuild_tensor_v3" and isinstance(arguments[6:7], tuple):
            named = arguments[6] if len(arguments) > 6 else None
            dtype = named.name if isinstance(named, PickledName) else dtype
        return StoredTensor(storage, dtype, offset, tuple(shape), tuple(stride))  # type: ignore[arg-type]

    def _push_storage(self, identity: object) -> None:
        """Note down a storage: ``("storage", type, key, device, count)`` and, of old, a view."""
        parts = identity if isinstance(identity, tuple) else ()
        _, kind, key, _, count = (*parts, None, None, None, None, None)[:5]
        is_storage = parts[:1] == ("storage",) and isinstance(kind, PickledName)
        if not is_storage or not isinstance(key, str | int) or not _is_count(count):
            raise self._error("refers to what is no storage", "the file that torch.save writes")
        if len(parts) > 5 and parts[5] is not None:
            raise self._error("holds views of storages, as PyTorch 0.3 wrote", "a newer file")
        dtype = _STORAGE_NAMES.get(kind.name, kind.name)
        self._push(StoredNumbers(str(key), dtype, count))

    def _extend(self, values: list[object]) -> None:
        if not isinstance(self._top(), PickledObject):
            super()._extend(values)

    def _update(self, flat: list[object]) -> None:
        if isinstance(self._top(), PickledObject):
            return
        if len(flat) % 2 == 0:
            # Keys that are objects: what they name is no tensor of a network.
            pairs = zip(flat[::2], flat[1::2], strict=True)
            flat = [part for pair in pairs if isinstance(pair[0], _KEYS) for part in pair]
        super()._update(flat)


def _is_plain(symbol: PickledName) -> bool:
    if symbol.module == "torch":
        return (
            symbol.name.endswith("Storage") or re.fullmatch(_TORCH_NAMES, symbol.name) is not None
        )
    if symbol.module == "torch._utils":
        return symbol.name.startswith("_rebuild_")
    return symbol.name in _PLAIN.get(symbol.module, ())


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_shape(values: tuple[object, ...]) -> bool:
    return bool(values) and all(
        isinstance(value, tuple | list) and all(map(_is_count, value)) for value in values
    )
