"""CVAT's "CVAT for images 1.1": one ``annotations.xml`` of run-length masks, to be imported.

Names of pictures are those in the run, so a CVAT task of the same folder takes it. Runs go along
the rows of a mask's box and begin with those outside it.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from xdecoder_rt.labelling.formats.labels import Labels
from xdecoder_rt.labelling.record import FoundSegment

# What XML 1.0 cannot hold, escaped or not.
_NO_CHARACTERS = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(folder: Path, labels: Labels) -> list[str]:
    """Write the file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "annotations.xml").open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        file.write("  <version>1.1</version>\n  <meta><job><labels>\n")
        for name in labels.names:
            file.write(f"    <label><name>{_text(name)}</name><type>mask</type></label>\n")
        file.write("  </labels></job></meta>\n")
        for number, (picture, record) in enumerate(labels.records()):
            height, width = record.size
            file.write(
                f"  <image id={quoteattr(str(number))} name={_attribute(picture.key)} "
                f'width="{width}" height="{height}">\n'
            )
            for segment in record.segments:
                file.write(_mask(segment))
            file.write("  </image>\n")
        file.write("</annotations>\n")
    return []


def _mask(segment: FoundSegment) -> str:
    left, top, right, bottom = (int(edge) for edge in segment.box)
    runs = ", ".join(map(str, _runs(segment.mask[top:bottom, left:right])))
    return (
        f'    <mask label={_attribute(segment.label)} source="auto" occluded="0" rle="{runs}" '
        f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}" z_order="0">\n'
        "    </mask>\n"
    )


def _runs(inside: npt.NDArray[np.bool_]) -> list[int]:
    flat = inside.ravel()
    bounds = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    return np.diff([0, *bounds, flat.size]).tolist()  # type: ignore[no-any-return]


def _attribute(text: str) -> str:
    return quoteattr(_NO_CHARACTERS.sub("�", text))


def _text(text: str) -> str:
    return _attribute(text)[1:-1].replace("'", "&apos;")
