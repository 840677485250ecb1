"""YOLO-seg: ``data.yaml`` and a text file of polygons beside each image.

A line of ``labels/NAME.txt`` is a class and the corners of its polygon, x and y by turns, as shares
of the width and height of ``images/NAME.jpg`` (https://docs.ultralytics.com/datasets/segment/). An
image without a file, or with an empty one, shows nothing of the classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from xdecoder_rt.datasets.documents import Document
from xdecoder_rt.datasets.image_files import Orientation, image_header
from xdecoder_rt.datasets.instances import Instance, outlined
from xdecoder_rt.datasets.items import Unlabelled, check_vocabulary
from xdecoder_rt.datasets.referring import ReferringItem
from xdecoder_rt.datasets.text_items import ItemSet
from xdecoder_rt.errors import DatasetError, ImageError, quoted, require
from xdecoder_rt.files.folder import list_images
from xdecoder_rt.files.regular import open_regular

__all__ = ["read_yolo"]

_LONGEST_YAML, _LONGEST_LABELS = 1 << 22, 1 << 26
_BOX = 4  # numbers of a line that is a box
_LEAST = 6  # numbers of the smallest polygon


def read_yolo(
    path: Path,
    split: str = "train",
    orientation: Orientation = "upright",
    unlabelled: Unlabelled = "unknown",
) -> ItemSet:
    """Read the images of one split.

    Args:
        path: ``data.yaml``.
        split: ``train``, ``val`` or ``test``: a key of that file, whose value is a folder of
            images, a list of paths, or several of these.
        orientation: What the polygons were drawn on.
        unlabelled: What pixels of no polygon show.

    Raises:
        DatasetError: a file is missing or wrong, a line is a box, or the split is not there.
        MissingExtraError: PyYAML is not installed.
    """
    document = Document(_read_yaml(path), str(path))
    names = _names(document)
    vocabulary, _ = check_vocabulary(list(dict.fromkeys(names.values())), (), document.where)
    images = list(_images(path, document, split))
    if not images:
        raise document.error(f"{split!r} has no images", expected="at least one")
    items = []
    for image in images:
        header = image_header(image)
        size = header.upright if orientation == "upright" else header.stored
        instances = tuple(_instances(_labels_of(image), names, size))
        items.append(ReferringItem(image, size, instances, (), orientation, unlabelled))
    return ItemSet(tuple(items), vocabulary)


def _read_yaml(path: Path) -> object:
    yaml = require("yaml", "train")
    try:
        return yaml.safe_load(_read(path, _LONGEST_YAML))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DatasetError(
            f"{quoted(str(path), 200)} is no YAML: {error}", expected="a data.yaml of YOLO"
        ) from error


def _names(document: Document) -> dict[int, str]:
    """Return the name of each class: of a list, or of numbers and names."""
    value = document.value("names")
    pairs = list(enumerate(value)) if isinstance(value, list) else []
    if isinstance(value, dict):
        pairs = list(value.items())
    names: dict[int, str] = {}
    for number, name in pairs:
        if type(number) is not int or number < 0 or not str(name).strip():
            raise document.error(f"'names' has {quoted(number)}: {quoted(name)}")
        names[number] = str(name).strip()
    if not names:
        raise document.error("'names' names no class", expected="a list, or numbers with names")
    return names


def _images(path: Path, document: Document, split: str) -> Iterator[Path]:
    if split not in document or document.value(split) is None:
        raise document.error(
            f"there is no split {quoted(split)}",
            expected="train, val or test, with a folder of images",
        )
    value = document.value(split)
    root = document.value("path") if "path" in document else "."
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, str) or not isinstance(root, str):
            raise document.error(f"{split!r} is {quoted(entry)}", expected="a path")
        found = _found(path.absolute().parent, root, entry)
        if found is None:
            raise document.error(f"{split!r} names {quoted(entry, 200)}, which does not exist")
        yield from _listed(found)


def _found(beside: Path, root: str, entry: str) -> Path | None:
    """Return where an entry leads: from `path`, else from the file's folder.

    Roboflow writes ``../train/images`` for ``train/images`` beside the file.
    """
    bare = entry
    while bare.startswith("../"):
        bare = bare[3:]
    for candidate in (beside / root / entry, beside / entry, beside / bare):
        if os.path.exists(candidate):
            return candidate
    return None


def _listed(path: Path) -> Iterator[Path]:
    """Yield images of a folder and those below it, or those that a list names."""
    try:
        if os.path.isdir(path):
            for folder, below, _ in os.walk(path):
                below.sort()
                yield from list_images(Path(folder)).images
            return
    except ImageError as error:
        raise DatasetError(error.what) from error
    for line in _read(path, _LONGEST_LABELS).decode("utf-8", "replace").splitlines():
        if line.strip():
            yield path.parent / line.strip()


def _labels_of(image: Path) -> Path:
    """Return the file of an image's labels: the last ``images`` of its path is ``labels``."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _instances(path: Path, names: dict[int, str], size: tuple[int, int]) -> Iterator[Instance]:
    if not os.path.isfile(path):
        return
    height, width = size
    lines = _read(path, _LONGEST_LABELS).decode("ascii", "replace").splitlines()
    for number, line in enumerate(lines, 1):
        if not (fields := line.split()):
            continue
        record = Document({}, f"{path}, line {number}")
        try:
            index, shares = int(fields[0]), [float(field) for field in fields[1:]]
        except ValueError as error:
            raise record.error("it is no class and numbers", expected="0 0.1 0.2 …") from error
        if index not in names:
            raise record.error(f"the class is {index}", expected=f"one of {quoted(sorted(names))}")
        if len(shares) == _BOX:
            raise record.error(
                "it is a box and no outline",
                expected="the corners of a polygon",
                fix="export the data set for segmentation",
            )
        if len(shares) < _LEAST or len(shares) % 2:
            raise record.error(
                f"it has {len(shares)} numbers", expected="x and y of at least 3 corners"
            )
        corners = [share * (height if place % 2 else width) for place, share in enumerate(shares)]
        yield outlined(record, number, names[index], [corners], size)


def _read(path: Path, limit: int) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise DatasetError(
            f"{quoted(str(path), 200)} cannot be read: {error.strerror or error}"
        ) from error
    if len(data) > limit:
        raise DatasetError(f"{quoted(str(path), 200)} is too long", expected=f"{limit:,} bytes")
    return data
