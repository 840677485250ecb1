"""What is asked of every picture, and the worker that asks an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xdecoder_rt.engine import Engine
from xdecoder_rt.errors import ArgumentError, PlanError, quoted
from xdecoder_rt.files.regular import sha256_of
from xdecoder_rt.image import load_image
from xdecoder_rt.labelling.pictures import Picture
from xdecoder_rt.labelling.record import Record
from xdecoder_rt.words.vocabulary import Vocabulary

__all__ = ["Labeller", "Request"]


@dataclass(frozen=True)
class Request:
    """What is asked of every picture; see :meth:`xdecoder_rt.Engine.run`.

    Attributes:
        words: the vocabulary, or None.
        phrases: what to refer to.
        caption: whether to describe.
    """

    words: Vocabulary | None = None
    task: str = "panoptic"
    min_score: float | None = None
    object_threshold: float | None = None
    overlap_threshold: float | None = None
    phrases: tuple[str, ...] = ()
    joint: bool = False
    caption: bool = False
    prompt: str | None = None
    beams: int | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.words is None and not self.phrases and not self.caption:
            raise ArgumentError(
                "Nothing is asked of the pictures", expected="words, phrases or a caption"
            )

    @property
    def labels(self) -> tuple[tuple[str, bool], ...]:
        """The labels that a segment may have, and of each whether it is a thing."""
        if self.words is None:
            return ()
        stuff = self.words.stuff
        return tuple((label, label not in stuff) for label in self.words.found_labels)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that two requests share only if they ask for the same."""
        return asdict(self)

    def arguments(self) -> Mapping[str, Any]:
        """Return the arguments of :meth:`xdecoder_rt.Engine.run`."""
        return {
            "segment": self.words,
            "task": self.task,
            "min_score": self.min_score,
            "object_threshold": self.object_threshold,
            "overlap_threshold": self.overlap_threshold,
            "refer": list(self.phrases) or None,
            "joint": self.joint,
            "caption": self.caption,
            "prompt": self.prompt,
            "beams": self.beams,
            "max_tokens": self.max_tokens,
        }


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is opened; see :class:`xdecoder_rt.Engine`."""

    plan: str
    backend: str | None = None
    threads: int | None = None
    cache_dir: str | None = None
    device: str | None = None

    def digest(self) -> str:
        """Return the SHA-256 of the plan's file.

        Raises:
            PlanError: it cannot be read.
        """
        try:
            return sha256_of(self.plan)
        except OSError as error:
            raise PlanError(
                f"{quoted(self.plan, 200)} cannot be read: {error.strerror or error}",
                expected="a plan",
            ) from error


class Labeller:
    """An engine that labels one picture after the other; a context manager.

    Args:
        options: how the engine is opened.
        request: what is asked.

    Raises:
        XDecoderError: as `Engine` raises.
    """

    def __init__(self, options: EngineOptions, request: Request) -> None:
        self._engine = Engine(
            options.plan,
            backend=options.backend,
            device=options.device,
            threads=options.threads,
            cache_dir=options.cache_dir,
        )
        self._arguments = request.arguments()

    def warm(self, request: Request, progress: Any = None) -> None:
        """Embed the words, so that other processes find them in the cache."""
        if request.words is not None:
            self._engine.warm(request.words, progress)

    def label(self, picture: Picture) -> dict[str, Any]:
        """Return a picture's results, as :meth:`Record.to_dict` gives them.

        Raises:
            ImageError: it cannot be read.
        """
        pixels = load_image(picture.path)
        output = self._engine.run(pixels, **self._arguments)
        return Record.to_dict(picture.key, (pixels.shape[0], pixels.shape[1]), output)

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def __enter__(self) -> Labeller:
        """The labeller itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()
