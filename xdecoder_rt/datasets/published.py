"""The public data sets of X-Decoder's figures, found in their folders as they are distributed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from xdecoder_rt.datasets.class_lists import ClassList, class_list
from xdecoder_rt.datasets.coco_images import folders_beside
from xdecoder_rt.datasets.documents import Document, read_document
from xdecoder_rt.datasets.label_maps import (
    ade20k_semantic,
    read_ade20k_full,
    read_ade20k_maps,
    read_bdd,
    read_cityscapes,
    read_scannet,
    read_sun,
)
from xdecoder_rt.datasets.panoptic_files import (
    InstancesOf,
    image_beside,
    read_instances,
    read_panoptic,
)
from xdecoder_rt.datasets.published_texts import (
    find_file,
    read_coco_captions,
    read_karpathy,
    read_refer_json,
    read_refs,
)
from xdecoder_rt.datasets.truth import TruthItem, TruthSet
from xdecoder_rt.errors import ArgumentError, DatasetError, quoted

_ADE20K = "ADEChallengeData2016"
_ADE20K_FULL = "ADE20K_2021_17_01"
_MAPS: dict[str, tuple[Callable[[Path, str, ClassList], list[TruthItem]], str]] = {
    "ade20k-847": (read_ade20k_full, _ADE20K_FULL),
    "cityscapes": (read_cityscapes, "cityscapes"),
    "bdd": (read_bdd, "bdd100k"),
    "sun": (read_sun, "sun_rgbd"),
    "scannet": (read_scannet, "scannet_frames_25k"),
}
_SPLITS = {
    "coco": "val2017",
    "ade20k": "validation",
    "ade20k-847": "validation",
    "sun": "test",
    "captions": "test",
}
_REFS = {
    "refcoco": ("refs(unc).p", "refs(google).p"),
    "refcoco+": ("refs(unc).p",),
    "refcocog": ("refs(umd).p", "refs(google).p"),
}
READERS = ("coco", "ade20k", *_MAPS, "bdd-panoptic", "scannet-panoptic", *_REFS, "captions")


def open_published(
    reader: str, root: str | Path, classes: str | None, split: str | None = None
) -> TruthSet:
    """Find and read a public data set; pixels are read as its items are loaded.

    Args:
        reader: One of `READERS`.
        root: The data set's folder, or the one above it.
        classes: The name of its class list, None without classes.
        split: Another split than the published figure's.

    Raises:
        ArgumentError: if there is no such reader or class list.
        DatasetError: if a file is missing or wrong; it names the place.
        MissingExtraError: if pycocotools is missing and masks are read with it.
    """
    if reader not in READERS:
        raise ArgumentError(
            f"There is no reader {quoted(reader)}", expected="one of " + ", ".join(READERS)
        )
    folder = Path(root)
    if not os.path.isdir(folder):
        raise DatasetError(f"{folder} is not a folder", expected="the data set as distributed")
    split = split or _SPLITS.get(reader, "val")
    if not split or Path(split).name != split:
        raise ArgumentError(f"'split' is {quoted(split)}", expected="a name such as val")
    if reader in _REFS:
        return _open_refs(reader, folder, split)
    if reader == "captions":
        return _open_captions(folder, split)
    if classes is None:
        raise ArgumentError(f"The reader {reader} needs classes", expected="a class list")
    listed = class_list(classes)
    if reader == "coco":
        return _open_coco(_inside(folder, "coco"), split, listed)
    if reader == "ade20k":
        return _open_ade20k(_inside(folder, _ADE20K), split, listed)
    if reader == "bdd-panoptic":
        return _open_bdd_panoptic(_inside(folder, "bdd100k"), split, listed)
    if reader == "scannet-panoptic":
        return _open_scannet_panoptic(_inside(folder, "scannet_frames_25k"), listed)
    read, name = _MAPS[reader]
    inside = _inside(folder, name)
    return TruthSet(read(inside, split, listed), listed, f"{inside}, {split}")


def _open_coco(root: Path, split: str, classes: ClassList) -> TruthSet:
    path = _file(root, f"annotations/panoptic_{split}.json", f"panoptic_{split}.json")
    instance_file = find_file(root, f"annotations/instances_{split}.json")
    instances, notes = _instances(instance_file, f"annotations/instances_{split}.json", classes)
    maps, images = (_folder(path, name) for name in (f"panoptic_{split}", split))
    items = read_panoptic(read_document(path), classes, maps, image_beside(images), instances)
    return TruthSet(items, classes, str(path), notes)


def _open_ade20k(root: Path, split: str, classes: ClassList) -> TruthSet:
    short = {"validation": "val", "training": "train"}.get(split, split)
    path = find_file(root, f"ade20k_panoptic_{short}.json")
    if path is None:
        items = read_ade20k_maps(root, split, classes)
        lacks = items[0].panoptic is None
        missing = ("no annotations_instance: neither PQ nor AP",) if lacks else ()
        return TruthSet(items, classes, f"{root}, {split}", missing)
    instance_file = find_file(root, f"ade20k_instance_{short}.json")
    instances, notes = _instances(instance_file, f"ade20k_instance_{short}.json", classes)
    maps, images = _folder(path, path.stem), root / "images" / split
    items = read_panoptic(
        read_document(path),
        classes,
        maps,
        image_beside(images),
        instances,
        ade20k_semantic(root, split, classes),
    )
    return TruthSet(items, classes, str(path), notes)


def _open_bdd_panoptic(root: Path, split: str, classes: ClassList) -> TruthSet:
    panoptic = root / "labels" / "pan_seg"
    path = _file(panoptic, f"meta/coco_{split}.json")
    images = image_beside(root / "images" / "10k" / split)
    maps = panoptic / "coco_pano" / split
    return TruthSet(read_panoptic(read_document(path), classes, maps, images), classes, str(path))


def _open_scannet_panoptic(root: Path, classes: ClassList) -> TruthSet:
    path = _file(root, "scannet_panoptic.json")

    def find(record: Document, stem: str) -> Path:
        scene, _, frame = stem.partition("__")
        name = str(PurePosixPath("images") / scene / "color" / f"{frame}.jpg")
        return record.file_inside(root, "file_name", name)

    items = read_panoptic(read_document(path), classes, root / "scannet_panoptic", find)
    return TruthSet(items, classes, str(path))


def _open_refs(name: str, folder: Path, split: str) -> TruthSet:
    folders = [folder / name, folder]
    files = [inside / refs for inside in folders for refs in _REFS[name]]
    path = next(filter(os.path.isfile, files), None)
    if path is not None:
        return TruthSet(read_refs(path, split), None, f"{path}, {split}")
    single = f"{name}_umd_{split}.json"
    path = find_file(folder, f"coco/annotations/{single}", f"annotations/{single}", single)
    if path is None:
        expected = f"{files[0].parent.name}/{files[0].name} and instances.json, or {single}"
        raise DatasetError(f"{folder} has no refs of {name}", expected=expected)
    return TruthSet(read_refer_json(path), None, str(path))


def _open_captions(folder: Path, split: str) -> TruthSet:
    places = ("", "annotations/", "coco/", "coco/annotations/")
    path = find_file(folder, *(f"{place}dataset_coco.json" for place in places))
    if path is not None:
        return TruthSet(read_karpathy(path, split), None, f"{path}, {split}")
    path = find_file(folder, *(f"{place}captions_{split}.json" for place in places))
    if path is None:
        raise DatasetError(
            f"{folder} has no captions of the split {quoted(split)}",
            expected="dataset_coco.json with Karpathy's splits (test), or captions_val2017.json "
            "(val2017)",
        )
    return TruthSet(read_coco_captions(path, split), None, str(path))


def _instances(
    path: Path | None, name: str, classes: ClassList
) -> tuple[InstancesOf | None, tuple[str, ...]]:
    if path is None:
        return None, (f"no {name}: no AP",)
    return read_instances(read_document(path), classes), ()


def _inside(folder: Path, name: str) -> Path:
    """Return a data set's folder, given itself or the one above it."""
    return folder / name if os.path.isdir(folder / name) else folder


def _file(root: Path, *names: str) -> Path:
    path = find_file(root, *names)
    if path is None:
        raise DatasetError(f"{root / names[0]} does not exist", expected="the data set unpacked")
    return path


def _folder(path: Path, name: str) -> Path:
    folders = folders_beside(path, name)
    if not folders:
        raise DatasetError(
            f"The folder {quoted(name)} of {path} was not found",
            expected="it beside the file or beside its folder",
        )
    return folders[0]
