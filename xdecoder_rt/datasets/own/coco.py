"""COCO's instances as tools write them: Roboflow, CVAT, Label Studio, and COCO itself.

The images lie beside the file (Roboflow's ``train/_annotations.coco.json``), in ``images/`` there
or beside the file's folder, or in a folder named like the split (CVAT's
``annotations/instances_default.json`` and ``images/default/``; ``instances_train2017.json``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from xdecoder_rt.datasets.coco_images import CocoImage
from xdecoder_rt.datasets.documents import Document, Flag, NonEmptyText
from xdecoder_rt.datasets.image_files import Orientation
from xdecoder_rt.datasets.instances import Instance, read_instance
from xdecoder_rt.datasets.items import Unlabelled, check_vocabulary
from xdecoder_rt.datasets.referring import ReferringItem
from xdecoder_rt.datasets.text_items import ItemSet
from xdecoder_rt.errors import DatasetError, quoted

__all__ = ["read_coco_instances"]

_PREFIXES = ("instances_", "person_keypoints_", "annotations_")


@dataclass(frozen=True)
class _Category:
    name: NonEmptyText
    supercategory: str | None = None
    isthing: Flag = True


@dataclass(frozen=True)
class _Image(CocoImage):
    height: int
    width: int


def read_coco_instances(
    path: Path,
    document: Document,
    orientation: Orientation = "upright",
    unlabelled: Unlabelled = "unknown",
) -> ItemSet:
    """Read the images of a file of instances, those without any included.

    Categories of one name are one label. A category that no annotation has, and that is the
    supercategory of others, is left out: Roboflow writes the project's name so.

    Args:
        path: The file.
        document: Its content.
        orientation: What the instances were drawn on.
        unlabelled: What pixels of no instance show.

    Raises:
        DatasetError: if a field is missing or wrong, an image is missing, or there are boxes and
            no outlines; it names the place.
    """
    annotations = document.by_id("annotations", "annotation")
    records = document.by_id("images", "image")
    of_image: dict[int, list[int]] = {image_id: [] for image_id in records}
    used = set()
    for id_, annotation in annotations.items():
        of_image[annotation.reference("image_id", records, "image")].append(id_)
        used.add(annotation.integer("category_id"))
    labels, stuff = _labels(document, used)
    vocabulary, stuff_labels = check_vocabulary(
        list(dict.fromkeys(labels.values())), sorted(stuff), document.where
    )
    folders = list(_folders(path))
    items = []
    has_outlines = False
    for image_id, record in records.items():
        image = record.read(_Image)
        size = image.height, image.width
        if min(size) < 1:
            raise record.error(f"the size is {size} (height, width)", expected="at least 1 x 1")
        instances: list[Instance] = []
        for id_ in of_image[image_id]:
            instance = read_instance(annotations[id_], id_, labels, size)
            has_outlines |= not isinstance(instance.shape, tuple) or bool(instance.shape)
            instances.append(instance)
        file = _find(record, folders, image.file_name)
        items.append(
            ReferringItem(file, size, tuple(instances), (), orientation, unlabelled, stuff_labels)
        )
    if not items:
        raise document.error("'images' is empty", expected="at least one image")
    if annotations and not has_outlines:
        raise document.error(
            "the annotations are boxes without outlines",
            expected="'segmentation' of polygons or run lengths",
            fix="export masks or polygons, or make them from the boxes with a labelling tool",
        )
    return ItemSet(tuple(items), vocabulary, stuff_labels)


def _labels(document: Document, used: set[int]) -> tuple[Mapping[int, str], set[str]]:
    """Return the label of each category's id, and those that are stuff."""
    categories = {
        id_: record.read(_Category)
        for id_, record in document.by_id("categories", "category").items()
    }
    above = {category.supercategory for category in categories.values()}
    kept = {
        id_: category
        for id_, category in categories.items()
        if id_ in used or category.name not in above
        or category.supercategory == category.name
    }  # fmt: skip
    stuff = {category.name for category in kept.values() if not category.isthing}
    return {id_: category.name for id_, category in kept.items()}, stuff


def _folders(path: Path) -> Iterator[Path]:
    """Yield the folders in which images may lie, nearest first."""
    beside = path.absolute().parent
    split = path.stem
    for prefix in _PREFIXES:
        split = split.removeprefix(prefix)
    for root in (beside, beside.parent):
        for folder in (root / split, root / "images" / split, root / "images", root):
            if os.path.isdir(folder):
                yield folder


def _find(record: Document, folders: list[Path], name: str) -> Path:
    """Return an image's file: under its name, or under the last part of it."""
    for folder in folders:
        path = record.path_inside(folder, "file_name", name)
        for candidate in (path, folder / PurePosixPath(name).name):
            if os.path.isfile(candidate):
                return candidate
    places = ", ".join(str(folder) for folder in folders[:4])
    raise DatasetError(
        f"{record.where}: there is no image {quoted(name, 200)}", expected=f"it in {places}"
    )
