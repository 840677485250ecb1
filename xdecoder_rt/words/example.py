"""What a word looks like: embeddings of what was marked in images, in place of its text's."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import VocabularyError, quoted

__all__ = ["Example", "ExampleFields"]

_UNIT_TOLERANCE = 1e-3
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WIDTHS = range(1, 1 << 14)


@dataclass(frozen=True)
class ExampleFields:
    """An :class:`Example` in JSON: float32, little-endian, in Base64."""

    model: str
    class_embedding: str
    region_embedding: str = ""
    marks: int = 1


@dataclass(frozen=True)
class Example:
    """Embeddings that one model has of things that were marked; made by :meth:`Engine.example`.

    They stand where the embeddings of a word's name would, so they mean nothing to another model.

    Attributes:
        model: SHA-256 of the model's weights, as its plans' manifests have it.
        class_embedding: what queries on the marked things said: float32 ``[D]`` of unit length,
            little-endian.
        region_embedding: what the plan's classifier of regions said of them, as a point in the
            space of texts: the same form. Empty where the plan has no such classifier.
        marks: how many marks these are the mean of.
    """

    model: str
    class_embedding: bytes
    region_embedding: bytes = b""
    marks: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not _DIGEST.fullmatch(self.model):
            raise _error(f"names the model {quoted(self.model)}", "64 hexadecimal digits")
        if not isinstance(self.marks, int) or isinstance(self.marks, bool) or self.marks < 1:
            raise _error(f"is the mean of {quoted(self.marks)} marks", "a whole number from 1")
        rows = [self.class_embedding] + [self.region_embedding] * bool(self.region_embedding)
        if not all(isinstance(row, bytes) and _is_unit(row) for row in rows):
            raise _error("has an embedding that cannot be one", "float32 values of unit length")
        if len({len(row) for row in rows}) > 1:
            raise _error("has embeddings of two widths", "two of the space of texts")

    @property
    def width(self) -> int:
        """Values of an embedding."""
        return len(self.class_embedding) // 4

    def row(self, of_region: bool = False) -> npt.NDArray[np.float32]:
        """Return the row of a class table: float32 ``[D]``, read-only.

        Args:
            of_region: in the table that the classifier's names are compared with. Without a region
                embedding it is the class embedding there too.
        """
        data = self.region_embedding if of_region and self.region_embedding else None
        row: npt.NDArray[np.float32] = np.frombuffer(data or self.class_embedding, "<f4")
        return row

    def to_json(self) -> dict[str, str | int]:
        """Return the fields of `ExampleFields`."""
        values: dict[str, str | int] = {
            "model": self.model,
            "marks": self.marks,
            "class_embedding": base64.b64encode(self.class_embedding).decode(),
        }
        if self.region_embedding:
            values["region_embedding"] = base64.b64encode(self.region_embedding).decode()
        return values

    @classmethod
    def from_json(cls, fields: ExampleFields) -> Example:
        """Return what :meth:`to_json` wrote.

        Raises:
            VocabularyError: it is none.
        """
        try:
            class_embedding, region_embedding = (
                base64.b64decode(text, validate=True)
                for text in (fields.class_embedding, fields.region_embedding)
            )
        except (ValueError, binascii.Error) as error:
            raise _error("has no embedding in Base64", "what vocab example wrote") from error
        return cls(fields.model, class_embedding, region_embedding, fields.marks)


def _is_unit(data: bytes) -> bool:
    if len(data) % 4 or len(data) // 4 not in _WIDTHS:
        return False
    norm = float(np.linalg.norm(np.frombuffer(data, "<f4").astype(np.float64)))
    return abs(norm - 1) <= _UNIT_TOLERANCE  # not so if a value is not finite


def _error(problem: str, expected: str) -> VocabularyError:
    return VocabularyError(
        f"The example of a word {problem}",
        expected=expected,
        fix="make it again with Engine.example or xdecoder-rt vocab example",
    )
