"""A network's graphs in their PyTorch form, behind the interface that the runtime drives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from xdecoder_rt.backends.base import Array, Graph, ModelReader, Value
from xdecoder_rt.errors import BackendError
from xdecoder_rt.models.graphs import DecodeGraph, MaskGraph, TextGraph, TokenGraph, VisionGraph
from xdecoder_rt.models.xdecoder import XDecoder
from xdecoder_rt.parity.graph_form import NetworkGraphs


class ModuleGraph:
    """One module as a graph.

    Args:
        module: its attributes ``inputs`` and ``outputs`` name what it takes and returns.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.inputs = cast("tuple[str, ...]", module.inputs)
        self._outputs = cast("tuple[str, ...]", module.outputs)

    @torch.inference_mode()
    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        """Run the module on tensors or arrays."""
        inputs = (feeds[name] for name in self.inputs)
        outputs = self._module(*(v if isinstance(v, Tensor) else torch.tensor(v) for v in inputs))
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        return dict(zip(self._outputs, values, strict=True))


class ModuleBackend:
    """PyTorch on the CPU, for modules that are there already."""

    name = "torch"
    version = str(torch.__version__)
    device = "cpu"

    def load(self, name: str, model: ModelReader, is_steady: bool = False) -> Graph:
        """Refuse.

        Raises:
            BackendError: always.
        """
        raise BackendError(
            f"PyTorch cannot load the serialized {name} graph", expected="a ModuleGraph"
        )

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """A tensor as an array that shares its memory."""
        array: np.ndarray[Any, Any] = value.numpy()
        return array

    def to_numpy_all(self, values: Mapping[str, Value]) -> dict[str, np.ndarray[Any, Any]]:
        """Tensors as arrays that share their memory."""
        return {name: value.numpy() for name, value in values.items()}

    def close(self) -> None:
        """Modules hold nothing that must be released."""


def module_graphs(model: XDecoder) -> NetworkGraphs:
    """Return the graphs of a model in eval mode; those of images serve every size."""
    modules = {"vision": VisionGraph(model), "decode": DecodeGraph(model), "mask": MaskGraph()}
    images = {name: ModuleGraph(module) for name, module in modules.items()}
    return NetworkGraphs(
        ModuleBackend(),
        ModuleGraph(TextGraph(model)),
        ModuleGraph(TokenGraph(model)),
        lambda size: images,
    )
