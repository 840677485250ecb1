"""Label Studio: tasks with predictions as polygons, and the labelling interface to paste.

Pictures are named as local files below Label Studio's document root, which is to be the labelled
folder of pictures; corners are in percent of the picture's sides.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from xdecoder_rt.labelling.formats.labels import Labels
from xdecoder_rt.labelling.record import Record
from xdecoder_rt.masks.contours import joined, polygons_of

_PREFIX = "/data/local-files/?d="


def write(folder: Path, labels: Labels) -> list[str]:
    """Write ``tasks.json`` and ``interface.xml``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tasks.json").open("w", encoding="ascii") as file:
        file.write("[")
        for number, (picture, record) in enumerate(labels.records()):
            address = _PREFIX + quote(picture.key.encode("utf-8", "surrogateescape"))
            task: dict[str, Any] = {"data": {"image": address}, "predictions": [_found(record)]}
            if record.caption:
                task["data"]["caption"] = record.caption
            file.write((",\n" if number else "\n") + json.dumps(task, allow_nan=False))
        file.write("\n]\n")
    choices = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in labels.names)
    (folder / "interface.xml").write_text(
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <PolygonLabels name="label" toName="image">\n{choices}\n  </PolygonLabels>\n</View>\n',
        encoding="utf-8",
    )
    return []


def _found(record: Record) -> dict[str, Any]:
    height, width = record.size
    result = []
    for number, segment in enumerate(record.segments):
        rings = polygons_of(segment.mask)
        if not rings:
            continue
        points = joined(rings) / (width, height) * 100
        result.append(
            {
                "id": f"segment-{number}",
                "type": "polygonlabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": segment.score,
                "value": {
                    "points": points.round(4).tolist(),
                    "closed": True,
                    "polygonlabels": [segment.label],
                },
            }
        )
    return {"model_version": "xdecoder_rt", "score": 1.0 - record.doubt, "result": result}
