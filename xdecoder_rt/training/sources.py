"""Opens data sets by what a user calls them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from xdecoder_rt.datasets.coco_captions import read_captions
from xdecoder_rt.datasets.coco_images import IMAGES, CocoImages, folders_beside
from xdecoder_rt.datasets.coco_panoptic import CocoPanoptic
from xdecoder_rt.datasets.documents import (
    PICKLE_SUFFIXES,
    Document,
    NonEmptyText,
    read_document,
    read_value,
)
from xdecoder_rt.datasets.image_files import Orientation
from xdecoder_rt.datasets.items import PanopticDataset, Unlabelled
from xdecoder_rt.datasets.join import join_by_image
from xdecoder_rt.datasets.labelled_folder import ANNOTATIONS, LabelledFolder
from xdecoder_rt.datasets.own.opening import (
    YAML_SUFFIXES,
    is_own_folder,
    open_own_file,
    open_own_folder,
)
from xdecoder_rt.datasets.own.yolo import read_yolo
from xdecoder_rt.datasets.referring import read_referring
from xdecoder_rt.datasets.vqa import find_answers, read_vqa
from xdecoder_rt.errors import DatasetError, quoted
from xdecoder_rt.scenes.bank.composed import ComposedScenes
from xdecoder_rt.scenes.bank.store import BANK_INDEX

_STORED, _COMPLETE = "#stored", "#nothing"
_KINDS = (
    "a labelled folder, a bank of pictures, YOLO-seg's data.yaml, labelme's files, masks with a "
    "labelmap.txt, or a file of COCO panoptic labels, COCO instances, COCO captions, VQA questions "
    "or RefCOCO refs"
)


@dataclass(frozen=True)
class _Questions:
    """The images that a file of VQA's questions is about."""

    data_subtype: NonEmptyText


def open_dataset(path: Path) -> PanopticDataset:
    """Open a data set; what a file holds tells which kind it is.

    - A labelled folder.
    - A bank of pictures, from which scenes are composed as they are needed.
    - ``coco/annotations/panoptic_train2017.json``: the maps are in ``panoptic_train2017/`` beside
      the file or beside its folder, and the images in ``train2017/`` at either place.
    - ``train/_annotations.coco.json`` or ``annotations/instances_train2017.json``: COCO instances;
      ``yolo/data.yaml``: YOLO-seg, ``yolo/data.yaml#val`` for another split than ``train``; a
      folder of labelme's files; a folder with ``labelmap.txt``, masks and images. A folder that
      holds one of these names it, too.
    - ``coco/annotations/captions_train2017.json``: COCO captions.
    - ``v2_OpenEnded_mscoco_train2014_questions.json``: VQA; the answers are beside it.
    - ``refcoco/refs(unc).p``, a pickle that is read as data, or the same as JSON, with
      ``instances.json`` beside it; ``refs(unc).p#val`` is another split than ``train``.
    - Any of these files with ``#stored`` at its end: its maps and outlines were drawn on the pixels
      as they are stored, not on the image as its EXIF orientation turns it; with ``#nothing``:
      unlabelled pixels show nothing of its categories. A labelled folder says both itself, in
      ``annotations.json``.
    - Several of these, with commas between: one item for each image, with all that they say of it.

    :class:`~xdecoder_rt.datasets.coco_images.CocoImages` says where images are sought.
    Pixels are checked as they are read, not now.

    Args:
        path: as above. A comma or ``#`` in the name of a file that exists is part of the name.

    Raises:
        DatasetError: there is no such data set, or its annotations are wrong.
    """
    names = str(path).split(",")
    if os.path.exists(path) or len(names) == 1:
        return _open_one(path)
    return join_by_image([_open_one(Path(name)) for name in names])


def holds_pictures_alone(path: Path) -> bool:
    """Whether a path names pictures without labels: a folder, a list, a video or an image."""
    if os.path.isdir(path):
        return not _is_ours(path) and not is_own_folder(path)
    return os.path.isfile(path) and path.suffix.lower() not in (
        ".json",
        *YAML_SUFFIXES,
        *PICKLE_SUFFIXES,
    )


def _open_one(path: Path) -> PanopticDataset:
    split = None
    marks = set()
    while not os.path.exists(path) and path.name.endswith((_STORED, _COMPLETE)):
        name, _, mark = path.name.rpartition("#")
        marks.add(f"#{mark}")
        path = path.parent / name
    orientation: Orientation = "stored" if _STORED in marks else "upright"
    unlabelled: Unlabelled = "nothing" if _COMPLETE in marks else "unknown"
    if not os.path.exists(path) and "#" in path.name:
        name, _, split = path.name.rpartition("#")
        path = path.parent / name
    if os.path.isfile(path) and path.suffix in YAML_SUFFIXES:
        return read_yolo(path, split or "train", orientation, unlabelled)
    if os.path.isdir(path) and not _is_ours(path) and is_own_folder(path):
        return open_own_folder(path, split, orientation, unlabelled)
    value = None if os.path.isdir(path) else _read(path)
    if isinstance(value, list):
        instances = read_document(path.parent / "instances.json")
        images = CocoImages(path, "train2014")
        return read_referring(
            value, str(path), instances, images, split or "train", orientation, unlabelled
        )
    if split is not None:
        raise DatasetError(
            f"{quoted(str(path), 200)} has no split {quoted(split)}",
            expected="a split of RefCOCO refs or of YOLO's data.yaml alone",
            fix="leave '#' and what follows it out",
        )
    if marks and os.path.isdir(path):
        raise DatasetError(
            f"{quoted(str(path), 200)} is a folder, and {min(marks)!r} is said of files alone",
            fix='declare "orientation": "stored" or "unlabelled": "nothing" in its '
            "annotations.json",
        )
    if os.path.isfile(path / BANK_INDEX):
        return ComposedScenes(path)
    if os.path.isdir(path):
        return LabelledFolder.open(path, verify=False)
    return _open_document(path, Document(value, str(path)), orientation, unlabelled)


def _is_ours(folder: Path) -> bool:
    return any(os.path.isfile(folder / name) for name in (ANNOTATIONS, BANK_INDEX))


def _read(path: Path) -> object:
    if not os.path.isfile(path) or path.suffix not in (".json", *PICKLE_SUFFIXES):
        raise DatasetError(f"There is no data set at {quoted(str(path), 200)}", expected=_KINDS)
    return read_value(path)


def _folder_of(kind: str, path: Path, *names: str) -> Path:
    """Find a folder of a COCO panoptic file by its name, or by another where there is none."""
    folders = [folder for name in names for folder in folders_beside(path, name)]
    if not folders:
        raise DatasetError(
            f"The {kind} of {quoted(str(path), 200)} were not found",
            expected=f"a folder {names[0]}/ beside the file or beside its folder",
        )
    return folders[0]


def _open_document(
    path: Path, document: Document, orientation: Orientation, unlabelled: Unlabelled
) -> PanopticDataset:
    if "questions" in document:
        asked = CocoImages(path, document.read(_Questions).data_subtype)
        return read_vqa(document, read_document(find_answers(path)), asked)
    if (own := open_own_file(path, document, orientation, unlabelled)) is not None:
        return own
    annotations = document.value("annotations")
    if not isinstance(annotations, list) or not annotations:
        raise document.error("'annotations' is not a list of at least one annotation")
    first = Document(annotations[0], f"{path}, annotation 0")
    if "segments_info" in first:
        maps = _folder_of("maps", path, path.stem)
        split = path.stem.removeprefix("panoptic_")
        names = (IMAGES,) if split == path.stem else (split, IMAGES)
        images = _folder_of("images", path, *names)
        return CocoPanoptic.parse(document, maps, images, orientation, unlabelled)
    if "caption" in first:
        return read_captions(document, CocoImages(path, path.stem.removeprefix("captions_")))
    fix = None
    if "answers" in first:
        fix = "name the file of VQA's questions; its answers are found beside it"
    raise first.error("it is of no kind that training reads", expected=_KINDS, fix=fix)
