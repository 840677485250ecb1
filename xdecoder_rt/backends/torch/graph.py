"""A graph at work: programs by the shapes of inputs, and CUDA graphs of those that come again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xdecoder_rt.backends.base import Array, Value, feeds_error, is_shortage
from xdecoder_rt.backends.torch.device import Device
from xdecoder_rt.backends.torch.program import Model, Program
from xdecoder_rt.errors import BackendError, MemoryShortageError, XDecoderError

_PROGRAMS = 64
_CAPTURED = 16
_FIRST_CAPTURE = 2  # the call that shows that shapes come again

Shapes = tuple[tuple[int, ...], ...]


class Capture:
    """A program as a CUDA graph, over inputs and outputs that stay where they are.

    Args:
        program: what it runs.
        feeds: inputs of its shapes.
        device: where.
        pool: memory that all captures of a backend share: none of it is read after a launch.
    """

    def __init__(
        self, program: Program, feeds: Mapping[str, Tensor], device: Device, pool: Any
    ) -> None:
        self._feeds = {name: tensor.clone() for name, tensor in feeds.items()}
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            self._graph, pool=pool, stream=device.stream, capture_error_mode="thread_local"
        ):
            self._outputs = program.run(self._feeds)

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Queue the graph; return copies of its outputs, which its next launch leaves alone."""
        for name, tensor in feeds.items():
            self._feeds[name].copy_(tensor, non_blocking=True)
        self._graph.replay()
        return {name: tensor.clone() for name, tensor in self._outputs.items()}


class TorchGraph:
    """A model and what was recorded of it.

    Args:
        name: for messages.
        model: the graph.
        device: where it runs.
        pool: of CUDA graphs; None captures none.

    Attributes:
        inputs: names of what it takes.
    """

    def __init__(self, name: str, model: Model, device: Device, pool: Any | None) -> None:
        self._name = name
        self._model = model
        self._device = device
        self._pool = pool
        self.inputs = tuple(model.inputs)
        self._programs: OrderedDict[Shapes, Program] = OrderedDict()
        self._calls: dict[Shapes, int] = {}
        self._captures: OrderedDict[Shapes, Capture] = OrderedDict()

    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        """Run the graph; outputs stay on the device and may not be written yet.

        Raises:
            PlanError: the graph takes other inputs.
            BackendError: PyTorch cannot run it; `MemoryShortageError` for want of memory.
        """
        if feeds.keys() != self._model.inputs.keys():
            raise feeds_error(self._name, self.inputs, feeds)
        try:
            with self._device.working():
                return dict(self._run({name: self._fed(name, feeds[name]) for name in self.inputs}))
        except XDecoderError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if is_shortage(error):
                raise MemoryShortageError(f"PyTorch to run the {self._name} graph") from error
            raise BackendError(
                f"PyTorch cannot run the {self._name} graph ({error})",
                fix="build the plan again: xdecoder-rt build",
            ) from error

    def _fed(self, name: str, value: Value | Array) -> Tensor:
        dtype = self._model.inputs[name]
        if isinstance(value, Tensor):
            return value.to(dtype)
        return self._device.up(np.asarray(value), dtype)

    def _run(self, feeds: dict[str, Tensor]) -> dict[str, Tensor]:
        shapes = tuple(tuple(tensor.shape) for tensor in feeds.values())
        if (capture := self._captures.get(shapes)) is not None:
            self._captures.move_to_end(shapes)
            return capture.run(feeds)
        if (program := self._programs.get(shapes)) is None:
            program, outputs = self._model.record(feeds)
            self._programs[shapes] = program
            self._calls[shapes] = 1
            if len(self._programs) > _PROGRAMS:
                oldest, _ = self._programs.popitem(last=False)
                del self._calls[oldest]
            return outputs
        self._programs.move_to_end(shapes)
        self._calls[shapes] += 1
        if self._pool is not None and self._calls[shapes] == _FIRST_CAPTURE:
            return self._captured(shapes, program, feeds)
        return program.run(feeds)

    def _captured(
        self, shapes: Shapes, program: Program, feeds: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Run a program by a new CUDA graph, or plainly where it cannot be captured."""
        try:
            capture = Capture(program, feeds, self._device, self._pool)
        except RuntimeError:
            # Another thread that waits for the whole device spoils a capture; the results of
            # queueing plainly are the same.
            return program.run(feeds)
        self._captures[shapes] = capture
        if len(self._captures) > _CAPTURED:
            self._captures.popitem(last=False)
        return capture.run(feeds)
