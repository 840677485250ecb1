"""The ONNX form: the exported graphs in ONNX Runtime, fed by the runtime's own text code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from xdecoder_rt.backends.base import Graph
from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend
from xdecoder_rt.export import onnx_graphs
from xdecoder_rt.manifest import TextInfo, size_key
from xdecoder_rt.models.backbones import Backbone
from xdecoder_rt.models.graphs import Normalise
from xdecoder_rt.models.parity.fixture import FixtureImage
from xdecoder_rt.models.parity.forms import BACKBONE_TENSORS, Array, Embeddings
from xdecoder_rt.models.xdecoder import XDecoder
from xdecoder_rt.templates import NAME_SUFFIXES, PUBLISHED_TEMPLATES
from xdecoder_rt.text import TextEncoder, unit
from xdecoder_rt.text_cache import TextCache
from xdecoder_rt.tokenizer import ClipTokenizer
from xdecoder_rt.vocabulary import Vocabulary

Progress = Callable[[str], None]


class OnnxWords:
    """The runtime's text encoder over the text graph: nothing is computed past an end token."""

    def __init__(self, model: XDecoder, background: str, backend: OnnxRuntimeBackend) -> None:
        config = model.config
        info = TextInfo(
            context_length=config.context_length,
            proj_dim=config.proj_dim,
            tokenizer="tokenizer.json",
            templates=PUBLISHED_TEMPLATES,
            strip_suffixes=NAME_SUFFIXES,
            background=background,
        )
        self._encoder = TextEncoder(
            info,
            ClipTokenizer.default(config.context_length),
            _load(backend, onnx_graphs.export_text_graph(model)),
            backend,
            TextCache(None, namespace="parity"),
        )
        self._logit_scale = np.float32(model.text_encoder.logit_scale.exp().item())

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Unit embeddings of texts as they are: ``[T, D]``."""
        return self._encoder.texts(texts)

    def class_table(self, names: Sequence[str]) -> Embeddings:
        """Unit embeddings of names over all templates, the background's last: ``[K + 1, D]``."""
        # Not parsed: what the original was asked is asked again, a sensible vocabulary or not.
        starts = np.arange(len(names), dtype=np.int64)
        words = Vocabulary(tuple(names), tuple(names), starts, frozenset())
        return self._encoder.class_table(words)

    def class_logits(self, class_embedding: Array, table: Embeddings) -> Array:
        """Scaled cosines: ``[..., Q, D], [K, D] -> [..., Q, K]``."""
        logits: Array = unit(class_embedding) @ table.T * self._logit_scale
        return logits


class OnnxNetwork:
    """A whole network as the graphs of a plan, exported for each padded size.

    Args:
        model: in eval mode.
        background: the name of the void class.
        progress: called with a sentence before each export.
    """

    exposed = re.compile(r"mask_features|pred_logits|pred_masks|pred_captions")

    def __init__(self, model: XDecoder, background: str, progress: Progress) -> None:
        self._model = model
        self._progress = progress
        self._backend = OnnxRuntimeBackend()
        self._graphs: dict[tuple[int, int], dict[str, Graph]] = {}
        progress("Exporting the text graph")
        self.words = OnnxWords(model, background, self._backend)

    def tensors(self, image: FixtureImage) -> Mapping[str, Array]:
        """What the vision, decode and mask graphs return for one image."""
        graphs = self._graphs_of(image.letterbox.target)
        seen = graphs["vision"](_feeds(image))
        decode = graphs["decode"]
        decoded = decode({name: seen[name] for name in decode.inputs})
        masks = graphs["mask"](
            {"mask_embedding": decoded["mask_embedding"], "mask_map": seen["mask_map"]}
        )
        found = {
            "mask_features": seen["mask_map"],
            "pred_captions": decoded["class_embedding"],
            "pred_masks": masks["mask_logits"],
        }
        return {name: self._backend.to_numpy(value) for name, value in found.items()}

    def _graphs_of(self, size: tuple[int, int]) -> dict[str, Graph]:
        if size not in self._graphs:
            self._progress(f"Exporting the image graphs for {size_key(size)}")
            exported = onnx_graphs.export_image_graphs(self._model, size)
            self._graphs[size] = {graph.name: _load(self._backend, graph) for graph in exported}
        return self._graphs[size]


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


class OnnxBackbone:
    """A backbone alone as an ONNX graph, exported for each padded size."""

    exposed = BACKBONE_TENSORS
    words = None

    def __init__(self, backbone: Backbone, normalise: Normalise, progress: Progress) -> None:
        self._module = BackboneGraph(backbone, normalise)
        self._progress = progress
        self._backend = OnnxRuntimeBackend()
        self._graphs: dict[tuple[int, int], Graph] = {}

    def tensors(self, image: FixtureImage) -> Mapping[str, Array]:
        """The normalised pixels and the four maps of one image."""
        size = image.letterbox.target
        if size not in self._graphs:
            self._progress(f"Exporting the backbone for {size_key(size)}")
            example = {name: torch.from_numpy(value) for name, value in _feeds(image).items()}
            exported = onnx_graphs.export_graph("backbone", self._module, example, ({}, {}))
            self._graphs[size] = _load(self._backend, exported)
        found = self._graphs[size](_feeds(image))
        return {name: self._backend.to_numpy(value) for name, value in found.items()}


def _load(backend: OnnxRuntimeBackend, graph: onnx_graphs.ExportedGraph) -> Graph:
    return backend.load(graph.name, memoryview(graph.model.SerializeToString()))


def _feeds(image: FixtureImage) -> dict[str, Array]:
    return {
        "frame": image.frame[None],
        "valid": np.array([image.letterbox.valid], np.int64),
    }
