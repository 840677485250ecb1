"""Image-text retrieval: recall at 1 and 5, both ways.

A query is answered at k if one of its right answers is among the first k candidates. Here that is
decided so that no engine gains by being unable to tell candidates apart:

- a wrong candidate that is as similar as the best right one counts as before it;
- with no more than k wrong candidates everything would be among the first k; then at least one
  wrong candidate has to be less similar than the best right one;
- a query without any wrong candidate asks nothing and is left out.

So the same similarity everywhere scores 0 at any k, and beyond k wrong candidates the figure is the
usual one (Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments", CVPR 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.errors import ArgumentError

_Embeddings = NDArray[np.floating[Any]]
_QUERIES_AT_ONCE = 256
# Similarities of unit vectors nearer than the noise of float32 are a tie.
_TIE = 1e-6


@dataclass(frozen=True)
class RetrievalScores:
    """Recall, 0 to 100; None where no query has a wrong candidate (a single image).

    Attributes:
        image_r1: The share of captions whose image is the first of all images.
        image_r5: The share of captions whose image is among the first five.
        text_r1: The share of images of which a caption is the first of all texts.
        text_r5: The share of images of which a caption is among the first five.
        images: The number of images.
        texts: The number of distinct texts.
    """

    image_r1: float | None
    image_r5: float | None
    text_r1: float | None
    text_r5: float | None
    images: int
    texts: int


def retrieval_recall(
    images: _Embeddings, texts: _Embeddings, texts_of: Sequence[Sequence[int]]
) -> RetrievalScores:
    """Score embeddings of images and of their captions; the similarity is the dot product.

    Args:
        images: N x D.
        texts: T x D, of the distinct texts: captions with the same words are one text, which is
            right for each of its images.
        texts_of: For each image the texts that are its captions, at least one.

    Raises:
        ArgumentError: if there is no image, an image has no text, or the sizes do not fit.
    """
    if (
        images.ndim != 2
        or texts.ndim != 2
        or images.shape[1] != texts.shape[1]
        or len(images) != len(texts_of)
    ):
        raise ArgumentError(
            f"The images are {images.shape}, the texts {texts.shape} and there are captions of "
            f"{len(texts_of)} images",
            expected="N x D, T x D and N",
        )
    if not len(images) or not all(texts_of):
        raise ArgumentError("There is no image, or one without a caption", expected="at least one")
    images_of: list[list[int]] = [[] for _ in texts]
    for image, captions in enumerate(texts_of):
        for text in captions:
            if not 0 <= text < len(texts):
                raise ArgumentError(
                    f"Image {image} has the text {text}", expected=f"0 to {len(texts) - 1}"
                )
            images_of[text].append(image)
    queries = [text for captions in texts_of for text in captions]
    image_r1, image_r5 = _recall(texts[queries], images, [images_of[text] for text in queries])
    text_r1, text_r5 = _recall(images, texts, texts_of)
    return RetrievalScores(image_r1, image_r5, text_r1, text_r5, len(images), len(texts))


def _recall(
    queries: _Embeddings, candidates: _Embeddings, right: Sequence[Sequence[int]]
) -> tuple[float | None, float | None]:
    """Recall at 1 and at 5.

    Args:
        queries: Q x D.
        candidates: C x D.
        right: The right candidates of each query.
    """
    ahead, wrong = [], []
    columns = candidates.astype(np.float64).T
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        similarity = queries[start : start + _QUERIES_AT_ONCE].astype(np.float64) @ columns
        is_right = np.zeros(similarity.shape, dtype=bool)
        for row, right_candidates in enumerate(right[start : start + _QUERIES_AT_ONCE]):
            is_right[row, list(right_candidates)] = True
        scored = np.where(is_right & ~np.isnan(similarity), similarity, -np.inf)
        best = scored.max(axis=1, keepdims=True)
        # "Not less" instead of "at least", so that NaN is never in favour of the right answer.
        ahead.append((~is_right & ~(similarity < best - _TIE)).sum(axis=1))
        wrong.append((~is_right).sum(axis=1))
    before, wrong_counts = np.concatenate(ahead), np.concatenate(wrong)
    before, wrong_counts = before[wrong_counts > 0], wrong_counts[wrong_counts > 0]
    if not len(wrong_counts):
        return None, None
    at_1, at_5 = (100 * float((before < np.minimum(k, wrong_counts)).mean()) for k in (1, 5))
    return at_1, at_5
