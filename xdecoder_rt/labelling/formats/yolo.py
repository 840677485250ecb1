"""YOLO-seg: ``data.yaml``, ``images/`` and a text file a picture in ``labels/``.

Each line is a segment: its class, then the corners of its polygon, x and y by turns, as shares of
the picture's width and height. Pieces and holes of one segment are joined by bridges of no width.
"""

from __future__ import annotations

import json
from pathlib import Path

from xdecoder_rt.atomic import make_folder
from xdecoder_rt.labelling.formats.labels import Labels
from xdecoder_rt.masks.contours import joined, polygons_of


def write(folder: Path, labels: Labels) -> list[str]:
    """Write the folder."""
    number_of = {name: number for number, name in enumerate(labels.names)}
    for picture, record in labels.records():
        labels.copy_image(picture, folder / "images")
        lines = []
        for segment in record.segments:
            rings = polygons_of(segment.mask)
            if not rings:
                continue
            shares = joined(rings) / record.size[::-1]
            corners = " ".join(f"{share:.6f}" for share in shares.ravel())
            lines.append(f"{number_of[segment.label]} {corners}\n")
        target = folder / "labels" / f"{labels.stem(picture)}.txt"
        make_folder(target.parent)
        target.write_text("".join(lines), encoding="ascii")
    names = "".join(f"  {number}: {json.dumps(name)}\n" for name, number in number_of.items())
    text = f"path: .\ntrain: images\nval: images\nnames:\n{names}"
    (folder / "data.yaml").write_text(text, encoding="ascii")
    return []
