"""Masks of classes with a table of their colours, as Pascal VOC, CVAT and Datumaro write them.

``labelmap.txt`` has a line a class, ``name:red,green,blue:parts:actions``; masks lie in
``SegmentationClass/`` or ``masks/``, images in ``JPEGImages/`` or ``images/``. Where
``SegmentationObject/`` has a mask of the same name, its colours tell instances of a class apart;
without it a class is one segment, so all are stuff.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.image_files import Orientation, read_rgb, upright_map
from xdecoder_rt.datasets.items import (
    NOTHING,
    AnsweredQuestion,
    Phrase,
    Segment,
    areas_of,
    check_vocabulary,
)
from xdecoder_rt.datasets.text_items import ItemSet
from xdecoder_rt.errors import DatasetError, ImageError, quoted
from xdecoder_rt.files.folder import list_images
from xdecoder_rt.files.image_file import open_image
from xdecoder_rt.files.regular import open_regular

__all__ = ["BACKGROUND", "LABEL_MAP", "read_coloured"]

LABEL_MAP = "labelmap.txt"
BACKGROUND = "background"
_VOID = (224, 224, 192)
_MASKS, _IMAGES = ("SegmentationClass", "masks"), ("JPEGImages", "images", ".")
_OBJECTS = "SegmentationObject"
_LONGEST_TABLE = 1 << 22
_Ids = NDArray[np.int32]


@dataclass(frozen=True)
class _Table:
    """The classes: the value of each colour, 0 for void, -1 for the background, else from 1."""

    value_of: dict[int, int]
    values: tuple[int, ...]
    labels: tuple[str, ...]


class ColouredItem:
    """One image with its mask; a `PanopticItem`.

    Attributes:
        image: The image file.
        phrases: Always empty, as are the others: masks have no texts.
        captions: Always empty.
        questions: Always empty.
    """

    phrases: tuple[Phrase, ...] = ()
    captions: tuple[str, ...] = ()
    questions: tuple[AnsweredQuestion, ...] = ()

    def __init__(
        self,
        image: Path,
        mask: Path,
        objects: Path | None,
        table: _Table,
        orientation: Orientation,
    ) -> None:
        self.image = image
        self._mask = mask
        self._objects = objects
        self._table = table
        self._orientation: Orientation = orientation
        self._segments: tuple[Segment, ...] | None = None

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments of the mask, read when first asked for.

        Raises:
            DatasetError: if the mask is missing or wrong.
        """
        if self._segments is None:
            self.load_panoptic()
        return self._segments or ()

    def load_image(self) -> NDArray[np.uint8]:
        """Decode the image: H x W x 3 uint8 RGB. Raises DatasetError if it is broken."""
        return read_rgb(self.image)

    def load_panoptic(self) -> NDArray[np.integer[Any]]:
        """Read the mask.

        Returns:
            H x W int32 segment ids, 0 on void, -1 on the background.

        Raises:
            DatasetError: if the mask is missing, of another size, or has a colour that the table
                lacks.
        """
        classes = _classes(self._mask, self._table)
        objects = None if self._objects is None else _colours(self._objects)[0]
        if objects is not None and objects.shape != classes.shape:
            raise DatasetError(
                f"{self._objects} is {objects.shape} and {self._mask} is {classes.shape}",
                expected="the same size",
            )
        ids = np.minimum(classes, 0)
        segments: list[tuple[str, bool]] = []
        for value in np.unique(classes[classes > 0]).tolist():
            where = classes == value
            parts = [None] if objects is None else np.unique(objects[where]).tolist()
            for part in parts:
                ids[where if part is None else where & (objects == part)] = len(segments) + 1
                label = self._table.labels[value - 1]
                segments.append((label, objects is not None))
        ids = upright_map(ids, str(self._mask), self.image, self._orientation)
        areas = areas_of(np.maximum(ids, 0))
        self._segments = tuple(
            Segment(number, label, isthing, areas[number])
            for number, (label, isthing) in enumerate(segments, 1)
        )
        return ids


def read_coloured(folder: Path, orientation: Orientation = "upright") -> ItemSet:
    """Read a folder of images and masks.

    Args:
        folder: with `LABEL_MAP`.
        orientation: What the masks were drawn on.

    Raises:
        DatasetError: the table is wrong, or a mask has no image.
    """
    table = _read_table(folder / LABEL_MAP)
    masks = _first_folder(folder, _MASKS)
    items = []
    for mask in _images_below(masks):
        stem = mask.relative_to(masks).with_suffix("")
        image = _image_of(folder, stem)
        beside = folder / _OBJECTS / stem.with_suffix(".png")
        objects = beside if os.path.isfile(beside) else None
        items.append(ColouredItem(image, mask, objects, table, orientation))
    if not items:
        raise DatasetError(f"{quoted(str(masks), 200)} holds no masks", expected="at least one")
    have_objects = {item._objects is not None for item in items}
    if len(have_objects) > 1:
        raise DatasetError(
            f"{quoted(str(folder / _OBJECTS), 200)} has masks for some images alone",
            expected="one for each image, or none",
        )
    stuff = () if True in have_objects else table.labels
    vocabulary, stuff_labels = check_vocabulary(table.labels, stuff, str(folder))
    return ItemSet(tuple(items), vocabulary, stuff_labels)


def _read_table(path: Path) -> _Table:
    try:
        with open_regular(path) as file:
            text = file.read(_LONGEST_TABLE).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{quoted(str(path), 200)} cannot be read: {error}") from error
    value_of, values, labels = {_packed(*_VOID): 0}, [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        channels = rest.partition(":")[0].split(",")
        if (
            not name.strip()
            or len(channels) != 3
            or not all(channel.strip().isdecimal() and int(channel) <= 255 for channel in channels)
        ):
            raise DatasetError(
                f"{path}, line {number} is {quoted(line)}", expected="name:red,green,blue::"
            )
        if name.strip().lower() == BACKGROUND:
            value = NOTHING
        else:
            labels.append(name.strip())
            value = len(labels)
        value_of[_packed(*map(int, channels))] = value
        values.append(value)
    return _Table(value_of, tuple(values), tuple(labels))


def _packed(red: int, green: int, blue: int) -> int:
    return red << 16 | green << 8 | blue


def _colours(path: Path) -> tuple[_Ids, bool]:
    """Return the colour of each pixel, packed, or of a grey mask its value; and whether grey."""
    try:
        with open_image(path) as (image, _):
            if image.mode in ("L", "1"):
                return np.asarray(image.convert("L")).astype(np.int32), True
            rgb = np.asarray(image.convert("RGB")).astype(np.int32)
    except ImageError as error:
        raise DatasetError(error.what, expected=error.expected, fix=error.fix) from error
    return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2], False


def _classes(path: Path, table: _Table) -> _Ids:
    """Return the class of each pixel: -1, 0 or from 1."""
    colours, is_grey = _colours(path)
    value_of = dict(enumerate(table.values)) | {255: 0} if is_grey else table.value_of
    present, places = np.unique(colours, return_inverse=True)
    classes = []
    for colour in present.tolist():
        if colour not in value_of:
            shown = colour if is_grey else (colour >> 16, colour >> 8 & 255, colour & 255)
            raise DatasetError(
                f"{path} has the colour {shown}, which {LABEL_MAP} lacks",
                expected="only colours of the table",
                fix="add it there, or write the masks without smoothing (PNG)",
            )
        classes.append(value_of[colour])
    result: _Ids = np.array(classes, np.int32)[places].reshape(colours.shape)
    return result


def _first_folder(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if os.path.isdir(folder / name):
            return folder / name
    raise DatasetError(
        f"{quoted(str(folder), 200)} has no folder of masks", expected=" or ".join(names)
    )


def _images_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place, below, _ in os.walk(folder):
        below.sort()
        found += list_images(Path(place)).images
    return found


def _image_of(folder: Path, stem: Path) -> Path:
    for name in _IMAGES:
        for suffix in (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".JPG", ".PNG"):
            path = folder / name / stem.parent / (stem.name + suffix)
            if os.path.isfile(path):
                return path
    raise DatasetError(
        f"The mask {quoted(str(stem), 200)} has no image", expected="it in JPEGImages/ or images/"
    )
