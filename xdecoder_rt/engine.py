"""`Engine`: one plan, one call a task.

``Engine("model.plan").segment(image, ["mug", "table"])``
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

from xdecoder_rt.captioning import Opening
from xdecoder_rt.errors import ArgumentError, shown
from xdecoder_rt.grounding import check_lengths
from xdecoder_rt.image import ImageSource
from xdecoder_rt.questions import AskAbout, Describe, Embed, Question, Refer, Segment, ask_all
from xdecoder_rt.regions import RegionSource, read_region, region_levels
from xdecoder_rt.results import Answer, Caption, Finding, Output, Ranking, Reference, Segmentation
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.segmentation import RULES
from xdecoder_rt.state import ImageState
from xdecoder_rt.text_cache import TextCache, default_directory
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
        self._runtime = Runtime(path, backend, device, threads, directory)
        self.manifest = self._runtime.manifest
        self.backend = self._runtime.backend

    def encode(self, image: ImageSource) -> ImageState:
        """Look at an image once, for any number of questions.

        Args:
            image: HxWx3 uint8 RGB array, PIL image or path; see
                :func:`xdecoder_rt.image.load_image`.

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
        """
        state = image if isinstance(image, ImageState) else self.encode(image)
        self._runtime.require_open()
        self._runtime.rows.latents(state)
        return state

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
            ArgumentError: an unknown task, the plan lacks segmentation, or the engine is closed.
        """
        question = self._segment(vocabulary, task, stuff)
        if isinstance(image, list | tuple):
            return [self._one(one, question) for one in image]
        found: Segmentation = self._one(image, question)
        return found

    @overload
    def refer(
        self, image: Image, phrases: Sequence[str], *, joint: bool = ..., strict: bool = ...
    ) -> list[Reference]: ...

    @overload
    def refer(
        self,
        image: Images,
        phrases: Sequence[str] | Sequence[Sequence[str]],
        *,
        joint: bool = ...,
        strict: bool = ...,
    ) -> list[list[Reference]]: ...

    def refer(
        self,
        image: Image | Images,
        phrases: Sequence[str] | Sequence[Sequence[str]],
        *,
        joint: bool = False,
        strict: bool = False,
    ) -> list[Reference] | list[list[Reference]]:
        """Segment what phrases refer to (referring segmentation).

        Args:
            image: an image, a state of :meth:`encode`, or a list of these.
            phrases: such as "the red mug left of the plate"; with a list of images, phrases for
                all of them, or a list of phrases for each.
            joint: decode all phrases in one group, as the original does: faster, and what a
                phrase gets then depends on the others. By default each phrase is asked alone.
            strict: refuse a phrase over the context length, which is otherwise cut with a
                warning.

        Returns:
            One entry a phrase, in their order; for a list of images, a list of those.

        Raises:
            ImageError: an image cannot be read.
            VocabularyError: a phrase is empty, unreadable or, under `strict`, too long.
            ArgumentError: there are no phrases or more than the plan allows, the plan lacks this
                task, or the engine is closed.
        """
        self._require("refer")
        if isinstance(image, list | tuple):
            asked = [
                Refer.ask(self._runtime, own, joint, strict)
                for own in _for_each(phrases, len(image))
            ]
            return [self._one(one, own) for one, own in zip(image, asked, strict=True)]
        question = Refer.ask(self._runtime, cast("Sequence[str]", phrases), joint, strict)
        found: list[Reference] = self._one(image, question)
        return found

    def caption(
        self,
        image: Image,
        prompt: str | None = None,
        region: RegionSource | None = None,
        *,
        beams: int = 1,
        max_tokens: int | None = None,
        strict: bool = False,
    ) -> Caption:
        """Describe an image, or a part of it (captioning, referring captioning).

        Args:
            image: an image or a state of :meth:`encode`.
            prompt: words that the caption begins with.
            region: what it is about: a bool mask of the image's size, a box (left, top, right,
                bottom), or a result of :meth:`refer`.
            beams: drafts followed at a time; 1 takes the likeliest token each time.
            max_tokens: longest caption; None for 50.
            strict: refuse a prompt over the context length, which is otherwise cut with a
                warning.

        Raises:
            ImageError: the image cannot be read.
            VocabularyError: the prompt is empty, unreadable or, under `strict`, too long.
            ArgumentError: the region is outside the image or empty, `beams` or `max_tokens` is out
                of range, the plan lacks this task, or the engine is closed.
        """
        state = self._state(image, "caption")
        opening = self._opening(state, prompt, region, strict)
        found: Caption = self._one(state, Describe(opening, beams, max_tokens))
        return found

    def caption_stream(
        self,
        image: Image,
        prompt: str | None = None,
        region: RegionSource | None = None,
        *,
        max_tokens: int | None = None,
        strict: bool = False,
    ) -> Iterator[str]:
        """:meth:`caption` with one beam, piece by piece as its tokens come.

        Yields:
            Texts which together are the caption.

        Raises:
            As :meth:`caption`, when the first piece is asked for.
        """
        state = self._state(image, "caption")
        opening = self._opening(state, prompt, region, strict)
        (decoded,) = self._runtime.rows.decode(state, [opening.group])
        writer, said = self._runtime.captions, ""
        for draft in writer.drafts(state, opening, decoded, 1, max_tokens):
            text = writer.caption(opening, draft).text
            # A letter whose last bytes are still to come is held back.
            if draft.finished or not text.endswith("\N{REPLACEMENT CHARACTER}"):
                yield text[len(said) :]
                said = text

    def answer(
        self,
        image: Image,
        question: str,
        choices: Sequence[str] | None = None,
        *,
        strict: bool = False,
    ) -> Answer:
        """Answer a question on an image (visual question answering).

        Args:
            image: an image or a state of :meth:`encode`.
            question: such as "what is on the table?".
            choices: possible answers; None takes those that the plan was trained on.
            strict: refuse a question over the context length, which is otherwise cut with a
                warning.

        Raises:
            ImageError: the image cannot be read.
            VocabularyError: a text is empty, unreadable or, under `strict`, too long.
            ArgumentError: a choice is there twice, there are none, the plan lacks this task, or
                the engine is closed.
        """
        self._require("answer")
        asked = AskAbout.ask(self._runtime, question, choices, strict)
        found: Answer = self._one(image, asked)
        return found

    @overload
    def embed_image(self, image: Image) -> npt.NDArray[np.float32]: ...

    @overload
    def embed_image(self, image: Images) -> npt.NDArray[np.float32]: ...

    def embed_image(self, image: Image | Images) -> npt.NDArray[np.float32]:
        """An image in the space of texts.

        Its product with :meth:`embed_text` is the likeness of image and text, at most 1: the
        cosine, or as published the mean of the class token's and the backbone's.

        Returns:
            float32 ``[proj_dim]``; ``[N, proj_dim]`` for a list of N images.

        Raises:
            ImageError: an image cannot be read.
            ArgumentError: the plan lacks this task, or the engine is closed.
        """
        self._require("embed")
        if isinstance(image, list | tuple):
            rows = [self._one(one, Embed()) for one in image]
            return np.array(rows, np.float32).reshape(len(rows), self.manifest.text.proj_dim)
        found: npt.NDArray[np.float32] = self._one(image, Embed())
        return found

    def embed_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit embeddings of texts as they are: float32 ``[T, proj_dim]``.

        Raises:
            VocabularyError: a text is empty or unreadable.
        """
        self._runtime.require_open()
        if isinstance(texts, str):
            raise ArgumentError(f"texts is the string {shown(texts)}", expected="a list of texts")
        if not texts:
            return np.empty((0, self.manifest.text.proj_dim), np.float32)
        checked = [check_text(text, f"Text {i}") for i, text in enumerate(texts)]
        return self._runtime.text.texts(checked)

    def rank(self, images: Images, texts: Sequence[str]) -> Ranking:
        """Compare images with texts (image-text retrieval, both ways).

        Args:
            images: images or states of :meth:`encode`.
            texts: sentences.

        Raises:
            ImageError: an image cannot be read.
            VocabularyError: a text is empty or unreadable.
            ArgumentError: the plan lacks this task, or the engine is closed.
        """
        table = self.embed_text(texts)
        return Ranking(tuple(texts), self.embed_image(_listed(images)) @ table.T)

    def find(self, images: Images, phrase: str, *, strict: bool = False) -> Finding:
        """Find the image that a phrase is about, and in it what it refers to (region retrieval).

        Args:
            images: at least one image or state of :meth:`encode`.
            phrase: such as "the red mug".
            strict: refuse a phrase over the context length, which is otherwise cut with a
                warning.

        Raises:
            As :meth:`rank` and :meth:`refer`.
        """
        self._require("refer")
        states: list[Image] = [self._state(image, "embed") for image in _listed(images)]
        if not states:
            raise ArgumentError("There are no images", expected="at least one")
        scores = self.rank(states, [phrase]).scores[:, 0]
        best = int(scores.argmax())
        (reference,) = self.refer(states[best], [phrase], strict=strict)
        return Finding(best, float(scores[best]), reference)

    def run(
        self,
        image: Image,
        *,
        segment: Words | None = None,
        task: str = "panoptic",
        stuff: Collection[str] = (),
        refer: Sequence[str] | None = None,
        joint: bool = False,
        caption: bool = False,
        prompt: str | None = None,
        region: RegionSource | None = None,
        beams: int = 1,
        max_tokens: int | None = None,
        answer: str | None = None,
        choices: Sequence[str] | None = None,
        embed: bool = False,
        strict: bool = False,
    ) -> Output:
        """Do several tasks on one image: one look, one decode, and a caption's later tokens.

        Every result is what the task's own call gives.

        Args:
            image: an image or a state of :meth:`encode`.
            segment: the vocabulary of :meth:`segment`, whose `task` and `stuff` follow.
            task: see :meth:`segment`.
            stuff: see :meth:`segment`.
            refer: the phrases of :meth:`refer`, whose `joint` follows.
            joint: see :meth:`refer`.
            caption: whether to describe the image; `prompt`, `region`, `beams` and `max_tokens`
                are those of :meth:`caption`.
            prompt: see :meth:`caption`.
            region: see :meth:`caption`.
            beams: see :meth:`caption`.
            max_tokens: see :meth:`caption`.
            answer: the question of :meth:`answer`, whose `choices` follow.
            choices: see :meth:`answer`.
            embed: whether to embed the image.
            strict: refuse texts over the context length, which are otherwise cut with a warning.

        Returns:
            What was asked for; the other fields are None.

        Raises:
            As the tasks' own calls.
        """
        self._runtime.require_open()
        asked: dict[str, Question] = {}
        if segment is not None:
            asked["segment"] = self._segment(segment, task, stuff)
        if refer is not None:
            self._require("refer")
            asked["refer"] = Refer.ask(self._runtime, refer, joint, strict)
        if answer is not None:
            self._require("answer")
            asked["answer"] = AskAbout.ask(self._runtime, answer, choices, strict)
        if embed:
            self._require("embed")
            asked["embed"] = Embed()
        if caption:
            self._require("caption")
        state = image if isinstance(image, ImageState) else self.encode(image)
        if caption:
            opening = self._opening(state, prompt, region, strict)
            asked["caption"] = Describe(opening, beams, max_tokens)
        results = ask_all(self._runtime, state, list(asked.values()))
        return Output(**dict(zip(asked, results, strict=True)))

    def warm(self, vocabulary: Words) -> None:
        """Embed a vocabulary ahead of time, so that the first frame does not wait for it.

        Raises:
            VocabularyError: as for :meth:`segment`.
        """
        self._runtime.require_open()
        self._runtime.text.class_table(Vocabulary.parse(vocabulary))

    @property
    def text_cache(self) -> TextCache:
        """Where text embeddings are kept; its ``stats`` count hits and misses."""
        return self._runtime.text.cache

    def close(self) -> None:
        """Release graphs, caches and the file; states of this engine are of no use after it."""
        self._runtime.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _segment(self, vocabulary: Words, task: str, stuff: Collection[str]) -> Segment:
        self._require("segment")
        if task not in RULES:
            raise ArgumentError(
                f"There is no segmentation task {shown(task)}",
                expected=", ".join(repr(name) for name in RULES),
            )
        return Segment(Vocabulary.parse(vocabulary, stuff), task)

    def _opening(
        self, state: ImageState, prompt: str | None, region: RegionSource | None, strict: bool
    ) -> Opening:
        if prompt is not None:
            check_lengths([check_text(prompt, "The prompt")], self._runtime.tokenizer, strict)
        levels = None
        if region is not None:
            mask = read_region(region, state.letterbox.source)
            levels = region_levels(mask, state.letterbox)
        return self._runtime.captions.open(prompt, levels)

    def _one(self, image: Image, question: Question) -> Any:
        state = self._state(image, question.task)
        return ask_all(self._runtime, state, [question])[0]

    def _state(self, image: Image, task: str) -> ImageState:
        self._require(task)
        return image if isinstance(image, ImageState) else self.encode(image)

    def _require(self, task: str) -> None:
        self._runtime.require_open()
        held = self.manifest.tasks
        if task not in held:
            raise ArgumentError(
                f"This plan cannot do the task {task!r}",
                expected="one of " + ", ".join(repr(name) for name in held),
                fix=f"build it again with --tasks {','.join((*held, task))}",
            )


def _for_each(phrases: Sequence[str] | Sequence[Sequence[str]], images: int) -> list[Sequence[str]]:
    """The phrases of each of several images."""
    if isinstance(phrases, str) or not any(isinstance(own, list | tuple) for own in phrases):
        return [cast("Sequence[str]", phrases)] * images
    if len(phrases) != images:
        raise ArgumentError(
            f"There are phrases for {len(phrases)} images and {images} images",
            expected="a list of phrases for each image, or one list for all",
        )
    return list(phrases)


def _listed(images: Images) -> list[Image]:
    if not isinstance(images, list | tuple):
        raise ArgumentError(
            f"images is a {type(images).__name__}", expected="a list of images or states"
        )
    return list(images)
