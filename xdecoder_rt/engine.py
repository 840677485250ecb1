"""`Engine`: one plan, one call a task.

``Engine("model.plan").segment(image, ["mug", "table"])``
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends import Backend
from xdecoder_rt.errors import ArgumentError, whole_number
from xdecoder_rt.image import ImageSource
from xdecoder_rt.questions.answer import AnswerQuestion
from xdecoder_rt.questions.caption import CaptionQuestion
from xdecoder_rt.questions.embed import EmbedQuestion
from xdecoder_rt.questions.example import check_examples, learn
from xdecoder_rt.questions.question import AnyImage, Images, answer_each, image_list
from xdecoder_rt.questions.refer import ReferQuestion, are_of_one_image
from xdecoder_rt.questions.regions import RegionSource
from xdecoder_rt.questions.run import run_each
from xdecoder_rt.questions.segment import Classes, SegmentQuestion
from xdecoder_rt.questions.track import TrackingCalls
from xdecoder_rt.results import Answer, Caption, Finding, Output, Ranking, Reference, Segmentation
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import ImageState
from xdecoder_rt.words.cache import TextCache, default_directory
from xdecoder_rt.words.text_graph import TextProgress
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import Word

Regions: TypeAlias = "list[RegionSource] | tuple[RegionSource, ...]"
_Engine = TypeVar("_Engine", bound="Engine")


class Engine(TrackingCalls):
    """A plan, opened: images and words in, masks, labels, sentences and embeddings out.

    An engine may be called from many threads at once. It is a context manager.

    Every call takes an image, a state of :meth:`encode`, or a list of these, and gives a list for a
    list. ``channels="bgr"`` says that arrays are blue, green, red, as OpenCV's are; files, Pillow
    images and states know their own order, so it means nothing for them. Texts over the context
    length are cut with a warning, or with ``strict=True`` refused.
    Every call may raise:

    * `ImageError`: an image cannot be read;
    * `VocabularyError`: a text is empty, unreadable or, under `strict`, too long;
    * `ArgumentError`: an argument is out of range, the plan lacks the task, or this is closed.

    Args:
        path: the plan.
        backend: ``"onnxruntime"``, ``"openvino"`` or ``"torch"`` for a portable plan; None chooses
            by plan and machine. A TensorRT plan runs on TensorRT. Also a backend of one's own
            (:class:`xdecoder_rt.backends.Backend`).
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, OpenVINO's ``"gpu"``; None chooses.
        threads: of one call; None: the backend's choice, within affinity and container quota.
        cache_dir: folder of the text cache and of compiled models; None takes
            ``$XDECODER_RT_CACHE`` or the user's cache folder. When it cannot be written, work goes
            on with one warning.

    Raises:
        PlanError: the file is not a usable plan.
        BackendError: the backend does not exist or cannot run this plan.
        MissingExtraError: the backend's package is not installed.

    Example:
        >>> with xdecoder_rt.Engine("model.plan", backend="onnxruntime") as engine:
        ...     result = engine.segment("desk.jpg", ["mug", "laptop"])
        >>> result.size
        (480, 640)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        backend: str | Backend | None = None,
        device: str | None = None,
        threads: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if threads is not None:
            threads = whole_number("threads", threads, 1, 1024, "None or 1 to 1024")
        directory = default_directory() if cache_dir is None else Path(cache_dir)
        self._runtime = Runtime(path, backend, device, threads, directory)
        self.manifest = self._runtime.manifest
        self.backend = self._runtime.backend

    # fmt: off
    @overload
    def segment(
        self, image: AnyImage, vocabulary: Classes, *, task: str = ...,
        stuff: Collection[str] = ..., min_score: float | None = ...,
        object_threshold: float | None = ..., overlap_threshold: float | None = ...,
        channels: str = ...,
    ) -> Segmentation: ...

    @overload
    def segment(
        self, image: Images, vocabulary: Classes, *, task: str = ..., stuff: Collection[str] = ...,
        min_score: float | None = ..., object_threshold: float | None = ...,
        overlap_threshold: float | None = ..., channels: str = ...,
    ) -> list[Segmentation]: ...
    # fmt: on

    def segment(
        self,
        image: AnyImage | Images,
        vocabulary: Classes,
        *,
        task: str = "panoptic",
        stuff: Collection[str] = (),
        min_score: float | None = None,
        object_threshold: float | None = None,
        overlap_threshold: float | None = None,
        channels: str = "rgb",
    ) -> Segmentation | list[Segmentation]:
        """Segment one image or a list of images over a vocabulary.

        Args:
            vocabulary: class names; an entry may be a group of synonyms, named by its first, or a
                :class:`~xdecoder_rt.Word` with rules. Or a :class:`~xdecoder_rt.Vocabulary`.
            task: ``"panoptic"``, ``"semantic"`` or ``"instance"``.
            stuff: labels without instances (floor, sky), looked for too; all others are things.
            min_score: nothing below it is given; 0 for all that the plan's rules give. None: the
                plan's own, or 0.25 for instances of a compact plan, else 0.
            object_threshold: least score of a query in panoptic output; None for the plan's.
            overlap_threshold: least share of its own mask that a panoptic segment owns; as well.

        Returns:
            The result in the image's own pixels; a list for a list.

        Raises:
            VocabularyError: the vocabulary is empty, or holds a word twice.
            ArgumentError: an unknown task, a score or threshold is no number from 0 to 1, or a
                threshold is given for other output than panoptic.

        Example:
            >>> result = engine.segment("desk.jpg", ["mug", ["sofa", "couch"]], stuff=["table"])
            >>> result.segmentation.shape, result.segmentation.dtype
            ((480, 640), dtype('int32'))
            >>> len(engine.segment(["desk.jpg", "shelf.jpg"], ["mug"], task="instance"))
            2
        """
        question = SegmentQuestion.ask(
            self._runtime, vocabulary, task, stuff, min_score, object_threshold, overlap_threshold
        )
        answer: Segmentation | list[Segmentation]
        answer = answer_each(self._runtime, image, channels, lambda _: question)
        return answer

    # fmt: off
    @overload
    def refer(
        self, image: AnyImage, phrases: Sequence[str], *, joint: bool = ..., strict: bool = ...,
        min_score: float | None = ..., channels: str = ...,
    ) -> list[Reference]: ...

    @overload
    def refer(
        self, image: Images, phrases: Sequence[str] | Sequence[Sequence[str]], *, joint: bool = ...,
        strict: bool = ..., min_score: float | None = ..., channels: str = ...,
    ) -> list[list[Reference]]: ...
    # fmt: on

    def refer(
        self,
        image: AnyImage | Images,
        phrases: Sequence[str] | Sequence[Sequence[str]],
        *,
        joint: bool = False,
        strict: bool = False,
        min_score: float | None = None,
        channels: str = "rgb",
    ) -> list[Reference] | list[list[Reference]]:
        """Segment what phrases refer to (referring segmentation).

        Args:
            phrases: such as "the red mug left of the plate"; with a list of images, phrases for
                all of them, or a list of phrases for each.
            joint: decode all phrases in one group, as the original does: faster, and what a
                phrase gets then depends on the others. By default each phrase is asked alone.
            min_score: a phrase below it is not found, and its mask is empty. 0 gives a mask to
                every phrase, as published; None: the plan's own, or 0.05 of plans with
                distractors, whose score is the noun's too, 0.25 of other compact ones, else 0.

        Returns:
            One entry a phrase, in their order; for a list of images, a list of those.

        Example:
            >>> red, left = engine.refer("desk.jpg", ["the red mug", "the mug on the left"])
            >>> red.phrase, red.mask.shape, red.box.shape
            ('the red mug', (480, 640), (4,))
        """
        answer: list[Reference] | list[list[Reference]] = answer_each(
            self._runtime, image, channels,
            lambda texts: ReferQuestion.ask(self._runtime, texts, joint, strict, min_score),
            "phrases", phrases, are_of_one_image(phrases),
        )  # fmt: skip
        return answer

    # fmt: off
    @overload
    def caption(
        self, image: AnyImage, prompt: str | None = ..., region: RegionSource | None = ..., *,
        beams: int | None = ..., max_tokens: int | None = ..., strict: bool = ...,
        channels: str = ...,
    ) -> Caption: ...

    @overload
    def caption(
        self, image: Images, prompt: str | None = ..., region: Regions | None = ..., *,
        beams: int | None = ..., max_tokens: int | None = ..., strict: bool = ...,
        channels: str = ...,
    ) -> list[Caption]: ...
    # fmt: on

    def caption(
        self,
        image: AnyImage | Images,
        prompt: str | None = None,
        region: RegionSource | Regions | None = None,
        *,
        beams: int | None = None,
        max_tokens: int | None = None,
        strict: bool = False,
        channels: str = "rgb",
    ) -> Caption | list[Caption]:
        """Describe an image, or a part of it (captioning, referring captioning).

        Args:
            prompt: words that the caption begins with.
            region: what it is about: a bool mask of the image's size, a box (left, top, right,
                bottom), or a result of :meth:`refer`; with a list of images, one for each.
            beams: drafts followed at a time; 1 takes the likeliest token each time, None as many
                as the plan says.
            max_tokens: longest caption; None for 50.

        Raises:
            ArgumentError: the region is outside the image or empty, or `beams` or `max_tokens` is
                out of range.

        Example:
            >>> caption = engine.caption("desk.jpg", region=(40, 30, 200, 160), max_tokens=8)
            >>> caption.score <= 0
            True
        """
        answer: Caption | list[Caption] = answer_each(
            self._runtime, image, channels,
            lambda part: CaptionQuestion.ask(
                self._runtime, prompt, part, beams, max_tokens, strict
            ),
            "regions", region, region is None,
        )  # fmt: skip
        return answer

    def caption_stream(
        self,
        image: AnyImage,
        prompt: str | None = None,
        region: RegionSource | None = None,
        *,
        max_tokens: int | None = None,
        strict: bool = False,
        channels: str = "rgb",
    ) -> Iterator[str]:
        """Write a caption with one beam, piece by piece as its tokens come.

        Yields:
            Texts which together are the caption.

        Example:
            >>> text = "".join(engine.caption_stream("desk.jpg", max_tokens=8))
            >>> text == engine.caption("desk.jpg", beams=1, max_tokens=8).text
            True
        """
        question = CaptionQuestion.ask(self._runtime, prompt, region, 1, max_tokens, strict)
        state = self._runtime.state(image, channels, question.is_textual)
        rows = self._runtime.rows.decode(state, question.groups(state))
        yield from question.pieces(state, rows)

    # fmt: off
    @overload
    def answer(
        self, image: AnyImage, question: str, choices: Sequence[str] | None = ..., *,
        strict: bool = ..., channels: str = ...,
    ) -> Answer: ...

    @overload
    def answer(
        self, image: Images, question: str | Sequence[str], choices: Sequence[str] | None = ..., *,
        strict: bool = ..., channels: str = ...,
    ) -> list[Answer]: ...
    # fmt: on

    def answer(
        self,
        image: AnyImage | Images,
        question: str | Sequence[str],
        choices: Sequence[str] | None = None,
        *,
        strict: bool = False,
        channels: str = "rgb",
    ) -> Answer | list[Answer]:
        """Answer a question on an image (visual question answering).

        Args:
            question: such as "what is on the table?"; with a list of images, one for all of them
                or one for each.
            choices: possible answers; None takes those that the plan was trained on.

        Raises:
            ArgumentError: a choice is there twice, or there are none.

        Example:
            >>> answer = engine.answer("desk.jpg", "is there a mug?", ["yes", "no"])
            >>> answer.text in ("yes", "no"), list(answer.scores)
            (True, ['yes', 'no'])
        """
        answer: Answer | list[Answer] = answer_each(
            self._runtime, image, channels,
            lambda text: AnswerQuestion.ask(self._runtime, text, choices, strict),
            "questions", question, isinstance(question, str),
        )  # fmt: skip
        return answer

    def embed_image(
        self, image: AnyImage | Images, *, channels: str = "rgb"
    ) -> npt.NDArray[np.float32]:
        """Embed an image in the space of texts.

        Its product with :meth:`embed_text` is the likeness of image and text, at most 1: the
        cosine, or as published the mean of the class token's and the backbone's.

        Returns:
            float32 ``[proj_dim]``; ``[N, proj_dim]`` for a list of N images.

        Example:
            >>> embeddings = engine.embed_image(["desk.jpg", "shelf.jpg"])
            >>> embeddings.shape == (2, engine.manifest.text.proj_dim)
            True
        """
        question = EmbedQuestion.ask(self._runtime)
        rows = np.array(answer_each(self._runtime, image, channels, lambda _: question), np.float32)
        width = self.manifest.text.proj_dim
        return rows.reshape(-1, width) if isinstance(image, list | tuple) else rows

    def rank(
        self,
        images: Images,
        texts: Sequence[str],
        *,
        strict: bool = False,
        channels: str = "rgb",
    ) -> Ranking:
        """Compare images with texts (image-text retrieval, both ways).

        Args:
            images: images or states of :meth:`encode`.
            texts: sentences.

        Example:
            >>> ranking = engine.rank(["desk.jpg", "shelf.jpg"], ["a desk", "a shelf", "a robot"])
            >>> ranking.scores.shape, sorted(ranking.images(0))
            ((2, 3), [0, 1])
        """
        table = self.embed_text(texts, strict=strict)
        rows = self.embed_image(image_list(images), channels=channels)
        return Ranking(tuple(texts), rows @ table.T)

    def find(
        self,
        images: Images,
        phrase: str,
        *,
        strict: bool = False,
        min_score: float | None = None,
        channels: str = "rgb",
    ) -> Finding:
        """Find the image that a phrase is about, and in it what it refers to (region retrieval).

        Args:
            images: at least one image or state of :meth:`encode`.
            phrase: such as "the red mug".
            min_score: see :meth:`refer`.

        Example:
            >>> finding = engine.find(["desk.jpg", "shelf.jpg"], "the red mug")
            >>> finding.image in (0, 1), finding.reference.phrase
            (True, 'the red mug')
        """
        for task in ("refer", "embed"):
            self._runtime.require(task)
        states: list[AnyImage] = [
            self._runtime.state(image, channels) for image in image_list(images)
        ]
        if not states:
            raise ArgumentError("There are no images", expected="at least one")
        scores = self.rank(states, [phrase], strict=strict).scores[:, 0]
        best = int(scores.argmax())
        (reference,) = self.refer(states[best], [phrase], strict=strict, min_score=min_score)
        return Finding(best, float(scores[best]), reference)

    # The implementation's keywords, not written thrice; it refuses unknown ones.
    @overload
    def run(self, image: AnyImage, **arguments: Any) -> Output: ...

    @overload
    def run(self, image: Images, **arguments: Any) -> list[Output]: ...

    def run(  # type: ignore[misc]
        self,
        image: AnyImage | Images,
        *,
        segment: Classes | None = None,
        task: str = "panoptic",
        stuff: Collection[str] = (),
        min_score: float | None = None,
        object_threshold: float | None = None,
        overlap_threshold: float | None = None,
        refer: Sequence[str] | Sequence[Sequence[str]] | None = None,
        joint: bool = False,
        caption: bool = False,
        prompt: str | None = None,
        region: RegionSource | Regions | None = None,
        beams: int | None = None,
        max_tokens: int | None = None,
        answer: str | Sequence[str] | None = None,
        choices: Sequence[str] | None = None,
        embed: bool = False,
        strict: bool = False,
        channels: str = "rgb",
    ) -> Output | list[Output]:
        """Do several tasks on one image: one look, one decode, and a caption's later tokens.

        Every result is what the task's own call gives. The other arguments are those of that call:
        `task`, `stuff` and thresholds of :meth:`segment`, `joint` of :meth:`refer`, `min_score` of
        both, `prompt`, `region`, `beams` and `max_tokens` of :meth:`caption`, `choices` of
        :meth:`answer`.

        Args:
            image: an image, a state of :meth:`encode`, or a list of these, with phrases, regions
                and questions for each as in the tasks' own calls.
            segment: the vocabulary.
            refer: the phrases.
            caption: whether to describe the image.
            answer: the question.
            embed: whether to embed the image.

        Returns:
            What was asked for; the other fields are None. A list for a list.

        Example:
            >>> output = engine.run("desk.jpg", segment=["mug"], refer=["the red mug"], embed=True)
            >>> output.segment.size, len(output.refer), output.caption
            ((480, 640), 1, None)
        """
        arguments: dict[str, Any] = {
            "segment": segment, "task": task, "stuff": stuff, "min_score": min_score,
            "object_threshold": object_threshold, "overlap_threshold": overlap_threshold,
            "refer": refer, "joint": joint, "caption": caption, "prompt": prompt, "region": region,
            "beams": beams, "max_tokens": max_tokens, "answer": answer, "choices": choices,
            "embed": embed, "strict": strict,
        }  # fmt: skip
        output: Output | list[Output] = run_each(self._runtime, image, channels, arguments)
        return output

    def encode(self, image: ImageSource, *, channels: str = "rgb") -> ImageState:
        """Encode an image once, for any number of questions.

        Args:
            image: HxWx3 uint8 array, PIL image or path; see
                :func:`xdecoder_rt.image.load_image`. With a TensorRT plan also an RGB array on the
                GPU, with ``__cuda_array_interface__`` or DLPack, of a size that the plan takes
                without scaling; it may be written over when this returns.
            channels: the order of an array's, ``"rgb"`` or ``"bgr"``.

        Raises:
            ImageError: it is not such an image.

        Example:
            >>> state = engine.encode("desk.jpg")
            >>> [engine.segment(state, [word]).size for word in ("mug", "table")]
            [(480, 640), (480, 640)]
        """
        return self._runtime.encode(image, channels)

    def decode(self, image: AnyImage, *, channels: str = "rgb") -> ImageState:
        """Encode an image, if it is not encoded yet, and decode its latent queries.

        Other calls do this by themselves; here it is done ahead, so that what is asked later costs
        its own rows only.

        Example:
            >>> state = engine.decode("desk.jpg")
            >>> state.latents is None
            False
        """
        state = self._runtime.state(image, channels)
        self._runtime.rows.latents(state)
        return state

    def embed_text(self, texts: Sequence[str], *, strict: bool = False) -> npt.NDArray[np.float32]:
        """Return unit embeddings of texts as they are: float32 ``[T, proj_dim]``.

        Args:
            texts: words or sentences.

        Example:
            >>> embeddings = engine.embed_text(["a red mug", "a table"])
            >>> embeddings.shape == (2, engine.manifest.text.proj_dim)
            True
            >>> np.linalg.norm(embeddings, axis=1).round(3).tolist()
            [1.0, 1.0]
        """
        self._runtime.require()
        return self._runtime.text.texts(self._runtime.text.check_texts(texts, strict))

    def warm(self, vocabulary: Classes, progress: TextProgress | None = None) -> None:
        """Embed a vocabulary ahead of time, so that the first frame does not wait for it.

        Args:
            vocabulary: see :meth:`segment`; words that are known cost nothing.
            progress: called with the number of sentences that are encoded and of all that must be;
                a word has one a template of the plan.

        Example:
            >>> engine.warm(["mug", "laptop", "table"])
        """
        self.class_table(vocabulary, progress)

    def class_table(
        self, vocabulary: Classes, progress: TextProgress | None = None
    ) -> npt.NDArray[np.float32]:
        """Return what queries are compared with: unit embeddings over the plan's templates.

        Args:
            vocabulary: see :meth:`segment`.
            progress: see :meth:`warm`.

        Returns:
            float32 ``[texts + 1, proj_dim]``, read-only: a row for each of the vocabulary's
            ``texts``, and last the void class's.

        Example:
            >>> table = engine.class_table(["mug", ["sofa", "couch"]])
            >>> table.shape == (4, engine.manifest.text.proj_dim)  # three texts and the void class
            True
        """
        self._runtime.require()
        words = Vocabulary.parse(vocabulary)
        check_examples(self.manifest, words)
        return self._runtime.text.class_table(words, progress)

    def example(
        self,
        images: AnyImage | Images,
        regions: RegionSource | Regions,
        name: str,
        *,
        channels: str = "rgb",
    ) -> Word:
        """Make a word of what it looks like: of things that are marked in images.

        The word can stand in any vocabulary beside others, be saved in a file of words (JSON) and
        carried in a plan. It means something to plans of the same weights alone. Several marks are
        better than one: they are averaged.

        Args:
            images: one, or a list; an image with several things stands in the list several times
                (encode it once).
            regions: one for each image: a bool mask of its size, a box (left, top, right, bottom)
                in pixels, or a `Reference` of :meth:`refer`.
            name: its label in results; it is not embedded.

        Raises:
            ArgumentError: there is not one region for each image, one is none, or the model
                outlines nothing there.
            VocabularyError: the name cannot be a word's.

        Example:
            >>> mine = engine.example("desk.jpg", (20, 20, 620, 460), "my mug")
            >>> mine.name, engine.segment("shelf.jpg", [mine, "mug"]).size
            ('my mug', (480, 640))
        """
        return learn(self._runtime, images, regions, name, channels)

    @property
    def vocabularies(self) -> Mapping[str, Vocabulary]:
        """The vocabularies that the plan carries, by name: for them no text is ever embedded.

        Raises:
            PlanError: one of them is damaged.

        Example:
            >>> sorted(engine.vocabularies)
            []
        """
        self._runtime.require()
        return self._runtime.words.vocabularies()

    @property
    def text_cache(self) -> TextCache:
        """Where text embeddings are kept; its ``stats`` count hits and misses.

        Example:
            >>> engine.warm(["mug", "table"])
            >>> before = engine.text_cache.stats.misses
            >>> engine.warm(["table", "mug"])
            >>> engine.text_cache.stats.misses - before
            0
        """
        return self._runtime.text.cache

    def close(self) -> None:
        """Release graphs, caches and the file; states of this engine are of no use after it.

        Example:
            >>> engine = xdecoder_rt.Engine("model.plan", backend="onnxruntime")
            >>> engine.close()
        """
        self._runtime.close()

    def __enter__(self: _Engine) -> _Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
