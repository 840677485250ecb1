"""The words of the node: lines of a file of words, by parameter and by topic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xdecoder_rt.words.files import parse_lines
from xdecoder_rt.words.vocabulary import Vocabulary


@dataclass(frozen=True)
class Wording:
    """What is looked for. Replaced whole, so that a frame sees one or the other.

    Attributes:
        lines: as they were given, such as ``mug | cup [threshold 0.4]``.
        vocabulary: parsed; None where nothing is looked for.
    """

    lines: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None

    @classmethod
    def of(cls, lines: Iterable[str], before: Wording | None = None) -> Wording:
        """Return the words of lines; words keep the ids that they had before.

        Args:
            lines: empty ones and those that begin with ``#`` are skipped; none look for nothing.
            before: the words until now.

        Raises:
            VocabularyError: a line cannot be understood.
        """
        stripped = (str(line).strip() for line in lines)
        kept = tuple(line for line in stripped if line and not line.startswith("#"))
        if not kept:
            return cls()
        vocabulary = Vocabulary.from_list(parse_lines(kept))
        if before is not None and before.vocabulary is not None:
            vocabulary = vocabulary.keeping_ids_of(before.vocabulary)
        return cls(kept, vocabulary)

    def classes(self) -> list[tuple[int, str]]:
        """Return the values of class images and their names; 0 is none."""
        if self.vocabulary is None:
            return [(0, "none")]
        names = zip(self.vocabulary.ids.tolist(), self.vocabulary.labels, strict=False)
        return [(0, "none"), *((number + 1, name) for number, name in names)]
