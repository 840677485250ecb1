"""A node of a graph that is about to be bound to PyTorch's operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from xdecoder_rt.errors import BackendError
from xdecoder_rt.plan.onnx_walk import Constant, Node

Step: TypeAlias = "Callable[..., Tensor | Sequence[Tensor]]"
"""Takes a node's inputs, None for those left out, and gives its output or outputs."""


@dataclass(frozen=True)
class Call:
    """A node, and what is known of its inputs.

    Attributes:
        node: an operator of the standard.
        inputs: its inputs as they are in the run that is being recorded: of these only types and
            shapes last.
        known: those inputs that no run changes, on the host; None for others.
    """

    node: Node
    inputs: Sequence[Tensor | None]
    known: Sequence[Tensor | None]

    @property
    def first(self) -> Tensor:
        """Return the first input, which every operator but a constant has."""
        return self.input(0)

    def input(self, index: int) -> Tensor:
        """Return an input that must be there.

        Raises:
            BackendError: it is left out.
        """
        tensor = self.inputs[index] if self.has(index) else None
        if tensor is None:
            raise self.refusal(f"lacks its input {index}")
        return tensor

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def numbers(self, index: int) -> list[Any]:
        """Return the elements of an input that no run changes.

        Raises:
            BackendError: it depends on what a run is given.
        """
        tensor = self.known[index] if self.has(index) else None
        if tensor is None:
            raise self.refusal("makes a shape of the contents of an input")
        numbers: list[Any] = tensor.reshape(-1).tolist()
        return numbers

    def integer(self, name: str, default: int) -> int:
        """Return an attribute that is an integer."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            raise self.refusal(f"has an odd {name}")
        return value

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is a number."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int | float):
            raise self.refusal(f"has an odd {name}")
        return float(value)

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        """Return an attribute that is a list of integers."""
        value = self.node.attributes.get(name, tuple(default))
        if not isinstance(value, tuple):
            raise self.refusal(f"has odd {name}")
        return [int(each) for each in value]

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a text, in small letters."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, str):
            raise self.refusal(f"has an odd {name}")
        return value.lower()

    def constant(self, name: str) -> Constant | None:
        """Return an attribute that is a tensor, or None where it is left out."""
        value = self.node.attributes.get(name)
        if value is not None and not isinstance(value, Constant):
            raise self.refusal(f"has an odd {name}")
        return value

    def axis(self, default: int) -> int:
        """Return the attribute ``axis``, counted from the front."""
        axis = self.integer("axis", default)
        return axis + self.first.ndim if axis < 0 else axis

    def axes(self, index: int) -> list[int]:
        """Return axes of the first input, from an input or the attribute ``axes``; [] for none."""
        given = self.numbers(index) if self.has(index) else self.integers("axes", ())
        return [int(each) % max(self.first.ndim, 1) for each in given]

    def refusal(self, problem: str) -> BackendError:
        """Return the error of a node that cannot be run; the text goes on from its name."""
        return BackendError(
            f"The operator {self.node.kind} of the graph {problem}",
            expected="operators as plans are built of",
            fix="build the plan again: xdecoder-rt build",
        )


def broadcast_along(vector: Tensor, axis: int, rank: int) -> Tensor:
    """Return a vector that lies along one axis of tensors of a rank; a scalar as it is."""
    if vector.ndim != 1:
        return vector
    return vector.reshape([-1 if i == axis else 1 for i in range(rank)])


def is_whole(tensor: Tensor) -> bool:
    """Whether a tensor's elements are integers or flags."""
    return not (tensor.is_floating_point() or tensor.dtype == torch.bool)
