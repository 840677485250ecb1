"""Data sets that are folders of images and of maps, one map an image, without an annotation file.

ADE20K (150 classes: `ADEChallengeData2016`; 847: `ADE20K_2021_17_01`), Cityscapes, BDD100K,
SUN RGB-D and ScanNet. Every map's values are looked up in a table of its data set, and one that the
table has not is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.class_lists import ClassList
from xdecoder_rt.datasets.image_files import read_grey_ids, read_rgb_png_ids, upright_map
from xdecoder_rt.datasets.items import areas_of
from xdecoder_rt.datasets.truth import (
    IGNORED,
    PanopticTruth,
    TrueInstance,
    TruthItem,
    class_map,
)
from xdecoder_rt.errors import DatasetError, quoted
from xdecoder_rt.masks.rle import encode_mask

Table: TypeAlias = NDArray[np.int32]
"""The class index of each value of a map; `IGNORED`, or `_UNKNOWN` for values that it has not."""

_UNKNOWN = -2
_VALUES = 1 << 16
_CITYSCAPES_LABELS = 34  # of labels.py, the last is "bicycle", 33
_NYU_CLASSES = 40
_ADE_PARTS = 3688  # names in the index of ADE20K_2021_17_01
_STEP = 1000  # of Cityscapes' instanceIds: label id x 1000 + number
_UNSCORED_16 = 0xFFFF


def read_ade20k_maps(root: Path, split: str, classes: ClassList) -> list[TruthItem]:
    """Read ADE20K's 150 classes as distributed, without a panoptic file.

    Segments and things are made of `annotations_instance` where that lies beside `annotations`;
    else the classes of the pixels alone are known.

    Args:
        root: The folder `ADEChallengeData2016`.
        split: "validation" or "training".
        classes: The 150 classes.

    Raises:
        DatasetError: if a folder or a file is missing.
    """
    instance_maps = root / "annotations_instance" / split
    loader = ade20k_semantic(root, split, classes)
    items = []
    for image in _files(root / "images" / split, "*.jpg"):
        load = loader(image.stem, image)
        if not instance_maps.is_dir():
            items.append(TruthItem(image, semantic=load))
            continue
        things = _existing(instance_maps / f"{image.stem}.png", image)
        segments = partial(_ade20k_segments, load, things, image, classes)
        items.append(TruthItem(image, segments, load, partial(things_of, segments, classes)))
    return items


def ade20k_semantic(
    root: Path, split: str, classes: ClassList
) -> Callable[[str, Path], Callable[[], NDArray[np.int32]]]:
    """Return what gives the loader of an image's classes, by its name and file.

    The maps of `annotations` have the classes from 1, 0 is unlabelled.
    """
    table = _table({0: IGNORED} | {index + 1: index for index in range(len(classes))})

    def loader(stem: str, image: Path) -> Callable[[], NDArray[np.int32]]:
        path = _existing(root / "annotations" / split / f"{stem}.png", image)
        return partial(_classes, path, image, table, read_grey_ids)

    return loader


def read_ade20k_full(root: Path, split: str, classes: ClassList) -> list[TruthItem]:
    """Read ADE20K's 847 classes, as distributed or as prepared for detectron2.

    Args:
        root: The folder `ADE20K_2021_17_01`.
        split: "validation" or "training".
        classes: The 847 classes.

    Raises:
        DatasetError: if a folder or a file is missing.
    """
    prepared = root / "annotations_detectron2" / split
    if prepared.is_dir():
        table = _table({_UNSCORED_16: IGNORED} | {index: index for index in range(len(classes))})
        return [
            _semantic_item(image, prepared / f"{image.stem}.tif", table)
            for image in _files(root / "images_detectron2" / split, "*.jpg")
        ]
    known = {id_: IGNORED for id_ in range(_ADE_PARTS + 1)}
    table = _table(known | classes.index_of)
    images = _files(root / "images" / "ADE" / split, "**/*.jpg")
    return [
        _semantic_item(image, image.with_name(f"{image.stem}_seg.png"), table, _ade_parts)
        for image in images
    ]


def read_cityscapes(root: Path, split: str, classes: ClassList) -> list[TruthItem]:
    """Read Cityscapes' fine annotations: `leftImg8bit` and the instanceIds of `gtFine`.

    Segments are those of createPanopticImgs.py: an id below 1000 of a class with instances is a
    crowd, and labels that are not evaluated are void.

    Args:
        root: The folder that has both.
        split: "val" or "train".
        classes: The 19 classes.

    Raises:
        DatasetError: if a folder or a file is missing.
    """
    items = []
    for image in _files(root / "leftImg8bit" / split, "*/*_leftImg8bit.png"):
        name = image.name.replace("_leftImg8bit.png", "_gtFine_instanceIds.png")
        path = _existing(root / "gtFine" / split / image.parent.name / name, image)
        segments = partial(_cityscapes_segments, path, image, classes)
        items.append(TruthItem(image, segments, partial(_classes_of, segments)))
    return items


def read_bdd(root: Path, split: str, classes: ClassList) -> list[TruthItem]:
    """Read BDD100K's semantic masks: `images/10k` and `labels/sem_seg/masks`, 255 is unlabelled.

    Args:
        root: The folder `bdd100k`.
        split: "val" or "train".
        classes: The 19 classes of Cityscapes.

    Raises:
        DatasetError: if a folder or a file is missing.
    """
    table = _table({255: IGNORED} | {index: index for index in range(len(classes))})
    masks = root / "labels" / "sem_seg" / "masks" / split
    return [
        _semantic_item(image, masks / f"{image.stem}.png", table)
        for image in _files(root / "images" / "10k" / split, "*.jpg")
    ]


def read_sun(root: Path, split: str, classes: ClassList) -> list[TruthItem]:
    """Read SUN RGB-D: `image` and `label37`, both with the folder of the split, 0 is unlabelled.

    Maps belong to images in the order of their names, as X-Decoder's registration pairs them.

    Args:
        root: The folder that has both.
        split: "test" or "train".
        classes: The 37 classes.

    Raises:
        DatasetError: if a folder is missing, or has another number of files.
    """
    table = _table({0: IGNORED} | {index + 1: index for index in range(len(classes))})
    images = _files(root / "image" / split, "*.jpg")
    maps = _files(root / "label37" / split, "*.png")
    if len(images) != len(maps):
        raise DatasetError(
            f"{root} has {len(images)} images and {len(maps)} maps of {quoted(split)}",
            expected="as many",
        )
    return [_semantic_item(*pair, table) for pair in zip(images, maps, strict=True)]


def read_scannet(root: Path, split: str, classes: ClassList) -> list[TruthItem]:
    """Read ScanNet's frames: `scene*/color` and `scene*/label`, ids of NYU's 40 classes.

    Args:
        root: The folder `scannet_frames_25k`, with the list `scannetv2_<split>.txt` in it or beside
            it.
        split: "val" or "train".
        classes: The 20 or 40 classes; others are not scored.

    Raises:
        DatasetError: if a folder or a file is missing.
    """
    table = _table({id_: IGNORED for id_ in range(_NYU_CLASSES + 1)} | classes.index_of)
    listed = [folder / f"scannetv2_{split}.txt" for folder in (root, root.parent)]
    lists = [path for path in listed if path.is_file()]
    if not lists:
        raise DatasetError(f"{listed[0]} does not exist", expected="the scenes of the split")
    items = []
    for scene in filter(None, map(str.strip, lists[0].read_text(encoding="utf-8").splitlines())):
        if Path(scene).name != scene:
            raise DatasetError(f"{lists[0]} has {quoted(scene)}", expected="a name of a scene")
        items += [
            _semantic_item(image, root / scene / "label" / f"{image.stem}.png", table)
            for image in _files(root / scene / "color", "*.jpg")
        ]
    return items


def things_of(segments: Callable[[], PanopticTruth], classes: ClassList) -> list[TrueInstance]:
    """Return the things among segments that do not overlap, as instances."""
    truth = segments()
    things = [id_ for id_, index in truth.classes.items() if not classes.classes[index].stuff]
    return [
        TrueInstance(
            truth.classes[id_],
            {**encode_mask(truth.ids == id_)},
            float(truth.areas[id_]),
            id_ in truth.crowds,
        )
        for id_ in things
    ]


def _ade20k_segments(
    load: Callable[[], NDArray[np.int32]], things: Path, image: Path, classes: ClassList
) -> PanopticTruth:
    """Paste the things of an instance map over the stuff of the semantic one.

    Segments keep the area that they had before things covered them, as in the files that are
    prepared of these, and so are scored as those are.
    """
    semantic = load()
    # Red has the thing's class from 1, in the order of the classes that are things; green its id.
    colours = upright_map(read_rgb_png_ids(things), str(things), image, "upright")
    kinds, numbers = colours & 0xFF, colours >> 8 & 0xFF
    of_kind = [index for index, class_ in enumerate(classes.classes) if not class_.stuff]
    ids = np.zeros(semantic.shape, np.int32)
    class_of: dict[int, int] = {}
    areas: dict[int, int] = {}
    for index in np.unique(semantic):
        if index != IGNORED and classes.classes[index].stuff:
            id_ = len(class_of) + 1
            mask = semantic == index
            ids[mask], class_of[id_], areas[id_] = id_, int(index), int(mask.sum())
    for number in np.unique(numbers):
        if number == 0:
            continue
        mask = numbers == number
        kind = np.unique(kinds[mask])
        if len(kind) > 1 or not 1 <= kind[0] <= len(of_kind):
            raise DatasetError(
                f"{things}: the instance {number} has the classes {quoted(kind.tolist())}",
                expected=f"one class from 1 to {len(of_kind)} in red, the instance in green",
            )
        id_ = len(class_of) + 1
        ids[mask], class_of[id_], areas[id_] = id_, of_kind[kind[0] - 1], int(mask.sum())
    return PanopticTruth(ids, class_of, areas)


def _cityscapes_segments(path: Path, image: Path, classes: ClassList) -> PanopticTruth:
    ids = upright_map(read_grey_ids(path), str(path), image, "upright")
    areas = areas_of(ids)
    class_of: dict[int, int] = {}
    crowds: set[int] = set()
    for id_ in areas:
        label = id_ if id_ < _STEP else id_ // _STEP
        if label >= _CITYSCAPES_LABELS:
            raise DatasetError(
                f"{path} has the value {id_}",
                expected=f"a label id below {_CITYSCAPES_LABELS}, or one times 1000 and a number",
            )
        index = classes.index_of.get(label)
        if index is None:
            ids[ids == id_] = 0
            continue
        class_of[id_] = index
        if id_ < _STEP and not classes.classes[index].stuff:
            crowds.add(id_)
    return PanopticTruth(ids, class_of, {id_: areas[id_] for id_ in class_of}, frozenset(crowds))


def _classes_of(segments: Callable[[], PanopticTruth]) -> NDArray[np.int32]:
    return class_map(segments())


def _semantic_item(
    image: Path,
    path: Path,
    table: Table,
    read: Callable[[Path], NDArray[np.int32]] = read_grey_ids,
) -> TruthItem:
    return TruthItem(image, semantic=partial(_classes, _existing(path, image), image, table, read))


def _classes(
    path: Path, image: Path, table: Table, read: Callable[[Path], NDArray[np.int32]]
) -> NDArray[np.int32]:
    values = upright_map(read(path), str(path), image, "upright")
    indices = table[values]
    if (indices == _UNKNOWN).any():
        unknown = np.unique(values[indices == _UNKNOWN])[:10].tolist()
        raise DatasetError(
            f"{path} has values that are no class: {quoted(unknown)}",
            expected=_ranges(np.flatnonzero(table != _UNKNOWN)),
        )
    return indices


def _ade_parts(path: Path) -> NDArray[np.int32]:
    """Decode a map of the whole ADE20K: the class is R / 10 * 256 + G."""
    colours = read_rgb_png_ids(path)
    return (colours & 0xFF) // 10 * 256 + (colours >> 8 & 0xFF)


def _table(index_of: dict[int, int]) -> Table:
    table = np.full(_VALUES, _UNKNOWN, np.int32)
    table[list(index_of)] = list(index_of.values())
    return table


def _ranges(values: NDArray[np.intp]) -> str:
    """Return rising values as a person writes them: "0 to 18, 255"."""
    ends = np.flatnonzero(np.diff(values) > 1)
    firsts, lasts = values[[0, *(ends + 1)]], values[[*ends, -1]]
    return ", ".join(
        f"{first} to {last}" if last > first else str(first)
        for first, last in zip(firsts, lasts, strict=True)
    )


def _files(folder: Path, pattern: str) -> Sequence[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder", expected="the data set as distributed")
    paths: Iterable[Path] = folder.glob(pattern)
    found = sorted(path for path in paths if path.is_file())
    if not found:
        raise DatasetError(f"{folder} has no files {quoted(pattern)}", expected="at least one")
    return found


def _existing(path: Path, image: Path) -> Path:
    if not path.is_file():
        raise DatasetError(f"{path} does not exist, the map of {image}")
    return path
