"""Embeddings of texts in a file, to be carried from one machine's cache to another's.

The file is data: ``MAGIC``, the length of a JSON header (eight bytes, little-endian), the header,
float32 vectors one after another (little-endian), and the SHA-256 of all before it. The header says
which text graph and which templates the vectors come from, and of each vector the text and length.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import numpy.typing as npt

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import PlanError, VocabularyError, quoted
from xdecoder_rt.files.regular import open_regular
from xdecoder_rt.json_reader import Rule, parse_json, read_object

__all__ = ["MAGIC", "EmbeddingFile", "is_embedding_file"]

MAGIC = b"xdecoder_rt embeddings 1\n"
_DIGEST_BYTES = 32
_HEADER_LIMIT = 256 << 20
_SIZE_LIMIT = 8 << 30
_VECTORS_LIMIT = 1 << 26
_TEXT_LIMIT = 1 << 20

Length: TypeAlias = Annotated[int, Rule(low=1, high=1 << 24)]


@dataclass(frozen=True)
class _Header:
    """The text graph and templates of the vectors, and the text and length of each."""

    text_graph: str
    templates: str
    texts: Annotated[tuple[Annotated[str, Rule(most=_TEXT_LIMIT)], ...], Rule(most=_VECTORS_LIMIT)]
    lengths: Annotated[tuple[Length, ...], Rule(most=_VECTORS_LIMIT)]


@dataclass(frozen=True)
class EmbeddingFile:
    """Embeddings and where they come from.

    Attributes:
        text_graph: SHA-256 of the text graph, hexadecimal.
        templates: SHA-256 of the templates that class names are put into, hexadecimal.
        vectors: text, as a cache knows it, to float32 vector.
    """

    text_graph: str
    templates: str
    vectors: Mapping[str, npt.NDArray[np.float32]]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all.

        Raises:
            VocabularyError: it cannot be written.
        """
        header = {
            "text_graph": self.text_graph,
            "templates": self.templates,
            "texts": list(self.vectors),
            "lengths": [len(vector) for vector in self.vectors.values()],
        }
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        digest = hashlib.sha256()
        try:
            with atomic_writer(path) as file:
                parts = (MAGIC, len(text).to_bytes(8, "little"), text)
                rows = (vector.astype("<f4").tobytes() for vector in self.vectors.values())
                for part in (*parts, *rows):
                    digest.update(part)
                    file.write(part)
                file.write(digest.digest())
        except OSError as error:
            raise VocabularyError(
                f"The embeddings {quoted(str(path), 200)} cannot be written: "
                f"{error.strerror or error}"
            ) from error

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> EmbeddingFile:
        """Read and check a file.

        Raises:
            VocabularyError: there is none, it is not such a file, or it is damaged.
        """
        name = quoted(str(path), 200)
        try:
            with open_regular(path) as file:
                size = os.fstat(file.fileno()).st_size
                if size > _SIZE_LIMIT:
                    raise _file_error(name, f"has {size:,} bytes, more than {_SIZE_LIMIT:,}")
                data = file.read(_SIZE_LIMIT)
        except OSError as error:
            raise VocabularyError(
                f"The embeddings {name} cannot be read: {error.strerror or error}"
            ) from error
        body = memoryview(data)[:-_DIGEST_BYTES]
        if not data.startswith(MAGIC):
            raise _file_error(name, "does not begin as one")
        if hashlib.sha256(body).digest() != data[-_DIGEST_BYTES:]:
            raise _file_error(name, "is damaged or cut off: its SHA-256 is another")
        begin = len(MAGIC) + 8
        length = int.from_bytes(body[len(MAGIC) : begin], "little")
        if length > min(len(body) - begin, _HEADER_LIMIT):
            raise _file_error(name, "has a header longer than itself")
        try:
            document = parse_json(bytes(body[begin : begin + length]), "its header", length)
            header = read_object(document, _Header, "its header")
        except PlanError as error:
            raise _file_error(name, f"has a header that cannot be read ({error.what})") from error
        return cls._from_parts(name, header, body[begin + length :])

    @classmethod
    def _from_parts(cls, name: str, header: _Header, values: memoryview) -> EmbeddingFile:
        texts, lengths = header.texts, header.lengths
        if len(set(texts)) < len(texts):
            raise _file_error(name, "has a text twice")
        if len(lengths) != len(texts):
            raise _file_error(name, "has not as many lengths as texts")
        if 4 * sum(lengths) != len(values):
            raise _file_error(name, "has another number of values than its header says")
        ends = np.cumsum(lengths, dtype=np.int64)
        parts = np.split(np.frombuffer(values, "<f4"), ends[:-1]) if texts else []
        if not all(bool(np.isfinite(part).all()) for part in parts):
            raise _file_error(name, "has values that are no numbers")
        return cls(header.text_graph, header.templates, dict(zip(texts, parts, strict=True)))


def is_embedding_file(path: Path) -> bool:
    """Whether a file begins as one of embeddings."""
    try:
        with open_regular(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _file_error(name: str, problem: str) -> VocabularyError:
    return VocabularyError(
        f"The file of embeddings {name} {problem}",
        expected="a file written by xdecoder-rt vocab export",
        fix="export or copy it again",
    )
