"""`Engine`: one plan, one call a task.

``Engine("model.plan").segment(image, ["mug", "table"])``
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, shown
from xdecoder_rt.questions.caption import Opening
from xdecoder_rt.questions.question import (
    AskAbout,
    Describe,
    Embed,
    Question,
    Refer,
    Segment,
    ask_all,
)
from xdecoder_rt.questions.refer import check_lengths
from xdecoder_rt.questions.regions import RegionSource, read_region, region_levels
from xdecoder_rt.questions.segment import RULES
from xdecoder_rt.results import Answer, Caption, Finding, Output, Ranking, Reference, Segmentation
from xdecoder_rt.session import Image, Images, Session, Words
from xdecoder_rt.state import ImageState
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import check_text

Regions: TypeAlias = "list[RegionSource] | tuple[RegionSource, ...]"


class Engine(Session):
    """A plan, opened: images and words in, masks, labels, sentences and embeddings out.

    An engine may be called from many threads at once. It is a context manager.

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
            vocabulary: class names; an entry may be a group of synonyms, named by its first, or a
                :class:`~xdecoder_rt.Word` with rules. Or a :class:`~xdecoder_rt.Vocabulary`.
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
            each = _for_each("phrases", phrases, len(image), _are_of_one(phrases))
            asked = [Refer.ask(self._runtime, own, joint, strict) for own in each]
            return [self._one(one, own) for one, own in zip(image, asked, strict=True)]
        question = Refer.ask(self._runtime, cast("Sequence[str]", phrases), joint, strict)
        found: list[Reference] = self._one(image, question)
        return found

    @overload
    def caption(
        self,
        image: Image,
        prompt: str | None = ...,
        region: RegionSource | None = ...,
        *,
        beams: int | None = ...,
        max_tokens: int | None = ...,
        strict: bool = ...,
    ) -> Caption: ...

    @overload
    def caption(
        self,
        image: Images,
        prompt: str | None = ...,
        region: Regions | None = ...,
        *,
        beams: int | None = ...,
        max_tokens: int | None = ...,
        strict: bool = ...,
    ) -> list[Caption]: ...

    def caption(
        self,
        image: Image | Images,
        prompt: str | None = None,
        region: RegionSource | Regions | None = None,
        *,
        beams: int | None = None,
        max_tokens: int | None = None,
        strict: bool = False,
    ) -> Caption | list[Caption]:
        """Describe an image, or a part of it (captioning, referring captioning).

        Args:
            image: an image, a state of :meth:`encode`, or a list of these.
            prompt: words that the caption begins with.
            region: what it is about: a bool mask of the image's size, a box (left, top, right,
                bottom), or a result of :meth:`refer`; with a list of images, one for each.
            beams: drafts followed at a time; 1 takes the likeliest token each time, None as many
                as the plan says.
            max_tokens: longest caption; None for 50.
            strict: refuse a prompt over the context length, which is otherwise cut with a
                warning.

        Raises:
            ImageError: the image cannot be read.
            VocabularyError: the prompt is empty, unreadable or, under `strict`, too long.
            ArgumentError: the region is outside the image or empty, `beams` or `max_tokens` is out
                of range, the plan lacks this task, or the engine is closed.
        """
        if isinstance(image, list | tuple):
            parts = _for_each("regions", region, len(image), region is None)
            return [
                self.caption(one, prompt, part, beams=beams, max_tokens=max_tokens, strict=strict)
                for one, part in zip(image, parts, strict=True)
            ]
        state = self._state(image, "caption")
        part = cast("RegionSource | None", region)
        opening = self._opening(state, prompt, part, strict)
        found: Caption = self._one(state, Describe(opening, self._beams(beams), max_tokens))
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
            text = writer.settled(opening, draft)
            if len(text) > len(said):
                yield text[len(said) :]
                said = text

    @overload
    def answer(
        self,
        image: Image,
        question: str,
        choices: Sequence[str] | None = ...,
        *,
        strict: bool = ...,
    ) -> Answer: ...

    @overload
    def answer(
        self,
        image: Images,
        question: str | Sequence[str],
        choices: Sequence[str] | None = ...,
        *,
        strict: bool = ...,
    ) -> list[Answer]: ...

    def answer(
        self,
        image: Image | Images,
        question: str | Sequence[str],
        choices: Sequence[str] | None = None,
        *,
        strict: bool = False,
    ) -> Answer | list[Answer]:
        """Answer a question on an image (visual question answering).

        Args:
            image: an image, a state of :meth:`encode`, or a list of these.
            question: such as "what is on the table?"; with a list of images, one for all of them
                or one for each.
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
        if isinstance(image, list | tuple):
            each = _for_each("questions", question, len(image), isinstance(question, str))
            asked = [AskAbout.ask(self._runtime, own, choices, strict) for own in each]
            return [self._one(one, own) for one, own in zip(image, asked, strict=True)]
        one = AskAbout.ask(self._runtime, cast("str", question), choices, strict)
        found: Answer = self._one(image, one)
        return found

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

    def rank(self, images: Images, texts: Sequence[str], *, strict: bool = False) -> Ranking:
        """Compare images with texts (image-text retrieval, both ways).

        Args:
            images: images or states of :meth:`encode`.
            texts: sentences.
            strict: refuse a text over the context length, which is otherwise cut with a warning.

        Raises:
            ImageError: an image cannot be read.
            VocabularyError: a text is empty, unreadable or, under `strict`, too long.
            ArgumentError: the plan lacks this task, or the engine is closed.
        """
        table = self.embed_text(texts, strict=strict)
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
        scores = self.rank(states, [phrase], strict=strict).scores[:, 0]
        best = int(scores.argmax())
        (reference,) = self.refer(states[best], [phrase], strict=strict)
        return Finding(best, float(scores[best]), reference)

    # The implementation's keywords, not written thrice; it refuses unknown ones.
    @overload
    def run(self, image: Image, **asked: Any) -> Output: ...

    @overload
    def run(self, image: Images, **asked: Any) -> list[Output]: ...

    def run(  # type: ignore[misc]
        self,
        image: Image | Images,
        *,
        segment: Words | None = None,
        task: str = "panoptic",
        stuff: Collection[str] = (),
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
    ) -> Output | list[Output]:
        """Do several tasks on one image: one look, one decode, and a caption's later tokens.

        Every result is what the task's own call gives.

        Args:
            image: an image, a state of :meth:`encode`, or a list of these, with phrases, regions
                and questions for each as in the tasks' own calls.
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
            What was asked for; the other fields are None. A list for a list.

        Raises:
            As the tasks' own calls.
        """
        shared: dict[str, Any] = {
            "segment": segment, "task": task, "stuff": stuff, "joint": joint, "caption": caption,
            "prompt": prompt, "beams": beams, "max_tokens": max_tokens, "choices": choices,
            "embed": embed, "strict": strict,
        }  # fmt: skip
        if isinstance(image, list | tuple):
            count, is_one = len(image), answer is None or isinstance(answer, str)
            phrases = _for_each("phrases", refer, count, _are_of_one(refer))
            regions = _for_each("regions", region, count, region is None)
            questions = _for_each("questions", answer, count, is_one)
            each = zip(image, phrases, regions, questions, strict=True)
            return [
                self.run(one, refer=own, region=part, answer=question, **shared)
                for one, own, part, question in each
            ]
        self._runtime.require_open()
        asked: dict[str, Question] = {}
        if segment is not None:
            asked["segment"] = self._segment(segment, task, stuff)
        if refer is not None:
            self._require("refer")
            own = cast("Sequence[str]", refer)
            asked["refer"] = Refer.ask(self._runtime, own, joint, strict)
        if answer is not None:
            self._require("answer")
            asked["answer"] = AskAbout.ask(self._runtime, cast("str", answer), choices, strict)
        if embed:
            self._require("embed")
            asked["embed"] = Embed()
        if caption:
            self._require("caption")
        state = self._encoded(image)
        if caption:
            part = cast("RegionSource | None", region)
            opening = self._opening(state, prompt, part, strict)
            asked["caption"] = Describe(opening, self._beams(beams), max_tokens)
        results = ask_all(self._runtime, state, list(asked.values()))
        return Output(**dict(zip(asked, results, strict=True)))

    def _segment(self, vocabulary: Words, task: str, stuff: Collection[str]) -> Segment:
        self._require("segment")
        if task not in RULES:
            raise ArgumentError(
                f"There is no segmentation task {shown(task)}",
                expected=", ".join(repr(name) for name in RULES),
            )
        return Segment(Vocabulary.parse(vocabulary, stuff), task)

    def _beams(self, beams: int | None) -> int:
        return self.manifest.text.caption_beams if beams is None else beams

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


def _are_of_one(phrases: object) -> bool:
    """Whether these are the phrases of one image rather than a list of those of several."""
    return not isinstance(phrases, list | tuple) or not any(
        isinstance(own, list | tuple) for own in phrases
    )


def _for_each(name: str, asked: Any, images: int, is_for_all: bool) -> list[Any]:
    """What is asked of each of several images."""
    if is_for_all:
        return [asked] * images
    held = len(asked) if isinstance(asked, list | tuple) else 1
    if held != images or not isinstance(asked, list | tuple):
        raise ArgumentError(
            f"There are {name} for {held} images and {images} images", expected="one for each"
        )
    return list(asked)


def _listed(images: Images) -> list[Image]:
    if not isinstance(images, list | tuple):
        raise ArgumentError(
            f"images is a {type(images).__name__}", expected="a list of images or states"
        )
    return list(images)
