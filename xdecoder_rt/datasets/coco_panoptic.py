"""COCO's panoptic files: `panoptic_*.json`, a folder of PNGs, and a folder of images.

The format is described at https://cocodataset.org/#format-data, "Panoptic Segmentation". Category
names are kept as they are ("sky-other-merged").
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.coco_images import CocoImage
from xdecoder_rt.datasets.documents import Document, Flag, NonEmptyText, read_document
from xdecoder_rt.datasets.image_files import (
    Orientation,
    check_orientation,
    read_rgb,
    read_rgb_png_ids,
    upright_map,
)
from xdecoder_rt.datasets.items import (
    AnsweredQuestion,
    Phrase,
    Segment,
    Unlabelled,
    check_ids,
    check_unlabelled,
    check_vocabulary,
    declared,
    repeated,
)
from xdecoder_rt.datasets.labelled_folder import (
    MAX_SEGMENT_ID,
    LabelledFolder,
    LabelledFolderWriter,
)
from xdecoder_rt.errors import ArgumentError, DatasetError, quoted
from xdecoder_rt.json_reader import Rule

_MAX_COCO_ID = (1 << 24) - 1


@dataclass(frozen=True)
class _Category:
    name: NonEmptyText
    isthing: Flag


@dataclass(frozen=True)
class _Segment:
    id: Annotated[int, Rule(low=1, high=_MAX_COCO_ID)]
    category_id: int
    area: int
    iscrowd: Flag = False


@dataclass(frozen=True)
class _Annotation:
    """An image's map and its segments."""

    file_name: NonEmptyText
    segments_info: tuple[_Segment, ...]


@dataclass(frozen=True)
class CocoItem:
    """One image of a COCO panoptic data set; a `PanopticItem`.

    Attributes:
        image: The image file.
        panoptic: The PNG whose colours are segment ids.
        segments: The segments with COCO's ids, areas and crowd marks, in the file's order.
        phrases: Always empty, as are the others: COCO's panoptic files have no texts.
        captions: Always empty.
        questions: Always empty.
        orientation: What the map was drawn on.
        unlabelled: What unlabelled pixels show.
    """

    image: Path
    panoptic: Path
    segments: tuple[Segment, ...]
    phrases: tuple[Phrase, ...] = ()
    captions: tuple[str, ...] = ()
    questions: tuple[AnsweredQuestion, ...] = ()
    orientation: Orientation = "upright"
    unlabelled: Unlabelled = "unknown"

    def load_image(self) -> NDArray[np.uint8]:
        """Decode the image.

        Returns:
            H x W x 3 uint8 RGB, upright.

        Raises:
            DatasetError: if the file is missing or broken.
        """
        return read_rgb(self.image)

    def load_panoptic(self) -> NDArray[np.integer[Any]]:
        """Decode the map and check it against the segments and the image's size.

        Returns:
            H x W int32 segment ids (R + 256 G + 65536 B), 0 = unlabelled; crowds are included.
            -1 instead of 0 where that is declared to mean nothing of the categories.

        Raises:
            DatasetError: if the PNG is missing, broken or not RGB, its size is not the image's,
                or its ids are not those of `segments`.
        """
        ids = read_rgb_png_ids(self.panoptic)
        ids = upright_map(ids, str(self.panoptic), self.image, self.orientation)
        check_ids(ids, self.segments, str(self.panoptic))
        return declared(ids, self.unlabelled)


class CocoPanoptic:
    """A COCO panoptic data set; a `PanopticDataset`.

    Attributes:
        vocabulary: The names of the categories, in the file's order.
        stuff: Those with `isthing` 0.
        items: The annotated images, in the file's order.
    """

    def __init__(
        self, vocabulary: tuple[str, ...], stuff: frozenset[str], items: tuple[CocoItem, ...]
    ) -> None:
        self.vocabulary = vocabulary
        self.stuff = stuff
        self.items = items

    def __len__(self) -> int:
        """The number of images."""
        return len(self.items)

    @classmethod
    def open(
        cls,
        annotations: str | Path,
        panoptic_dir: str | Path,
        image_dir: str | Path,
        *,
        orientation: Orientation = "upright",
        unlabelled: Unlabelled = "unknown",
    ) -> CocoPanoptic:
        """Read the annotation file and check it; pixels are checked as items are loaded.

        Args:
            annotations: `panoptic_train2017.json` or the like.
            panoptic_dir: The folder of PNGs (`panoptic_train2017/`).
            image_dir: The folder of images (`train2017/`).
            orientation: What the maps were drawn on: "upright" images, as viewers show them, or
                their pixels as "stored"; the two differ where images have an EXIF orientation.
            unlabelled: What unlabelled pixels show: "unknown", or "nothing" of the categories.

        Raises:
            ArgumentError: if `orientation` or `unlabelled` is something else.
            DatasetError: if a file is missing, or a field is missing or wrong; it names the place.
        """
        document = read_document(Path(annotations))
        return cls.parse(document, Path(panoptic_dir), Path(image_dir), orientation, unlabelled)

    @classmethod
    def parse(
        cls,
        document: Document,
        panoptic_dir: Path,
        image_dir: Path,
        orientation: Orientation = "upright",
        unlabelled: Unlabelled = "unknown",
    ) -> CocoPanoptic:
        """Check an annotation file that has been read; otherwise as `open`."""
        check_orientation(orientation)
        check_unlabelled(unlabelled)
        for folder in (panoptic_dir, image_dir):
            if not os.path.isdir(folder):
                raise DatasetError(f"{folder} is not a folder")
        categories = {
            id_: category.read(_Category)
            for id_, category in document.by_id("categories", "category").items()
        }
        vocabulary, stuff = check_vocabulary(
            [category.name for category in categories.values()],
            [category.name for category in categories.values() if not category.isthing],
            document.where,
        )
        images = document.by_id("images", "image")
        items = []
        for record in document.documents("annotations", "annotation"):
            image_id = record.reference("image_id", images, "image")
            annotation = record.read(_Annotation)
            image = images[image_id]
            items.append(
                CocoItem(
                    image.file_inside(image_dir, "file_name", image.read(CocoImage).file_name),
                    record.file_inside(panoptic_dir, "file_name", annotation.file_name),
                    _named_segments(record, annotation.segments_info, categories),
                    orientation=orientation,
                    unlabelled=unlabelled,
                )
            )
        if not items:
            raise document.error("'annotations' is empty", expected="at least one image")
        return cls(vocabulary, stuff, tuple(items))


def convert_coco_panoptic(
    annotations: str | Path,
    panoptic_dir: str | Path,
    image_dir: str | Path,
    out: str | Path,
    *,
    limit: int | None = None,
    orientation: Orientation = "upright",
    unlabelled: Unlabelled = "unknown",
) -> LabelledFolder:
    """Write a COCO panoptic data set as a labelled folder.

    Images are copied byte for byte, those that an EXIF tag turns are written upright instead. Ids
    are renumbered from 1 in the order of the segments. A labelled folder knows no crowds: their
    pixels become unlabelled, so of a data set with crowds it cannot declare that this means
    nothing.

    Args:
        annotations: `panoptic_val2017.json` or the like.
        panoptic_dir: The folder of PNGs.
        image_dir: The folder of images.
        out: The labelled folder to write.
        limit: Take only so many images, from the first; None takes all.
        orientation: What the maps were drawn on, as for `CocoPanoptic.open`.
        unlabelled: What unlabelled pixels show, likewise; the folder declares it.

    Returns:
        The folder written.

    Raises:
        DatasetError: if the data set is broken, an image has more than 255 segments, or crowds
            though unlabelled is to mean nothing, or the folder cannot be written; nothing is left
            of it then.
        ArgumentError: if `limit` is less than 1, or another argument is none of its values.
    """
    if limit is not None and limit < 1:
        raise ArgumentError(f"'limit' is {limit}", expected="at least 1, or None")
    dataset = CocoPanoptic.open(annotations, panoptic_dir, image_dir, orientation=orientation)
    check_unlabelled(unlabelled)
    with LabelledFolderWriter(
        out, dataset.vocabulary, dataset.stuff, unlabelled=unlabelled
    ) as writer:
        for item in dataset.items[:limit]:
            segments = [segment for segment in item.segments if not segment.iscrowd]
            if unlabelled == "nothing" and len(segments) < len(item.segments):
                raise DatasetError(
                    f"{item.panoptic} has crowds, which become unlabelled in a labelled folder",
                    fix="leave unlabelled='nothing' out, or read COCO's files as they are",
                )
            if len(segments) > MAX_SEGMENT_ID:
                raise DatasetError(
                    f"{item.panoptic} has {len(segments)} segments",
                    expected=f"at most {MAX_SEGMENT_ID}, which fit a labelled folder's 8-bit map",
                )
            coco_ids = item.load_panoptic()
            number_of = np.zeros(int(coco_ids.max(initial=0)) + 1, np.uint8)
            number_of[[segment.id for segment in segments]] = range(1, len(segments) + 1)
            ids = number_of[coco_ids]
            labels = {n: segment.label for n, segment in enumerate(segments, start=1)}
            writer.add(item.image, ids, labels)
    return LabelledFolder.open(out, verify=False)


def _named_segments(
    record: Document, listed: Sequence[_Segment], categories: Mapping[int, _Category]
) -> tuple[Segment, ...]:
    """Return the segments of an annotation, under the names of their categories."""
    segments = []
    for index, segment in enumerate(listed):
        category = categories.get(segment.category_id)
        if category is None:
            raise record.error(
                f"'category_id' is {segment.category_id}, which no category has",
                at=f"segment {index}",
                expected=f"one of {quoted(sorted(categories))}",
            )
        segments.append(
            Segment(segment.id, category.name, category.isthing, segment.area, segment.iscrowd)
        )
    if (twice := repeated([segment.id for segment in segments])) is not None:
        raise record.error(f"two segments have the id {twice}", expected="distinct ids")
    return tuple(segments)
