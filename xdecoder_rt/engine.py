"""`Engine`: one plan, one call a task.

``Engine("model.plan").segment(image, ["mug", "table"])``
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeAlias, overload

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends import Graph, Value, open_backend
from xdecoder_rt.errors import ArgumentError, shown
from xdecoder_rt.image import ImageSource, choose_size, letterbox, load_image
from xdecoder_rt.manifest import size_key
from xdecoder_rt.plan import Plan
from xdecoder_rt.results import Segmentation
from xdecoder_rt.segmentation import RULES, word_logits
from xdecoder_rt.state import Decoded, ImageState
from xdecoder_rt.text import TextEncoder
from xdecoder_rt.text_cache import TextCache, default_directory
from xdecoder_rt.tokenizer import ClipTokenizer
from xdecoder_rt.vocabulary import Vocabulary, check_text

Words = Sequence[str | Sequence[str]]
Image: TypeAlias = "ImageSource | ImageState"
Images: TypeAlias = "list[Image] | tuple[Image, ...]"


class Engine:
    """A plan, opened: images and words in, masks and labels out.

    An engine may be called from many threads at once. It is a context manager.

    Args:
        path: the plan.
        backend: ``"onnxruntime"`` or ``"openvino"``; None chooses by plan and machine.
        device: ``"cpu"``; None chooses.
        threads: processor threads of one call; None leaves the choice to the backend.
        cache_dir: folder of the text cache and of compiled models; None takes
            ``$XDECODER_RT_CACHE`` or the user's cache folder. When it cannot be written, work goes
            on with one warning.

    Raises:
        PlanError: the file is not a usable plan.
        BackendError: the backend does not exist or cannot run this plan.
        MissingExtraError: the backend's package is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        backend: str | None = None,
        device: str | None = None,
        threads: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ArgumentError(f"threads is {threads}", expected="None or at least 1")
        directory = default_directory() if cache_dir is None else Path(cache_dir)
        self._plan = Plan.open(path)
        self.manifest = self._plan.manifest
        self._threads = threads or os.cpu_count() or 1
        self._lock = threading.Lock()
        self._graphs: dict[str, Graph] = {}
        try:
            self.backend = open_backend(self.manifest, backend, device, threads, directory)
            self._text = self._open_text(directory)
        except BaseException:
            self._plan.close()
            raise
        self._closed = False

    def encode(self, image: ImageSource) -> ImageState:
        """Look at an image once, for any number of questions.

        Args:
            image: HxWx3 uint8 RGB array, PIL image or path; see
                :func:`xdecoder_rt.image.load_image`.

        Raises:
            ImageError: it is not such an image.
        """
        pixels = load_image(image)
        size = choose_size(pixels.shape[:2], self.manifest.input.sizes)
        frame, box = letterbox(pixels, size, self.manifest.input.interpolation)
        feeds = {"frame": frame[None], "valid": np.array([box.valid], np.int64)}
        key = size_key(size)
        values = self._graph(self.manifest.graphs.vision[key])(feeds)
        decode = self.manifest.graphs.decode[key]
        return ImageState(box, values, lambda memory: self._decode(decode, memory))

    @overload
    def segment(
        self, image: Image, vocabulary: Words, *, task: str = ..., stuff: Collection[str] = ...
    ) -> Segmentation: ...

    @overload
    def segment(
        self,
        image: Images,
        vocabulary: Words,
        *,
        task: str = ...,
        stuff: Collection[str] = ...,
    ) -> list[Segmentation]: ...

    def segment(
        self,
        image: Image | Images,
        vocabulary: Words,
        *,
        task: str = "panoptic",
        stuff: Collection[str] = (),
    ) -> Segmentation | list[Segmentation]:
        """Segment one image or a list of images over a vocabulary.

        Args:
            image: an image, a state of :meth:`encode`, or a list of these.
            vocabulary: class names; an entry may be a group of synonyms, named by its first.
            task: ``"panoptic"``, ``"semantic"`` or ``"instance"``.
            stuff: labels without instances (floor, sky); every other class is a thing.

        Returns:
            The result in the image's own pixels; a list for a list.

        Raises:
            ImageError: an image cannot be read.
            VocabularyError: the vocabulary is empty, duplicated or unreadable.
            ArgumentError: an unknown task, or the engine is closed.
        """
        if task not in RULES:
            raise ArgumentError(
                f"There is no segmentation task {shown(task)}",
                expected=", ".join(repr(name) for name in RULES),
            )
        words = Vocabulary.parse(vocabulary, stuff)
        if isinstance(image, list | tuple):
            return [self._segment(one, words, task) for one in image]
        return self._segment(image, words, task)

    def warm(self, vocabulary: Words) -> None:
        """Embed a vocabulary ahead of time, so that the first frame does not wait for it.

        Raises:
            VocabularyError: as for :meth:`segment`.
        """
        self._require_open()
        self._text.class_table(Vocabulary.parse(vocabulary))

    def embed_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit embeddings of texts as they are: float32 ``[T, proj_dim]``.

        Raises:
            VocabularyError: a text is empty or unreadable.
        """
        self._require_open()
        if isinstance(texts, str):
            raise ArgumentError(f"texts is the string {shown(texts)}", expected="a list of texts")
        if not texts:
            return np.empty((0, self.manifest.text.proj_dim), np.float32)
        return self._text.texts([check_text(t, f"Text {i}") for i, t in enumerate(texts)])

    @property
    def text_cache(self) -> TextCache:
        """Where text embeddings are kept; its ``stats`` count hits and misses."""
        return self._text.cache

    def close(self) -> None:
        """Release graphs, caches and the file; states of this engine are of no use after it."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._graphs.clear()
        self._text.cache.close()
        self.backend.close()
        self._plan.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _segment(self, image: Image, words: Vocabulary, task: str) -> Segmentation:
        state = image if isinstance(image, ImageState) else self.encode(image)
        decoded = state.decoded
        queries = self.manifest.decoder.num_queries
        if not self.manifest.decoder.class_token_is_mask:
            queries -= 1
        logits = word_logits(
            decoded.class_embedding[:queries],
            self._text.class_table(words),
            self.manifest.decoder.logit_scale,
            words,
        )
        return RULES[task](
            logits,
            lambda kept: self._masks(state, kept),
            state.letterbox,
            words,
            self.manifest.postprocess,
            self._threads,
        )

    def _open_text(self, directory: Path | None) -> TextEncoder:
        info = self.manifest.text
        members = self.manifest.members
        # Embeddings are the text graph's, so they outlive a plan that keeps it.
        templates = "\n".join((*info.templates, *info.strip_suffixes))
        namespace = f"{members[self.manifest.graphs.text].sha256}\n{templates}"
        cache = TextCache(directory, namespace=namespace)
        tokenizer = ClipTokenizer.from_json(self._plan.read(info.tokenizer), info.context_length)
        text_graph = self.manifest.graphs.text
        return TextEncoder(
            info, tokenizer, lambda feeds: self._graph(text_graph)(feeds), self.backend, cache
        )

    def _graph(self, member: str) -> Graph:
        """A compiled graph, loaded on first need: warm vocabularies never load the text graph."""
        with self._lock:
            self._require_open()
            if member not in self._graphs:
                self._graphs[member] = self.backend.load(member, self._plan.view(member))
            return self._graphs[member]

    def _require_open(self) -> None:
        if self._closed:
            raise ArgumentError("The engine is closed", fix="Open a new one")

    def _decode(self, member: str, memory: Mapping[str, Value]) -> Decoded:
        graph = self._graph(member)
        values = graph({name: memory[name] for name in graph.inputs})
        class_embedding = self.backend.to_numpy(values["class_embedding"])[0]
        mask_embedding = self.backend.to_numpy(values["mask_embedding"])[0]
        return Decoded(class_embedding, mask_embedding)

    def _masks(self, state: ImageState, queries: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Mask logits of some queries: float32 ``[K, H/4, W/4]``."""
        chosen = state.decoded.mask_embedding[queries][None]
        mask = self._graph(self.manifest.graphs.mask[size_key(state.letterbox.target)])
        values = mask({"mask_embedding": chosen, "mask_map": state.values["mask_map"]})
        logits: npt.NDArray[np.float32] = self.backend.to_numpy(values["mask_logits"])[0]
        return logits
