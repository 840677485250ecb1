"""Segments of a stream of frames, with ids that last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.questions.question import AnyImage
from xdecoder_rt.questions.segment import Classes
from xdecoder_rt.results import Segmentation
from xdecoder_rt.tracking.tracker import Tracker

__all__ = ["TrackingCalls"]


class TrackingCalls:
    """The call of :class:`Engine` that follows segments over frames."""

    segment: Callable[..., Any]

    def track(
        self,
        frames: Iterable[AnyImage],
        vocabulary: Classes,
        *,
        tracker: Tracker | None = None,
        task: str = "panoptic",
        **arguments: Any,
    ) -> Iterator[Segmentation]:
        """Segment frame after frame; a segment keeps its id.

        Args:
            frames: of one stream, in their order: images or states of :meth:`encode`, taken one by
                one as results are taken.
            vocabulary: see :meth:`segment`.
            tracker: goes on with what it has seen, and says for how long a thing is remembered;
                None begins anew.
            task: ``"panoptic"`` or ``"instance"``.
            arguments: the others of :meth:`segment`.

        Yields:
            A segmentation a frame: `id` and the map hold lasting ids.

        Raises:
            ArgumentError: the task is another.

        Example:
            >>> frames = ["desk.jpg", "desk.jpg", "shelf.jpg"]
            >>> [result.size for result in engine.track(frames, ["mug", "laptop"])]
            [(480, 640), (480, 640), (480, 640)]
        """
        if task not in ("panoptic", "instance"):
            raise ArgumentError(
                f"There is no tracking of {task!r} output", expected="'panoptic' or 'instance'"
            )
        follower = Tracker() if tracker is None else tracker
        return (
            follower.update(self.segment(frame, vocabulary, task=task, **arguments))
            for frame in frames
        )
