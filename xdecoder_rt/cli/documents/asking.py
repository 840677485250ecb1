"""Documents of commands that ask about images: ``segment`` to ``run``, and ``demo``."""

from __future__ import annotations

from typing import Literal, TypedDict

from xdecoder_rt.cli.documents.common import Mask, Percentiles, Words


class Segment(TypedDict):
    """One segment.

    Attributes:
        id: its number in the map of segments.
        label_id: id of its word.
        label: its word.
        score: 0 to 1.
        area: pixels.
        isthing: whether its word has instances.
        box: left, top, right, bottom in pixels, the last two exclusive.
        mask: its pixels.
    """

    id: int
    label_id: int
    label: str
    score: float
    area: int
    isthing: bool
    box: list[float]
    mask: Mask


class Segments(TypedDict):
    """The segments of one image.

    Attributes:
        task: kind of output.
        height: of the image, pixels.
        width: of the image, pixels.
        segments: none where nothing was found.
    """

    task: Literal["panoptic", "semantic", "instance"]
    height: int
    width: int
    segments: list[Segment]


class Referred(TypedDict):
    """What a phrase refers to.

    Attributes:
        phrase: as asked.
        score: how well it matches, 0 to 1.
        found: whether the mask has pixels.
        box: left, top, right, bottom in pixels; zeros where nothing was found.
        mask: its pixels.
    """

    phrase: str
    score: float
    found: bool
    box: list[float]
    mask: Mask


class Described(TypedDict):
    """A caption.

    Attributes:
        text: the sentence.
        score: mean log-probability of a token, at most 0.
    """

    text: str
    score: float


class Answered(TypedDict):
    """An answer.

    Attributes:
        text: the best of the choices.
        score: its probability among them, 0 to 1.
        scores: of every choice.
    """

    text: str
    score: float
    scores: dict[str, float]


class QuestionAnswered(Answered):
    """An answer with its question.

    Attributes:
        question: as asked.
    """

    question: str


class UnreadImage(TypedDict):
    """An image that could not be read.

    Attributes:
        image: as named.
        error: why, in one line.
    """

    image: str
    error: str


class _ReadImage(TypedDict):
    image: str
    time_ms: float
    picture: str | None


class _SizedImage(_ReadImage):
    height: int
    width: int


class SegmentedImage(_ReadImage, Segments):
    """Segments of one image, with its files.

    Attributes:
        image: as named.
        time_ms: milliseconds from pixels to result.
        picture: the file drawn, or null.
        labels_png: the map of ids, or null.
    """

    labels_png: str | None


class ReferredImage(_SizedImage):
    """Phrases in one image.

    Attributes:
        refer: one entry a phrase.
    """

    refer: list[Referred]


class BoxRegion(TypedDict):
    """A region given by ``--box``.

    Attributes:
        box: left, top, right, bottom in pixels.
    """

    box: list[float]


class CaptionedImage(_SizedImage):
    """The caption of one image.

    Attributes:
        region: what it is about, or null for all of the image.
        caption: null where it was streamed.
    """

    region: Referred | BoxRegion | None
    caption: Described | None


class AnsweredImage(_SizedImage):
    """Answers on one image.

    Attributes:
        answers: one entry a question.
    """

    answers: list[QuestionAnswered]


class RankedImage(_SizedImage):
    """Likeness of one image and all texts.

    Attributes:
        scores: one a text, in their order.
    """

    scores: list[float]


class _AskedImage(_SizedImage):
    pass


class AskedImage(_AskedImage, total=False):
    """All that was asked of one image.

    Attributes:
        segment: with ``--words``.
        refer: with ``--phrases``.
        caption: with ``--caption``.
        answer: with ``--question``.
        embed: with ``--embed``: ``proj_dim`` values of a unit vector.
    """

    segment: Segments
    refer: list[Referred]
    caption: Described
    answer: Answered
    embed: list[float]


class _Asked(TypedDict):
    plan: str
    backend: str
    left_out: dict[str, int]


class SegmentDocument(_Asked):
    """Output of ``xdecoder-rt segment --json``.

    Attributes:
        plan: the plan.
        backend: what ran it.
        left_out: other things in the folders, counted by kind.
        task: kind of output.
        vocabulary: the words, with their rules.
        stuff: those without instances.
        images: one entry an image.
    """

    task: Literal["panoptic", "semantic", "instance"]
    vocabulary: Words
    stuff: list[str]
    images: list[SegmentedImage | UnreadImage]


class ReferDocument(_Asked):
    """Output of ``xdecoder-rt refer --json``.

    Attributes:
        phrases: as asked.
        joint: whether they were decoded in one group.
        images: one entry an image.
    """

    phrases: list[str]
    joint: bool
    images: list[ReferredImage | UnreadImage]


class CaptionDocument(_Asked):
    """Output of ``xdecoder-rt caption --json``.

    Attributes:
        prompt: words that captions begin with, or null.
        region: phrase of ``--region``, or null.
        box: of ``--box``, or null.
        beams: null for the plan's.
        max_tokens: null for the usual.
        images: one entry an image.
    """

    prompt: str | None
    region: str | None
    box: list[float] | None
    beams: int | None
    max_tokens: int | None
    images: list[CaptionedImage | UnreadImage]


class AnswerDocument(_Asked):
    """Output of ``xdecoder-rt answer --json``.

    Attributes:
        questions: as asked.
        choices: null for the plan's own.
        images: one entry an image.
    """

    questions: list[str]
    choices: list[str] | None
    images: list[AnsweredImage | UnreadImage]


class ScoredImage(TypedDict):
    """Likeness of one image and one text.

    Attributes:
        image: as named.
        score: at most 1.
    """

    image: str
    score: float


class RankedText(TypedDict):
    """All images for one text.

    Attributes:
        text: as asked.
        images: the most like first.
        found: with ``--find`` what it refers to in the first; else null.
    """

    text: str
    images: list[ScoredImage]
    found: Referred | None


class RankDocument(_Asked):
    """Output of ``xdecoder-rt rank --json``.

    Attributes:
        texts: one entry a text.
        images: one entry an image.
    """

    texts: list[RankedText]
    images: list[RankedImage | UnreadImage]


class RunDocument(_Asked):
    """Output of ``xdecoder-rt run --json``.

    Attributes:
        task: kind of segments.
        vocabulary: the words, or null.
        stuff: those without instances, or null.
        phrases: as asked.
        joint: whether they were decoded in one group.
        prompt: words that captions begin with, or null.
        question: as asked, or null.
        choices: null for the plan's own.
        images: one entry an image.
    """

    task: Literal["panoptic", "semantic", "instance"]
    vocabulary: Words | None
    stuff: list[str] | None
    phrases: list[str]
    joint: bool
    prompt: str | None
    question: str | None
    choices: list[str] | None
    images: list[AskedImage | UnreadImage]


class DemoDocument(TypedDict):
    """Output of ``xdecoder-rt demo --json``.

    Attributes:
        source: as named, without a password.
        answered: frames answered.
        left_out: other things in the folder, counted by kind.
        stopped: what ended it.
        frames: frames that came.
        announced: frames that the source says it has, or null.
        dropped: frames that newer ones replaced.
        unreadable: frames that could not be read.
        seconds: from the first frame to the last answer.
        fps: answers a second.
        latency_ms: from arrival to answer; null without an answer.
        words: what was looked for last.
        output: where the pictures are, or null.
    """

    source: str
    answered: int
    left_out: dict[str, int]
    stopped: str
    frames: int
    announced: int | None
    dropped: int
    unreadable: int
    seconds: float
    fps: float
    latency_ms: Percentiles | None
    words: Words
    output: str | None
