"""Models made for OpenVINO, for this processor and for some calls: less work for one result.

The decode graph serves rows of every kind. Where the kinds are known, most of what it does for
others is a product with zeros or a choice that is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from xdecoder_rt.backends.base import Array


@dataclass(frozen=True)
class FixedCall:
    """Calls that a model is compiled for.

    Attributes:
        shapes: of all inputs.
        values: of the inputs that are the same in all these calls.
    """

    shapes: dict[str, tuple[int, ...]]
    values: dict[str, Array]

    @classmethod
    def of(cls, feeds: Mapping[str, Array], recurring: Collection[str]) -> FixedCall:
        """Return the form of a call, whose inputs of some names are the same in all of them."""
        values = {name: feeds[name] for name in recurring}
        return cls({name: array.shape for name, array in feeds.items()}, values)

    @property
    def key(self) -> Hashable:
        """What tells these calls from others."""
        values = tuple((name, array.tobytes()) for name, array in self.values.items())
        return tuple(self.shapes.items()), values

    @property
    def digest(self) -> str:
        """A SHA-256 that tells these calls from others."""
        digest = hashlib.sha256(repr(sorted(self.shapes.items())).encode())
        for name, array in sorted(self.values.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


def repeats(
    run: Callable[[Mapping[str, Array]], Mapping[str, Array]], inputs: Mapping[str, Array]
) -> bool:
    """Return whether a model gives the same for the same inputs a second time.

    OpenVINO 2026.4 writes over constants of some graphs, so that the first run alone is right.

    Args:
        run: runs it.
        inputs: of a call.
    """
    first, second = run(inputs), run(inputs)
    return all(np.array_equal(first[name], second[name]) for name in first)


def drop_floors(network: Any) -> int:
    """Take the floors from under scores, in place; return how many.

    ``softmax(max(x, max(x) - c))``, which keeps other runtimes from computing with denormal
    numbers, becomes ``softmax(x)``: OpenVINO's has none, and its attention is one step then.
    """
    dropped = 0
    for node in network.get_ordered_ops():
        if node.get_type_name() != "Softmax":
            continue
        floored = node.input_value(0).get_node()
        if floored.get_type_name() != "Maximum":
            continue
        scores, floor = floored.input_value(0), floored.input_value(1).get_node()
        if floor.get_type_name() != "Subtract":
            continue
        highest = floor.input_value(0).get_node()
        if highest.get_type_name() == "ReduceMax" and highest.input_value(0) == scores:
            node.input(0).replace_source_output(scores)
            dropped += 1
    return dropped


def fix_inputs(openvino: ModuleType, network: Any, values: Mapping[str, Array]) -> None:
    """Make constants of inputs, and leave out what that decides, in place.

    A product with zeros is zeros: of finite numbers, which all values of a decode are.

    Args:
        openvino: the library.
        network: an ``openvino.Model`` of fixed shapes.
        values: of the inputs that vanish, by name.
    """
    for parameter in network.get_parameters():
        name = parameter.output(0).get_any_name()
        if name in values:
            _replace(parameter.output(0), openvino.opset13.constant(values[name]).output(0))
            network.remove_parameter(parameter)
    passes = import_module("openvino.passes")
    folding = passes.Manager()
    folding.register_pass(passes.ConstantFolding())
    folding.run_passes(network)
    while _leave_out(openvino, network):
        folding.run_passes(network)


def _leave_out(openvino: ModuleType, network: Any) -> int:
    """Replace what constants decide; return how many nodes."""
    replaced = 0
    for node in network.get_ordered_ops():
        result = _decided(openvino, node)
        if result is not None and result.get_partial_shape() == node.output(0).get_partial_shape():
            _replace(node.output(0), result)
            replaced += 1
    return replaced


def _decided(openvino: ModuleType, node: Any) -> Any | None:
    """What takes the place of a node's output, or None."""
    kind = node.get_type_name()
    if kind == "Select":
        chosen = _constant(node.input_value(0))
        if chosen is not None and (chosen.all() or not chosen.any()):
            return node.input_value(1 if chosen.all() else 2)
    elif kind in ("Add", "Multiply", "MatMul"):
        for value, other in ((0, 1), (1, 0)):
            constant = _constant(node.input_value(value))
            if constant is not None and not constant.any():
                if kind == "Add":
                    return node.input_value(other)
                zeros = np.zeros(node.output(0).get_shape(), constant.dtype)
                return openvino.opset13.constant(zeros).output(0)
    return None


def _constant(output: Any) -> Array | None:
    node = output.get_node()
    if node.get_type_name() != "Constant":
        return None
    array: Array = node.data
    return array


def _replace(output: Any, by: Any) -> None:
    for reader in output.get_target_inputs():
        reader.replace_source_output(by)
