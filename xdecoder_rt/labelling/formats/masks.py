"""Masks of classes as in Pascal VOC: palette PNGs in ``masks/``, and the table of their colours.

``labelmap.txt`` has a line a class, as CVAT and Datumaro write it: ``name:red,green,blue::``. The
value of a pixel is the class's line, 0 the background.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from xdecoder_rt.atomic import make_folder
from xdecoder_rt.datasets.own.coloured import BACKGROUND, LABEL_MAP
from xdecoder_rt.labelling.formats.labels import Labels

_MOST = 255


def pascal_colour(index: int) -> tuple[int, int, int]:
    """Return Pascal VOC's colour of a class: the bits of its number, spread over the channels."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (index >> channel & 1) << (7 - bit)
        index >>= 3
    return channels[0], channels[1], channels[2]


def write(folder: Path, labels: Labels) -> list[str]:
    """Write the masks, the pictures and the table; of overlapping segments the surest is seen."""
    notes = []
    if len(labels.names) > _MOST:
        notes.append(f"only the first {_MOST} classes fit masks of 8 bits")
    number_of = {name: number for number, name in enumerate(labels.names[:_MOST], 1)}
    palette = [value for index in range(_MOST + 1) for value in pascal_colour(index)]
    for picture, record in labels.records():
        labels.copy_image(picture, folder / "images")
        ids, segments = record.painted()
        classes = np.array([0, *(number_of.get(s.label, 0) for s in segments)], np.uint8)
        image = Image.fromarray(classes[ids])
        image.putpalette(palette)
        target = folder / "masks" / f"{labels.stem(picture)}.png"
        make_folder(target.parent)
        image.save(target)
    lines = ["# label:color_rgb:parts:actions"]
    for number, name in enumerate([BACKGROUND, *number_of]):
        colour = ",".join(str(value) for value in pascal_colour(number))
        lines.append(f"{' '.join(name.replace(':', ' ').split())}:{colour}::")
    (folder / LABEL_MAP).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return notes
