"""A plan held open: images and words go in; tasks are asked by the engine above."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends import Backend
from xdecoder_rt.errors import ArgumentError, shown
from xdecoder_rt.image import ImageSource
from xdecoder_rt.questions.question import Question, ask_all
from xdecoder_rt.questions.refer import check_lengths
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import ImageState
from xdecoder_rt.words.cache import TextCache, default_directory
from xdecoder_rt.words.text_graph import Progress
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import Entry, check_text

Words: TypeAlias = "Vocabulary | Sequence[Entry]"
Image: TypeAlias = "ImageSource | ImageState"
Images: TypeAlias = "list[Image] | tuple[Image, ...]"


_Session = TypeVar("_Session", bound="Session")


class Session:
    """Opens and closes a plan, and encodes images and words; tasks are :class:`Engine`'s.

    Args:
        path: the plan.
        backend: ``"onnxruntime"`` or ``"openvino"`` for a portable plan; None chooses by plan and
            machine. A TensorRT plan runs on TensorRT. Also a backend of one's own
            (:class:`xdecoder_rt.backends.Backend`).
        device: ``"cpu"``, or for a TensorRT plan ``"cuda"`` or ``"cuda:1"``; None chooses.
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
        backend: str | Backend | None = None,
        device: str | None = None,
        threads: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ArgumentError(f"threads is {threads}", expected="None or at least 1")
        directory = default_directory() if cache_dir is None else Path(cache_dir)
        self._runtime = Runtime(path, backend, device, threads, directory)
        self.manifest = self._runtime.manifest
        self.backend = self._runtime.backend

    def encode(self, image: ImageSource) -> ImageState:
        """Look at an image once, for any number of questions.

        Args:
            image: HxWx3 uint8 RGB array, PIL image or path; see
                :func:`xdecoder_rt.image.load_image`. With a TensorRT plan also such an array on
                the GPU, with ``__cuda_array_interface__`` or DLPack, of a size that the plan takes
                without scaling; it may be written over when this returns.

        Raises:
            ImageError: it is not such an image.
        """
        self._runtime.require_open()
        return self._runtime.encode(image)

    def decode(self, image: Image) -> ImageState:
        """Encode an image, if it is not encoded yet, and decode its latent queries.

        Other calls do this by themselves; here it is done ahead, so that what is asked later costs
        its own rows only.

        Raises:
            ImageError: the image cannot be read.
            ArgumentError: it is a state of another engine, or this one is closed.
        """
        state = self._encoded(image)
        self._runtime.rows.latents(state)
        return state

    def embed_text(self, texts: Sequence[str], *, strict: bool = False) -> npt.NDArray[np.float32]:
        """Unit embeddings of texts as they are: float32 ``[T, proj_dim]``.

        Args:
            texts: words or sentences.
            strict: refuse a text over the context length, which is otherwise cut with a warning.

        Raises:
            ArgumentError: `texts` is no list, or the engine is closed.
            VocabularyError: a text is empty, unreadable or, under `strict`, too long.
        """
        self._runtime.require_open()
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise ArgumentError(f"texts is {shown(texts)}", expected="a list of texts")
        if not texts:
            return np.empty((0, self.manifest.text.proj_dim), np.float32)
        checked = [check_text(text, f"Text {i}") for i, text in enumerate(texts)]
        check_lengths(checked, self._runtime.tokenizer, strict)
        return self._runtime.text.texts(checked)

    def warm(self, vocabulary: Words, progress: Progress | None = None) -> None:
        """Embed a vocabulary ahead of time, so that the first frame does not wait for it.

        Args:
            vocabulary: see :meth:`segment`; words that are known cost nothing.
            progress: called with the number of sentences that are encoded and of all that must be;
                a word has one a template of the plan.

        Raises:
            VocabularyError: as for :meth:`segment`.
        """
        self.class_table(vocabulary, progress)

    def class_table(
        self, vocabulary: Words, progress: Progress | None = None
    ) -> npt.NDArray[np.float32]:
        """What queries are compared with: unit embeddings over the plan's templates.

        Args:
            vocabulary: see :meth:`segment`.
            progress: see :meth:`warm`.

        Returns:
            float32 ``[texts + 1, proj_dim]``, read-only: a row for each of the vocabulary's
            ``texts``, and last the void class's.

        Raises:
            VocabularyError: as for :meth:`segment`.
        """
        self._runtime.require_open()
        return self._runtime.text.class_table(Vocabulary.parse(vocabulary), progress)

    @property
    def vocabularies(self) -> Mapping[str, Vocabulary]:
        """The vocabularies that the plan carries, by name: for them no text is ever embedded.

        Raises:
            PlanError: one of them is damaged.
        """
        self._runtime.require_open()
        return self._runtime.words.vocabularies()

    @property
    def text_cache(self) -> TextCache:
        """Where text embeddings are kept; its ``stats`` count hits and misses."""
        return self._runtime.text.cache

    def close(self) -> None:
        """Release graphs, caches and the file; states of this engine are of no use after it."""
        self._runtime.close()

    def __enter__(self: _Session) -> _Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _one(self, image: Image, question: Question) -> Any:
        state = self._state(image, question.task)
        return ask_all(self._runtime, state, [question])[0]

    def _state(self, image: Image, task: str) -> ImageState:
        self._require(task)
        return self._encoded(image)

    def _encoded(self, image: Image) -> ImageState:
        self._runtime.require_open()
        if not isinstance(image, ImageState):
            return self._runtime.encode(image)
        self._runtime.require_own(image)
        return image

    def _require(self, task: str) -> None:
        self._runtime.require_open()
        held = self.manifest.tasks
        if task not in held:
            raise ArgumentError(
                f"This plan cannot do the task {task!r}",
                expected="one of " + ", ".join(repr(name) for name in held),
                fix=f"build it again with --tasks {','.join((*held, task))}",
            )
