"""Words by example: what the queries say that lie on what was marked.

A query's class embedding is what a vocabulary is compared with, so the mean of those on the marked
things can stand in a class table where the embedding of their name would.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, VocabularyError, quoted, warn_caller
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.questions.question import AnyImage, for_each, image_list
from xdecoder_rt.questions.regions import RegionSource, is_box, read_region, region_levels
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import Floats, ImageState
from xdecoder_rt.words.encoder import unit
from xdecoder_rt.words.example import Example
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import Word

__all__ = ["check_examples", "learn"]

_LEAST_OVERLAP = 0.25
_CLEAR_OVERLAP = 0.5


def learn(
    runtime: Runtime,
    images: AnyImage | Sequence[AnyImage],
    regions: RegionSource | Sequence[RegionSource],
    name: str,
    channels: str,
) -> Word:
    """Return a word that looks like what is marked; the arguments are those of `Engine.example`.

    Raises:
        ArgumentError: there is not a region for each image, one is no region of its image, or the
            model outlines nothing there; or the plan lacks the task.
        VocabularyError: the name cannot be a word's.
        ImageError: an image cannot be read.
    """
    runtime.require("segment")
    (word,) = Vocabulary.parse([name]).words
    is_one = not isinstance(images, list | tuple)
    sources: list[AnyImage] = [images] if is_one else image_list(images)  # type: ignore[list-item, arg-type]
    marks = for_each("regions", regions, len(sources), is_shared=is_one)
    if not sources:
        raise ArgumentError("There are no images", expected="at least one, with a region")
    found = [
        _embeddings(runtime, runtime.state(source, channels), mark, number)
        for number, (source, mark) in enumerate(zip(sources, marks, strict=True))
    ]
    class_rows, region_rows = zip(*found, strict=True)
    example = Example(
        runtime.manifest.model.weights_sha256,
        _mean(class_rows),
        b"" if runtime.regions is None else _mean(region_rows),
        len(found),
    )
    return Word(word.name, example=example)


def check_examples(manifest: Manifest, vocabulary: Vocabulary) -> None:
    """Refuse examples of another model than a plan's.

    Raises:
        VocabularyError: a word has one.
    """
    for index, example in vocabulary.examples.items():
        if (example.model, example.width) != (
            manifest.model.weights_sha256,
            manifest.text.proj_dim,
        ):
            raise VocabularyError(
                f"The example of {quoted(vocabulary.texts[index])} was made with another model",
                expected=f"the weights {manifest.model.weights_sha256[:16]}… of this plan",
                fix="make it again with this plan: Engine.example or xdecoder-rt vocab example",
            )


def _embeddings(
    runtime: Runtime, state: ImageState, mark: RegionSource, number: int
) -> tuple[Floats, Floats]:
    """Return the unit class embedding and the region embedding of the query on a mark."""
    latents = runtime.rows.latents(state)
    class_embedding, mask_embedding = latents.answer("segment")
    masks = runtime.masks(state, mask_embedding[: runtime.manifest.decoder.objects]) > 0
    stride = state.letterbox.target[0] // masks.shape[1]
    region = read_region(mark, state.letterbox.source)
    (level,) = region_levels(region, state.letterbox, (stride,))
    marked = (level > 0).reshape(masks.shape[1:])
    # Padding belongs to no image: what a mask has there counts for nothing.
    rows, columns = (-(-side // stride) for side in state.letterbox.valid)
    overlaps = _overlaps(masks[:, :rows, :columns], marked[:rows, :columns], is_box(mark))
    best = int(overlaps.argmax())
    if overlaps[best] < _LEAST_OVERLAP:
        raise ArgumentError(
            f"The model outlines nothing where region {number} is: the mask that fits best "
            f"overlaps it by {overlaps[best]:.0%}",
            expected=f"a thing that it outlines, by {_LEAST_OVERLAP:.0%} at least",
            fix="mark the whole thing and nothing else, or take an image that shows it larger",
        )
    if overlaps[best] < _CLEAR_OVERLAP:
        warn_caller(
            f"The mask that fits region {number} best overlaps it by {overlaps[best]:.0%} alone"
        )
    name_scores = latents.region_scores
    region_row = class_embedding[best]
    if runtime.regions is not None and name_scores is not None:
        region_row = runtime.regions.embedding(name_scores[best])
    return unit(class_embedding[best]), unit(region_row)


def _overlaps(
    masks: npt.NDArray[np.bool_], marked: npt.NDArray[np.bool_], marks_box: bool
) -> npt.NDArray[np.float64]:
    """Return by how much each mask is what was marked, 0 to 1: intersection over union.

    Args:
        masks: ``[Q, h, w]``.
        marked: ``[h, w]``.
        marks_box: whether a rectangle was marked. Then a mask's own rectangle may be what fits.
    """
    overlaps = _ratio(masks, marked)
    if marks_box:
        rows, columns = (_spans(np.asarray(masks.any(axis=axis))) for axis in (2, 1))
        boxes = rows[:, :, None] & columns[:, None, :]
        overlaps = np.maximum(overlaps, _ratio(boxes, marked))
    return overlaps


def _ratio(masks: npt.NDArray[np.bool_], marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    both = (masks & marked).sum(axis=(1, 2), dtype=np.float64)
    either = (masks | marked).sum(axis=(1, 2), dtype=np.float64)
    overlaps: npt.NDArray[np.float64] = both / np.maximum(either, 1)
    return overlaps


def _spans(touched: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Fill rows of flags from the first that is set to the last."""
    begun = np.logical_or.accumulate(touched, axis=1)
    goes_on = np.logical_or.accumulate(touched[:, ::-1], axis=1)[:, ::-1]
    return begun & goes_on


def _mean(rows: Sequence[Floats]) -> bytes:
    return unit(np.mean(rows, axis=0, dtype=np.float64)).astype("<f4").tobytes()
