"""What is known of one labelled picture, as it is kept between asking and writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.masks.rle import RunLengths, decode_mask
from xdecoder_rt.results import Output

__all__ = ["FoundPhrase", "FoundSegment", "Record", "sides"]

_Side = TypeVar("_Side", int, float)

_DOUBT_OF_NOTHING = 0.5


@dataclass(frozen=True, eq=False)
class FoundSegment:
    """A segment that was found.

    Attributes:
        label: its word.
        score: 0 to 1.
        isthing: whether its word has instances.
        area: its pixels.
        box: left, top, right, bottom, in pixels; the last two exclusive.
        runs: its mask in COCO's compressed run lengths.
    """

    label: str
    score: float
    isthing: bool
    area: int
    box: tuple[float, ...]
    runs: RunLengths

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Its mask, bool ``[H, W]``."""
        return decode_mask(self.runs)


@dataclass(frozen=True, eq=False)
class FoundPhrase:
    """What a phrase refers to; see :class:`xdecoder_rt.results.Reference`."""

    text: str
    score: float
    found: bool
    runs: RunLengths

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Its mask, bool ``[H, W]``."""
        return decode_mask(self.runs)


@dataclass(frozen=True, eq=False)
class Record:
    """The labels of one picture.

    Attributes:
        key: the picture's.
        size: height and width.
        segments: what was found of the words.
        phrases: what the phrases refer to, those not found included.
        caption: a description, or None where none was asked for.
    """

    key: str
    size: tuple[int, int]
    segments: tuple[FoundSegment, ...]
    phrases: tuple[FoundPhrase, ...]
    caption: str | None

    @staticmethod
    def to_dict(key: str, size: tuple[int, int], output: Output) -> dict[str, Any]:
        """Return the results of an engine as plain values for ``json.dumps``."""
        values = output.to_dict()
        return {
            "key": key,
            "size": list(size),
            "segments": values.get("segment", {}).get("segments", []),
            "phrases": values.get("refer", []),
            "caption": values.get("caption", {}).get("text"),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """Return the record that :meth:`to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is another value.
        """
        height, width = values["size"]
        return cls(
            str(values["key"]),
            (int(height), int(width)),
            tuple(
                FoundSegment(
                    str(segment["label"]),
                    float(segment["score"]),
                    bool(segment["isthing"]),
                    int(segment["area"]),
                    tuple(float(edge) for edge in segment["box"]),
                    segment["mask"],
                )
                for segment in values["segments"]
            ),
            tuple(
                FoundPhrase(
                    str(phrase["phrase"]),
                    float(phrase["score"]),
                    bool(phrase["found"]),
                    phrase["mask"],
                )
                for phrase in values["phrases"]
            ),
            None if values["caption"] is None else str(values["caption"]),
        )

    @property
    def doubt(self) -> float:
        """How doubtful the labels are, 0 to 1: one less the least score of what was found.

        0.5 where nothing was: it may be right or wrong.
        """
        scores = [segment.score for segment in self.segments]
        scores += [phrase.score for phrase in self.phrases if phrase.found]
        return 1.0 - min(scores) if scores else _DOUBT_OF_NOTHING

    def painted(self, most: int | None = None) -> tuple[npt.NDArray[np.int32], list[FoundSegment]]:
        """Return one map of all segments; where they overlap, the surest is seen.

        Args:
            most: take only so many segments, those of the most pixels.

        Returns:
            int32 ``[H, W]``, 0 for nothing and ``k`` for the segment ``k - 1`` of the list; and
            the segments that are seen, in the order of the record.
        """
        kept = sorted(self.segments, key=lambda segment: -segment.area)[:most]
        order = sorted(kept, key=lambda segment: segment.score)
        ids = np.zeros(self.size, np.int32)
        for number, segment in enumerate(order, 1):
            ids[segment.mask] = number
        seen = set(np.unique(ids).tolist())
        place = {id(segment): n for n, segment in enumerate(order, 1) if n in seen}
        listed = [segment for segment in self.segments if id(segment) in place]
        number_of = np.zeros(len(order) + 1, np.int32)
        for number, segment in enumerate(listed, 1):
            number_of[place[id(segment)]] = number
        return number_of[ids], listed

    @property
    def segments_info(self) -> list[dict[str, Any]]:
        """The segments as :class:`~xdecoder_rt.datasets.coco_file.CocoFile` asks for them."""
        return [{"label": s.label, "isthing": s.isthing} for s in self.segments]

    def to_coco(
        self,
        image_id: int | str = 0,
        category_ids: Mapping[str, int] | None = None,
        *,
        first_id: int = 1,
    ) -> list[dict[str, Any]]:
        """Return COCO annotations, as :meth:`xdecoder_rt.results.Segmentation.to_coco` does.

        Raises:
            ArgumentError: a label has no category id.
        """
        ids = category_ids or {}
        if unknown := [s.label for s in self.segments if s.label not in ids]:
            raise ArgumentError(f"The label {quoted(unknown[0])} has no category id")
        return [
            {
                "id": first_id + index,
                "image_id": image_id,
                "category_id": ids[segment.label],
                "segmentation": segment.runs,
                "area": segment.area,
                "bbox": sides(segment.box),
                "score": segment.score,
                "iscrowd": 0,
                "isthing": segment.isthing,
            }
            for index, segment in enumerate(self.segments)
        ]


def sides(box: Sequence[_Side]) -> list[_Side]:
    """Return left, top, width and height of left, top, right and bottom."""
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]
