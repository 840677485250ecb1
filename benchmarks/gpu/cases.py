"""Small problems for kernels compiled ahead of time, from NumPy alone: no PyTorch, no Triton.

The process that launches (:mod:`gpu.launching`) and the one that compares (:mod:`gpu.loader`) make
the same inputs from the same seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from xdecoder_rt.kernels.masked_attention.schedule import Problem
from xdecoder_rt.masks.resample import Axis, bicubic_axis
from xdecoder_rt.pixels.axes import FixedAxis, fixed_axis
from xdecoder_rt.pixels.letterbox import Letterbox

Array: TypeAlias = npt.NDArray[Any]
FOLDERS = {"machine code": "aot-cubin", "PTX": "aot-ptx"}
"""Folders in which the section ``loader`` leaves compiled kernels."""
OPEN = 0.1
"""The share of positions that are open."""


@dataclass(frozen=True)
class AttentionCase:
    """Masked attention in fp16.

    Attributes:
        name: of the case.
        problem: its sizes.
        splits: parts of the keys; None as the schedule chooses.
        mask: ``factors``: embeddings and features; ``logits`` or ``boolean``: given.
    """

    name: str
    problem: Problem
    splits: int | None = None
    mask: str = "factors"

    def arrays(self) -> dict[str, Array]:
        """Return the operands by the schedule's names; keys are a view of ``[B, heads, d, N]``."""
        rng = np.random.default_rng(0)
        p = self.problem

        def normal(*shape: int) -> Array:
            return rng.standard_normal(shape).astype(np.float16)

        operands: dict[str, Array] = {
            "query": normal(p.batch, p.heads, p.queries, p.width),
            "key": normal(p.batch, p.heads, p.width, p.keys).swapaxes(-1, -2),
            "value": normal(p.batch, p.heads, p.keys, p.width),
        }
        logits = np.where(rng.random((p.batch, p.queries, p.keys)) < OPEN, 1, -1)
        # Rows that are empty, and full.
        logits[:, 0], logits[:, 1] = -1, 1
        if self.mask == "boolean":
            return operands | {"boolean": (logits >= 0).astype(np.uint8)}
        if self.mask == "logits":
            return operands | {"logits": logits.astype(np.float16)}
        # Channel 1 + q opens keys of query q, as far as the channels reach; the rest see nothing.
        features = np.ones((p.batch, p.channels, p.keys))
        embedding = np.zeros((p.batch, p.queries, p.channels))
        embedding[..., 0] = -1
        rows = min(p.queries, p.channels - 1)
        embedding[:, range(rows), range(1, rows + 1)] = 2
        features[:, 1 : rows + 1] = logits[:, :rows] >= 0
        return operands | {
            "mask_embedding": embedding.astype(np.float16),
            "mask_features": features.astype(np.float16),
        }


@dataclass(frozen=True)
class ShrinkCase:
    """A level shrink in fp16: a map of ``[1, channels, side, side]`` to three levels."""

    name: str
    channels: int
    side: int
    levels: tuple[int, int, int]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Return the sizes of the levels."""
        return [(side, side) for side in self.levels]

    def map(self) -> Array:
        """Return the input, fp16 ``[1, channels, side, side]``."""
        size = (1, self.channels, self.side, self.side)
        return np.random.default_rng(0).standard_normal(size).astype(np.float16)


@dataclass(frozen=True)
class MapCase:
    """Owners of pixels, then ids: fp16 logits ``[masks, *source]`` to an image of ``target``."""

    name: str
    masks: int
    source: tuple[int, int]
    target: tuple[int, int]

    def logits(self) -> Array:
        """Return logits that are blobs, fp16 ``[masks, *source]``."""
        rng = np.random.default_rng(0)
        coarse = rng.standard_normal((self.masks, 4, 4)) * 6
        rows, columns = (bicubic_axis(4, size).matrix() for size in self.source)
        blobs: Array = (rows @ coarse @ columns.T).astype(np.float16)
        return blobs

    def scores(self) -> Array:
        """Return the scores of the masks, float32."""
        return np.linspace(0.3, 1.0, self.masks, dtype=np.float32)

    def axes(self) -> tuple[Axis, Axis]:
        """Return the axes of rows and of columns."""
        rows, columns = (bicubic_axis(a, b) for a, b in zip(self.source, self.target, strict=True))
        return rows, columns

    def ids(self) -> Array:
        """Return the ids of owners: 0 stays, others get an id of their own."""
        return np.arange(self.masks + 1, dtype=np.int32) * 3


@dataclass(frozen=True)
class FrameCase:
    """A frame of `source` scaled into a network input of `target`."""

    name: str
    source: tuple[int, int]
    target: tuple[int, int]
    interpolation: str

    def pixels(self) -> Array:
        """Return black and white noise, in which bicubic sums overshoot."""
        noise = np.random.default_rng(0).integers(0, 2, (*self.source, 3), np.uint8)
        return noise * np.uint8(255)

    def box(self) -> Letterbox:
        """Return the letterbox of the frame."""
        return Letterbox.fit(self.source, self.target)

    def axes(self) -> tuple[FixedAxis, FixedAxis]:
        """Return the axes of rows and of columns."""
        sides = zip(self.source, self.box().valid, strict=True)
        rows, columns = (fixed_axis(a, b, self.interpolation) for a, b in sides)
        return rows, columns


Case: TypeAlias = "AttentionCase | ShrinkCase | MapCase | FrameCase"


def _compact(queries: int, keys: int, batch: int = 1) -> Problem:
    return Problem(batch, 3, queries, keys, 64, 65, "fp16")


CASES: tuple[Case, ...] = (
    AttentionCase("aligned", _compact(65, 1024)),
    AttentionCase("aligned, three parts", _compact(65, 1024), splits=3),
    AttentionCase("any", _compact(21, 300, batch=2)),
    AttentionCase("any, two parts", _compact(21, 300, batch=2), splits=2),
    AttentionCase("published", Problem(1, 8, 101, 4096, 64, 513, "fp16")),
    AttentionCase("given logits", _compact(33, 515), mask="logits"),
    AttentionCase("given boolean", _compact(33, 515), mask="boolean"),
    ShrinkCase("shrink, aligned", 5, 64, (8, 16, 32)),
    ShrinkCase("shrink, any", 3, 50, (7, 13, 25)),
    MapCase("panoptic map", 12, (24, 40), (90, 150)),
    FrameCase("frame, bilinear", (90, 150), (64, 64), "bilinear"),
    FrameCase("frame, bicubic", (33, 250), (96, 224), "bicubic"),
)
"""Every form in fp16 of what plans launch."""
SMALL = tuple(case for case in CASES if case.name != "published")
"""For tools that slow everything down."""
