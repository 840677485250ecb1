"""RefCOCO's expressions and COCO's captions as X-Decoder was evaluated on them.

Of every annotation that a split refers to, one expression is asked: the first sentence of its last
ref. What it means is the annotation's own mask, whatever lies over it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.coco_captions import read_captions
from xdecoder_rt.datasets.coco_images import CocoImages
from xdecoder_rt.datasets.documents import (
    Document,
    LongText,
    NonEmptyText,
    read_document,
    read_value,
    squeezed,
)
from xdecoder_rt.datasets.image_files import check_map_size
from xdecoder_rt.datasets.instances import read_instance
from xdecoder_rt.datasets.panoptic_files import compressed
from xdecoder_rt.datasets.truth import TruthItem
from xdecoder_rt.errors import DatasetError, quoted, require
from xdecoder_rt.json_reader import Rule
from xdecoder_rt.masks.rle import RunLengths, decode_mask

_Side = Annotated[int, Rule(low=1)]
_ANY_CLASS = ""


@dataclass(frozen=True)
class _Image:
    file_name: NonEmptyText
    height: _Side
    width: _Side


@dataclass(frozen=True)
class _Ref:
    split: NonEmptyText


@dataclass(frozen=True)
class _Sentence:
    sent: LongText
    raw: LongText | None = None


@dataclass(frozen=True)
class _KarpathyImage:
    filepath: NonEmptyText
    filename: NonEmptyText
    cocoid: int
    split: NonEmptyText


@dataclass(frozen=True)
class _KarpathySentence:
    raw: LongText


def read_refs(path: Path, split: str) -> list[TruthItem]:
    """Read a file of refs as `refer` distributes it, with `instances.json` beside it.

    Args:
        path: ``refs(umd).p`` or the like.
        split: ``val``, ``testA``, ...

    Raises:
        DatasetError: if a file is missing or wrong, or no ref is of the split.
        MissingExtraError: if pycocotools is not installed.
    """
    refs = read_value(path)
    if not isinstance(refs, list):
        raise DatasetError(f"{path} is {type(refs).__name__}", expected="a list of refs")
    document = read_document(path.parent / "instances.json")
    images = document.by_id("images", "image")
    annotations = document.by_id("annotations", "annotation")
    texts: dict[int, str] = {}  # by annotation, in the order of their first refs
    splits = set()
    for number, value in enumerate(refs):
        ref = Document(value, f"{path}, ref {number}")
        splits.add(name := ref.read(_Ref).split)
        if name != split:
            continue
        id_ = ref.reference("ann_id", annotations, "annotation")
        if annotations[id_].integer("image_id") != ref.integer("image_id"):
            raise ref.error(f"'ann_id' is {id_}, an annotation of another image")
        texts[id_] = _first_sentence(ref)
    if not texts:
        raise DatasetError(
            f"{path} has no refs of the split {quoted(split)}",
            expected=f"one of {quoted(sorted(splits))}",
        )
    return _referring_items(path, images, {id_: annotations[id_] for id_ in texts}, texts)


def read_refer_json(path: Path) -> list[TruthItem]:
    """Read a split that X-Decoder's authors made one file of, ``refcocog_umd_val.json``.

    Args:
        path: Its annotations have their sentences.

    Raises:
        DatasetError: if it is missing or wrong.
        MissingExtraError: if pycocotools is not installed.
    """
    document = read_document(path)
    images = document.by_id("images", "image")
    annotations = document.by_id("annotations", "annotation", "ann_id")
    if not annotations:
        raise document.error("'annotations' is empty", expected="at least one annotation")
    texts = {id_: _first_sentence(record) for id_, record in annotations.items()}
    return _referring_items(path, images, annotations, texts)


def read_karpathy(path: Path, split: str) -> list[TruthItem]:
    """Read the captions of one of Karpathy's splits, ``dataset_coco.json``.

    Args:
        path: The file; the images lie in ``val2014`` and ``train2014`` beside it or its folder.
        split: ``test``, ``val``, ``train`` or ``restval``.

    Raises:
        DatasetError: if it is missing or wrong, or an image is missing.
    """
    document = read_document(path)
    folders: dict[str, CocoImages] = {}
    items = []
    for record in document.documents("images", "image"):
        image = record.read(_KarpathyImage)
        if image.split != split:
            continue
        if image.filepath not in folders:
            folders[image.filepath] = CocoImages(path, image.filepath)
        sentences = record.documents("sentences", "sentence")
        captions = [squeezed(sentence.read(_KarpathySentence).raw) for sentence in sentences]
        found = folders[image.filepath].find(record, image.cocoid, image.filename)
        if captions := [caption for caption in captions if caption]:
            items.append(TruthItem(found, captions=tuple(captions)))
    if not items:
        raise document.error(f"no image of the split {quoted(split)} has a caption")
    return items


def read_coco_captions(path: Path, split: str) -> list[TruthItem]:
    """Read the captioned images of ``captions_<split>.json``.

    Raises:
        DatasetError: if it is missing or wrong, or an image is missing.
    """
    captions = read_captions(read_document(path), CocoImages(path, split))
    return [TruthItem(item.image, captions=item.captions) for item in captions.items]


def _first_sentence(record: Document) -> str:
    sentences = record.documents("sentences", "sentence")
    if not sentences:
        raise record.error("'sentences' is empty", expected="at least one sentence")
    sentence = sentences[0].read(_Sentence)
    text = squeezed(sentence.sent if sentence.raw is None else sentence.raw).lower()
    if not text:
        raise sentences[0].error("the sentence has no word")
    return text


def _referring_items(
    path: Path,
    images: dict[int, Document],
    annotations: Mapping[int, Document],
    texts: Mapping[int, str],
) -> list[TruthItem]:
    """Group annotations by image, in their order, and find the images."""
    require("pycocotools.mask", "eval")
    ids_of: dict[int, list[int]] = {}
    for id_, record in annotations.items():
        ids_of.setdefault(record.reference("image_id", images, "image"), []).append(id_)
    folders = CocoImages(path, "train2014")
    items = []
    for image_id, ids in ids_of.items():
        image = images[image_id].read(_Image)
        found = folders.find(images[image_id], image_id, image.file_name)
        records = [annotations[id_] for id_ in ids]
        load = partial(_load_masks, found, (image.height, image.width), records)
        items.append(
            TruthItem(
                found,
                expressions=tuple(texts[id_] for id_ in ids),
                expression_masks=load,
            )
        )
    return items


def _load_masks(
    image: Path, size: tuple[int, int], records: Sequence[Document]
) -> list[NDArray[np.bool_]]:
    check_map_size(size, "The annotated size", image, "upright")
    masks = []
    for record in records:
        category = record.integer("category_id")
        runs = compressed(read_instance(record, 0, {category: _ANY_CLASS}, size), size)
        masks.append(decode_mask(RunLengths(size=list(size), counts=runs["counts"])))
    return masks


def find_file(root: Path, *names: str) -> Path | None:
    """Return the first of some files that is in a folder, or None."""
    return next((root / name for name in names if os.path.isfile(root / name)), None)
