"""A plan at work: its graphs, loaded on first need, behind calls that know shapes and no task."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends import (
    Backend,
    DeviceBackend,
    Graph,
    PreparingBackend,
    Value,
    open_backend,
)
from xdecoder_rt.cores import usable_cores
from xdecoder_rt.errors import ArgumentError, ImageError
from xdecoder_rt.image import ImageSource, check_channels, lay_image, load_image, load_pixels
from xdecoder_rt.kernels.compiled import KERNEL_INDEX, KERNELS
from xdecoder_rt.masks import postprocess
from xdecoder_rt.masks.pieces import clean_map
from xdecoder_rt.masks.postprocess import Panoptic, Selection
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import Graphs, size_key
from xdecoder_rt.plan.plan_graph import PlanGraph
from xdecoder_rt.rows import RowDecoder
from xdecoder_rt.state import Floats, ImageState
from xdecoder_rt.words.carried import PlanWords, cache_of
from xdecoder_rt.words.distractors import distractors_of
from xdecoder_rt.words.encoder import TextEmbedder
from xdecoder_rt.words.region_names import names_of
from xdecoder_rt.words.text_graph import TextGraph
from xdecoder_rt.words.tokenizer import ClipTokenizer


@dataclass(frozen=True)
class _SizeMembers:
    """The members that hold the graphs of one input size."""

    vision: str
    decode: str
    mask: str
    frame: str | None

    @classmethod
    def of(cls, graphs: Graphs, size: tuple[int, int]) -> _SizeMembers:
        key = size_key(size)
        return cls(graphs.vision[key], graphs.decode[key], graphs.mask[key], graphs.frame.get(key))


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
        threads: for pre- and post-processing.
        words: the vocabularies that the plan carries.
        text: embeds words.
        text_graph: encodes tokens.
        distractors: words that compete with those of a call, or None.
        regions: the names of the plan's classifier of regions, or None.
        rows: decodes rows.
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
        self.threads = threads or usable_cores()
        self._lock = threading.Lock()
        self._graphs: dict[str, Graph] = {}
        self._prepared: set[str] = set()
        self._tokenizer: ClipTokenizer | None = None
        self._closed = False
        self._origin = object()
        try:
            self.backend = open_backend(self.manifest, backend, device, threads, directory)
            info = self.manifest.text
            self.text_graph = TextGraph(
                info, lambda feeds: self._graph(self.manifest.graphs.text)(feeds), self.backend
            )
            self.words = PlanWords(self._plan)
            cache = cache_of(self._plan, self.words, directory)
            self.text = TextEmbedder(info, lambda: self.tokenizer, self.text_graph, cache)
            self.distractors = distractors_of(self._plan)
            self.regions = names_of(self._plan, self.distractors)
            self._device = self.backend if isinstance(self.backend, DeviceBackend) else None
            if self._device is not None and KERNELS + KERNEL_INDEX in self._plan.names:
                self._device.take_kernels(lambda name: self._plan.read(KERNELS + name))
            self._panoptic_map = None if self._device is None else self._device.panoptic_map
            self._preparing = self.backend if isinstance(self.backend, PreparingBackend) else None
        except BaseException:
            self._plan.close()
            if hasattr(self, "backend"):
                self.backend.close()
            raise
        self._members = {
            size: _SizeMembers.of(self.manifest.graphs, size)
            for size in self.manifest.input.all_sizes
        }
        self.rows = RowDecoder(
            self.manifest.decoder,
            info.proj_dim,
            lambda state: self._graph(self._members[state.letterbox.target].decode, is_steady=True),
            self.backend,
            self._frame_graph,
        )

    @property
    def tokenizer(self) -> ClipTokenizer:
        """The plan's, read on first need: it takes longer than a frame, and known words need none.

        Raises:
            PlanError: the plan's tokenizer is unusable.
            ArgumentError: this is closed.
        """
        with self._lock:
            if self._tokenizer is None:
                self.require()
                info = self.manifest.text
                data = self._plan.read(info.tokenizer)
                self._tokenizer = ClipTokenizer.from_json(data, info.context_length)
            return self._tokenizer

    def require(self, task: str | None = None) -> None:
        """Refuse to work after `close`, or on a task that the plan lacks.

        Raises:
            ArgumentError: it is closed, or the plan lacks `task`.
        """
        if self._closed:
            raise ArgumentError("The engine is closed", fix="Open a new one")
        tasks = self.manifest.tasks
        if task is not None and task not in tasks:
            raise ArgumentError(
                f"This plan cannot do the task {task!r}",
                expected="one of " + ", ".join(repr(name) for name in tasks),
                fix=f"build it again with --tasks {','.join((*tasks, task))}",
            )

    def state(
        self, image: ImageSource | ImageState, channels: str = "rgb", for_text: bool = False
    ) -> ImageState:
        """Return an image's state: itself if this made it, else by the vision graph.

        Args:
            image: an image or a state.
            channels: the order of an array's, ``"rgb"`` or ``"bgr"``.
            for_text: whether nothing but a sentence or an embedding is asked of it, for which a
                plan may have a size of its own.

        Raises:
            ImageError: the image cannot be read.
            ArgumentError: another engine encoded it, whose values mean nothing to these graphs; or
                this one is closed; or there is no such order.
        """
        if not isinstance(image, ImageState):
            return self.encode(image, channels, for_text)
        self.require()
        check_channels(channels)
        if image.origin is not self._origin:
            raise ArgumentError(
                "The image was encoded by another engine",
                expected="a state that this engine's encode made",
                fix="encode the image with this engine",
            )
        return image

    def encode(
        self, image: ImageSource, channels: str = "rgb", for_text: bool = False
    ) -> ImageState:
        """Run the vision graph on one image; the arguments are those of :meth:`state`.

        Raises:
            ImageError: the image cannot be read.
            ArgumentError: it is closed, or there is no such order of channels.
        """
        self.require()
        frame, box = self._frame(image, channels, for_text)
        feeds = {"frame": frame, "valid": np.array([box.valid], np.int64)}
        members = self._members[box.target]
        self._prepare(members.decode)
        values = self._graph(members.vision, is_steady=True)(feeds)
        return ImageState(box, values, self._origin)

    def _frame(self, image: ImageSource, channels: str, for_text: bool) -> tuple[Value, Letterbox]:
        """Return the network's input, ``[1, H, W, 3]``, and where the image lies in it."""
        device, rules = self._device, self.manifest.input
        check_channels(channels)
        picture = None if device is None else device.picture(image)
        if device is not None and picture is not None:
            if channels != "rgb":
                raise ImageError(
                    "The image on the device is BGR",
                    expected="RGB: it is read where it is",
                    fix="turn it round on the device, as in image[..., [2, 1, 0]].contiguous() of "
                    "PyTorch, or give it as a NumPy array",
                )
            shape = (picture.shape[0], picture.shape[1])
            box = rules.place(shape, for_text, device.scales_frames)
            return device.frame(picture, box, rules.interpolation), box
        if device is not None and device.scales_frames:
            pixels, order = load_image(image, channels), "rgb"
        else:
            pixels, order = load_pixels(image, channels)
        box = rules.place((pixels.shape[0], pixels.shape[1]), for_text)
        if device is not None and device.scales_frames and box.source != box.target:
            return device.frame(pixels, box, rules.interpolation), box
        frame = lay_image(pixels, box, rules.interpolation, channels=order, threads=self.threads)
        return frame[None], box

    def panoptic(
        self,
        state: ImageState,
        selection: Selection,
        mask_embedding: Floats,
        is_thing: npt.NDArray[np.bool_],
        overlap_threshold: float,
    ) -> Panoptic:
        """Return the panoptic map of kept queries, formed where the mask logits are.

        On a GPU the plan's kernels make it; without them, and elsewhere, it is the CPU's work. The
        map is cleaned on the CPU either way, where it comes to be read.

        Args:
            state: the image.
            selection: K of the queries.
            mask_embedding: float32 ``[Q, C]``, of all queries.
            is_thing: one flag for each class.
            overlap_threshold: least share of its own mask that a segment owns.
        """
        embeddings, box = mask_embedding[selection.queries], state.letterbox
        scores, labels = selection.scores, selection.labels
        if self._panoptic_map is not None:
            values = self._mask_values(state, embeddings)
            segmentation, segments = self._panoptic_map(
                scores, labels, values, box, is_thing, overlap_threshold
            )
        else:
            logits = self.masks(state, embeddings)
            formed = postprocess.panoptic(
                scores, labels, logits, box, is_thing, overlap_threshold, threads=self.threads
            )
            segmentation, segments = formed.segmentation, formed.segments
        piece_share = self.manifest.postprocess.piece_share
        return Panoptic(segmentation, clean_map(segmentation, segments, piece_share))

    def masks(self, state: ImageState, embeddings: Floats) -> Floats:
        """Return mask logits on the host: of mask embeddings ``[K, C]``, ``[K, H/4, W/4]``."""
        logits: Floats = self.backend.to_numpy(self._mask_values(state, embeddings))[0]
        return logits

    def _mask_values(self, state: ImageState, embeddings: Floats) -> Value:
        """Return mask logits ``[1, K, H/4, W/4]`` where the backend keeps them."""
        graph = self._graph(self._members[state.letterbox.target].mask)
        values = graph({"mask_embedding": embeddings[None], "mask_map": state.values["mask_map"]})
        return values["mask_logits"]

    def image_embedding(self, state: ImageState) -> npt.NDArray[np.float32]:
        """Return the backbone's image embedding, unnormalised: ``[proj_dim]``."""
        embedding: Floats = self.backend.to_numpy(state.values["backbone_embedding"])[0]
        return embedding

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
        """Return scores of the token that follows: ``[N, text width]`` to ``[N, vocabulary]``."""
        member = self.manifest.graphs.token
        assert member is not None  # the manifest's tasks were checked against its graphs
        values = self._graph(member)({"caption_embedding": caption_embedding})
        logits: Floats = self.backend.to_numpy(values["token_logits"])
        return logits

    def _prepare(self, member: str) -> None:
        """Let a backend that can get ready for a graph, which is asked for next."""
        if self._preparing is None:
            return
        with self._lock:
            if member not in self._prepared:
                self._prepared.add(member)
                self._preparing.prepare(member, PlanGraph(self._plan, member))

    def _frame_graph(self, state: ImageState) -> Graph | None:
        """Return the graph that decodes an image's latents alone, of plans that have one."""
        member = self._members[state.letterbox.target].frame
        return None if member is None else self._graph(member, is_steady=True)

    def _graph(self, member: str, is_steady: bool = False) -> Graph:
        """Return a compiled graph, loaded on first need: a warm vocabulary loads no text graph."""
        with self._lock:
            self.require()
            if member not in self._graphs:
                # Compiling a frame's graphs takes the most memory. Words come before, and the graph
                # that embeds them, a tenth of the process, is brought back for new ones.
                if is_steady and self._preparing is not None:
                    self._graphs.pop(self.manifest.graphs.text, None)
                graph = PlanGraph(self._plan, member)
                self._graphs[member] = self.backend.load(member, graph, is_steady)
            return self._graphs[member]
