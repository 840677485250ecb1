"""The interface of a form of the network that is to be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.base import Array
from xdecoder_rt.parity.fixture import FixtureImage

Embeddings = npt.NDArray[np.float32]

BACKBONE_TENSORS = re.compile(r"pixel_values|res[2-5]")
# Names that tensors beside the fixture's are kept under; no array of a fixture is called so.
ALL_CLASS_EMBEDDINGS = "class_embedding_all_layers"
BACKBONE_EMBEDDING = "backbone_embedding"


@dataclass(frozen=True)
class GroundedPhrases:
    """The objects that phrases, asked together, refer to.

    Attributes:
        query_embedding: float32 ``[Q - 1, D]``, of the copies of the object queries, unnormalised.
        scores: float32 ``[Q - 1, T]``, scaled cosines of copies and phrases.
        matched: integers ``[T]``, the copy that each phrase takes.
        mask_logits: float32 ``[T, h, w]``, of the matched copies.
        masks: bool ``[T, H, W]``, the same as masks of the output size.
    """

    query_embedding: Embeddings
    scores: Embeddings
    matched: npt.NDArray[np.int64]
    mask_logits: Embeddings
    masks: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class WrittenCaption:
    """A caption of S tokens and what each was chosen by.

    Attributes:
        token_ids: int64 ``[S]``, without the start token.
        features: float32 ``[S, text width]``, caption embeddings.
        logits: float32 ``[S, vocabulary]``.
    """

    token_ids: npt.NDArray[np.int64]
    features: Embeddings
    logits: Embeddings


class TextSide(Protocol):
    """The text side of a form."""

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Return unit embeddings of texts as they are: ``[T, D]``."""

    def token_features(self, texts: Sequence[str]) -> list[Embeddings]:
        """Return features of each text's tokens up to the end token, ``[L, D]``, unnormalised."""

    def class_table(self, names: Sequence[str]) -> Embeddings:
        """Return unit embeddings of names over all templates, background last: ``[K + 1, D]``."""

    def class_logits(self, class_embedding: Array, table: Embeddings) -> Array:
        """Return scaled cosines: ``[..., Q, D], [K, D] -> [..., Q, K]``."""


class Form(Protocol):
    """One form of a network: PyTorch modules, or exported graphs.

    What it computes in several ways it gives once a way, and each must agree with the original.
    """

    @property
    def exposed(self) -> re.Pattern[str]:
        """Names of the network's tensors that this form shows."""

    @property
    def words(self) -> TextSide | None:
        """The text side; None for a backbone alone."""

    def tensors(self, image: FixtureImage) -> Mapping[str, Array]:
        """Compute one image's tensors, by the fixture's names, with a batch of one."""

    def ground_phrases(
        self, image: FixtureImage, phrases: Sequence[str]
    ) -> Sequence[GroundedPhrases]:
        """Find what phrases refer to, all in one group; nothing for a backbone alone."""

    def write_caption(
        self, image: FixtureImage, region: npt.NDArray[np.bool_] | None, steps: int
    ) -> Sequence[WrittenCaption]:
        """Write a caption of an image or of its region ``[H, W]``; nothing for a backbone."""


class BackboneForm:
    """The tasks of a backbone alone: none besides its tensors."""

    exposed = BACKBONE_TENSORS
    words = None

    def ground_phrases(
        self, image: FixtureImage, phrases: Sequence[str]
    ) -> Sequence[GroundedPhrases]:
        """Return nothing: a backbone grounds no phrase."""
        return ()

    def write_caption(
        self, image: FixtureImage, region: npt.NDArray[np.bool_] | None, steps: int
    ) -> Sequence[WrittenCaption]:
        """Return nothing: a backbone writes no caption."""
        return ()
