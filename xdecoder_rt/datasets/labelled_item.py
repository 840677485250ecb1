"""An item of a labelled folder: its JSON object, checked, and its files, decoded and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.image_files import check_same_size, read_id_png, read_rgb
from xdecoder_rt.datasets.items import Phrase, Question, Segment, check_areas, check_ids, repeated
from xdecoder_rt.datasets.json_records import Record
from xdecoder_rt.errors import shown

MAX_SEGMENT_ID = 255


@dataclass(frozen=True)
class Item:
    """One image of a labelled folder; a `PanopticItem`.

    Attributes:
        image: The image file.
        panoptic: The PNG of segment ids.
        segments: The segments, in the file's order.
        phrases: Referring expressions.
        captions: Descriptions of the whole image.
        questions: Questions on the image.
    """

    image: Path
    panoptic: Path
    segments: tuple[Segment, ...]
    phrases: tuple[Phrase, ...] = ()
    captions: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()

    def load_image(self) -> NDArray[np.uint8]:
        """Decode the image.

        Returns:
            H x W x 3 uint8 RGB.

        Raises:
            DatasetError: if the file is missing or broken.
        """
        return read_rgb(self.image)

    def load_panoptic(self) -> NDArray[np.uint8]:
        """Decode the map and check it against the segments and the image's size.

        Returns:
            H x W uint8 segment ids, 0 = unlabelled.

        Raises:
            DatasetError: if the PNG is missing, broken or not one-channel 8-bit, its size is not
                the image's, or its ids or areas are not those of `segments`.
        """
        ids = read_id_png(self.panoptic)
        check_same_size(ids, self.panoptic, self.image)
        check_ids(ids, self.segments, str(self.panoptic))
        check_areas(ids, self.segments, str(self.panoptic))
        return ids


def parse_item(root: Path, record: Record, isthing: Mapping[str, bool]) -> Item:
    """An item from its JSON object, checked as far as is possible without its files.

    Args:
        root: The folder that its paths are relative to.
        record: The JSON object.
        isthing: Each label of the vocabulary, and whether it is of a thing.

    Raises:
        DatasetError: if a field is missing or wrong; it names the record and the field.
    """
    segments = tuple(_parse_segment(s, isthing) for s in record.records("segments", "segment"))
    ids = [segment.id for segment in segments]
    if (twice := repeated(ids)) is not None:
        raise record.error(f"two segments have the id {twice}", expected="distinct ids")
    return Item(
        image=record.path_inside(root, "image"),
        panoptic=record.path_inside(root, "panoptic"),
        segments=segments,
        phrases=tuple(
            _parse_phrase(phrase, frozenset(ids))
            for phrase in record.records("phrases", "phrase", required=False)
        ),
        captions=record.texts("captions", required=False),
        questions=tuple(
            _parse_question(question)
            for question in record.records("questions", "question", required=False)
        ),
    )


def _parse_segment(record: Record, isthing: Mapping[str, bool]) -> Segment:
    segment = Segment(
        record.integer("id"), record.text("label"), record.flag("isthing"), record.integer("area")
    )
    if not 1 <= segment.id <= MAX_SEGMENT_ID:
        raise record.error(f"'id' is {segment.id}", expected=f"1 to {MAX_SEGMENT_ID}")
    label = shown(segment.label)
    if segment.label not in isthing:
        raise record.error(
            f"the label {label} is not in 'vocabulary'",
            fix="add it to 'vocabulary' or correct the label",
        )
    if segment.isthing != isthing[segment.label]:
        kind = "a thing" if isthing[segment.label] else "stuff"
        raise record.error(
            f"'isthing' is {str(segment.isthing).lower()}, and {label} is {kind} by 'stuff'",
            fix="make 'isthing' agree with 'stuff', which decides",
        )
    return segment


def _parse_phrase(record: Record, segment_ids: frozenset[int]) -> Phrase:
    phrase = Phrase(record.text("text"), record.integers("ids"))
    if not phrase.ids:
        raise record.error("'ids' is empty", expected="at least one segment id")
    if (twice := repeated(phrase.ids)) is not None:
        raise record.error(f"'ids' has {twice} twice", expected="distinct ids")
    if unknown := sorted(set(phrase.ids) - segment_ids):
        raise record.error(
            f"'ids' names segments that the item does not have: {shown(unknown)}",
            expected=f"ids among {sorted(segment_ids)}",
        )
    return phrase


def _parse_question(record: Record) -> Question:
    answers = record.texts("answers")
    if not answers:
        raise record.error("'answers' is empty", expected="at least one answer")
    if record.is_null("choices"):
        return Question(record.text("text"), answers)
    choices = record.texts("choices")
    if not choices:
        raise record.error("'choices' is empty", expected="choices, or null for an open question")
    if (twice := repeated(choices)) is not None:
        raise record.error(f"'choices' has {shown(twice)} twice", expected="distinct choices")
    return Question(record.text("text"), answers, choices)
