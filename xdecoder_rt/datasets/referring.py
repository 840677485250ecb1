"""RefCOCO, RefCOCO+ and RefCOCOg as `refer` distributes them.

A data set is a list of refs (``refs(unc).p``, ``refs(google).p`` or ``refs(umd).p``, pickles, or
the same list as JSON), each of which says in several sentences which instance is meant, and
``instances.json`` in COCO's format. The images are of COCO's train2014
(https://github.com/lichengunc/refer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.coco_images import CocoImage, CocoImages
from xdecoder_rt.datasets.documents import Document, LongText, NonEmptyText, squeezed
from xdecoder_rt.datasets.image_files import (
    Orientation,
    check_map_size,
    check_orientation,
    read_rgb,
)
from xdecoder_rt.datasets.instances import Instance, paint_instances, read_instance
from xdecoder_rt.datasets.items import (
    AnsweredQuestion,
    Phrase,
    Segment,
    Unlabelled,
    areas_of,
    check_unlabelled,
    check_vocabulary,
    declared,
)
from xdecoder_rt.datasets.text_items import ItemSet
from xdecoder_rt.errors import DatasetError, quoted
from xdecoder_rt.files.image_file import turned


@dataclass(frozen=True)
class _Category:
    name: NonEmptyText


@dataclass(frozen=True)
class _SizedImage(CocoImage):
    height: int
    width: int


@dataclass(frozen=True)
class _Ref:
    split: NonEmptyText


@dataclass(frozen=True)
class _Sentence:
    sent: LongText


class ReferringItem:
    """One image with its instances and the expressions that refer to them; a `PanopticItem`.

    Outlines are rasterised whenever the map is loaded, and that alone can tell which instances
    others leave visible: `segments` and `phrases` therefore rasterise once, when first asked for.

    Args:
        image: The image file.
        size: Its height and width according to the annotations.
        instances: All instances of the image; the first has the id 1.
        expressions: Expressions, each of the id of one instance.
        orientation: What the instances were drawn on.
        unlabelled: What pixels of no instance show.
        stuff: Labels that are stuff; all others are things.

    Attributes:
        image: The image file.
        captions: Always empty.
        questions: Always empty.
    """

    def __init__(
        self,
        image: Path,
        size: tuple[int, int],
        instances: tuple[Instance, ...],
        expressions: tuple[Phrase, ...],
        orientation: Orientation = "upright",
        unlabelled: Unlabelled = "unknown",
        stuff: frozenset[str] = frozenset(),
    ) -> None:
        self.image = image
        self.captions: tuple[str, ...] = ()
        self.questions: tuple[AnsweredQuestion, ...] = ()
        self._size = size
        self._instances = instances
        self._expressions = expressions
        self._orientation: Orientation = orientation
        self._unlabelled: Unlabelled = unlabelled
        self._stuff = stuff
        self._segments: tuple[Segment, ...] | None = None

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The instances with visible pixels, crowds included.

        Raises:
            DatasetError: if the map cannot be made.
        """
        if self._segments is None:
            self.load_panoptic()
        return self._segments or ()

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """The expressions whose instance has visible pixels; each names one segment.

        Raises:
            DatasetError: if the map cannot be made.
        """
        visible = {segment.id for segment in self.segments}
        return tuple(phrase for phrase in self._expressions if visible.issuperset(phrase.ids))

    def load_image(self) -> NDArray[np.uint8]:
        """Decode the image.

        Returns:
            H x W x 3 uint8 RGB, upright.

        Raises:
            DatasetError: if the file is missing or broken.
        """
        return read_rgb(self.image)

    def load_panoptic(self) -> NDArray[np.integer[Any]]:
        """Rasterise the instances, smaller ones over larger ones.

        Returns:
            H x W int32 segment ids, 0 = unlabelled; crowds are included. -1 instead of 0 where
            that is declared to mean nothing of the categories.

        Raises:
            DatasetError: if the image is not of the size annotated, or is missing, or an instance
                does not fit it.
            MissingExtraError: if pycocotools is not installed.
        """
        # Before it is painted: what a file claims may be of any size.
        header = check_map_size(self._size, "The annotated size", self.image, self._orientation)
        try:
            ids = paint_instances(self._instances, self._size)
        except DatasetError as error:
            raise DatasetError(f"{self.image}: {error.what}", expected=error.expected) from error
        if self._orientation == "stored":
            ids = turned(ids, header.orientation)
        areas = areas_of(ids)
        self._segments = tuple(
            Segment(
                number,
                instance.label,
                instance.label not in self._stuff,
                areas[number],
                instance.iscrowd,
            )
            for number, instance in enumerate(self._instances, start=1)
            if number in areas
        )
        return declared(ids, self._unlabelled)


def read_referring(
    refs: Sequence[object],
    where: str,
    instances: Document,
    images: CocoImages,
    split: str,
    orientation: Orientation = "upright",
    unlabelled: Unlabelled = "unknown",
) -> ItemSet:
    """Read the images of one split, in the order of their first refs.

    The segments of an image are all its instances, those that no expression means included. Their
    labels are COCO's names. White space in sentences is normalised, and a sentence of white space
    alone is left out.

    Args:
        refs: The list of refs.
        where: Their file, for errors.
        instances: The content of ``instances.json``.
        images: Where the images are.
        split: ``train``, ``val``, ``testA`` or ``testB`` (of RefCOCO and RefCOCO+), or ``test``:
            all whose names start so.
        orientation: What the instances were drawn on: "upright" images or their pixels as "stored".
        unlabelled: What pixels of no instance show: "unknown", or "nothing" of the categories.

    Raises:
        ArgumentError: if `orientation` or `unlabelled` is something else.
        DatasetError: if a field is missing or wrong, an image is missing, or no ref is of the
            split; it names the place.
    """
    check_orientation(orientation)
    check_unlabelled(unlabelled)
    categories = {
        id_: category.read(_Category).name
        for id_, category in instances.by_id("categories", "category").items()
    }
    vocabulary, stuff = check_vocabulary(list(categories.values()), (), instances.where)
    records = instances.by_id("images", "image")
    annotations = instances.by_id("annotations", "annotation")
    instances_of: dict[int, list[int]] = {image_id: [] for image_id in records}
    for id_, annotation in annotations.items():
        instances_of[annotation.reference("image_id", records, "image")].append(id_)

    expressions: dict[int, list[tuple[str, int]]] = {}
    splits = set()
    for number, value in enumerate(refs):
        ref = Document(value, f"{where}, ref {number}")
        splits.add(name := ref.read(_Ref).split)
        if not (name == split or (split == "test" and name.startswith("test"))):
            continue
        image_id = ref.reference("image_id", records, "image")
        instance_id = ref.reference("ann_id", annotations, "instance")
        if annotations[instance_id].integer("image_id") != image_id:
            raise ref.error(
                f"'ann_id' is {instance_id}, an instance of another image than {image_id}"
            )
        for sentence in ref.documents("sentences", "sentence"):
            if text := squeezed(sentence.read(_Sentence).sent):
                expressions.setdefault(image_id, []).append((text, instance_id))
    if not expressions:
        raise DatasetError(
            f"{where} has no expressions of the split {quoted(split)}",
            expected=f"one of {quoted(sorted(splits))}",
        )
    items = []
    for image_id, texts in expressions.items():
        record = records[image_id]
        image = record.read(_SizedImage)
        size = image.height, image.width
        if min(size) < 1:
            raise record.error(f"the size is {size} (height, width)", expected="at least 1 x 1")
        ids = instances_of[image_id]
        numbers = {id_: number for number, id_ in enumerate(ids, start=1)}
        items.append(
            ReferringItem(
                images.find(record, image_id, image.file_name),
                size,
                tuple(read_instance(annotations[id_], id_, categories, size) for id_ in ids),
                tuple(Phrase(text, (numbers[instance_id],)) for text, instance_id in texts),
                orientation,
                unlabelled,
            )
        )
    return ItemSet(tuple(items), vocabulary, stuff)
