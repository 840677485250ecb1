"""The forms by name, and writing one whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.labelling.formats import coco, cvat, folder, labelstudio, masks, yolo
from xdecoder_rt.labelling.formats.labels import Labels

__all__ = ["FORMATS", "write_form"]

FORMATS: Mapping[str, Callable[[Path, Labels], list[str]]] = {
    "folder": folder.write,
    "coco": coco.write_instances,
    "coco-panoptic": coco.write_panoptic,
    "yolo": yolo.write,
    "masks": masks.write,
    "cvat": cvat.write,
    "labelstudio": labelstudio.write,
}
"""Each writes a new folder and returns what it left out, in sentences."""


def write_form(name: str, root: Path, labels: Labels) -> list[str]:
    """Write a form to ``root/NAME/``, which is replaced when the new one is whole.

    Returns:
        What was left out, in sentences.

    Raises:
        ArgumentError: it cannot be written; what was there stays.
    """
    target, unfinished, former = root / name, root / f".{name}.new", root / f".{name}.old"
    try:
        for path in (unfinished, former):
            shutil.rmtree(path, ignore_errors=True)
        try:
            notes = FORMATS[name](unfinished, labels)
            if target.exists():
                os.replace(target, former)
            os.replace(unfinished, target)
        finally:
            for path in (unfinished, former):
                shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        raise ArgumentError(
            f"{quoted(str(target), 200)} cannot be written: {error.strerror or error}",
            fix="make room there; the same command then writes it and labels nothing again",
        ) from error
    labels.placed(target / "images")
    return notes
