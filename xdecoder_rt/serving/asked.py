"""Requests: what a client may ask, checked before an engine sees it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "AnswerAsked",
    "Asked",
    "CaptionAsked",
    "EmbedAsked",
    "ImageAsked",
    "RankAsked",
    "ReferAsked",
    "RunAsked",
    "SegmentAsked",
]

_Text = Annotated[str, Field(min_length=1, max_length=1000)]
_Score = Annotated[float, Field(ge=0, le=1)]
_Box = Annotated[list[float], Field(min_length=4, max_length=4)]
_Masks = Literal["rle", "png", "none"]
_MOST_WORDS, _MOST_TEXTS, _MOST_IMAGES = 512, 4096, 16


class Asked(BaseModel):
    """What every request may say."""

    model_config = ConfigDict(extra="forbid")

    plan: Annotated[str | None, Field(max_length=200, description="name of a plan")] = None


class ImageAsked(Asked):
    """A request about one image: a part of a form, base64, or one that is kept."""

    image: Annotated[str | None, Field(description="base64 of an image file")] = None
    image_id: Annotated[str | None, Field(max_length=100, description="of a kept image")] = None
    keep: Annotated[bool, Field(description="keep the image; the answer has its image_id")] = False


class Word(BaseModel):
    """A word with rules; see docs/words.md."""

    model_config = ConfigDict(extra="forbid")

    name: _Text
    synonyms: Annotated[list[_Text], Field(max_length=64)] = []
    stuff: bool = False
    negative: bool = False
    threshold: _Score | None = None


_Words = Annotated[list[_Text | Word], Field(min_length=1, max_length=_MOST_WORDS)]
_Phrases = Annotated[list[_Text], Field(min_length=1, max_length=_MOST_WORDS)]
_Choices = Annotated[list[_Text], Field(min_length=1, max_length=_MOST_TEXTS)]


class _Segments(ImageAsked):
    task: Literal["panoptic", "semantic", "instance"] = "panoptic"
    stuff: Annotated[list[_Text], Field(max_length=_MOST_WORDS)] = []
    min_score: _Score | None = None
    object_threshold: _Score | None = None
    overlap_threshold: _Score | None = None
    masks: _Masks = "rle"


class SegmentAsked(_Segments):
    """Words to find."""

    words: _Words


class ReferAsked(ImageAsked):
    """Phrases to find."""

    phrases: _Phrases
    joint: bool = False
    min_score: _Score | None = None
    masks: _Masks = "rle"


class CaptionAsked(ImageAsked):
    """A description, of a box of the image or all of it."""

    prompt: _Text | None = None
    region: _Box | None = None
    beams: Annotated[int | None, Field(ge=1, le=16)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=100)] = None


class AnswerAsked(ImageAsked):
    """A question."""

    question: _Text
    choices: _Choices | None = None


class EmbedAsked(ImageAsked):
    """An image, texts, or both, in one space."""

    texts: Annotated[list[_Text], Field(max_length=_MOST_TEXTS)] = []


class RankAsked(Asked):
    """Images and texts to compare."""

    images: Annotated[
        list[str], Field(max_length=_MOST_IMAGES, description="base64 of image files")
    ] = []
    image_ids: Annotated[list[str], Field(max_length=_MOST_IMAGES)] = []
    texts: Annotated[list[_Text], Field(min_length=1, max_length=_MOST_TEXTS)]


class RunAsked(_Segments):
    """Several tasks at once; at least one."""

    words: _Words | None = None
    phrases: _Phrases | None = None
    joint: bool = False
    caption: bool = False
    prompt: _Text | None = None
    region: _Box | None = None
    beams: Annotated[int | None, Field(ge=1, le=16)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=100)] = None
    question: _Text | None = None
    choices: _Choices | None = None
    embed: bool = False

    @model_validator(mode="after")
    def _something(self) -> RunAsked:
        given: list[Any] = [self.words, self.phrases, self.caption, self.question, self.embed]
        if not any(given):
            raise ValueError("nothing is asked: words, phrases, caption, question or embed")
        return self
