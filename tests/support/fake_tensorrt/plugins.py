"""Plugins of the fake TensorRT: what ``IPluginV3`` in Python has of the real module.

The classes do nothing, as the real ones do nothing that Python does not; the registry keeps
creators, and reading an engine that holds plugins has them made.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

import numpy as np


class PluginFieldType(Enum):
    INT32 = 5


class TensorRTPhase(Enum):
    BUILD = 0
    RUNTIME = 1


class TensorFormat(Enum):
    LINEAR = 0
    CHW32 = 5


class DimensionOperation(Enum):
    PROD = 1
    CEIL_DIV = 8


class PluginField:
    """A name and numbers, which it does not copy."""

    def __init__(self, name: str, data: Any, type: PluginFieldType) -> None:  # noqa: A002
        self.name, self.data, self.type = name, np.asarray(data), type
        self.size = self.data.size


class PluginFieldCollection(list[PluginField]):
    """A list of fields."""


class PluginFieldCollection_(list[PluginField]):  # noqa: N801 (the real name)
    """What TensorRT takes: pointers into such a list."""


class DimsExprs(list[Any]):
    """A shape of expressions."""

    def __init__(self, length: int) -> None:
        super().__init__([None] * length)


class PluginTensorDesc:
    """A tensor, as a plugin is told of it."""

    dims: Any
    type: Any
    format: Any


class DynamicPluginTensorDesc:
    """The same with a profile's ranges."""

    desc: PluginTensorDesc


class IPluginV3:
    pass


class IPluginV3OneCore:
    pass


class IPluginV3OneBuild:
    pass


class IPluginV3OneRuntime:
    pass


class IPluginCreatorV3One:
    pass


class Registry:
    """``IPluginRegistry``."""

    def __init__(self) -> None:
        self.creators: dict[tuple[str, str], Any] = {}

    def register_creator(self, creator: Any, plugin_namespace: str = "") -> bool:
        assert creator.plugin_namespace == plugin_namespace
        key = plugin_namespace, creator.name
        if key in self.creators:
            return False
        self.creators[key] = creator
        return True

    def read(self, plugins: Iterable[tuple[str, str, dict[str, int]]]) -> str:
        """Make the plugins of an engine as reading it does; an error, or an empty string."""
        for namespace, name, numbers in plugins:
            creator = self.creators.get((namespace, name))
            if creator is None:
                return f"Cannot find plugin: {name}, version: 1, namespace: {namespace}"
            fields = PluginFieldCollection_(
                PluginField(key, np.array([number], np.int32), PluginFieldType.INT32)
                for key, number in numbers.items()
            )
            try:
                creator.create_plugin(name, fields, TensorRTPhase.RUNTIME)
            except Exception:
                return f"Could not create plugin {name}"
        return ""


def module_members() -> dict[str, Any]:
    """What a module has of this, with a registry of its own."""
    registry = Registry()
    classes = (
        (PluginFieldType, TensorRTPhase, TensorFormat, DimensionOperation, DimsExprs)
        + (PluginField, PluginFieldCollection, PluginFieldCollection_)
        + (PluginTensorDesc, DynamicPluginTensorDesc, IPluginV3, IPluginV3OneCore)
        + (IPluginV3OneBuild, IPluginV3OneRuntime, IPluginCreatorV3One)
    )
    return {
        **{class_.__name__: class_ for class_ in classes},
        "get_plugin_registry": lambda: registry,
    }
