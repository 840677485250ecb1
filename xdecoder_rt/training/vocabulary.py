"""The names that one training step classifies against.

A batch is asked for the names that are on its images and for random others of the training
vocabulary, each in one randomly drawn sentence, so that the text encoder learns with the rest and
no class head is tied to a list of names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xdecoder_rt.models.config import MAX_DISTRACTORS, DistractorConfig, ModelConfig
from xdecoder_rt.words.templates import BACKGROUND, prompts
from xdecoder_rt.words.vocabulary import is_void_name

Tokenizer = Callable[[Sequence[str]], NDArray[np.int64]]
"""Texts to token ids ``[T, context length]``, filled up with the end token."""
_VOCABULARY_STREAM = 4


@dataclass(frozen=True)
class BatchVocabulary:
    """Names of one step and their sentences.

    Attributes:
        names: K distinct names, those on the images first.
        sentences: K + 1 texts for the text encoder; the last stands for void.
    """

    names: tuple[str, ...]
    sentences: tuple[str, ...]

    def indices(self, labels: Sequence[Sequence[str]], width: int) -> Tensor:
        """Vocabulary index of each image's targets: ``[B, width]`` int64, -1 beyond its targets."""
        place = {name: index for index, name in enumerate(self.names)}
        rows = torch.full((len(labels), width), -1, dtype=torch.int64)
        for row, names in zip(rows, labels, strict=True):
            row[: len(names)] = torch.tensor([place[name] for name in names], dtype=torch.int64)
        return rows


class VocabularySampler:
    """Adds random names to those of a batch.

    Random names come from the vocabularies of the batch's own sources, in proportion to how many
    images each has in the batch: an image is to be told apart from what could have been on it.

    Args:
        vocabularies: the names of each source.
        size: names a step, when the batch itself has fewer.
        seed: seed of the draws.
        templates: the model's sentences, each with one ``{}``.
    """

    def __init__(
        self,
        vocabularies: Sequence[Sequence[str]],
        size: int,
        seed: int,
        templates: Sequence[str],
    ) -> None:
        self.vocabularies = tuple(
            tuple(name for name in names if not is_void_name(name, BACKGROUND))
            for names in vocabularies
        )
        self.size = size
        self.seed = seed
        self.templates = tuple(templates)

    def sample(
        self, labels: Sequence[Sequence[str]], sources: Sequence[int], position: int
    ) -> BatchVocabulary:
        """Draw the vocabulary of one step; equal arguments give equal ones.

        Args:
            labels: the names of each image's targets.
            sources: the source of each image.
            position: of the step's first sample, another in every process.
        """
        rng = np.random.default_rng((_VOCABULARY_STREAM, self.seed, position))
        names = list(dict.fromkeys(name for image in labels for name in image))
        names += self._other_names(set(names), sources, self.size - len(names), rng)
        drawn = rng.integers(len(self.templates), size=len(names) + 1)
        sentences = [
            prompts(name, [self.templates[int(index)]])[0]
            for name, index in zip([*names, BACKGROUND], drawn, strict=True)
        ]
        return BatchVocabulary(tuple(names), tuple(sentences))

    def _other_names(
        self, excluded: set[str], sources: Sequence[int], count: int, rng: np.random.Generator
    ) -> list[str]:
        """Draw up to `count` names not in `excluded`, without repetition."""
        queues = {
            source: iter([self.vocabularies[source][i] for i in order])
            for source in sorted(set(sources))
            for order in [rng.permutation(len(self.vocabularies[source]))]
        }
        turns = list(rng.permutation(np.asarray(sources)))
        names: list[str] = []
        while len(names) < count and queues:
            source = int(turns[len(names) % len(turns)])
            # A source whose names are used up leaves its turns to the rest.
            queue = queues.get(source) or next(iter(queues.values()))
            name = next((n for n in queue if n not in excluded), None)
            if name is None:
                queues = {s: q for s, q in queues.items() if q is not queue}
                continue
            excluded.add(name)
            names.append(name)
        return names


def trained_distractors(
    config: ModelConfig, vocabularies: Sequence[Sequence[str]], tasks: Collection[str]
) -> DistractorConfig | None:
    """Return the words that will compete unasked after a training; None for none.

    They are all that it tells apart. A published model is asked as published, without any; and a
    training without segmentation leaves the model's as they are.

    Args:
        config: of the model in training.
        vocabularies: the names of each source.
        tasks: what is trained.
    """
    names = dict.fromkeys(
        name for names in vocabularies for name in names if not is_void_name(name, BACKGROUND)
    )
    if config.family == "published" or "segment" not in tasks or not names:
        return config.distractors
    count = min(len(names), MAX_DISTRACTORS)
    words = [*names]
    return DistractorConfig(tuple(words[i * len(words) // count] for i in range(count)))


def trimmed_tokens(tokenizer: Tokenizer, sentences: Sequence[str]) -> Tensor:
    """Token ids up to the last end token of any sentence: ``[T, L]`` int64.

    The text encoder is causal and read at the first end token, so what follows costs time and
    changes nothing.

    Args:
        tokenizer: texts to ids padded with the end token.
        sentences: T texts.
    """
    ids = tokenizer(sentences)
    # Rows are filled up with the end token, which is each row's last.
    lengths = (ids != ids[:, -1:]).sum(axis=1) + 1
    return torch.from_numpy(ids[:, : int(lengths.max())])
