"""COCO's instances: outlines or run lengths of single things, and the map of an image's.

The format is described at https://cocodataset.org/#format-data, "Object Detection".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.documents import Document, Flag, LongText
from xdecoder_rt.errors import ArgumentError, DatasetError, quoted, require
from xdecoder_rt.json_reader import Rule
from xdecoder_rt.masks.rle import decode_mask

# Runs in groups of five bits, a letter from P on for each but the last of a run; seven are enough.
_COMPRESSED = re.compile(r"(?:[P-o]{0,6}[0-O])*")
_MAX_RUNS = 1 << 26
_MIN_POLYGON = 6  # coordinates of three points

Polygons = tuple[NDArray[np.float64], ...]
"""Polygons, each x and y by turns, in pixels."""


@dataclass(frozen=True)
class _Annotation:
    """A thing or a crowd; its outline is checked against the image's size."""

    category_id: int
    segmentation: Annotated[Any, Rule(unread=True)]
    iscrowd: Flag = False


@dataclass(frozen=True)
class _Runs:
    """Run lengths down the columns, as numbers or compressed."""

    size: tuple[int, ...]
    counts: LongText | Annotated[tuple[int, ...], Rule(most=_MAX_RUNS)]


@dataclass(frozen=True, eq=False)
class Instance:
    """One thing, or one crowd of things.

    Attributes:
        id: COCO's id of the annotation.
        label: The name of its category.
        iscrowd: Whether it is a group of things not told apart.
        shape: Its polygons, or its run lengths: ``[R]`` int64, or compressed as a text.
    """

    id: int
    label: str
    iscrowd: bool
    shape: Polygons | NDArray[np.int64] | str

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return its pixels in an image of height and width `size`: ``[H, W]`` bool.

        Raises:
            DatasetError: if compressed run lengths do not add up to the size.
            MissingExtraError: if pycocotools is not installed.
        """
        height, width = size
        if isinstance(self.shape, str):
            counts = self.shape
        elif isinstance(self.shape, tuple) and not self.shape:
            return np.zeros(size, np.bool_)
        else:
            coco = require("pycocotools.mask", "train")
            if isinstance(self.shape, tuple):
                runs = coco.merge(coco.frPyObjects(list(self.shape), height, width))
            else:
                plain = {"size": [height, width], "counts": self.shape.tolist()}
                runs = coco.frPyObjects(plain, height, width)
            counts = runs["counts"].decode()
        try:
            return decode_mask({"size": [height, width], "counts": counts})
        except ArgumentError as error:
            raise DatasetError(
                f"The segmentation of the instance {self.id} is wrong: {error.what}",
                expected=error.expected,
            ) from error


def read_instance(
    record: Document, id_: int, categories: Mapping[int, str], size: tuple[int, int]
) -> Instance:
    """Read an annotation and check it.

    Args:
        record: The annotation.
        id_: Its id.
        categories: The names of the categories by id.
        size: Height and width of its image.

    Raises:
        DatasetError: if a field is missing or wrong; it names the place.
    """
    annotation = record.read(_Annotation)
    if annotation.category_id not in categories:
        raise record.error(
            f"'category_id' is {annotation.category_id}, which no category has",
            expected=f"one of {quoted(sorted(categories))}",
        )
    shape = _read_shape(record, annotation.segmentation, size)
    return Instance(id_, categories[annotation.category_id], annotation.iscrowd, shape)


def paint_instances(instances: Sequence[Instance], size: tuple[int, int]) -> NDArray[np.int32]:
    """Paint the map of an image's instances.

    A pixel of several belongs to the one of the fewest pixels, as on a desk the cup is seen and
    not what it stands on, and of equals to the later. Crowds lie below all else.

    Args:
        instances: The instances; the first has the number 1 in the map.
        size: Height and width.

    Returns:
        ``[H, W]`` int32 numbers, 0 where there is none.

    Raises:
        DatasetError: if an instance's shape does not fit the size.
        MissingExtraError: if pycocotools is not installed.
    """
    masks = [instance.mask(size) for instance in instances]
    areas = [np.count_nonzero(mask) for mask in masks]
    ids = np.zeros(size, np.int32)
    for index in sorted(range(len(masks)), key=lambda i: (not instances[i].iscrowd, -areas[i])):
        ids[masks[index]] = index + 1
    return ids


def _read_shape(
    record: Document, shape: object, size: tuple[int, int]
) -> Polygons | NDArray[np.int64] | str:
    if isinstance(shape, dict):
        return _read_runs(Document(shape, f"{record.where}, segmentation"), size)
    if not isinstance(shape, list):
        raise record.error("'segmentation' is wrong", expected="polygons or run lengths")
    polygons = [_read_polygon(record, polygon, size) for polygon in shape]
    # COCO has a few polygons of one or two points; they cover nothing.
    return tuple(polygon for polygon in polygons if len(polygon) >= _MIN_POLYGON)


def _read_polygon(record: Document, polygon: object, size: tuple[int, int]) -> NDArray[np.float64]:
    if not isinstance(polygon, list) or not all(type(x) in (int, float) for x in polygon):
        raise record.error("a polygon is wrong", expected="a list of numbers, x and y by turns")
    if len(polygon) % 2:
        raise record.error(f"a polygon has {len(polygon)} numbers", expected="x and y by turns")
    height, width = size
    try:
        points = np.array(polygon, dtype=np.float64)
    except OverflowError:
        points = np.full(len(polygon), np.inf)
    # Rasterising takes memory by the length of the outline, so that has a limit: slips over the
    # edge pass, and a number that is no coordinate does not.
    limit = np.array([width, height])
    pairs = points.reshape(-1, 2)
    if not ((pairs >= -limit) & (pairs <= 2 * limit)).all():
        raise record.error(
            "a polygon has a point far outside the image", expected=f"within {width} x {height}"
        )
    return points


def _read_runs(record: Document, size: tuple[int, int]) -> NDArray[np.int64] | str:
    runs = record.read(_Runs)
    if runs.size != size:
        raise record.error(f"'size' is {list(runs.size)}", expected=f"{list(size)}")
    if isinstance(runs.counts, str):
        if not runs.counts or _COMPRESSED.fullmatch(runs.counts) is None:
            raise record.error("'counts' is broken", expected="COCO's compressed run lengths")
        return runs.counts
    if any(count < 0 for count in runs.counts) or sum(runs.counts) != size[0] * size[1]:
        raise record.error("'counts' does not add up to the image", expected=f"{size[0] * size[1]}")
    return np.array(runs.counts, dtype=np.int64)
