"""The image in the space of texts, for retrieval (paper section 3.2): reads the class token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xdecoder_rt.rows import RowGroup
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import DecodedRows, Floats, ImageState
from xdecoder_rt.words.encoder import unit


@dataclass(frozen=True)
class EmbedQuestion:
    """The embedding of an image."""

    is_textual: ClassVar[bool] = True

    @classmethod
    def ask(cls, runtime: Runtime) -> EmbedQuestion:
        """Check that the plan can embed images.

        Raises:
            ArgumentError: it lacks this task, or the runtime is closed.
        """
        runtime.require("embed")
        return cls()

    def groups(self, state: ImageState) -> Sequence[RowGroup]:
        """Return none: the latents are read alone."""
        return ()

    def read(self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]) -> Floats:
        """Return the unit class token, or its mean with the unit backbone embedding, as published.

        Returns:
            float32 ``[proj_dim]``.
        """
        (class_embedding,) = runtime.rows.latents(state).answer("embed")
        token = unit(class_embedding[0])
        if not runtime.manifest.decoder.retrieval_ensemble:
            return token
        mean: Floats = (token + unit(runtime.image_embedding(state))) / np.float32(2)
        return mean
