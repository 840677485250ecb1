"""The language of labelled pictures: phrases, captions and questions that are true of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.items import AnsweredQuestion, Phrase
from xdecoder_rt.scenes.language.captions import captions
from xdecoder_rt.scenes.language.english import indefinite, mirrored, plural_name
from xdecoder_rt.scenes.language.layout import measure_layout
from xdecoder_rt.scenes.language.phrases import phrases
from xdecoder_rt.scenes.language.questions import questions

__all__ = ["Description", "describe_picture", "indefinite", "mirrored", "plural_name"]


@dataclass(frozen=True)
class Description:
    """The texts of a picture.

    Attributes:
        phrases: Referring expressions.
        captions: Sentences on the whole picture.
        questions: Questions with their answers.
    """

    phrases: tuple[Phrase, ...]
    captions: tuple[str, ...]
    questions: tuple[AnsweredQuestion, ...]


def describe_picture(
    image: NDArray[np.uint8],
    ids: NDArray[np.uint8],
    labels: Mapping[int, str],
    vocabulary: Sequence[str],
    stuff: Collection[str],
    rng: np.random.Generator,
) -> Description:
    """Write the texts of a labelled picture.

    Everything is derived from the arguments alone. What would be true only by a small margin is
    left unsaid; the margins are constants of the modules.

    Args:
        image: H x W x 3 uint8 RGB; colours are measured in it.
        ids: H x W uint8 segment ids, 0 = unlabelled.
        labels: The label of each id.
        vocabulary: Every label of the folder: questions ask for absent ones too.
        stuff: Those of the vocabulary that are stuff.
        rng: Source of all randomness.
    """
    layout = measure_layout(image, ids, labels, vocabulary, stuff)
    return Description(phrases(layout, rng), captions(layout, rng), questions(layout, rng))
