"""Constant values in an OpenVINO model before it is compiled, which is when OpenVINO folds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def constant_values(output: Any) -> npt.NDArray[np.float32] | None:
    """Return what a node gives whatever the inputs are; None where that depends on them.

    Args:
        output: of a node of a model whose shapes are fixed, such as weights that are dequantized or
            a bias that takes its shape from what it is added to.
    """
    node = output.get_node()
    kind = node.get_type_name()
    if kind == "Constant":
        values: npt.NDArray[Any] = node.data
        return values.astype(np.float32)
    if kind not in ("Convert", "Reshape", "Subtract", "Multiply"):
        return None
    first = constant_values(node.input_value(0))
    if first is None or kind == "Convert":
        return first
    if kind == "Reshape":
        shape = output.get_partial_shape()
        return None if shape.is_dynamic else first.reshape(shape.to_shape())
    second = constant_values(node.input_value(1))
    if second is None:
        return None
    return first - second if kind == "Subtract" else first * second
