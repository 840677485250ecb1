"""Parts of documents that several commands write."""

from __future__ import annotations

from typing import TypedDict


class Mask(TypedDict):
    """A mask in COCO's compressed run lengths; pycocotools reads it.

    Attributes:
        size: height and width, pixels.
        counts: the run lengths, column by column.
    """

    size: list[int]
    counts: str


class Percentiles(TypedDict):
    """Percentiles of times, milliseconds."""

    p50: float
    p90: float
    p99: float


class Machine(TypedDict):
    """The machine and its software.

    Attributes:
        cpu: model.
        cores: that the process may use.
        memory_gb: 10^9 bytes, or null.
        libraries: versions.
    """

    cpu: str
    architecture: str
    cores: int
    memory_gb: float | None
    os: str
    kernel: str
    python: str
    libraries: dict[str, str]


class _NamedWord(TypedDict):
    name: str


class RuledWord(_NamedWord, total=False):
    """A word with rules; keys that are not there are as usual.

    Attributes:
        name: its label.
        synonyms: other names.
        stuff: whether it has no instances.
        negative: whether it only competes.
        threshold: least score at which it is reported.
        id: its ``label_id``.
        example: what it looks like, learnt from marks.
    """

    synonyms: list[str]
    stuff: bool
    negative: bool
    threshold: float | None
    id: int | None
    example: WordExample | None


class WordExample(TypedDict):
    """What a word looks like: float32, little-endian, in Base64.

    Attributes:
        model: SHA-256 of the weights that it means something to.
        class_embedding: what queries said.
        region_embedding: what the classifier of regions said; may be empty.
        marks: how many marks it is the mean of.
    """

    model: str
    class_embedding: str
    region_embedding: str
    marks: int


Words = list[str | list[str] | RuledWord]
