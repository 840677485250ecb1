"""The teacher's embeddings of many nouns, in a file small enough to travel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import ArgumentError, DatasetError
from xdecoder_rt.files.regular import open_regular

_LEVELS = 127
_UNPACKED_LIMIT = 1 << 28  # the starter's teacher is a fortieth of it


@dataclass(frozen=True)
class Teacher:
    """Texts and where they lie in the space of texts.

    Attributes:
        texts: N distinct texts.
        embeddings: ``[N, D]`` int8, proportional to unit vectors.
    """

    texts: tuple[str, ...]
    embeddings: NDArray[np.int8]

    @classmethod
    def ask(
        cls,
        encoder: Callable[[Sequence[str]], NDArray[np.float32]],
        texts: Sequence[str],
        width: int,
    ) -> Teacher:
        """Embed texts, in as few dimensions as the student has.

        The embeddings are turned so that most of them lies in the first dimensions, and the rest
        is cut off; cosines change little.

        Args:
            encoder: texts to unit vectors ``[N, at least width]``.
            texts: distinct.
            width: D, the length of the student's embeddings.

        Raises:
            ArgumentError: a text comes twice or has several lines, or there are fewer texts or
                dimensions than `width`.
        """
        if len(set(texts)) < len(texts) or any("\n" in text for text in texts):
            raise ArgumentError("Texts come twice or have several lines", expected="distinct lines")
        full = encoder(texts).astype(np.float64)
        if not 1 <= width <= min(full.shape):
            raise ArgumentError(
                f"{full.shape[0]} texts in {full.shape[1]} dimensions give no width of {width}",
                expected=f"a width from 1 to {min(full.shape)}",
            )
        centred = full - full.mean(axis=0)
        _, _, axes = np.linalg.svd(centred.T @ centred)
        turned = centred @ axes[:width].T
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        scale = _LEVELS / np.abs(turned).max(axis=1, keepdims=True)
        return cls(tuple(texts), np.rint(turned * scale).astype(np.int8))

    def save(self, path: Path) -> None:
        """Write it.

        Raises:
            DatasetError: it cannot be written.
        """
        texts = np.frombuffer("\n".join(self.texts).encode(), np.uint8)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_writer(path) as out:
                np.savez_compressed(out, texts=texts, embeddings=self.embeddings)
        except OSError as error:
            raise DatasetError(f"{path} cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path) -> Teacher:
        """Read what :meth:`save` wrote.

        Raises:
            DatasetError: it is no such file.
        """
        try:
            with open_regular(path) as raw, np.load(raw, allow_pickle=False) as file:
                if sum(part.file_size for part in file.zip.infolist()) > _UNPACKED_LIMIT:
                    raise ValueError(f"it unpacks to more than {_UNPACKED_LIMIT:,} bytes")
                texts = tuple(file["texts"].tobytes().decode().split("\n"))
                embeddings = file["embeddings"]
        except Exception as error:  # of a damaged archive NumPy and zipfile raise almost anything
            raise DatasetError(
                f"{path} is no file of a teacher's words ({error})",
                expected="what python -m xdecoder_rt.training.distillation ask wrote",
            ) from error
        if embeddings.dtype != np.int8 or embeddings.ndim != 2 or len(embeddings) != len(texts):
            raise DatasetError(
                f"{path} has {len(texts)} texts and embeddings of {embeddings.dtype} "
                f"{list(embeddings.shape)}",
                expected="one row of int8 a text",
            )
        return cls(texts, embeddings)


def check_width(teacher: Teacher, width: int) -> None:
    """Check that a student's embeddings are as long as the teacher's.

    Raises:
        ArgumentError: they are not.
    """
    if teacher.embeddings.shape[1] != width:
        raise ArgumentError(
            f"The teacher's embeddings are of length {teacher.embeddings.shape[1]}",
            expected=f"{width}, the model's",
            fix="make the file again with --width",
        )
