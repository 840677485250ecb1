"""A COCO file of what was found: images, categories and annotations with run-length masks.

The format is described at https://cocodataset.org/#format-data, "Object Detection".
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import ArgumentError, DatasetError, quoted, whole_number

__all__ = ["CocoFile"]


class CocoResult(Protocol):
    """What was found in one image, as :class:`xdecoder_rt.results.Segmentation` has it."""

    @property
    def segments_info(self) -> list[dict[str, Any]]:
        """A dict for each segment, with `label` and `isthing`."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""

    def to_coco(
        self,
        image_id: int | str = 0,
        category_ids: Mapping[str, int] | None = None,
        *,
        first_id: int = 1,
    ) -> list[dict[str, Any]]:
        """Return its annotations."""


class CocoFile:
    """Gathers results image by image, and writes them as one COCO file.

    Ids of images, annotations and categories are positive and unique in the file, so that
    pycocotools reads it as a data set, and its annotations as results of that::

        coco = CocoFile(["mug", "bin"])
        for path in paths:
            coco.add(path, engine.segment(path, ["mug", "bin"], task="instance"))
        coco.write("found.json")

    Args:
        categories: labels in the order of their ids, from 1, or the id of each; the same for files
            that are to be compared. None numbers labels as they come.

    Raises:
        ArgumentError: a label or an id is there twice, or an id is below 1.
    """

    def __init__(self, categories: Sequence[str] | Mapping[str, int] | None = None) -> None:
        self._grows = categories is None
        self._category_ids = _category_ids(categories)
        self._is_thing: dict[str, bool] = {}
        self._images: dict[str, dict[str, Any]] = {}
        self._annotations: list[dict[str, Any]] = []

    def __len__(self) -> int:
        """The number of images."""
        return len(self._images)

    def add(self, image: str | os.PathLike[str], result: CocoResult) -> int:
        """Add an image and what was found in it, nothing included.

        Args:
            image: its ``file_name``; readers look for it in the folder of images.
            result: what was found.

        Returns:
            The image's id, from 1.

        Raises:
            ArgumentError: the image is there already, or a label is no category.

        Example:
            >>> coco = CocoFile(["mug", "bin"])
            >>> coco.add("desk.jpg", result), len(coco)
            (1, 1)
        """
        name = os.fspath(image)
        if not isinstance(name, str) or name in self._images:
            raise ArgumentError(f"The image {quoted(name, 200)} is refused", expected="a new name")
        labels = {str(info["label"]): bool(info["isthing"]) for info in result.segments_info}
        category_ids = dict(self._category_ids)
        if self._grows:
            for label in labels:
                category_ids.setdefault(label, len(category_ids) + 1)
        height, width = result.size
        image_id = len(self._images) + 1
        annotations = result.to_coco(image_id, category_ids, first_id=len(self._annotations) + 1)
        self._category_ids = category_ids
        self._is_thing.update(labels)
        self._annotations += annotations
        self._images[name] = {"id": image_id, "file_name": name, "height": height, "width": width}
        return image_id

    def document(self) -> dict[str, Any]:
        """Return everything as plain values for ``json.dumps``.

        Example:
            >>> coco = CocoFile(["mug", "bin"])
            >>> _ = coco.add("desk.jpg", result)
            >>> [entry["category_id"] for entry in coco.document()["annotations"]]
            [1]
        """
        categories = [
            {"id": id_, "name": label, "isthing": int(self._is_thing.get(label, True))}
            for label, id_ in self._category_ids.items()
        ]
        return {
            "info": {"description": "found by xdecoder_rt"},
            "images": list(self._images.values()),
            "categories": categories,
            "annotations": list(self._annotations),
        }

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all.

        Raises:
            DatasetError: it cannot be written.

        Example:
            >>> coco = CocoFile()
            >>> _ = coco.add("desk.jpg", result)
            >>> coco.write("found.json")
        """
        data = json.dumps(self.document(), allow_nan=False).encode("ascii")
        try:
            with atomic_writer(path) as file:
                file.write(data + b"\n")
        except OSError as error:
            raise DatasetError(
                f"{quoted(os.fspath(path), 200)} cannot be written: {error.strerror or error}"
            ) from error


def _category_ids(categories: Sequence[str] | Mapping[str, int] | None) -> dict[str, int]:
    if categories is None:
        return {}
    if isinstance(categories, Mapping):
        pairs = list(categories.items())
    elif isinstance(categories, str | bytes) or not isinstance(categories, Sequence):
        raise ArgumentError(
            f"categories is {quoted(categories)}", expected="a list of labels, or the id of each"
        )
    else:
        pairs = [(label, number) for number, label in enumerate(categories, 1)]
    ids: dict[str, int] = {}
    for label, id_ in pairs:
        if not isinstance(label, str) or label in ids:
            raise ArgumentError(
                f"The category {quoted(label)} is refused", expected="texts, each once"
            )
        ids[label] = whole_number("A category's id", id_, 1, None, "a whole number of at least 1")
    if len(set(ids.values())) < len(ids):
        raise ArgumentError("Two categories have one id", expected="an id of its own for each")
    return ids
