"""Captions: CIDEr and BLEU-4, computed by the package `pycocoevalcap`, the COCO captions' code.

Its tokenizer runs in Java; here a caption's words are instead its runs of letters and digits in
lower case, with apostrophes inside a word kept ("a T-shirt, isn't it?" → a, t, shirt, isn't, it).
Figures are therefore comparable with one another, and near those of the COCO server but not equal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from xdecoder_rt.errors import ArgumentError, require

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@dataclass(frozen=True)
class CaptionScores:
    """Agreement of captions with those of people.

    Attributes:
        cider: CIDEr times 100, as papers give it: 0 to 1000 in theory, above 100 for a good
            captioner. None for a single image, where it is not defined (a word's weight is how
            well it tells images apart), and where the package is missing.
        bleu4: BLEU-4 of the whole corpus, 0 to 100; None where the package is missing.
        images: The number of images.
    """

    cider: float | None
    bleu4: float | None
    images: int


def caption_words(caption: str) -> list[str]:
    """Return the words of a caption, in lower case, without punctuation."""
    return _WORD.findall(caption.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def require_scorers() -> None:
    """Find out before long work whether `caption_scores` can be computed.

    Raises:
        MissingExtraError: if the package is not installed.
    """
    require("pycocoevalcap.cider.cider", "eval")
    require("pycocoevalcap.bleu.bleu", "eval")


def caption_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> CaptionScores:
    """Score one caption an image.

    Args:
        predictions: The caption of each image; may be empty.
        references: The captions that people gave each image, at least one.

    Raises:
        ArgumentError: if the numbers differ, an image has no reference, or no reference has a word.
        MissingExtraError: if the package is not installed.
    """
    if len(predictions) != len(references) or not all(references):
        raise ArgumentError(
            f"There are {len(predictions)} captions and references of "
            f"{sum(map(bool, references))} images",
            expected="one caption an image, and at least one reference",
        )
    truth = {
        image: [" ".join(caption_words(caption)) for caption in captions]
        for image, captions in enumerate(references)
    }
    hypotheses = {
        image: [" ".join(caption_words(caption))] for image, caption in enumerate(predictions)
    }
    if not any(caption for captions in truth.values() for caption in captions):
        raise ArgumentError("There is no reference caption with a word in it")
    bleu = require("pycocoevalcap.bleu.bleu", "eval").Bleu(4)
    bleus, _ = bleu.compute_score(truth, hypotheses, verbose=0)
    # Without any four words in a row the package's guard against 0 / 0 is worth up to 3 points.
    has_four_words = any(len(caption_words(text)) > 3 for text in predictions)
    bleu4 = 100 * float(bleus[3]) if has_four_words else 0.0
    cider = None
    if len(truth) > 1:
        scorer = require("pycocoevalcap.cider.cider", "eval").Cider()
        mean, _ = scorer.compute_score(truth, hypotheses)
        cider = 100 * float(mean)
    return CaptionScores(cider, bleu4, len(truth))
