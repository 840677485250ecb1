"""The ONNX form: the exported graphs in ONNX Runtime, driven by the runtime's own code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xdecoder_rt.backends.base import Array, Graph
from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend
from xdecoder_rt.export import onnx_graphs
from xdecoder_rt.models.backbones import Backbone
from xdecoder_rt.models.graphs import Normalise
from xdecoder_rt.models.xdecoder import XDecoder
from xdecoder_rt.parity.fixture import FixtureImage
from xdecoder_rt.parity.forms import BackboneForm, GroundedPhrases, WrittenCaption
from xdecoder_rt.parity.graph_form import GraphNetwork, NetworkGraphs, feeds
from xdecoder_rt.plan.manifest import size_key

ExportMessage = Callable[[str], None]


class OnnxNetwork:
    """A whole network as the graphs of a plan, exported for each padded size.

    Args:
        model: in eval mode.
        background: the name of the void class.
        progress: called with a sentence before each export.
    """

    exposed = re.compile(r"mask_features|pred_logits|pred_masks|pred_captions")

    def __init__(self, model: XDecoder, background: str, progress: ExportMessage) -> None:
        self._model = model
        self._progress = progress
        self._backend = OnnxRuntimeBackend()
        self._images: dict[tuple[int, int], dict[str, Graph]] = {}
        progress("Exporting the text graph")
        text = _load_graph(self._backend, onnx_graphs.export_text_graph(model))
        progress("Exporting the token graph")
        token = _load_graph(self._backend, onnx_graphs.export_token_graph(model))
        self._network = GraphNetwork(
            model.config,
            model.text_encoder.logit_scale.exp().item(),
            background,
            NetworkGraphs(self._backend, text, token, self._image_graphs),
        )
        self.words = self._network.words

    def tensors(self, image: FixtureImage) -> Mapping[str, Array]:
        """Compute the tensors that the vision, decode and mask graphs show of one image."""
        return self._network.tensors(image)

    def ground_phrases(
        self, image: FixtureImage, phrases: Sequence[str]
    ) -> Sequence[GroundedPhrases]:
        """Find what phrases refer to."""
        return (self._network.ground_phrases(image, phrases),)

    def write_caption(
        self, image: FixtureImage, region: npt.NDArray[np.bool_] | None, steps: int
    ) -> Sequence[WrittenCaption]:
        """Write a caption of an image or of its region."""
        return (self._network.write_caption(image, region, steps),)

    def _image_graphs(self, size: tuple[int, int]) -> Mapping[str, Graph]:
        if size not in self._images:
            self._progress(f"Exporting the image graphs for {size_key(size)}")
            exported = onnx_graphs.export_image_graphs(self._model, size)
            self._images[size] = {
                graph.name: _load_graph(self._backend, graph) for graph in exported
            }
        return self._images[size]


class BackboneGraph(nn.Module):
    """A backbone alone as a graph; plans have none, so this exists for its fixtures only."""

    outputs = ("pixel_values", "res2", "res3", "res4", "res5")

    def __init__(self, backbone: Backbone, normalise: Normalise) -> None:
        super().__init__()
        self.backbone = backbone
        self.normalise = normalise

    def forward(self, frame: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
        """``[B, H, W, 3]`` uint8 and ``[B, 2]`` int64 to the pixels and the four maps."""
        pixels = self.normalise(frame, valid)
        return (pixels, *self.backbone(pixels))


class OnnxBackbone(BackboneForm):
    """A backbone alone as an ONNX graph, exported for each padded size."""

    def __init__(self, backbone: Backbone, normalise: Normalise, progress: ExportMessage) -> None:
        self._module = BackboneGraph(backbone, normalise)
        self._progress = progress
        self._backend = OnnxRuntimeBackend()
        self._graphs: dict[tuple[int, int], Graph] = {}

    def tensors(self, image: FixtureImage) -> Mapping[str, Array]:
        """Compute the normalised pixels and the four maps of one image."""
        size = image.letterbox.target
        if size not in self._graphs:
            self._progress(f"Exporting the backbone for {size_key(size)}")
            example = {name: torch.from_numpy(value) for name, value in feeds(image).items()}
            exported = onnx_graphs.export_graph("backbone", self._module, example, ({}, {}))
            self._graphs[size] = _load_graph(self._backend, exported)
        return self._backend.to_numpy_all(self._graphs[size](feeds(image)))


def _load_graph(backend: OnnxRuntimeBackend, graph: onnx_graphs.ExportedGraph) -> Graph:
    return backend.load(graph.name, graph.model.SerializeToString)
