"""Maps in lasting ids, with outlines that do not flicker."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdecoder_rt.pixels.variants import fastest

__all__ = ["Numbering"]

_tracks = fastest("xdecoder_rt.masks._tracks")


@dataclass(frozen=True, eq=False)
class _Frame:
    """A frame that was numbered.

    Attributes:
        ranks: uint16 ``[H, W]``, one more than the index of each pixel's segment, 0 for none.
        numbers: the lasting id of each rank.
    """

    ranks: npt.NDArray[np.uint16]
    numbers: tuple[int, ...]

    def ranks_of(self, other: _Frame) -> npt.NDArray[np.int32]:
        """Return the rank here of each rank of another frame, -1 for none."""
        ranks: dict[int, int] = {}
        for rank, number in enumerate(self.numbers):
            ranks.setdefault(number, rank)
        return np.array([ranks.get(number, -1) for number in other.numbers], np.int32)


class Numbering:
    """Writes lasting ids into the maps of frames of one size."""

    def __init__(self) -> None:
        self._frames: list[_Frame] = []
        self._spare: npt.NDArray[np.uint16] | None = None

    def forget(self) -> None:
        """Forget the frames before; the next may have another size."""
        self._frames, self._spare = [], None

    def numbered(
        self,
        ids: npt.NDArray[np.int32],
        old: Sequence[int],
        new: Sequence[int],
        areas: Sequence[int],
        *,
        resting: Container[int] | None,
    ) -> tuple[npt.NDArray[np.int32], Sequence[int]]:
        """Return the map of the next frame in lasting ids, and the areas.

        Args:
            ids: int32 ``[H, W]``, C-contiguous.
            old: the ids of segments in it.
            new: their lasting ids.
            areas: of the segments, in pixels.
            resting: lasting ids: a pixel that changes between two of them is left for one more
                frame to the one that it had in both frames before. None leaves no pixel, and this
                frame out of the history.
        """
        ranks = np.zeros(max(old, default=0) + 1, np.uint16)
        ranks[old] = np.arange(1, len(old) + 1, dtype=np.uint16)
        spare = np.empty(ids.shape, np.uint16) if self._spare is None else self._spare
        frame = _Frame(spare, (0, *new))
        if resting is None:
            self._spare = spare
            return _written(ids, ranks, frame)[0], areas
        history = self._frames
        self._frames = [*history, frame][-2:]
        self._spare = history[0].ranks if len(history) == 2 else None
        if len(history) == 2:
            rests = np.array([True, *(number in resting for number in new)], np.uint8)
            numbered, gains = _written(ids, ranks, frame, (history[0], history[1]), rests)
            grown = [area + gains.get(number, 0) for area, number in zip(areas, new, strict=True)]
            if not gains or min(grown) > 0:  # else a small segment would be gone
                return numbered, grown
        return _written(ids, ranks, frame)[0], areas


def _written(
    ids: npt.NDArray[np.int32],
    ranks: npt.NDArray[np.uint16],
    frame: _Frame,
    history: tuple[_Frame, _Frame] | None = None,
    rests: npt.NDArray[np.uint8] | None = None,
) -> tuple[npt.NDArray[np.int32], dict[int, int]]:
    """Return a map in lasting ids and the pixels that each wins; write `frame.ranks`.

    Args:
        ids: int32 ``[H, W]``.
        ranks: of each id.
        frame: this one.
        history: the two frames before, the older first; None steadies nothing.
        rests: uint8, whether each rank may win and lose pixels.
    """
    before, last = (frame, frame) if history is None else history
    if rests is None:
        rests = np.zeros(len(frame.numbers), np.uint8)
    numbered = np.empty(ids.shape, np.int32)
    gains = np.zeros(len(frame.numbers), np.int64)
    _tracks.number_pixels(
        ids, ranks, np.array(frame.numbers, np.int32), last.ranks, before.ranks,
        last.ranks_of(frame), frame.ranks_of(last), frame.ranks_of(before), rests,
        numbered, frame.ranks, gains,
    )  # fmt: skip
    sums: dict[int, int] = {}
    for rank in np.flatnonzero(gains).tolist():
        number = frame.numbers[rank]
        sums[number] = sums.get(number, 0) + int(gains[rank])
    return numbered, sums
