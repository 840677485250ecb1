"""ImageNet's thousand names and what stands above them: which texts are true of a class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import DatasetError
from xdecoder_rt.training.distillation.nouns import read_synsets

_SYNSETS = Path(__file__).with_name("imagenet_synsets.txt")
_PER_STEP = 0.6
"""What a text counts less for each step upwards: a spaniel is more "spaniel" than "animal"."""
_MOST_CLASSES = 0.5
"""Texts that are true of more of the classes ("object", "whole") say nothing."""


@dataclass(frozen=True)
class Names:
    """Texts, and how well each fits each class.

    Attributes:
        texts: in lower case, T of them.
        weights: float32 ``[1000, T]``: 1 for a class's own names, less for those of what stands
            above it in WordNet, 0 for all else.
    """

    texts: tuple[str, ...]
    weights: npt.NDArray[np.float32]


def imagenet_names(wordnet: Path) -> Names:
    """Return the names of ImageNet's classes, in the classifier's order, and of what they are.

    Args:
        wordnet: folder of ``data.noun``.

    Raises:
        DatasetError: WordNet's file is not there, or has other nouns.
    """
    words, children = read_synsets(wordnet)
    above: dict[str, list[str]] = {}
    for parent, synsets in children.items():
        for synset in synsets:
            above.setdefault(synset, []).append(parent)
    classes = [line[1:] for line in _SYNSETS.read_text().split()]
    try:
        fitting = [_texts_of(synset, words, above) for synset in classes]
    except KeyError as error:
        raise DatasetError(
            f"{wordnet} lacks the noun {error}",
            expected="WordNet 3.0, by whose numbers ImageNet names its classes",
        ) from error
    counts: dict[str, int] = {}
    for of_class in fitting:
        for text in of_class:
            counts[text] = counts.get(text, 0) + 1
    texts = sorted(text for text, n in counts.items() if n <= _MOST_CLASSES * len(classes))
    index = {text: column for column, text in enumerate(texts)}
    weights = np.zeros((len(classes), len(texts)), np.float32)
    for row, of_class in enumerate(fitting):
        for text, weight in of_class.items():
            if text in index:
                weights[row, index[text]] = weight
    return Names(tuple(texts), weights)


def _texts_of(
    synset: str, words: dict[str, list[str]], above: dict[str, list[str]]
) -> dict[str, float]:
    """Return the texts that are true of a synset, each with its weight."""
    texts: dict[str, float] = {}
    seen, level, weight = {synset}, [synset], 1.0
    while level:
        for current in level:
            for word in words[current]:
                texts.setdefault(word.replace("_", " ").lower(), weight)
        parents = [parent for current in level for parent in above.get(current, ())]
        level = [parent for parent in dict.fromkeys(parents) if parent not in seen]
        seen.update(level)
        weight *= _PER_STEP
    return texts
