"""Panoptic and instance files in COCO's form, whatever data set they were made of.

COCO distributes them (https://cocodataset.org/#format-data); those of ADE20K, BDD100K and ScanNet
are made of what is distributed, with ids of images that are texts. Categories are compared with the
class list by id and name: a file with other ids would give wrong figures silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.class_lists import ClassList
from xdecoder_rt.datasets.documents import Document, Flag, NonEmptyText
from xdecoder_rt.datasets.image_files import check_map_size, read_rgb_png_ids, upright_map
from xdecoder_rt.datasets.instances import Instance, read_instance
from xdecoder_rt.datasets.items import areas_of, repeated
from xdecoder_rt.datasets.truth import PanopticTruth, TrueInstance, TruthItem, class_map
from xdecoder_rt.errors import DatasetError, quoted, require
from xdecoder_rt.json_reader import Rule

_MAX_ID = (1 << 24) - 1
_IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg")
_Id = Annotated[Any, Rule(unread=True)]


@dataclass(frozen=True)
class _Category:
    id: int
    name: NonEmptyText


@dataclass(frozen=True)
class _Segment:
    id: Annotated[int, Rule(low=1, high=_MAX_ID)]
    category_id: int
    area: Annotated[int, Rule(low=0)]
    iscrowd: Flag = False


@dataclass(frozen=True)
class _Annotation:
    file_name: NonEmptyText
    segments_info: tuple[_Segment, ...]


@dataclass(frozen=True)
class _SizedImage:
    file_name: NonEmptyText
    height: Annotated[int, Rule(low=1)]
    width: Annotated[int, Rule(low=1)]
    id: _Id


@dataclass(frozen=True)
class _OfImage:
    image_id: _Id
    area: float


InstancesOf = Mapping[str, Callable[[Path], Sequence[TrueInstance]]]
"""By the name of an image without its suffix: loads its things, given the image."""


def read_panoptic(
    document: Document,
    classes: ClassList,
    maps: Path,
    find_image: Callable[[Document, str], Path],
    instances: InstancesOf | None = None,
    semantic: Callable[[str, Path], Callable[[], NDArray[np.int32]]] | None = None,
) -> list[TruthItem]:
    """Read the annotated images of a panoptic file, in its order.

    Args:
        document: Its content.
        classes: The classes that its categories must be of.
        maps: The folder of PNGs.
        find_image: Gives the image of an annotation by the name of its PNG without the suffix; the
            annotation is for the error.
        instances: Things from another file, else none are known.
        semantic: Gives what loads the classes of the pixels, by the name and the image; None: those
            of the segments.

    Raises:
        DatasetError: if a field is missing or wrong, a category is not of the classes, or a file is
            missing; it names the place.
    """
    indices = _category_indices(document, classes)
    items = []
    for record in document.documents("annotations", "annotation"):
        annotation = record.read(_Annotation)
        map_file = record.file_inside(maps, "file_name", annotation.file_name)
        stem = PurePosixPath(annotation.file_name).stem
        image = find_image(record, stem)
        for number, segment in enumerate(annotation.segments_info):
            if segment.category_id not in indices:
                raise record.error(
                    f"'category_id' is {segment.category_id}, which no category has",
                    at=f"segment {number}",
                )
        if (twice := repeated([segment.id for segment in annotation.segments_info])) is not None:
            raise record.error(f"two segments have the id {twice}", expected="distinct ids")
        segments = {
            segment.id: (indices[segment.category_id], segment.area, segment.iscrowd)
            for segment in annotation.segments_info
        }
        load = partial(_load_panoptic, map_file, image, segments)
        load_things = None
        if instances is not None:
            if stem not in instances:
                raise record.error(f"the file of instances has no image {quoted(stem)}")
            load_things = partial(instances[stem], image)
        load_classes = partial(_classes_of, load) if semantic is None else semantic(stem, image)
        items.append(TruthItem(image, load, load_classes, load_things))
    if not items:
        raise document.error("'annotations' is empty", expected="at least one image")
    return items


def read_instances(document: Document, classes: ClassList) -> InstancesOf:
    """Read the things of a file of instances.

    Args:
        document: Its content.
        classes: The classes that its categories must be of.

    Raises:
        DatasetError: if a field is missing or wrong, or a category is not of the classes.
        MissingExtraError: if pycocotools is not installed.
    """
    require("pycocotools.mask", "eval")
    indices = _category_indices(document, classes)
    names = {id_: str(id_) for id_ in indices}
    images: dict[object, _SizedImage] = {}
    records_of: dict[object, list[Document]] = {}
    for record in document.documents("images", "image"):
        image = record.read(_SizedImage)
        if not isinstance(image.id, int | str) or image.id in images:
            raise record.error(f"'id' is {quoted(image.id)}", expected="distinct ids")
        images[image.id], records_of[image.id] = image, []
    for record in document.documents("annotations", "annotation"):
        image_id = record.read(_OfImage).image_id
        if not isinstance(image_id, int | str) or image_id not in images:
            raise record.error(f"'image_id' is {quoted(image_id)}, which no image has")
        records_of[image_id].append(record)
    return {
        PurePosixPath(image.file_name).stem: partial(
            _load_instances, (image.height, image.width), records_of[id_], names, indices
        )
        for id_, image in images.items()
    }


def image_beside(folder: Path) -> Callable[[Document, str], Path]:
    """Return what finds images of a folder by their names without suffixes."""

    def find(record: Document, stem: str) -> Path:
        for suffix in _IMAGE_SUFFIXES:
            path = record.path_inside(folder, "file_name", stem + suffix)
            if path.is_file():
                return path
        raise record.error(
            f"there is no image {quoted(stem)} in {folder}", expected=f"{stem}{_IMAGE_SUFFIXES[0]}"
        )

    return find


def compressed(instance: Instance, size: tuple[int, int]) -> dict[str, Any]:
    """Return the mask of an instance in COCO's compressed run lengths, made by pycocotools.

    Args:
        instance: One whose shape fits the size.
        size: Height and width of its image.

    Raises:
        DatasetError: if compressed run lengths do not add up to the size.
        MissingExtraError: if pycocotools is not installed.
    """
    coco, (height, width) = require("pycocotools.mask", "eval"), size
    if isinstance(instance.shape, str):
        instance.runs(size)  # checks them, which pycocotools does not
        return {"size": [height, width], "counts": instance.shape}
    if isinstance(instance.shape, tuple):
        polygons = [points.tolist() for points in instance.shape]
        runs = coco.merge(coco.frPyObjects(polygons, height, width)) if polygons else None
    else:
        counts = {"size": [height, width], "counts": instance.shape.tolist()}
        runs = coco.frPyObjects(counts, height, width)
    if runs is None:
        runs = coco.encode(np.zeros(size, np.uint8, order="F"))
    return {"size": [height, width], "counts": runs["counts"].decode()}


def _category_indices(document: Document, classes: ClassList) -> dict[int, int]:
    categories = document.by_id("categories", "category")
    if not categories:
        raise document.error("'categories' is empty", expected="at least one category")
    return {
        id_: classes.checked_index(id_, record.read(_Category).name, record.where)
        for id_, record in categories.items()
    }


def _load_panoptic(
    map_file: Path, image: Path, segments: Mapping[int, tuple[int, int, bool]]
) -> PanopticTruth:
    """Decode a map and compare its ids with the segments listed; one may have no pixel."""
    where = str(map_file)
    ids = upright_map(read_rgb_png_ids(map_file), where, image, "upright")
    if unlisted := sorted(areas_of(ids).keys() - segments.keys()):
        raise DatasetError(
            f"{where} has ids that its annotation does not list as segments: {quoted(unlisted)}",
            expected="colours R + 256 G + 65536 B that are ids of segments, black where there is "
            "none",
        )
    return PanopticTruth(
        ids,
        {id_: index for id_, (index, _, _) in segments.items()},
        {id_: area for id_, (_, area, _) in segments.items()},
        frozenset(id_ for id_, (_, _, iscrowd) in segments.items() if iscrowd),
    )


def _classes_of(load: Callable[[], PanopticTruth]) -> NDArray[np.int32]:
    return class_map(load())


def _load_instances(
    size: tuple[int, int],
    records: Sequence[Document],
    names: Mapping[int, str],
    indices: Mapping[int, int],
    image: Path,
) -> tuple[TrueInstance, ...]:
    check_map_size(size, "The annotated size", image, "upright")
    things = []
    for number, record in enumerate(records):
        instance = read_instance(record, number, names, size)
        runs, area = compressed(instance, size), record.read(_OfImage).area
        things.append(TrueInstance(indices[int(instance.label)], runs, area, instance.iscrowd))
    return tuple(things)
