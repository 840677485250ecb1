"""`Tracker`: segments of one frame after the other keep their ids.

A thing goes on as the one that it overlaps where that has moved to, which is decided for all things
at once. Stuff has one id a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, quoted, whole_number
from xdecoder_rt.pixels.variants import fastest
from xdecoder_rt.results import Segmentation
from xdecoder_rt.tracking.assignment import best_pairs
from xdecoder_rt.tracking.numbering import Numbering
from xdecoder_rt.tracking.outlines import GridSegments, on_grid

__all__ = ["Tracker"]

_tracks = fastest("xdecoder_rt.masks._tracks")

# Least overlap (IoU) of a thing with where it is expected: of one label, and of two.
_SAME_OVERLAP, _OTHER_OVERLAP = 0.1, 0.25
_LABEL_BONUS = 0.25
# Without overlap: how far it may be off, in lengths of its side, and how much its area may change.
_REACH, _AREA_RATIO = 1.0, 2.5
_NEAR_SCORE = 0.1
_BOUNDS = np.array([_SAME_OVERLAP, _OTHER_OVERLAP, _LABEL_BONUS, _REACH, _AREA_RATIO, _NEAR_SCORE])
# Share of the past in a label's evidence, a score and a velocity after a frame.
_MEMORY = 0.7
_LOST_KEPT = 256
_MOST_SEGMENTS = 0x7FFF  # grids hold int16
_JOLT = 0.75  # cells
# Share of its own motion that a thing that is not seen keeps from frame to frame.
_LOST_DRIFT = 0.9
# A thing rests that moves less than this a frame, in pixels and in lengths of its side: an outline
# that flickers moves its centre too.
_RESTING_PIXELS, _RESTING_SIDES = 1.0, 0.02


@dataclass
class _Track:
    """A thing that was seen. Points and ways are complex numbers: row + column i, in cells.

    Attributes:
        number: its id.
        cells: int32 ``[2, k]``, where it was seen last, on the grid.
        centre: of these.
        area: in cells.
        velocity: a frame.
        evidence: how much each label was seen.
        label: that was seen most.
        score: smoothed.
        seen: frames in which it was seen.
        missed: frames since it was seen.
        offset: how far it will have moved since it was seen.
        drift: its velocity less the camera's, when it was seen.
    """

    number: int
    cells: npt.NDArray[np.int32]
    centre: complex = 0j
    area: float = 1.0
    velocity: complex = 0j
    evidence: dict[str, float] = field(default_factory=dict)
    label: str = ""
    score: float = 0.0
    seen: int = 0
    missed: int = 0
    offset: complex = 0j
    drift: complex = 0j

    @property
    def shift(self) -> complex:
        """The way from where it was seen to where it is expected now."""
        return self.offset + self.velocity

    def moves(self, step: int) -> bool:
        """Return whether it moves; `step` is a cell's pixels."""
        least = max(_RESTING_PIXELS, _RESTING_SIDES * step * self.area**0.5)
        return bool(abs(self.velocity) * step >= least)

    def see(self, label: str, score: float) -> None:
        """Count a label and its score."""
        self.seen += 1
        self.score = _MEMORY * self.score + (1 - _MEMORY) * score if self.evidence else score
        self.evidence = {name: _MEMORY * old for name, old in self.evidence.items() if old > 1e-3}
        self.evidence[label] = self.evidence.get(label, 0.0) + score
        if label != self.label:
            self.label = max(self.evidence, key=self.evidence.__getitem__)


class Tracker:
    """Gives the segments of frames ids that last; one a stream.

    A thing keeps its id while it is seen, and takes it up again within `patience` frames. An id is
    never given twice. Labels and scores are smoothed over frames. Stuff (floor, sky) has one id a
    label for good. Memory does not grow with the number of frames.

    Example:
        >>> tracker = Tracker(patience=30)
        >>> tracker.patience
        30

    Args:
        patience: frames for which a thing that is not seen is remembered.
        steady: leave a pixel for one more frame to the segment that it had in both frames before,
            where neither this nor the segment that it has now moves: outlines flicker less.

    Raises:
        ArgumentError: `patience` is no whole number from 0 to 10000.
    """

    def __init__(self, *, patience: int = 30, steady: bool = True) -> None:
        self.patience = whole_number("patience", patience, 0, 10_000, "a number from 0 to 10000")
        self._last_id = 0
        self._tracks: list[_Track] = []
        self._stuff: dict[str, int] = {}
        self._camera = 0j
        self._shape = (0, 0)
        self._numbering = Numbering()
        self._is_steady = steady

    def update(self, segmentation: Segmentation) -> Segmentation:
        """Return the segments of the next frame with lasting ids.

        Args:
            segmentation: panoptic or instance, of frames of one size; another size forgets things.

        Returns:
            The same segments in their order. `id` and the map hold the lasting ids; `label`,
            `label_id` and `score` are smoothed.

        Raises:
            ArgumentError: it is semantic output, which has no segments to follow, or has too many.

        Example:
            >>> tracker = xdecoder_rt.Tracker()
            >>> [tracker.update(result).segments_info[0]["id"] for _ in range(3)]
            [1, 1, 1]
        """
        if segmentation.task not in ("panoptic", "instance"):
            raise ArgumentError(
                f"Segments of the task {quoted(segmentation.task)} cannot be tracked",
                expected="those of 'panoptic' or 'instance'",
            )
        if len(segmentation) > _MOST_SEGMENTS:
            raise ArgumentError(
                f"The frame has {len(segmentation)} segments", expected=f"at most {_MOST_SEGMENTS}"
            )
        if segmentation.size != self._shape:
            self._shape, self._tracks = segmentation.size, []
            self._numbering.forget()
        infos = segmentation.segments_info
        things = [index for index, info in enumerate(infos) if info["isthing"]]
        ids = np.ascontiguousarray(segmentation.segmentation, np.int32)
        grid = on_grid(segmentation, ids, things)
        labels = [infos[index]["label"] for index in things]
        scores = [float(infos[index]["score"]) for index in things]
        tracks = self._followed(grid, labels, scores)
        of_segment = dict(zip(things, tracks, strict=True))
        label_ids = {info["label"]: info["label_id"] for info in infos}
        renamed = [
            self._renamed(info, of_segment.get(index), label_ids)
            for index, info in enumerate(infos)
        ]
        is_panoptic = segmentation.task == "panoptic"
        resting = None
        if is_panoptic and self._is_steady:
            resting = {track.number for track in tracks if not track.moves(grid.step)}
            resting |= set(self._stuff.values())
        numbered, areas = self._numbering.numbered(
            ids,
            [info["id"] for info in infos],
            [info["id"] for info in renamed],
            [info["area"] for info in infos],
            resting=resting,
        )
        for info, area in zip(renamed, areas, strict=True):
            info["area"] = area
        if is_panoptic:
            return replace(segmentation, segmentation=numbered, segments_info=renamed)
        return replace(
            segmentation,
            segmentation=numbered,
            segments_info=renamed,
            scores=np.array([info["score"] for info in renamed], np.float32),
            label_ids=np.array([info["label_id"] for info in renamed], np.int32),
        )

    def forget(self) -> None:
        """Forget every segment, as after other words; ids that were given are not given again.

        Example:
            >>> tracker = xdecoder_rt.Tracker()
            >>> first = tracker.update(result).segments_info[0]["id"]
            >>> tracker.forget()
            >>> tracker.update(result).segments_info[0]["id"] == first
            False
        """
        self._tracks, self._stuff = [], {}
        self._numbering.forget()

    def _followed(
        self, grid: GridSegments, labels: Sequence[str], scores: Sequence[float]
    ) -> list[_Track]:
        """Return the track of each thing, new ones among them, and let the others wait."""
        pairs = best_pairs(self._likeness(grid, labels, 0j))
        centres, areas = grid.centres.tolist(), grid.areas.tolist()
        tracks = self._tracks
        jolt = _median([centres[j] - tracks[i].centre - tracks[i].shift for i, j in pairs])
        if len(pairs) > 2 and abs(jolt) >= _JOLT:
            # The camera moved otherwise than before, and everything with it.
            pairs = best_pairs(self._likeness(grid, labels, jolt))
        result: list[_Track | None] = [None] * len(labels)
        moves = []
        for row, column in pairs:
            track = self._tracks[row]
            move = (centres[column] - track.centre) / (track.missed + 1)
            moves.append(move)
            is_steady = track.seen > 1 and track.missed == 0
            track.velocity = 0.5 * (track.velocity + move) if is_steady else move
            track.missed, track.offset = 0, 0j
            result[column] = track
        # Two things do not tell the camera's motion from their own.
        if len(moves) > 2:
            self._camera = _median(moves)
        elif not moves:
            self._camera = _MEMORY * self._camera
        camera = self._camera
        found = {row for row, _ in pairs}
        for row, track in enumerate(self._tracks):
            if row in found:
                track.drift = track.velocity - camera
            else:
                track.missed += 1
                if track.missed == 1:
                    track.cells = track.cells.copy()  # not a view of the whole frame's
                track.offset = track.offset + track.velocity
                track.drift = _LOST_DRIFT * track.drift
                track.velocity = camera + track.drift
        for column in range(len(labels)):
            track = result[column] or self._new(grid.cells[column], camera)
            track.cells, track.centre = grid.cells[column], centres[column]
            track.area = areas[column]
            track.see(labels[column], scores[column])
            result[column] = track
        self._tracks = [track for track in self._tracks if track.missed <= self.patience]
        lost = [track for track in self._tracks if track.missed]
        if len(lost) > _LOST_KEPT:
            lost.sort(key=lambda track: track.missed)
            gone = {track.number for track in lost[_LOST_KEPT:]}
            self._tracks = [track for track in self._tracks if track.number not in gone]
        return [track for track in result if track is not None]

    def _new(self, cells: npt.NDArray[np.int32], camera: complex) -> _Track:
        self._last_id += 1
        track = _Track(self._last_id, cells, velocity=camera)
        self._tracks.append(track)
        return track

    def _likeness(
        self, grid: GridSegments, labels: Sequence[str], jolt: complex
    ) -> npt.NDArray[np.float64]:
        """Return how well each thing goes on each track, ``[tracks, things]``; 0 for not at all.

        Args:
            grid: the things.
            labels: theirs.
            jolt: what the camera moved beside what was expected.
        """
        tracks, count = self._tracks, len(labels)
        if not tracks or not count:
            return np.zeros((len(tracks), count))
        shifts = np.array([track.shift for track in tracks]) + jolt
        centres = np.array([track.centre for track in tracks]) + shifts
        common = grid.common([track.cells for track in tracks], shifts)
        expected = np.empty((len(tracks), 4))
        expected[:, 0], expected[:, 1] = centres.real, centres.imag
        expected[:, 2] = [track.area for track in tracks]
        expected[:, 3] = [1 / (1 + 0.05 * track.missed) for track in tracks]
        things = np.stack((grid.centres.real, grid.centres.imag, grid.areas), axis=1)
        codes = {label: code for code, label in enumerate(labels)}
        names = np.array([codes[label] for label in labels], np.int32)
        names_before = np.array([codes.get(track.label, -1) for track in tracks], np.int32)
        scores = np.empty(common.shape)
        _tracks.liken(common, expected, names_before, things, names, _BOUNDS, scores)
        return scores

    def _renamed(
        self, info: dict[str, Any], track: _Track | None, label_ids: dict[str, int]
    ) -> dict[str, Any]:
        """Return a segment with its lasting id, and with its thing's smoothed label and score."""
        if track is None:
            number = self._stuff.get(info["label"])
            if number is None:
                self._last_id += 1
                number = self._stuff[info["label"]] = self._last_id
            return {**info, "id": number}
        # A label that this frame has nowhere has no id here.
        label = track.label if track.label in label_ids else info["label"]
        return {
            **info,
            "id": track.number,
            "label": label,
            "label_id": label_ids[label],
            "score": track.score,
        }


def _median(ways: Sequence[complex]) -> complex:
    """Return the median of rows and of columns; 0 of none."""
    if not ways:
        return 0j
    parts = np.sort(np.array(ways, np.complex128).view(np.float64).reshape(-1, 2), axis=0)
    return complex(*parts[len(parts) // 2])
