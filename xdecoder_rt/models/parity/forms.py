"""What a form of the network must offer to be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xdecoder_rt.models.parity.fixture import FixtureImage

Array = npt.NDArray[Any]
Embeddings = npt.NDArray[np.float32]

BACKBONE_TENSORS = re.compile(r"pixel_values|res[2-5]")
# Names that tensors of every layer are kept under; no array of a fixture is called so.
ALL_CLASS_EMBEDDINGS = "class_embedding_all_layers"


class Words(Protocol):
    """The text side of a form."""

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Unit embeddings of texts as they are: ``[T, D]``."""

    def class_table(self, names: Sequence[str]) -> Embeddings:
        """Unit embeddings of names over all templates, the background's last: ``[K + 1, D]``."""

    def class_logits(self, class_embedding: Array, table: Embeddings) -> Array:
        """Scaled cosines: ``[..., Q, D], [K, D] -> [..., Q, K]``."""


class Form(Protocol):
    """One form of a network: PyTorch modules, or exported graphs."""

    @property
    def exposed(self) -> re.Pattern[str]:
        """Names of the network's tensors that this form shows."""

    @property
    def words(self) -> Words | None:
        """The text side; None for a backbone alone."""

    def tensors(self, image: FixtureImage) -> Mapping[str, Array]:
        """What the form computes of one image, by the fixture's names, with a batch of one."""
