"""A plan at work: its graphs, loaded on first need, behind calls that know shapes and no task."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends import Backend, DeviceBackend, Graph, Value, open_backend
from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.image import (
    ImageSource,
    Letterbox,
    choose_size,
    letterbox,
    load_image,
    unscaled,
)
from xdecoder_rt.kernels.compiled import INDEX, KERNELS
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import size_key
from xdecoder_rt.questions.caption import CaptionWriter
from xdecoder_rt.rows import RowDecoder
from xdecoder_rt.state import Floats, ImageState
from xdecoder_rt.words.carried import PlanWords, cache_of
from xdecoder_rt.words.encoder import TextEncoder
from xdecoder_rt.words.text_graph import TextGraph
from xdecoder_rt.words.tokenizer import ClipTokenizer


class Runtime:
    """An opened plan on a backend. Calls may come from many threads.

    Args:
        path: the plan.
        backend: see :class:`~xdecoder_rt.Engine`, as the others.
        device: where to run.
        threads: of one call.
        directory: for caches; None for none.

    Attributes:
        manifest: the plan's.
        backend: what runs the graphs.
        threads: for post-processing.
        words: the vocabularies that the plan carries.
        text: embeds words.
        text_graph: encodes tokens.
        rows: decodes rows.
        captions: writes captions.
        tokenizer: the plan's.
        panoptic_map: makes panoptic maps on the device; None where that is the CPU's work.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        backend: str | Backend | None,
        device: str | None,
        threads: int | None,
        directory: Path | None,
    ) -> None:
        self._plan = Plan.open(path)
        self.manifest = self._plan.manifest
        self.threads = threads or os.cpu_count() or 1
        self._lock = threading.Lock()
        self._graphs: dict[str, Graph] = {}
        self._closed = False
        self._origin = object()
        try:
            self.backend = open_backend(self.manifest, backend, device, threads, directory)
            info = self.manifest.text
            self.tokenizer = ClipTokenizer.from_json(
                self._plan.read(info.tokenizer), info.context_length
            )
            self.text_graph = TextGraph(
                info, lambda feeds: self._graph(self.manifest.graphs.text)(feeds), self.backend
            )
            self.words = PlanWords(self._plan)
            cache = cache_of(self._plan, self.words, directory)
            self.text = TextEncoder(info, self.tokenizer, self.text_graph, cache)
            self._device = self.backend if isinstance(self.backend, DeviceBackend) else None
            if self._device is not None and KERNELS + INDEX in self._plan.names:
                self._device.take_kernels(lambda name: self._plan.read(KERNELS + name))
            self.panoptic_map = None if self._device is None else self._device.panoptic_map
        except BaseException:
            self._plan.close()
            if hasattr(self, "backend"):
                self.backend.close()
            raise
        decoder, graphs = self.manifest.decoder, self.manifest.graphs
        self.rows = RowDecoder(
            decoder,
            info.proj_dim,
            lambda state: self._graph(
                graphs.decode[size_key(state.letterbox.target)], is_steady=True
            ),
            self.backend,
        )
        self.captions = CaptionWriter(
            self.text_graph,
            self.rows,
            self.tokenizer,
            self.token_logits,
            decoder.num_queries,
            info.caption_stops,
            info.repetition_penalty,
        )

    def encode(self, image: ImageSource) -> ImageState:
        """Run the vision graph on one image."""
        frame, box = self._frame(image)
        feeds = {"frame": frame, "valid": np.array([box.valid], np.int64)}
        member = self.manifest.graphs.vision[size_key(box.target)]
        values = self._graph(member, is_steady=True)(feeds)
        return ImageState(box, values, self._origin)

    def _frame(self, image: ImageSource) -> tuple[Value, Letterbox]:
        """The network's input, ``[1, H, W, 3]``, and where the image lies in it."""
        device, rules = self._device, self.manifest.input
        picture = None if device is None else device.picture(image)
        if device is not None and picture is not None:
            return self._device_frame(device, picture)
        pixels = load_image(image)
        size = choose_size(pixels.shape[:2], rules.sizes)
        if device is not None and device.scales_frames and pixels.shape[:2] != size:
            return self._device_frame(device, pixels)
        frame, box = letterbox(pixels, size, rules.interpolation)
        return frame[None], box

    def _device_frame(self, device: DeviceBackend, picture: Any) -> tuple[Value, Letterbox]:
        """The same of pixels on the host or a picture on the device, made there."""
        shape, rules = picture.shape[:2], self.manifest.input
        if device.scales_frames:
            box = Letterbox.fit(shape, choose_size(shape, rules.sizes))
        else:
            box = unscaled(shape, rules.sizes)
        return device.frame(picture, box, rules.interpolation), box

    def masks(self, state: ImageState, embeddings: Floats) -> Floats:
        """Mask logits of mask embeddings: ``[K, C]`` to ``[K, H/4, W/4]``."""
        logits: Floats = self.backend.to_numpy(self.mask_values(state, embeddings))[0]
        return logits

    def mask_values(self, state: ImageState, embeddings: Floats) -> Value:
        """The same where the backend keeps them, ``[1, K, H/4, W/4]``."""
        graph = self._graph(self.manifest.graphs.mask[size_key(state.letterbox.target)])
        values = graph({"mask_embedding": embeddings[None], "mask_map": state.values["mask_map"]})
        return values["mask_logits"]

    def image_embedding(self, state: ImageState) -> npt.NDArray[np.float32]:
        """The backbone's image embedding, unnormalised: ``[proj_dim]``."""
        embedding: Floats = self.backend.to_numpy(state.values["backbone_embedding"])[0]
        return embedding

    def require_open(self) -> None:
        """Refuse to work after `close`.

        Raises:
            ArgumentError: it is closed.
        """
        if self._closed:
            raise ArgumentError("The engine is closed", fix="Open a new one")

    def require_own(self, state: ImageState) -> None:
        """Refuse what another engine encoded: its values mean nothing to these graphs.

        Raises:
            ArgumentError: `encode` of this one did not make it.
        """
        if state.origin is not self._origin:
            raise ArgumentError(
                "The image was encoded by another engine",
                expected="a state that this engine's encode made",
                fix="encode the image with this engine",
            )

    def close(self) -> None:
        """Release graphs, caches and the file."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._graphs.clear()
        self.text.cache.close()
        self.backend.close()
        self._plan.close()

    def token_logits(self, caption_embedding: Floats) -> Floats:
        """Scores of the token that follows: ``[N, text width]`` to ``[N, vocabulary]``."""
        member = self.manifest.graphs.token
        assert member is not None  # the manifest's tasks were checked against its graphs
        values = self._graph(member)({"caption_embedding": caption_embedding})
        logits: Floats = self.backend.to_numpy(values["token_logits"])
        return logits

    def _graph(self, member: str, is_steady: bool = False) -> Graph:
        """A compiled graph, loaded on first need: warm vocabularies never load the text graph."""
        with self._lock:
            self.require_open()
            if member not in self._graphs:
                view = self._plan.view(member)
                self._graphs[member] = self.backend.load(member, view, is_steady)
            return self._graphs[member]
