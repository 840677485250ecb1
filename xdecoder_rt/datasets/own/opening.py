"""Which kind of own data a path names."""

from __future__ import annotations

import os
from pathlib import Path

from xdecoder_rt.datasets.documents import Document, read_document
from xdecoder_rt.datasets.image_files import Orientation
from xdecoder_rt.datasets.items import PanopticDataset, Unlabelled
from xdecoder_rt.datasets.own.coco import read_coco_instances
from xdecoder_rt.datasets.own.coloured import LABEL_MAP, read_coloured
from xdecoder_rt.datasets.own.labelme import is_labelme, labelme_files, read_labelme
from xdecoder_rt.datasets.own.yolo import read_yolo
from xdecoder_rt.errors import DatasetError, quoted

__all__ = ["YAML_SUFFIXES", "is_own_folder", "open_own_file", "open_own_folder"]

YAML_SUFFIXES = (".yaml", ".yml")
_YAML = "data.yaml"
_COCO = ("_annotations.coco.json", "instances.json")


def is_own_folder(folder: Path) -> bool:
    """Whether a folder holds data as a labelling tool writes it."""
    names = (_YAML, LABEL_MAP, *_COCO)
    if any(os.path.isfile(folder / name) for name in names):
        return True
    files = labelme_files(folder)
    return bool(files) and is_labelme(files[0])


def open_own_folder(
    folder: Path,
    split: str | None = None,
    orientation: Orientation = "upright",
    unlabelled: Unlabelled = "unknown",
) -> PanopticDataset:
    """Open a folder for which :func:`is_own_folder` holds.

    Args:
        folder: with ``data.yaml`` (YOLO), ``labelmap.txt`` (masks), ``_annotations.coco.json`` or
            ``instances.json`` (COCO), or labelme's files.
        split: of YOLO alone: a key of its ``data.yaml``; None for ``train``.
        orientation: What outlines and masks were drawn on.
        unlabelled: What pixels of no outline show; masks say that themselves.

    Raises:
        DatasetError: it is wrong, or has no such split.
    """
    if os.path.isfile(folder / _YAML):
        return read_yolo(folder / _YAML, split or "train", orientation, unlabelled)
    if split is not None:
        raise DatasetError(
            f"{quoted(str(folder), 200)} has no split {quoted(split)}",
            expected="a split of YOLO's data.yaml",
            fix="leave '#' and what follows it out",
        )
    if os.path.isfile(folder / LABEL_MAP):
        return read_coloured(folder, orientation)
    for name in _COCO:
        if os.path.isfile(folder / name):
            path = folder / name
            return read_coco_instances(path, read_document(path), orientation, unlabelled)
    return read_labelme(
        [path for path in labelme_files(folder) if is_labelme(path)], orientation, unlabelled
    )


def open_own_file(
    path: Path,
    document: Document,
    orientation: Orientation = "upright",
    unlabelled: Unlabelled = "unknown",
) -> PanopticDataset | None:
    """Open a JSON file that has been read, if it is COCO's instances or labelme's; else None."""
    if "shapes" in document:
        return read_labelme([path], orientation, unlabelled)
    annotations = document.value("annotations") if "annotations" in document else None
    if not isinstance(annotations, list) or "categories" not in document:
        return None
    first = annotations[0] if annotations else {"segmentation": []}
    if isinstance(first, dict) and ("segmentation" in first or "bbox" in first):
        return read_coco_instances(path, document, orientation, unlabelled)
    return None
