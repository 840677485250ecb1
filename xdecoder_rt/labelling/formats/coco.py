"""COCO's files: instances with run-length masks, and panoptic maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xdecoder_rt.atomic import atomic_writer, make_folder
from xdecoder_rt.datasets.coco_file import CocoFile
from xdecoder_rt.labelling.formats.labels import Labels
from xdecoder_rt.labelling.record import sides
from xdecoder_rt.results import box_of_mask

INSTANCES, PANOPTIC = "instances.json", "panoptic.json"


def write_instances(folder: Path, labels: Labels) -> list[str]:
    """Write ``instances.json`` and ``images/``; captions stand in ``captions.json``."""
    coco = CocoFile(labels.names or None)
    captions: list[dict[str, Any]] = []
    for picture, record in labels.records():
        image_id = coco.add(labels.copy_image(picture, folder / "images"), record)
        if record.caption:
            captions.append(
                {"id": len(captions) + 1, "image_id": image_id, "caption": record.caption}
            )
    coco.write(folder / INSTANCES)
    if captions:
        document = {"images": coco.document()["images"], "annotations": captions}
        _write_json(folder / "captions.json", document)
    return []


def write_panoptic(folder: Path, labels: Labels) -> list[str]:
    """Write ``panoptic.json``, maps in ``panoptic/`` and ``images/``."""
    category_ids = {name: number for number, name in enumerate(labels.names, 1)}
    images, annotations = [], []
    for image_id, (picture, record) in enumerate(labels.records(), 1):
        name = labels.copy_image(picture, folder / "images")
        ids, segments = record.painted()
        map_name = labels.stem(picture) + ".png"
        target = folder / "panoptic" / map_name
        make_folder(target.parent)
        Image.fromarray(_as_colours(ids)).save(target)
        height, width = record.size
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        areas = np.bincount(ids.ravel(), minlength=len(segments) + 1)
        annotations.append(
            {
                "image_id": image_id,
                "file_name": map_name,
                "segments_info": [
                    {
                        "id": number,
                        "category_id": category_ids[segment.label],
                        "area": int(areas[number]),
                        "bbox": sides(box_of_mask(ids == number).astype(int).tolist()),
                        "iscrowd": 0,
                    }
                    for number, segment in enumerate(segments, 1)
                ],
            }
        )
    categories = [
        {"id": category_ids[name], "name": name, "isthing": int(isthing)}
        for name, isthing in labels.categories
    ]
    document = {"images": images, "annotations": annotations, "categories": categories}
    _write_json(folder / PANOPTIC, document)
    return []


def _as_colours(ids: np.ndarray[Any, np.dtype[np.int32]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=2).astype(np.uint8)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    with atomic_writer(path) as file:
        file.write(json.dumps(document, allow_nan=False).encode("ascii") + b"\n")
