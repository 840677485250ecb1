"""labelme: a JSON file of outlines beside each image (https://github.com/wkentaro/labelme)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from xdecoder_rt.datasets.documents import Document, NonEmptyText, read_document
from xdecoder_rt.datasets.image_files import Orientation
from xdecoder_rt.datasets.instances import Instance, outlined
from xdecoder_rt.datasets.items import Unlabelled, check_vocabulary
from xdecoder_rt.datasets.referring import ReferringItem
from xdecoder_rt.datasets.text_items import ItemSet
from xdecoder_rt.errors import DatasetError, quoted
from xdecoder_rt.json_reader import Rule

__all__ = ["is_labelme", "labelme_files", "read_labelme"]

_NO_LABELS = frozenset(("__ignore__", "_background_"))
_CIRCLE_CORNERS = 48
_HEAD = 1 << 16
_LINES = frozenset(("line", "linestrip", "point", "points"))


@dataclass(frozen=True)
class _File:
    imagePath: NonEmptyText  # noqa: N815 - labelme's name
    imageHeight: int  # noqa: N815
    imageWidth: int  # noqa: N815


@dataclass(frozen=True)
class _Shape:
    label: NonEmptyText
    points: Annotated[Any, Rule(unread=True)]
    shape_type: str = "polygon"


def labelme_files(folder: Path) -> list[Path]:
    """Return the JSON files of a folder and those below it, in their order."""
    found = []
    for place, below, names in os.walk(folder):
        below.sort()
        found += [Path(place, name) for name in sorted(names) if name.endswith(".json")]
    return found


def is_labelme(path: Path) -> bool:
    """Whether a JSON file begins as labelme's do, with shapes and a path of an image."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(max(0, os.path.getsize(path) - _HEAD))
            tail = file.read(_HEAD)
    except OSError:
        return False
    return b'"shapes"' in head and b'"imagePath"' in head + tail


def read_labelme(
    files: Sequence[Path],
    orientation: Orientation = "upright",
    unlabelled: Unlabelled = "unknown",
) -> ItemSet:
    """Read images with their outlines: polygons, rectangles and circles.

    Shapes of one label and one group are one instance. Lines and points have no area and are left
    out, as are the labels ``__ignore__`` and ``_background_``.

    Args:
        files: labelme's JSON files.
        orientation: What the outlines were drawn on.
        unlabelled: What pixels of no outline show.

    Raises:
        DatasetError: a file is wrong or an image is missing; it names the place.
    """
    items = []
    labels: dict[str, None] = {}
    for path in files:
        document = read_document(path)
        file = document.read(_File)
        size = file.imageHeight, file.imageWidth
        if min(size) < 1:
            raise document.error(f"the size is {size} (height, width)", expected="at least 1 x 1")
        instances = tuple(_instances(document, size))
        labels.update(dict.fromkeys(instance.label for instance in instances))
        image = _image(path, file.imagePath)
        items.append(ReferringItem(image, size, instances, (), orientation, unlabelled))
    if not labels:
        raise DatasetError(
            f"None of the {len(files)} files of labelme has an outline", expected="at least one"
        )
    vocabulary, _ = check_vocabulary(sorted(labels), (), str(files[0].parent))
    return ItemSet(tuple(items), vocabulary)


def _image(path: Path, name: str) -> Path:
    """Return the image that a file names, or the one of that name beside the file."""
    beside = path.parent / name.replace("\\", "/")
    for candidate in (beside, path.parent / beside.name):
        if os.path.isfile(candidate):
            return candidate
    raise DatasetError(
        f"{path}: there is no image {quoted(name, 200)}", expected="it beside the file"
    )


def _instances(document: Document, size: tuple[int, int]) -> Iterator[Instance]:
    groups: dict[tuple[str, int], list[list[float]]] = {}
    records: dict[tuple[str, int], Document] = {}
    for number, record in enumerate(document.documents("shapes", "shape")):
        shape = record.read(_Shape)
        label = shape.label.strip()
        if label in _NO_LABELS or shape.shape_type in _LINES:
            continue
        group = record.value("group_id") if "group_id" in record else None
        key = (label, group) if type(group) is int else (label, -1 - number)
        groups.setdefault(key, []).append(_corners(record, shape))
        records.setdefault(key, record)
    for number, (key, polygons) in enumerate(groups.items(), 1):
        yield outlined(records[key], number, key[0], polygons, size)


def _corners(record: Document, shape: _Shape) -> list[float]:
    """Return the corners of a shape, x and y by turns."""
    points = shape.points
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 and all(type(x) in (int, float) for x in point)
        for point in points
    ):
        raise record.error("'points' is wrong", expected="pairs of x and y")
    if shape.shape_type == "polygon":
        return [float(x) for point in points for x in point]
    if shape.shape_type in ("rectangle", "circle") and len(points) == 2:
        (left, top), (right, bottom) = points
        if shape.shape_type == "rectangle":
            return [left, top, right, top, right, bottom, left, bottom]
        radius = math.hypot(right - left, bottom - top)
        turns = (2 * math.pi * number / _CIRCLE_CORNERS for number in range(_CIRCLE_CORNERS))
        around = [(left + radius * math.cos(t), top + radius * math.sin(t)) for t in turns]
        return [x for point in around for x in point]
    raise record.error(
        f"the shape is {quoted(shape.shape_type)} of {len(points)} points",
        expected="a polygon, a rectangle or a circle",
    )
