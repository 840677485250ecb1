"""The shapes that a graph makes of given inputs, worked out without running it.

Operators that make shapes can make any: three constants of a few bytes, or a value doubled forty
times, are enough to fill a machine. Here every operator says what it makes
(:mod:`xdecoder_rt.plan.graph_operators`), so that a graph that would make too much is refused
before it is run.

Shapes are worked out from constants and from the shapes of inputs. A graph whose shapes hang on the
contents of its inputs is refused: no graph of a plan does that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from xdecoder_rt.errors import PlanError, quoted
from xdecoder_rt.plan.graph_call import Call, Made, MisfitError, Shape, of_constant
from xdecoder_rt.plan.graph_operators import PRODUCTS, RANK_LIMIT, RULES
from xdecoder_rt.plan.onnx_walk import Node, OnnxGraph

__all__ = ["Work", "infer_shapes"]

_INT_LIMIT, _INT_END = 1 << 40, (1 << 63) - 1


@dataclass
class Work:
    """What one run of a graph takes.

    Attributes:
        elements: of all tensors that operators make.
        products: multiply-accumulates.
        shapes: of every tensor, by name.
    """

    elements: int = 0
    products: int = 0
    shapes: dict[str, Shape] = field(default_factory=dict)


def infer_shapes(graph: OnnxGraph, inputs: Mapping[str, Shape], most: int) -> Work:
    """Work out every shape of a graph, and what a run takes.

    Args:
        graph: its nodes in an order in which they can run.
        inputs: the shape of each input.
        most: elements that one tensor may have.

    Raises:
        PlanError: an operator cannot take what it is given, makes a larger tensor, or makes a shape
            of what only a run tells; or an output is never made.
    """
    work = Work()
    made = {name: of_constant(constant) for name, constant in graph.constants.items()}
    made.update((name, Made(shape)) for name, shape in inputs.items())
    for node in graph.nodes:
        try:
            call = Call(node, [made[name] if name else None for name in node.inputs])
            results = RULES[node.kind](call)
            for name, result in zip(node.outputs, results, strict=True):
                work.elements += _checked_size(result, most)
                if name in made:
                    raise MisfitError(f"makes {quoted(name)}, which is there already")
                if name:
                    made[name] = result
            if node.kind in PRODUCTS:
                work.products += PRODUCTS[node.kind](call, results[0].shape)
        except MisfitError as misfit:
            raise _refusal(node, str(misfit)) from misfit
        except KeyError as error:
            missing = f"takes {quoted(error.args[0])}, which nothing before it makes"
            raise _refusal(node, missing) from error
        except (ArithmeticError, IndexError, TypeError, ValueError) as error:
            raise _refusal(node, "cannot take what it is given") from error
    for port in graph.outputs:
        if port.name not in made:
            raise PlanError(f"The graph never makes its output {quoted(port.name)}")
    work.shapes = {name: each.shape for name, each in made.items()}
    return work


def _refusal(node: Node, problem: str) -> PlanError:
    place = quoted(node.outputs[0]) if node.outputs else "nothing"
    return PlanError(f"The operator {node.kind} that makes {place} {problem}"[:400])


def _checked_size(made: Made, most: int) -> int:
    """Return the elements of what an operator makes."""
    size = math.prod(made.shape)
    if size > most or len(made.shape) > RANK_LIMIT:
        shown = list(made.shape[:RANK_LIMIT])
        raise MisfitError(f"makes {shown}, more than the {most:,} elements that such a plan needs")
    if made.values is not None and made.values.dtype.kind == "i" and size:
        numbers = made.values.ravel().tolist()
        low, high = min(numbers), max(numbers)
        # The two ends of int64 stand for "to the end" in slices.
        if max(-low, high) > _INT_LIMIT and high != _INT_END:
            raise MisfitError("makes a number that is no size")
    return size
