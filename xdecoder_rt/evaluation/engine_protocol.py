"""What evaluation asks of an engine, and what it reads of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray


class Segmentation(Protocol):
    """What evaluation reads of a segmentation result."""

    @property
    def segmentation(self) -> NDArray[np.int32]:
        """H x W: segment ids, 0 = none; for the semantic task vocabulary indices, -1 = none."""

    @property
    def segments_info(self) -> Sequence[Mapping[str, Any]]:
        """One mapping a segment, with at least `id` and `label_id`."""


class Reference(Protocol):
    """What evaluation reads of a phrase's result."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """H x W: the pixels that the phrase means."""


class Sentence(Protocol):
    """What evaluation reads of a caption or an answer."""

    @property
    def text(self) -> str:
        """The caption or the answer."""


class Segmenter(Protocol):
    """What evaluation asks of an engine; `xdecoder_rt.Engine` is one.

    Only the methods of the tasks that `manifest.tasks` names are called.
    """

    @property
    def manifest(self) -> Any:
        """What the plan says of itself; its `tasks` and `text.answers` are read."""

    def warm(self, vocabulary: Sequence[str], /) -> Any:
        """Embed the vocabulary ahead."""

    def encode(self, image: NDArray[np.uint8], /) -> Any:
        """The state of one image, for several questions on it."""

    def segment(
        self,
        state: Any,
        vocabulary: Sequence[str],
        /,
        *,
        task: Literal["panoptic", "semantic"] = ...,
        stuff: Sequence[str] = ...,
    ) -> Any:
        """A `Segmentation` of an encoded image, panoptic by default."""

    def refer(self, state: Any, phrases: Sequence[str], /) -> Any:
        """A sequence of one `Reference` a phrase."""

    def caption(self, state: Any, /) -> Any:
        """A `Sentence` that describes the image."""

    def answer(self, state: Any, question: str, /, *, choices: Sequence[str] | None = ...) -> Any:
        """A `Sentence` that answers the question, one of the choices if there are any."""

    def embed_image(self, state: Any, /) -> Any:
        """float32 [D], to be compared with `embed_text` by the dot product."""

    def embed_text(self, texts: Sequence[str], /) -> Any:
        """float32 [T, D]."""
