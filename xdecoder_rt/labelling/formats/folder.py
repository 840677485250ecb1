"""A labelled folder, as ``xdecoder-rt train`` and ``eval`` read it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from xdecoder_rt.datasets.items import Phrase, Unlabelled
from xdecoder_rt.datasets.labelled_folder import MAX_SEGMENT_ID, LabelledFolderWriter
from xdecoder_rt.labelling.formats.labels import Labels
from xdecoder_rt.labelling.record import FoundPhrase, FoundSegment

_LEAST_LIKENESS = 0.5


def write(folder: Path, labels: Labels) -> list[str]:
    """Write the folder; segments that overlap give way to the surest.

    A phrase is kept where segments are what it means: those of which at least half lies in its
    mask, if together they are at least half of what either covers (intersection over union).

    Returns:
        What was left out, in sentences.
    """
    names = labels.names or ["nothing"]
    stuff = [name for name, isthing in labels.categories if not isthing]
    unlabelled = cast(Unlabelled, labels.unlabelled)
    phrases = lost = crowded = 0
    with LabelledFolderWriter(folder, names, stuff, unlabelled=unlabelled) as writer:
        for picture, record in labels.records():
            ids, segments = record.painted(MAX_SEGMENT_ID)
            crowded += len(record.segments) > MAX_SEGMENT_ID
            meant = [_meaning(phrase, ids, segments) for phrase in record.phrases if phrase.found]
            kept = [phrase for phrase in meant if phrase is not None]
            phrases, lost = phrases + len(kept), lost + len(meant) - len(kept)
            writer.add(
                Path(picture.path),
                ids,
                {number: segment.label for number, segment in enumerate(segments, 1)},
                phrases=kept,
                captions=[record.caption] if record.caption and record.caption.strip() else [],
            )
    notes = []
    if lost:
        notes.append(f"{lost} of {lost + phrases} phrases mean no segment and are left out")
    if crowded:
        notes.append(f"{crowded} pictures have over {MAX_SEGMENT_ID} segments: the largest are in")
    return notes


def _meaning(
    phrase: FoundPhrase, ids: npt.NDArray[np.int32], segments: list[FoundSegment]
) -> Phrase | None:
    """Return the phrase with the segments that it means; None where it means none."""
    mask = phrase.mask
    areas = np.bincount(ids.ravel(), minlength=len(segments) + 1)
    inside = np.bincount(ids[mask], minlength=len(segments) + 1)
    meant = [n for n in range(1, len(segments) + 1) if 2 * inside[n] >= areas[n]]
    covered = int(inside[meant].sum())
    union = int(areas[meant].sum()) + int(mask.sum()) - covered
    if not meant or covered < _LEAST_LIKENESS * union:
        return None
    return Phrase(phrase.text, tuple(meant))
