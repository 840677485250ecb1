"""COCO's instances: outlines or run lengths of single things, and the map of an image's.

The format is described at https://cocodataset.org/#format-data, "Object Detection".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.documents import Document, Flag, LongText
from xdecoder_rt.errors import ArgumentError, DatasetError, quoted, require
from xdecoder_rt.json_reader import Rule
from xdecoder_rt.masks.rle import decode_runs

_LAST, _BEFORE_LAST, _BEYOND = b"0Pp"  # a run is groups of five bits, "P" to "o" and "0" to "O"
_GROUPS_LIMIT = 7
_MAX_RUNS = 1 << 26
_MIN_POLYGON = 6  # coordinates of three points
# Of the polygons of one image, in pixels: rasterising takes 100 bytes and 0.1 us for each. COCO's
# longest are a few thousand an instance.
_OUTLINE_LIMIT = 1 << 21
_LAYERS_LIMIT = 64  # of instances over one another, on the whole of an image

Polygons = tuple[NDArray[np.float64], ...]
"""Polygons, each x and y by turns, in pixels."""
Bounds: TypeAlias = NDArray[np.int64]
_NONE = np.zeros(0, np.int64)


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

    def outline(self) -> float:
        """Return how many pixels its outline passes, about; 0 where it is given as run lengths."""
        if not isinstance(self.shape, tuple):
            return 0.0
        sides = (np.abs(points - np.roll(points, -2)).sum() for points in self.shape)
        return float(sum(sides))

    def runs(self, size: tuple[int, int]) -> tuple[Bounds, Bounds]:
        """Return where its pixels begin and end, down the columns of an image.

        Args:
            size: Height and width of the image.

        Returns:
            First pixels of its runs, and the pixels after their last: each ``[R]`` int64, counted
            column by column, rising; the runs do not touch.

        Raises:
            DatasetError: if compressed run lengths do not add up to the size.
            MissingExtraError: if pycocotools is not installed.
        """
        height, width = size
        if isinstance(self.shape, tuple):
            coco = require("pycocotools.mask", "train")
            # One after the other: each takes memory by its length.
            encoded = [coco.frPyObjects([points], height, width)[0] for points in self.shape]
            counts = [self._counts(size, runs["counts"].decode()) for runs in encoded]
        elif isinstance(self.shape, str):
            counts = [self._counts(size, self.shape)]
        else:
            counts = [self.shape]
        ends = [np.cumsum(lengths) for lengths in counts]
        begin = np.concatenate([_NONE, *(places[:-1:2] for places in ends)])
        end = np.concatenate([_NONE, *(places[1::2] for places in ends)])
        return _union(begin, end)

    def _counts(self, size: tuple[int, int], compressed: str) -> NDArray[np.int64]:
        height, width = size
        try:
            return decode_runs({"size": [height, width], "counts": compressed})
        except ArgumentError as error:
            raise DatasetError(
                f"The segmentation of the instance {self.id} is wrong: {error.what}",
                expected=error.expected,
            ) from error


def outlined(
    record: Document, id_: int, label: str, polygons: Sequence[object], size: tuple[int, int]
) -> Instance:
    """Return an instance of polygons, checked as those of COCO are.

    Args:
        record: What has them, for errors.
        id_: A number of its own.
        label: Its class.
        polygons: Lists of numbers, x and y by turns, in pixels.
        size: Height and width of its image.

    Raises:
        DatasetError: if one is wrong.
    """
    return Instance(id_, label, False, _polygons(record, polygons, size))


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
        DatasetError: if an instance's shape does not fit the size, or together they are more work
            than an image of this size can mean.
        MissingExtraError: if pycocotools is not installed.
    """
    if (outline := sum(instance.outline() for instance in instances)) > _OUTLINE_LIMIT:
        raise DatasetError(
            f"The polygons have an outline of {outline:,.0f} pixels in all",
            expected=f"at most {_OUTLINE_LIMIT:,}",
        )
    runs = [instance.runs(size) for instance in instances]
    areas = [int((end - begin).sum()) for begin, end in runs]
    height, width = size
    if sum(areas) > _LAYERS_LIMIT * height * width:
        raise DatasetError(
            f"The instances cover it {sum(areas) / (height * width):,.0f} times over",
            expected=f"at most {_LAYERS_LIMIT} layers",
        )
    columns = np.zeros(height * width, np.int32)
    for index in sorted(range(len(runs)), key=lambda i: (not instances[i].iscrowd, -areas[i])):
        for begin, end in zip(*(places.tolist() for places in runs[index]), strict=True):
            columns[begin:end] = index + 1
    return np.ascontiguousarray(columns.reshape(width, height).T)


def _union(begin: Bounds, end: Bounds) -> tuple[Bounds, Bounds]:
    """Return runs that do not touch, of runs in any order; those of no pixels are left out."""
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], np.maximum.accumulate(end[order])
    is_first = np.ones(len(begin), np.bool_)
    is_first[1:] = begin[1:] > end[:-1]
    begin, end = begin[is_first], end[np.append(is_first[1:], True)[: len(end)]]
    has_pixels = end > begin
    return begin[has_pixels], end[has_pixels]


def _read_shape(
    record: Document, shape: object, size: tuple[int, int]
) -> Polygons | NDArray[np.int64] | str:
    if isinstance(shape, dict):
        return _read_runs(Document(shape, f"{record.where}, segmentation"), size)
    if not isinstance(shape, list):
        raise record.error("'segmentation' is wrong", expected="polygons or run lengths")
    return _polygons(record, shape, size)


def _polygons(record: Document, shape: Sequence[object], size: tuple[int, int]) -> Polygons:
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
        if not _is_compressed(runs.counts):
            raise record.error("'counts' is broken", expected="COCO's compressed run lengths")
        return runs.counts
    if any(count < 0 for count in runs.counts) or sum(runs.counts) != size[0] * size[1]:
        raise record.error("'counts' does not add up to the image", expected=f"{size[0] * size[1]}")
    return np.array(runs.counts, dtype=np.int64)


def _is_compressed(counts: str) -> bool:
    # No regular expression: Python's takes 120 bytes a character for a repeated group.
    characters = np.frombuffer(counts.encode(), np.uint8)  # UTF-8: others are beyond
    last = np.flatnonzero(characters < _BEFORE_LAST)
    return bool(
        len(last)
        and last[-1] == len(characters) - 1
        and characters.min() >= _LAST
        and characters.max() < _BEYOND
        and np.diff(last, prepend=-1).max() <= _GROUPS_LIMIT
    )
