"""A node of a graph with the shapes of what it takes, for working out what it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from xdecoder_rt.plan.onnx_walk import Constant, Node

__all__ = ["Call", "Made", "MisfitError", "Shape", "Values", "axis_of", "of_constant"]

Shape: TypeAlias = "tuple[int, ...]"
Values: TypeAlias = "npt.NDArray[Any]"


@dataclass(slots=True)
class Made:
    """A tensor of the graph: its shape, and its elements where a shape may be made of them."""

    shape: Shape
    values: Values | None = None


@dataclass(slots=True)
class Call:
    """A node with what it takes."""

    node: Node
    inputs: Sequence[Made | None]

    def tensor(self, index: int) -> Made:
        """Return an input that must be there."""
        made = self.optional(index)
        if made is None:
            raise MisfitError(f"lacks its input {index}")
        return made

    def optional(self, index: int) -> Made | None:
        """Return an input, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def shape(self, index: int) -> Shape:
        """Return the shape of an input."""
        return self.tensor(index).shape

    def integer(self, name: str, default: int) -> int:
        """Return an attribute that is an integer."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            raise MisfitError(f"has an odd {name}")
        return value

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        """Return an attribute that is a list of integers."""
        value = self.node.attributes.get(name, tuple(default))
        if not isinstance(value, tuple) or not all(isinstance(each, int) for each in value):
            raise MisfitError(f"has odd {name}")
        return [int(each) for each in value]

    def values(self, index: int) -> list[int]:
        """Return the elements of an input that shapes are made of."""
        values = self.tensor(index).values
        if values is None:
            raise MisfitError("makes a shape of the contents of an input")
        return [int(each) for each in values.reshape(-1)]

    def axis(self, rank: int, default: int, extra: int = 0) -> int:
        """Return the attribute ``axis``, counted from the front."""
        return axis_of(self.integer("axis", default), rank, extra)


class MisfitError(Exception):
    """An operator that cannot take what it is given; the text goes on from its name."""


def axis_of(axis: int, rank: int, extra: int = 0) -> int:
    """Return an axis counted from the front; `extra` of them may lie past the last."""
    if not -rank <= axis < rank + extra:
        raise MisfitError(f"has an axis {axis} of {rank}")
    return axis + rank if axis < 0 else axis


def of_constant(constant: Constant) -> Made:
    """Return a constant as a tensor of the graph."""
    if constant.values is None:
        return Made(constant.shape)
    return Made(constant.shape, np.array(constant.values).reshape(constant.shape))
