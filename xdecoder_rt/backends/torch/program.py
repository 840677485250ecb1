"""A model as steps of PyTorch: read once, recorded for each set of input shapes.

What no input changes is worked out when the model is read; what only the shapes of inputs change,
when they first come. A run of the same shapes then is the rest: a list of steps over slots, which
lets go of each tensor after its last use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xdecoder_rt.backends.torch import attention, elementwise, reductions, shaping, spatial
from xdecoder_rt.backends.torch.call import Call, Step
from xdecoder_rt.backends.torch.weights import TYPES, to_tensor
from xdecoder_rt.errors import BackendError, quoted
from xdecoder_rt.plan.onnx_walk import Node, OnnxGraph, read_onnx

OPERATORS = {
    **elementwise.OPERATORS,
    **reductions.OPERATORS,
    **shaping.OPERATORS,
    **spatial.OPERATORS,
}
"""What binds each operator of the ONNX standard that there is here."""
_BINDINGS = {**OPERATORS, attention.MASKED_ATTENTION: attention.bind}
_READ_AS_NUMBERS = 4096
"""Elements up to which a constant stays on the host too, where operators may ask for its values."""


@dataclass(frozen=True)
class _Bound:
    """A step of a program: slots of inputs (-1: left out) and outputs, and those that end here."""

    step: Step
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ends: tuple[int, ...]


class Program:
    """The steps of a run for given shapes of inputs.

    Args:
        steps: in order.
        fixed: tensors that no run changes, by slot.
        inputs: the slot of each input.
        outputs: the slot of each output.
        slots: how many there are.
    """

    def __init__(
        self,
        steps: Sequence[_Bound],
        fixed: Mapping[int, Tensor],
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        slots: int,
    ) -> None:
        self._steps = steps
        self._inputs = inputs
        self._outputs = outputs
        self._blank: list[Tensor | None] = [fixed.get(slot) for slot in range(slots)]

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs, by name; inputs have the shapes of the recording."""
        slots = self._blank.copy()
        for name, slot in self._inputs.items():
            slots[slot] = feeds[name]
        for bound in self._steps:
            made = bound.step(*[None if i < 0 else slots[i] for i in bound.inputs])
            if isinstance(made, Tensor):
                slots[bound.outputs[0]] = made
            else:
                for slot, result in zip(bound.outputs, made, strict=False):
                    slots[slot] = result
            for slot in bound.ends:
                slots[slot] = None
        outputs = {}
        for name, slot in self._outputs.items():
            tensor = slots[slot]
            assert tensor is not None
            outputs[name] = tensor
        return outputs


class Model:
    """A model's nodes and weights on a device.

    Args:
        name: for messages.
        data: a serialized ONNX model, whole.
        device: where it runs.
        kernels: whether masked attention is our kernels' work.

    Attributes:
        inputs: names and types of what it takes.

    Raises:
        PlanError: the model cannot be read.
        BackendError: it has an operator that there is not here.
    """

    def __init__(self, name: str, data: bytes, device: torch.device, kernels: bool) -> None:
        self._name = name
        self._device = device
        graph = read_onnx(data)
        unknown = sorted({node.kind for node in graph.nodes} - OPERATORS.keys())
        if unknown:
            raise BackendError(
                f"The {name} graph has operators that the torch backend does not know: "
                + ", ".join(map(quoted, unknown[:8])),
                expected="operators that plans are built of",
                fix="open the plan with backend='onnxruntime'",
            )
        if kernels:
            graph = attention.with_masked_attention(graph)
        self.inputs = {port.name: TYPES[port.kind] for port in graph.inputs}
        self._outputs = [port.name for port in graph.outputs]
        constants = {key: to_tensor(value) for key, value in graph.constants.items()}
        self._nodes = self._folded(graph, constants)
        self._lay(constants)
        last_use = {name: i for i, node in enumerate(self._nodes) for name in node.inputs}
        self._ends: list[list[str]] = [[] for _ in self._nodes]
        for each, index in last_use.items():
            if each not in self._outputs and each not in self._fixed:
                self._ends[index].append(each)

    def _folded(self, graph: OnnxGraph, constants: dict[str, Tensor]) -> list[Node]:
        """Work out what no input changes; return the nodes that are left."""
        left = []
        for node in graph.nodes:
            if not all(name in constants for name in node.inputs if name):
                left.append(node)
                continue
            inputs = [constants[name] if name else None for name in node.inputs]
            made = self._step(node, inputs, inputs)(*inputs)
            tensors = [made] if isinstance(made, Tensor) else made
            constants.update(zip(node.outputs, tensors, strict=False))
        return left

    def _lay(self, constants: Mapping[str, Tensor]) -> None:
        """Put constants where they are needed: on the device, on the host, or on both."""
        known = set(constants)
        by_host: set[str] = set()
        by_device = set(self._outputs)
        for node in self._nodes:
            if node.kind == "Shape" or known.issuperset(name for name in node.inputs if name):
                known.update(node.outputs)
                by_host.update(node.inputs)
            else:
                by_device.update(node.inputs)
        self._fixed = {
            name: tensor.to(self._device) for name, tensor in constants.items() if name in by_device
        }
        self._host = {
            name: tensor
            for name, tensor in constants.items()
            if name in by_host or (name in by_device and tensor.numel() <= _READ_AS_NUMBERS)
        }

    def _step(
        self, node: Node, inputs: Sequence[Tensor | None], known: Sequence[Tensor | None]
    ) -> Step:
        """Bind a node to what it takes."""
        try:
            return _BINDINGS[node.kind](Call(node, inputs, known))
        except BackendError:
            raise
        except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise BackendError(
                f"The operator {node.kind} of the {self._name} graph cannot take what it is given "
                f"({error})",
                fix="build the plan again: xdecoder-rt build",
            ) from error

    def record(self, feeds: Mapping[str, Tensor]) -> tuple[Program, dict[str, Tensor]]:
        """Run the model once; return its steps for inputs of these shapes, and its outputs.

        Args:
            feeds: every input, on the device.

        Raises:
            BackendError: an operator cannot take what it is given.
        """
        host = dict(self._host)
        values: dict[str, Tensor] = {**self._fixed, **feeds}
        slot_of: dict[str, int] = {}
        fixed: dict[int, Tensor] = {}
        last_use: dict[int, int] = {}
        steps: list[tuple[Step, tuple[int, ...], tuple[int, ...]]] = []

        def slot(name: str) -> int:
            if name not in slot_of:
                slot_of[name] = len(slot_of)
                if name in self._fixed:
                    fixed[slot_of[name]] = self._fixed[name]
                elif name in host:
                    values[name] = fixed[slot_of[name]] = host[name].to(self._device)
            return slot_of[name]

        inputs = {name: slot(name) for name in feeds}
        for node, ended in zip(self._nodes, [[], *self._ends], strict=False):
            for name in ended:  # with the node before
                values.pop(name, None)
            known = [host.get(name) if name else None for name in node.inputs]
            is_known = all(
                tensor is not None or not name
                for name, tensor in zip(node.inputs, known, strict=True)
            )
            if node.kind == "Shape" or is_known:
                # A shape of what runs change does not change with them.
                taken = known if is_known else [values[name] for name in node.inputs]
                made = self._step(node, taken, known)(*taken)
                host.update(
                    zip(node.outputs, [made] if isinstance(made, Tensor) else made, strict=False)
                )
                continue
            into = tuple(slot(name) if name else -1 for name in node.inputs)
            tensors = [values[name] if name else None for name in node.inputs]
            step = self._step(node, tensors, known)
            made = step(*tensors)
            results = [made] if isinstance(made, Tensor) else made
            values.update(zip(node.outputs, results, strict=False))
            steps.append((step, into, tuple(slot(name) for name in node.outputs)))
            last_use.update(dict.fromkeys(into, len(steps) - 1))
        outputs = {name: slot(name) for name in self._outputs}
        kept = {*outputs.values(), *fixed, -1}
        ends: list[list[int]] = [[] for _ in steps]
        for number, index in last_use.items():
            if number not in kept:
                ends[index].append(number)
        bound = [_Bound(*parts, tuple(ended)) for parts, ended in zip(steps, ends, strict=True)]
        program = Program(bound, fixed, inputs, outputs, len(slot_of))
        return program, {name: values[name] for name in self._outputs}
