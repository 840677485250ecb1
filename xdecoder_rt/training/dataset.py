"""From a sample key to a training example: read, augment, make targets, choose points."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from xdecoder_rt.datasets.items import (
    NOTHING,
    AnsweredQuestion,
    PanopticDataset,
    PanopticItem,
    Segment,
)
from xdecoder_rt.tasks import TASKS
from xdecoder_rt.training.augment import augmented, random_view, truthful_view, whole_view
from xdecoder_rt.training.points import focused_points
from xdecoder_rt.training.sampler import SampleKey
from xdecoder_rt.training.targets import Targets, make_targets
from xdecoder_rt.training.texts import Texts, draw_texts, first_texts

# First word of each generator's seed; the sampler uses 1 and 2.
_AUGMENT_STREAM = 3
FREE_VIEWS = 0.2
"""Share of the images with texts that are cropped freely and shown without their texts."""


@dataclass(frozen=True)
class Example:
    """One image ready for a batch.

    Attributes:
        image: ``[S, S, 3]`` uint8 RGB, what lies outside `valid` is zero.
        valid: rows and columns that the image covers, from the top left.
        segmented: whether the image's segments are known; nothing is learnt of the segmentation
            of one whose are not.
        targets: what is on it.
        points: ``[P, 2]`` x, y in pixels.
        weights: ``[P]`` weights that undo the points' bias; see
            :func:`~xdecoder_rt.training.points.focused_points`.
        source: index of the data set.
        absent: phrases of what is not there.
        caption: a description, or None.
        questions: questions with their answers.
    """

    image: NDArray[np.uint8]
    valid: tuple[int, int]
    segmented: bool
    targets: Targets
    points: NDArray[np.float32]
    weights: NDArray[np.float32]
    source: int
    absent: tuple[str, ...] = ()
    caption: str | None = None
    questions: tuple[AnsweredQuestion, ...] = ()


class TrainingSet(Dataset[Example]):
    """Augmented examples of several data sets, addressed by :class:`SampleKey`.

    Args:
        sources: the data sets.
        size: side S of the square examples in pixels.
        points: points P an example.
        seed: seed of the augmentation.
        tasks: what is trained; labels and texts of other tasks are left out.
    """

    def __init__(
        self,
        sources: Sequence[PanopticDataset],
        size: int,
        points: int,
        seed: int,
        tasks: Collection[str] = tuple(TASKS),
    ) -> None:
        self.sources = tuple(sources)
        self.size = size
        self.points = points
        self.seed = seed
        self.tasks = frozenset(tasks)

    def __getitem__(self, key: SampleKey) -> Example:
        """Read and augment one sample; the same key gives the same example.

        Raises:
            DatasetError: a file of the item is missing or broken.
        """
        rng = np.random.default_rng((_AUGMENT_STREAM, self.seed, key.position))
        source = self.sources[key.source]
        item = source.items[key.item]
        texts = draw_texts(item, self.tasks, rng, source.vocabulary)
        ids = item.load_panoptic()
        segments = item.segments if "segment" in self.tasks else ()
        # Larger scales are learnt from free crops, of which the texts would be untrue.
        if texts == Texts() or (segments and rng.random() < FREE_VIEWS):
            texts, view = Texts(), random_view(ids, self.size, rng)
        else:
            whole = [segment.id for segment in item.segments if segment.isthing]
            view = truthful_view(ids, whole, self.size, rng)
        image, ids = augmented(item.load_image(), ids, view, rng)
        texts = texts.mirrored() if view.flipped else texts
        known = _knows_nothing(ids) and "segment" in self.tasks
        return make_example(
            image, ids, segments, texts, self.size, self.points, key.source, rng, complete=known
        )


def make_example(
    image: NDArray[np.uint8],
    ids: NDArray[np.integer[Any]],
    segments: Sequence[Segment],
    texts: Texts,
    size: int,
    points: int,
    source: int,
    rng: np.random.Generator,
    *,
    complete: bool = False,
) -> Example:
    """Targets and points for a view of an image.

    Args:
        image: ``[h, w, 3]`` uint8 RGB, ``h, w <= size``.
        ids: ``[h, w]`` segment ids, 0 = unlabelled, -1 = nothing of the vocabulary.
        segments: the image's segments; none where they are not known.
        texts: what is said and asked of the view.
        size: side of the square in pixels.
        points: number of points.
        source: index of the data set.
        rng: draws the points.
        complete: whether it is known that there are no other segments, even where there are none.
    """
    targets = make_targets(ids, segments, size, texts.phrases)
    xy, weights = focused_points(targets.boxes, size, points, rng)
    return Example(
        _padded(image, size),
        (ids.shape[0], ids.shape[1]),
        bool(segments) or complete,
        targets,
        xy,
        weights,
        source,
        texts.absent,
        texts.caption,
        texts.questions,
    )


def plain_example(
    item: PanopticItem, size: int, tasks: Collection[str] = tuple(TASKS), points: int = 1
) -> Example:
    """Return the whole image without augmentation, its long side resized to `size`: for validation.

    It has the item's first phrases, caption and question. The points are the same in every call.

    Args:
        item: what to read.
        size: side of the square in pixels.
        tasks: whose labels and texts the example has.
        points: number of points.

    Raises:
        DatasetError: a file of the item is missing or broken.
    """
    source_ids = item.load_panoptic()
    view = whole_view((source_ids.shape[0], source_ids.shape[1]), size)
    image, ids = view.of_image(item.load_image()), view.of_ids(source_ids)
    rng = np.random.default_rng(_AUGMENT_STREAM)
    segments = item.segments if "segment" in tasks else ()
    known = _knows_nothing(ids) and "segment" in tasks
    texts = first_texts(item, tasks)
    return make_example(image, ids, segments, texts, size, points, 0, rng, complete=known)


def _knows_nothing(ids: NDArray[np.integer[Any]]) -> bool:
    return bool((ids == NOTHING).any())


def _padded(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    square = np.zeros((size, size, 3), dtype=np.uint8)
    square[: image.shape[0], : image.shape[1]] = image
    return square


@dataclass
class Batch:
    """Examples stacked; B images, at most N targets, M phrases and I ids each, P points.

    Attributes:
        images: ``[B, S, S, 3]`` uint8 RGB.
        valid: rows and columns each image covers.
        ids: ``[B, S, S]`` int16 id maps.
        segmented: ``[B]`` bool, whether the image's segments are known.
        labels: the names of each image's targets.
        membership: ``[B, N, I]`` bool; rows beyond an image's targets are false.
        known_ids: ``[B, I]`` bool, whether it is known which names an id's pixels belong to.
        phrases: the texts of each image's phrases.
        phrase_membership: ``[B, M, I]`` bool, the same for what the phrases mean.
        absent: phrases of what is not on each image.
        points: ``[B, P, 2]`` x, y as shares of the side, 0 to 1.
        point_ids: ``[B, P]`` int64, the id under each point.
        point_weights: ``[B, P]`` float32 weights that undo the points' bias.
        sources: the data set of each image.
        captions: each image's description, or None.
        questions: each image's questions.
    """

    images: Tensor
    valid: list[tuple[int, int]]
    ids: Tensor
    segmented: Tensor
    labels: list[tuple[str, ...]]
    membership: Tensor
    known_ids: Tensor
    phrases: list[tuple[str, ...]]
    phrase_membership: Tensor
    absent: list[tuple[str, ...]]
    points: Tensor
    point_ids: Tensor
    point_weights: Tensor
    sources: list[int]
    captions: list[str | None]
    questions: list[tuple[AnsweredQuestion, ...]]

    def _map(self, change: str, *args: object, **kwargs: object) -> Batch:
        tensors = {
            name: getattr(value, change)(*args, **kwargs)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return Batch(**{**vars(self), **tensors})

    def to(self, device: torch.device) -> Batch:
        """Move the batch to a device."""
        return self._map("to", device, non_blocking=True)

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory (called by the data loader)."""
        return self._map("pin_memory")

    def normalised_images(self, mean: Sequence[float], std: Sequence[float]) -> Tensor:
        """Images as the model takes them, zero outside the valid part.

        Padding is zeroed after normalising, as at run time.

        Args:
            mean: per-channel mean on the 0-255 scale.
            std: per-channel standard deviation on the 0-255 scale.

        Returns:
            ``[B, 3, S, S]`` float32 in channels-last memory.
        """
        device = self.images.device
        scale = 1 / torch.tensor(std, dtype=torch.float32, device=device)
        shift = -torch.tensor(mean, dtype=torch.float32, device=device) * scale
        images = torch.addcmul(shift, self.images.float(), scale)
        valid = torch.tensor(self.valid).to(device, non_blocking=True)
        place = torch.arange(self.images.shape[1], device=device)
        inside = place < valid[..., None]  # [B, 2, S]: rows, columns
        images *= (inside[:, 0, :, None] & inside[:, 1, None])[..., None]
        return images.permute(0, 3, 1, 2)

    def known_weights(self) -> Tensor:
        """`point_weights`, but 0 where it is not known what a point belongs to."""
        return self.point_weights * self.known_ids.gather(1, self.point_ids)

    def point_targets(self) -> Tensor:
        """Return whether each point is on each target: ``[B, N, P]`` float32."""
        return self._at_points(self.membership)

    def phrase_targets(self) -> Tensor:
        """Return whether each point is on what each phrase means: ``[B, M, P]`` float32."""
        return self._at_points(self.phrase_membership)

    def _at_points(self, membership: Tensor) -> Tensor:
        index = self.point_ids[:, None].expand(-1, membership.shape[1], -1)
        return membership.gather(2, index).float()


def collate(examples: Sequence[Example]) -> Batch:
    """Stack examples of one size and number of points."""
    size = examples[0].image.shape[0]
    ids = np.stack([e.targets.ids for e in examples])
    points = np.stack([e.points for e in examples])
    pixel = points.astype(np.int64)
    point_ids = ids[np.arange(len(ids))[:, None], pixel[..., 1], pixel[..., 0]].astype(np.int64)
    tables = [e.targets.membership for e in examples]
    named = [len(e.targets.labels) for e in examples]
    return Batch(
        images=torch.from_numpy(np.stack([e.image for e in examples])),
        valid=[e.valid for e in examples],
        ids=torch.from_numpy(ids),
        segmented=torch.tensor([e.segmented for e in examples]),
        labels=[e.targets.labels for e in examples],
        membership=_stack_tables([t[:n] for t, n in zip(tables, named, strict=True)]),
        known_ids=_stack_tables([e.targets.known_ids[None] for e in examples])[:, 0],
        phrases=[e.targets.phrases for e in examples],
        phrase_membership=_stack_tables([t[n:] for t, n in zip(tables, named, strict=True)]),
        absent=[e.absent for e in examples],
        points=torch.from_numpy(points / np.float32(size)),
        point_ids=torch.from_numpy(point_ids),
        point_weights=torch.from_numpy(np.stack([e.weights for e in examples])),
        sources=[e.source for e in examples],
        captions=[e.caption for e in examples],
        questions=[e.questions for e in examples],
    )


def _stack_tables(tables: Sequence[NDArray[np.bool_]]) -> Tensor:
    """Tables as one, filled up with false."""
    shape = np.max([table.shape for table in tables], axis=0)
    stacked = np.zeros((len(tables), *shape), dtype=np.bool_)
    for place, table in zip(stacked, tables, strict=True):
        place[: table.shape[0], : table.shape[1]] = table
    return torch.from_numpy(stacked)
