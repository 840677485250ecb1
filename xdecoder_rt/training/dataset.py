"""From a sample key to a training example: read, augment, make targets, choose points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from xdecoder_rt.evaluation.items import PanopticDataset, PanopticItem
from xdecoder_rt.training.augment import augment, whole_view
from xdecoder_rt.training.points import focused_points
from xdecoder_rt.training.sampler import SampleKey
from xdecoder_rt.training.targets import Targets, make_targets

# First word of each generator's seed; the sampler uses 1 and 2.
_AUGMENT_STREAM = 3


@dataclass(frozen=True)
class Example:
    """One image ready for a batch.

    Attributes:
        image: ``[S, S, 3]`` uint8 RGB, what lies outside `valid` is zero.
        valid: rows and columns that the image covers, from the top left.
        targets: what is on it.
        points: ``[P, 2]`` x, y in pixels.
        weights: ``[P]`` weights that undo the points' bias; see
            :func:`~xdecoder_rt.training.points.focused_points`.
        source: index of the data set.
    """

    image: NDArray[np.uint8]
    valid: tuple[int, int]
    targets: Targets
    points: NDArray[np.float32]
    weights: NDArray[np.float32]
    source: int


class TrainingSet(Dataset[Example]):
    """Augmented examples of several data sets, addressed by :class:`SampleKey`.

    Args:
        sources: the data sets.
        size: side S of the square examples in pixels.
        points: points P an example.
        seed: seed of the augmentation.
    """

    def __init__(
        self, sources: Sequence[PanopticDataset], size: int, points: int, seed: int
    ) -> None:
        self.sources = tuple(sources)
        self.size = size
        self.points = points
        self.seed = seed

    def __getitem__(self, key: SampleKey) -> Example:
        """Read and augment one sample; the same key gives the same example.

        Raises:
            DatasetError: a file of the item is missing or broken.
        """
        rng = np.random.default_rng((_AUGMENT_STREAM, self.seed, key.position))
        item = self.sources[key.source].items[key.item]
        image, ids = augment(item.load_image(), item.load_panoptic(), self.size, rng)
        targets = make_targets(ids, item.segments, self.size)
        points, weights = focused_points(targets.boxes, self.size, self.points, rng)
        return Example(_padded(image, self.size), ids.shape, targets, points, weights, key.source)


def plain_example(item: PanopticItem, size: int, points: int = 1) -> Example:
    """The whole image without augmentation, its long side resized to `size`: for validation.

    The points are the same in every call.

    Args:
        item: what to read.
        size: side of the square in pixels.
        points: number of points.

    Raises:
        DatasetError: a file of the item is missing or broken.
    """
    source_ids = item.load_panoptic()
    view = whole_view((source_ids.shape[0], source_ids.shape[1]), size)
    image, ids = view.of_image(item.load_image()), view.of_ids(source_ids)
    targets = make_targets(ids, item.segments, size)
    rng = np.random.default_rng(_AUGMENT_STREAM)
    xy, weights = focused_points(targets.boxes, size, points, rng)
    return Example(_padded(image, size), view.size, targets, xy, weights, 0)


def _padded(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    square = np.zeros((size, size, 3), dtype=np.uint8)
    square[: image.shape[0], : image.shape[1]] = image
    return square


@dataclass
class Batch:
    """Examples stacked; B images, at most N targets and I ids each, P points.

    Attributes:
        images: ``[B, S, S, 3]`` uint8 RGB.
        valid: rows and columns each image covers.
        ids: ``[B, S, S]`` int16 id maps.
        labels: the names of each image's targets.
        membership: ``[B, N, I]`` bool; rows beyond an image's targets are false.
        points: ``[B, P, 2]`` x, y as shares of the side, 0 to 1.
        point_ids: ``[B, P]`` int64, the id under each point.
        point_weights: ``[B, P]`` float32, 0 where the id is `IGNORE`.
        sources: the data set of each image.
    """

    images: Tensor
    valid: list[tuple[int, int]]
    ids: Tensor
    labels: list[tuple[str, ...]]
    membership: Tensor
    points: Tensor
    point_ids: Tensor
    point_weights: Tensor
    sources: list[int]

    def _map(self, change: str, *args: object, **kwargs: object) -> Batch:
        tensors = {
            name: getattr(value, change)(*args, **kwargs)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return Batch(**{**vars(self), **tensors})

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return self._map("to", device, non_blocking=True)

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory (called by the data loader)."""
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
        for image, (height, width) in zip(images, self.valid, strict=True):
            image[height:] = 0
            image[:, width:] = 0
        return images.permute(0, 3, 1, 2)

    def point_targets(self) -> Tensor:
        """Whether each point is on each target: ``[B, N, P]`` float32."""
        index = self.point_ids[:, None].expand(-1, self.membership.shape[1], -1)
        return self.membership.gather(2, index).float()

    def target_masks(self) -> Tensor:
        """The masks of all targets: ``[B, N, S, S]`` bool."""
        batch, size, _ = self.ids.shape
        flat = self.ids.long().view(batch, 1, -1).expand(-1, self.membership.shape[1], -1)
        return self.membership.gather(2, flat).view(batch, -1, size, size)


def collate(examples: Sequence[Example]) -> Batch:
    """Stack examples of one size and number of points."""
    size = examples[0].image.shape[0]
    rows = max(len(e.targets.labels) for e in examples)
    columns = max(e.targets.membership.shape[1] for e in examples)
    membership = np.zeros((len(examples), rows, columns), dtype=np.bool_)
    for table, example in zip(membership, examples, strict=True):
        own = example.targets.membership
        table[: own.shape[0], : own.shape[1]] = own
    ids = np.stack([e.targets.ids for e in examples])
    points = np.stack([e.points for e in examples])
    pixel = points.astype(np.int64)
    point_ids = ids[np.arange(len(ids))[:, None], pixel[..., 1], pixel[..., 0]].astype(np.int64)
    weights = np.stack([e.weights for e in examples]) * (point_ids != 0)
    return Batch(
        images=torch.from_numpy(np.stack([e.image for e in examples])),
        valid=[e.valid for e in examples],
        ids=torch.from_numpy(ids),
        labels=[e.targets.labels for e in examples],
        membership=torch.from_numpy(membership),
        points=torch.from_numpy(points / np.float32(size)),
        point_ids=torch.from_numpy(point_ids),
        point_weights=torch.from_numpy(weights.astype(np.float32)),
        sources=[e.source for e in examples],
    )
