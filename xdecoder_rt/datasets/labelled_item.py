"""An item of a labelled folder: its JSON object, checked, and its files, decoded and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.documents import Document, Flag, NonEmptyText
from xdecoder_rt.datasets.image_files import Orientation, read_id_png, read_rgb, upright_map
from xdecoder_rt.datasets.items import (
    AnsweredQuestion,
    Phrase,
    Segment,
    Unlabelled,
    check_areas,
    check_ids,
    declared,
    repeated,
)
from xdecoder_rt.errors import quoted
from xdecoder_rt.json_reader import Rule

MAX_SEGMENT_ID = 255
Names: TypeAlias = Annotated[tuple[NonEmptyText, ...], Rule(least=1)]


@dataclass(frozen=True)
class _Segment:
    id: int
    label: NonEmptyText
    isthing: Flag
    area: int


@dataclass(frozen=True)
class _Phrase:
    text: NonEmptyText
    ids: Annotated[tuple[int, ...], Rule(least=1)]


@dataclass(frozen=True)
class _Question:
    text: NonEmptyText
    answers: Names
    choices: Names | None = None


@dataclass(frozen=True)
class _Item:
    """An item as ``annotations.json`` has it."""

    image: NonEmptyText
    panoptic: NonEmptyText
    segments: tuple[_Segment, ...]
    phrases: tuple[_Phrase, ...] = ()
    captions: tuple[NonEmptyText, ...] = ()
    questions: tuple[_Question, ...] = ()


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
        orientation: What the map was drawn on.
        unlabelled: What unlabelled pixels show.
    """

    image: Path
    panoptic: Path
    segments: tuple[Segment, ...]
    phrases: tuple[Phrase, ...] = ()
    captions: tuple[str, ...] = ()
    questions: tuple[AnsweredQuestion, ...] = ()
    orientation: Orientation = "upright"
    unlabelled: Unlabelled = "unknown"

    def load_image(self) -> NDArray[np.uint8]:
        """Decode the image.

        Returns:
            H x W x 3 uint8 RGB, upright.

        Raises:
            DatasetError: if the file is missing or broken.
        """
        return read_rgb(self.image)

    def load_panoptic(self) -> NDArray[np.integer[Any]]:
        """Decode the map and check it against the segments and the image's size.

        Returns:
            H x W uint8 segment ids, 0 = unlabelled, as they lie on the upright image; int16 with
            -1 instead of 0 where the folder declares that unlabelled means nothing.

        Raises:
            DatasetError: if the PNG is missing, broken or not one-channel 8-bit, its size is not
                the image's, or its ids or areas are not those of `segments`.
        """
        ids = read_id_png(self.panoptic)
        ids = upright_map(ids, str(self.panoptic), self.image, self.orientation)
        check_ids(ids, self.segments, str(self.panoptic))
        check_areas(ids, self.segments, str(self.panoptic))
        return declared(ids, self.unlabelled)


def parse_item(
    root: Path,
    document: Document,
    isthing: Mapping[str, bool],
    orientation: Orientation = "upright",
    unlabelled: Unlabelled = "unknown",
) -> Item:
    """Read an item's JSON object and check it as far as is possible without its files.

    Args:
        root: The folder that its paths are relative to.
        document: The JSON object.
        isthing: Each label of the vocabulary, and whether it is of a thing.
        orientation: What the folder's maps were drawn on.
        unlabelled: What its unlabelled pixels show.

    Raises:
        DatasetError: if a field is missing or wrong; it names the item and the field.
    """
    item = document.read(_Item)
    for index, segment in enumerate(item.segments):
        _check_segment(document, f"segment {index}", segment, isthing)
    ids = [segment.id for segment in item.segments]
    if (twice := repeated(ids)) is not None:
        raise document.error(f"two segments have the id {twice}", expected="distinct ids")
    for index, phrase in enumerate(item.phrases):
        _check_phrase(document, f"phrase {index}", phrase, frozenset(ids))
    for index, question in enumerate(item.questions):
        if (choice := repeated(question.choices or ())) is not None:
            raise document.error(
                f"'choices' has {quoted(choice)} twice",
                at=f"question {index}",
                expected="distinct choices",
            )
    return Item(
        image=document.path_inside(root, "image", item.image),
        panoptic=document.path_inside(root, "panoptic", item.panoptic),
        segments=tuple(Segment(s.id, s.label, s.isthing, s.area) for s in item.segments),
        phrases=tuple(Phrase(phrase.text, phrase.ids) for phrase in item.phrases),
        captions=item.captions,
        questions=tuple(AnsweredQuestion(q.text, q.answers, q.choices) for q in item.questions),
        orientation=orientation,
        unlabelled=unlabelled,
    )


def _check_segment(
    document: Document, at: str, segment: _Segment, isthing: Mapping[str, bool]
) -> None:
    if not 1 <= segment.id <= MAX_SEGMENT_ID:
        raise document.error(f"'id' is {segment.id}", at=at, expected=f"1 to {MAX_SEGMENT_ID}")
    label = quoted(segment.label)
    if segment.label not in isthing:
        raise document.error(
            f"the label {label} is not in 'vocabulary'",
            at=at,
            fix="add it to 'vocabulary' or correct the label",
        )
    if segment.isthing != isthing[segment.label]:
        kind = "a thing" if isthing[segment.label] else "stuff"
        raise document.error(
            f"'isthing' is {str(segment.isthing).lower()}, and {label} is {kind} by 'stuff'",
            at=at,
            fix="make 'isthing' agree with 'stuff', which decides",
        )


def _check_phrase(
    document: Document, at: str, phrase: _Phrase, segment_ids: frozenset[int]
) -> None:
    if (twice := repeated(phrase.ids)) is not None:
        raise document.error(f"'ids' has {twice} twice", at=at, expected="distinct ids")
    if unknown := sorted(set(phrase.ids) - segment_ids):
        raise document.error(
            f"'ids' names segments that the item does not have: {quoted(unknown)}",
            at=at,
            expected=f"ids among {sorted(segment_ids)}",
        )
