"""The way of mask logits from stride 4 to the source image, and the compiled loops that walk it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.masks.resample import Axis, mask_axis
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.pixels.variants import fastest

__all__ = ["TILE_HEIGHT", "MaskGrid", "kernels", "place_logits"]

TILE_HEIGHT = 16
"""Output rows that the compiled loops work on at once; a band of rows starts at a multiple."""


kernels = fastest("xdecoder_rt.masks._postprocess")
"""The compiled loops (``_postprocess.pyx``), in the variant for this processor."""


@dataclass(frozen=True, eq=False)
class MaskGrid:
    """Both axes of the way of mask logits to the source image.

    Attributes:
        rows: from the logits' height to the source's.
        columns: from the logits' width to the source's.
    """

    rows: Axis
    columns: Axis

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) of the source image."""
        return self.rows.target, self.columns.target

    @cached_property
    def arguments(self) -> tuple[Any, ...]:
        """Arguments of every compiled loop after the logits.

        The last bounds the overshoot of both axes together: how far an output may leave the range
        of the values that it reads, as a share of that range.
        """
        row, column = self.rows.negative, self.columns.negative
        return (
            self.rows.first,
            self.rows.tap_columns,
            self.columns.first,
            self.columns.tap_rows,
            (1 + row) * column + row * (1 + column),
        )


@lru_cache(maxsize=64)
def _grid(
    logits: tuple[int, int],
    target: tuple[int, int],
    valid: tuple[int, int],
    source: tuple[int, int],
) -> MaskGrid:
    rows, columns = (mask_axis(logits[i], target[i], valid[i], source[i]) for i in range(2))
    return MaskGrid(rows, columns)


def place_logits(
    mask_logits: npt.ArrayLike, letterbox: Letterbox
) -> tuple[npt.NDArray[np.float32], MaskGrid]:
    """Return the logits as the compiled loops take them, and their way to the source image.

    Args:
        mask_logits: ``[K, h, w]``, of the whole padded input.
        letterbox: where the image lies in the network input.

    Raises:
        ArgumentError: `mask_logits` has another number of axes or no pixels.
    """
    logits = np.ascontiguousarray(mask_logits, dtype=np.float32)
    if logits.ndim != 3 or 0 in logits.shape[1:]:
        raise ArgumentError(
            f"the mask logits have shape {logits.shape}", expected="[masks, height, width]"
        )
    box = letterbox
    return logits, _grid((logits.shape[1], logits.shape[2]), box.target, box.valid, box.source)
