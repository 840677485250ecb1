"""The tasks that a data set has texts for: each asks an engine about one image, then scores all."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.items import PanopticItem
from xdecoder_rt.engine import Engine
from xdecoder_rt.evaluation.answers import AnswerAccuracy, AnswerScores
from xdecoder_rt.evaluation.captions import CaptionScores, caption_scores
from xdecoder_rt.evaluation.referring import ReferringIoU, ReferringScores
from xdecoder_rt.evaluation.retrieval import RetrievalScores, retrieval_recall

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Ids = NDArray[np.integer[Any]]


class TextTask(ABC):
    """One task over a data set.

    Attributes:
        task: Its name in a plan's `tasks`.
        section: Its key in the report.
        texts: The attribute of an item that holds what it asks, or compares with.
        times_ms: Milliseconds of each call on an encoded image.
    """

    task: ClassVar[str]
    section: ClassVar[str]
    texts: ClassVar[str]

    def __init__(self) -> None:
        self.times_ms: list[float] = []

    @classmethod
    def has_texts(cls, item: PanopticItem) -> bool:
        """Return whether there is something to ask about an item."""
        return bool(getattr(item, cls.texts))

    @abstractmethod
    def ask(
        self, engine: Engine, state: Any, item: PanopticItem, truth: Callable[[], _Ids]
    ) -> None:
        """Ask the engine all that the item has for the task, and note the answers.

        Args:
            engine: What is asked.
            state: The item's image, encoded.
            item: An item that `has_texts`.
            truth: Gives the item's map of segment ids.
        """

    @abstractmethod
    def compute(self, engine: Engine) -> Any:
        """Return the scores over all items asked."""

    def _timed(self, call: Callable[_P, _T], *args: _P.args, **keywords: _P.kwargs) -> _T:
        start = time.perf_counter()
        result = call(*args, **keywords)
        self.times_ms.append(1000 * (time.perf_counter() - start))
        return result


class ReferringTask(TextTask):
    """Phrases, asked one at a time; the truth is the union of the segments that one means."""

    task = "refer"
    section = "referring"
    texts = "phrases"

    def __init__(self) -> None:
        super().__init__()
        self._iou = ReferringIoU()

    def ask(
        self, engine: Engine, state: Any, item: PanopticItem, truth: Callable[[], _Ids]
    ) -> None:
        """Ask for every phrase."""
        ids = truth()
        for phrase in item.phrases:
            [reference] = self._timed(engine.refer, state, [phrase.text], min_score=0)
            self._iou.update(np.isin(ids, phrase.ids), reference.mask)

    def compute(self, engine: Engine) -> ReferringScores:
        """Return the scores of the phrases."""
        return self._iou.compute()


class RetrievalTask(TextTask):
    """Images and captions, each sought by the other among those of the data set."""

    task = "embed"
    section = "retrieval"
    texts = "captions"

    def __init__(self) -> None:
        super().__init__()
        self._images: list[NDArray[np.float32]] = []
        self._texts_of: list[list[int]] = []
        self._index: dict[str, int] = {}

    def ask(
        self, engine: Engine, state: Any, item: PanopticItem, truth: Callable[[], _Ids]
    ) -> None:
        """Embed the image and note its captions."""
        self._images.append(self._timed(engine.embed_image, state))
        self._texts_of.append(
            [self._index.setdefault(text, len(self._index)) for text in item.captions]
        )

    def compute(self, engine: Engine) -> RetrievalScores:
        """Embed the captions, each distinct text once, and score both directions."""
        texts = engine.embed_text(list(self._index))
        return retrieval_recall(np.stack(self._images), texts, self._texts_of)


class CaptioningTask(TextTask):
    """One caption an image, compared with those of people."""

    task = "caption"
    section = "caption"
    texts = "captions"

    def __init__(self) -> None:
        super().__init__()
        self._predictions: list[str] = []
        self._references: list[tuple[str, ...]] = []

    def ask(
        self, engine: Engine, state: Any, item: PanopticItem, truth: Callable[[], _Ids]
    ) -> None:
        """Ask for the caption."""
        caption = self._timed(engine.caption, state)
        self._predictions.append(caption.text)
        self._references.append(item.captions)

    def compute(self, engine: Engine) -> CaptionScores:
        """Return the scores of the captions."""
        return caption_scores(self._predictions, self._references)


class AnsweringTask(TextTask):
    """Questions on an image, open or with choices; open ones where the plan has own answers."""

    task = "answer"
    section = "vqa"
    texts = "questions"

    def __init__(self) -> None:
        super().__init__()
        self._accuracy = AnswerAccuracy()

    def ask(
        self, engine: Engine, state: Any, item: PanopticItem, truth: Callable[[], _Ids]
    ) -> None:
        """Ask every question that the plan can answer."""
        for question in item.questions:
            if question.choices is None and not has_answers(engine):
                continue
            answer = self._timed(engine.answer, state, question.text, choices=question.choices)
            self._accuracy.update(answer.text, question.answers)

    def compute(self, engine: Engine) -> AnswerScores:
        """Return the scores of the answers."""
        return self._accuracy.compute()


def has_answers(engine: Engine) -> bool:
    """Return whether a plan has answers of its own, as open questions need."""
    return bool(engine.manifest.text.answers)


TEXT_TASKS: tuple[type[TextTask], ...] = (
    ReferringTask,
    RetrievalTask,
    CaptioningTask,
    AnsweringTask,
)
