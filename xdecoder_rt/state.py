"""An image that has been looked at: what vision and decode left for further questions."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.base import Value
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.tasks import TASKS, RowLayout, answering_rows

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DecodedRows:
    """The decoder's outputs of some rows of one image, and what later rows need of them.

    Attributes:
        layout: the rows.
        class_embedding: float32 ``[R, proj_dim]``, unnormalised.
        mask_embedding: float32 ``[R, mask_dim]``.
        caption_embedding: float32 ``[R, text width]``.
        keys: self-attention keys, one float32 ``[1, heads, R, head_dim]`` a layer.
        values: the same.
        region: what the rows were confined to that would see all of the image, as in
            :class:`xdecoder_rt.rows.RowGroup`, or None.
        region_scores: float32 ``[R, names]``, how likely each latent's region is each name of the
            plan's classifier; None where it has none, and for other rows.
        overlaps: float32 ``[R, R]``, intersection over union of the latents' masks; None where the
            plan's rules do not ask for it, and for other rows.
    """

    layout: RowLayout
    class_embedding: Floats
    mask_embedding: Floats
    caption_embedding: Floats
    keys: tuple[Floats, ...]
    values: tuple[Floats, ...]
    region: tuple[Floats, ...] | None = None
    region_scores: Floats | None = None
    overlaps: Floats | None = None

    def answer(self, task: str) -> list[Floats]:
        """Return what a task reads of these rows, by the task table.

        Args:
            task: whose rows these are, or one that reads the latents, which these are.

        Returns:
            Each output that it reads, ``[N, width]``, at the N rows that hold its answer.
        """
        rows = answering_rows(task, self.layout)
        return [getattr(self, output.value)[rows] for output in TASKS[task].reads]

    def chosen(self, rows: slice) -> DecodedRows:
        """Return some of the rows."""
        return DecodedRows(
            self.layout.chosen(rows),
            self.class_embedding[rows],
            self.mask_embedding[rows],
            self.caption_embedding[rows],
            tuple(key[:, :, rows] for key in self.keys),
            tuple(value[:, :, rows] for value in self.values),
        )


@dataclass
class ImageState:
    """One encoded image; ``Engine.encode`` makes it, every other call takes it.

    Valid as long as its engine is open; others refuse it. Calls on one state may come from many
    threads.

    Attributes:
        letterbox: where the image lies in the network's input.
        values: the vision graph's outputs, on the backend's device.
        origin: what tells the engine that made it from others.
        latents: the latent queries' rows, which depend on the image alone; None before the first
            question.
        lock: held while the latents are decoded.
    """

    letterbox: Letterbox
    values: Mapping[str, Value]
    origin: object = field(default=None, repr=False)
    latents: DecodedRows | None = field(default=None, init=False, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
