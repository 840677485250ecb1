"""The labelled folder: images, maps of segment ids, and `annotations.json`.

```
DIR/annotations.json   {"vocabulary": [...], "stuff": [...], "items": [{"image", "panoptic",
                        "segments": [{"id", "label", "isthing", "area"}],
                        "phrases": [{"text", "ids"}], "captions": [...],
                        "questions": [{"text", "answers", "choices"}]}]}
DIR/...                images, and one-channel 8-bit PNGs of segment ids (0 = unlabelled)
```

Paths are relative to DIR. `ids` name the segments that a phrase means. `phrases`, `captions` and
`questions` may be absent; other keys are ignored. Images are read upright, as their EXIF
orientation says, and maps lie on them as they are then; `"orientation": "stored"` beside
`"vocabulary"` declares that the maps were drawn on the pixels as they are stored, and are to be
turned with the images. ``"unlabelled": "nothing"`` declares that unlabelled pixels show nothing of
the vocabulary: everything of it in the images is labelled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xdecoder_rt.atomic import atomic_writer, make_folder
from xdecoder_rt.datasets.documents import Document, NonEmptyText, read_document
from xdecoder_rt.datasets.image_files import ORIENTATIONS, Orientation, image_header, read_rgb
from xdecoder_rt.datasets.items import (
    UNLABELLED,
    AnsweredQuestion,
    PanopticDataset,
    PanopticItem,
    Phrase,
    Segment,
    Unlabelled,
    areas_of,
    check_ids,
    check_unlabelled,
    check_vocabulary,
)
from xdecoder_rt.datasets.labelled_item import MAX_SEGMENT_ID, Item, parse_item
from xdecoder_rt.errors import DatasetError, printable, quoted
from xdecoder_rt.json_reader import Rule

__all__ = [
    "ANNOTATIONS",
    "MAX_SEGMENT_ID",
    "AnsweredQuestion",
    "Item",
    "LabelledFolder",
    "LabelledFolderWriter",
    "PanopticDataset",
    "PanopticItem",
    "Phrase",
    "Segment",
]

ANNOTATIONS = "annotations.json"


@dataclass(frozen=True)
class _Labels:
    """The labels of a folder, and which of them are stuff."""

    vocabulary: tuple[NonEmptyText, ...]
    stuff: tuple[NonEmptyText, ...]
    orientation: Annotated[str, Rule(one_of=ORIENTATIONS)] = "upright"
    unlabelled: Annotated[str, Rule(one_of=UNLABELLED)] = "unknown"


class LabelledFolder:
    """A labelled folder that has been read and checked; a `PanopticDataset`.

    Attributes:
        root: The folder.
        vocabulary: Every label of the folder; what a model is asked for.
        stuff: Those of the vocabulary that are stuff; the others are things.
        items: The images, in the file's order.
    """

    def __init__(
        self,
        root: Path,
        vocabulary: tuple[str, ...],
        stuff: frozenset[str],
        items: tuple[Item, ...],
    ) -> None:
        self.root = root
        self.vocabulary = vocabulary
        self.stuff = stuff
        self.items = items

    def __len__(self) -> int:
        """The number of images."""
        return len(self.items)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> LabelledFolder:
        """Read a folder's `annotations.json` and check it.

        Args:
            path: The folder.
            verify: Decode every image and map now, so that nothing can fail later. If False,
                only `annotations.json` and the presence of the files are checked, and an item
                checks its own pixels whenever it is loaded: for large folders.

        Raises:
            DatasetError: if anything is wrong; it names the file, the item and the field.
        """
        root = Path(path)
        if not os.path.isdir(root):
            raise DatasetError(
                f"{quoted(str(root), 200)} is not a folder",
                expected=f"a folder with {ANNOTATIONS}",
            )
        document = read_document(root / ANNOTATIONS)
        labels = document.read(_Labels)
        vocabulary, stuff = check_vocabulary(labels.vocabulary, labels.stuff, document.where)
        records = document.documents("items", "item")
        if not records:
            raise document.error("'items' is empty", expected="at least one labelled image")
        orientation = cast(Orientation, labels.orientation)
        unlabelled = cast(Unlabelled, labels.unlabelled)
        isthing = {label: label not in stuff for label in vocabulary}
        items = []
        for record in records:
            item = parse_item(root, record, isthing, orientation, unlabelled)
            for key, path in (("image", item.image), ("panoptic", item.panoptic)):
                record.check_file(key, path)
            items.append(item)
        if verify:
            for item in items:
                item.load_panoptic()
                item.load_image()
        return cls(root, vocabulary, stuff, tuple(items))


class LabelledFolderWriter:
    """Writes a labelled folder, one image at a time.

    A folder becomes a labelled folder when `annotations.json` appears in it, whole, at `close`:
    an interrupted run cannot be taken for a finished one. As a context manager it closes at the
    end of the block; after an exception it removes what it wrote instead.

    Args:
        path: The folder; new, or empty.
        vocabulary: Every label that a segment may have.
        stuff: Those of the vocabulary that are stuff.
        image_format: How image arrays are stored.
        jpeg_quality: Pillow's quality for "jpeg", 1 to 95.
        unlabelled: What unlabelled pixels show: "unknown", or "nothing" of the vocabulary.

    Raises:
        DatasetError: if the folder is not empty or cannot be made, or the vocabulary is wrong.
        ArgumentError: if `unlabelled` is something else.
    """

    def __init__(
        self,
        path: str | Path,
        vocabulary: Sequence[str],
        stuff: Collection[str] = (),
        *,
        image_format: Literal["png", "jpeg"] = "png",
        jpeg_quality: int = 92,
        unlabelled: Unlabelled = "unknown",
    ) -> None:
        check_unlabelled(unlabelled)
        self.root = Path(path)
        self.unlabelled: Unlabelled = unlabelled
        document = Document(
            {"vocabulary": [*vocabulary], "stuff": [*stuff]}, printable(str(self.root), 200)
        )
        labels = document.read(_Labels)
        self.vocabulary, self.stuff = check_vocabulary(
            labels.vocabulary, labels.stuff, document.where
        )
        if os.path.exists(self.root) and not (
            os.path.isdir(self.root) and not any(self.root.iterdir())
        ):
            raise DatasetError(
                f"{quoted(str(self.root), 200)} exists and is not an empty folder",
                fix="choose another folder or remove this one",
            )
        self._suffix = ".jpg" if image_format == "jpeg" else ".png"
        self._jpeg_quality = jpeg_quality
        self._isthing = {label: label not in self.stuff for label in self.vocabulary}
        self._lines: list[str] = []
        self._created_paths: list[Path] = []  # files and folders, in order
        self._closed = False
        try:
            for folder in (self.root, self.root / "images", self.root / "panoptic"):
                missing = [p for p in (folder, *folder.parents) if not os.path.exists(p)]
                make_folder(folder)
                self._created_paths.extend(reversed(missing))
        except OSError as error:
            self.discard()
            raise _cannot_write(self.root, error) from error

    def __len__(self) -> int:
        """The number of images added."""
        return len(self._lines)

    def add(
        self,
        image: NDArray[np.uint8] | Path,
        panoptic: NDArray[np.integer[Any]],
        segments: Mapping[int, str],
        *,
        phrases: Sequence[Phrase] = (),
        captions: Sequence[str] = (),
        questions: Sequence[AnsweredQuestion] = (),
    ) -> Item:
        """Store one image with its labels; areas and `isthing` are found here.

        Args:
            image: H x W x 3 uint8 RGB, or an image file, which is copied byte for byte; one that
                an EXIF tag turns is written upright instead, as a PNG without the tag.
            panoptic: H x W integer segment ids of the upright image, 0 = unlabelled, at most 255.
            segments: The label of each id in the map, and of no other.
            phrases: Referring expressions, each of at least one of the ids.
            captions: Descriptions of the whole image.
            questions: Questions on the image.

        Returns:
            The item as `LabelledFolder.open` will give it.

        Raises:
            DatasetError: if the reader would refuse the item or its image, or a file cannot be
                written.
        """
        where = f"{printable(str(self.root), 200)}, item {len(self)}"
        if self._closed:
            raise DatasetError(f"{where}: the folder has been closed")
        ids = _as_id_map(panoptic, where)
        if isinstance(image, Path):
            # Decoded though it is copied: what is written can be read.
            pixels, suffix = read_rgb(image), image.suffix.lower()
            size = pixels.shape[:2]
            if image_header(image).orientation > 1:
                image, suffix = pixels, ".png"
        else:
            size, suffix = _rgb_size(image, where), self._suffix
        if ids.shape != size:
            raise DatasetError(
                f"{where}: the map is {ids.shape} and the image {size}", expected="the same size"
            )
        name = f"{len(self):06d}"
        areas = areas_of(ids)
        entry: dict[str, object] = {
            "image": f"images/{name}{suffix}",
            "panoptic": f"panoptic/{name}.png",
            "segments": [
                {
                    "id": int(id_),
                    "label": label,
                    "isthing": self._isthing.get(label, True),
                    "area": areas.get(int(id_), 0),
                }
                for id_, label in segments.items()
            ],
            "phrases": [{"text": p.text, "ids": [int(i) for i in p.ids]} for p in phrases],
            "captions": list(captions),
        }
        if questions:
            entry["questions"] = [_question_json(question) for question in questions]
        # What is written obeys the rules of the reader because the reader itself checks it.
        document = Document(entry, where)
        item = parse_item(self.root, document, self._isthing, unlabelled=self.unlabelled)
        check_ids(ids, item.segments, f"{where}: the map")
        try:
            self._created_paths.extend((item.image, item.panoptic))
            if isinstance(image, Path):
                shutil.copyfile(image, item.image)
            else:
                Image.fromarray(image).save(item.image, quality=self._jpeg_quality)
            Image.fromarray(ids).save(item.panoptic)
        except OSError as error:
            raise _cannot_write(item.image, error) from error
        self._lines.append(json.dumps(entry))
        return item

    def close(self) -> None:
        """Write `annotations.json` in one step. Closing again does nothing.

        Raises:
            DatasetError: if no image was added or the file cannot be written.
        """
        if self._closed:
            return
        if not self._lines:
            raise DatasetError(
                f"{printable(str(self.root), 200)}: no image was added", expected="at least one"
            )
        vocabulary, stuff = json.dumps(self.vocabulary), json.dumps(sorted(self.stuff))
        items = ",\n".join(self._lines)  # an item a line: a change of one is one line of a diff
        declaration = '"unlabelled": "nothing",\n' if self.unlabelled == "nothing" else ""
        labels = f'"vocabulary": {vocabulary},\n"stuff": {stuff},\n{declaration}'
        text = f'{{{labels}"items": [\n{items}\n]}}\n'
        try:
            with atomic_writer(self.root / ANNOTATIONS) as file:
                file.write(text.encode())
        except OSError as error:
            raise _cannot_write(self.root / ANNOTATIONS, error) from error
        self._closed = True

    def discard(self) -> None:
        """Remove what was written before `close`, and the folders made if they are now empty."""
        if self._closed:
            return
        self._closed = True
        for path in reversed(self._created_paths):
            try:
                if os.path.isdir(path):
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)
            except OSError:
                continue  # someone else's file is in the folder: it stays

    def __enter__(self) -> LabelledFolderWriter:
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the folder; after an exception, in the block or in closing, discard it."""
        try:
            if kind is None:
                self.close()
        finally:
            self.discard()


def _question_json(question: AnsweredQuestion) -> dict[str, object]:
    entry: dict[str, object] = {"text": question.text, "answers": list(question.answers)}
    if question.choices is not None:
        entry["choices"] = list(question.choices)
    return entry


def _as_id_map(panoptic: NDArray[np.integer[Any]], where: str) -> NDArray[np.uint8]:
    if panoptic.ndim != 2 or panoptic.dtype.kind not in "iu":
        raise DatasetError(
            f"{where}: the map has the shape {panoptic.shape} and type {panoptic.dtype}",
            expected="height x width integer ids",
        )
    if panoptic.size and (panoptic.min() < 0 or panoptic.max() > MAX_SEGMENT_ID):
        raise DatasetError(
            f"{where}: the map has ids from {panoptic.min()} to {panoptic.max()}",
            expected=f"0 to {MAX_SEGMENT_ID}",
        )
    return np.ascontiguousarray(panoptic, dtype=np.uint8)


def _rgb_size(image: NDArray[np.uint8], where: str) -> tuple[int, int]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise DatasetError(
            f"{where}: the image has the shape {image.shape} and type {image.dtype}",
            expected="height x width x 3 uint8",
        )
    return image.shape[0], image.shape[1]


def _cannot_write(path: Path, error: OSError) -> DatasetError:
    return DatasetError(f"{quoted(str(path), 200)} cannot be written: {error.strerror or error}")
